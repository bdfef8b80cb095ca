package main

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/internal/jit/target"
)

var jitVerb = &verb{
	name: "jit", args: "FILE [-prog NAME] [-arch ARCH] [-o FILE.o | -abi]", short: "show source, BPF instructions and machine code side by side",
	help: `
Prints each program with its source lines, BPF instructions and the machine code of each instruction.
  -prog NAME  only this program
  -arch ARCH  whose machine code: amd64 or arm64; works on every machine. The default is this machine's, or amd64 where there
              is no compiler for it
  -o FILE.o   write the machine code as a linkable ELF object instead: a global symbol for each program, a local one for each
              of its functions, source lines for objdump -l and gdb
  -abi        print where each argument of each function and of each kfunc that is called lives, as caller / callee: in BPF,
              and in machine code of amd64, arm64 and riscv64; nothing is verified or compiled

Instructions without machine code were found dead by the verifier, or are part of another's code. Machine code holds the
addresses of maps, helpers and kfuncs as they are in the process that made it: the code in an object is to be read, and runs
elsewhere only if it uses none of them.

Exit code: 0, 1 if a program was rejected (then there is no object), 2 for wrong arguments.

Examples:
  skep jit prog.o
  skep jit prog.o -prog my_xdp -arch arm64 | less
  skep jit prog.o -prog my_xdp -abi
  skep jit prog.o -o code.o && objdump -dl code.o
`,
}

func init() { jitVerb.run = runJIT }

func runJIT(e *env, args []string) int {
	fs := e.flags()
	prog := fs.String("prog", "", "")
	arch := fs.String("arch", "", "")
	out := fs.String("o", "", "")
	places := fs.Bool("abi", false, "")
	spec, names, code, ok := e.someOf(fs, args, prog)
	if !ok {
		return code
	}
	if _, err := target.Lookup(*arch); err != nil {
		return e.usageError("-arch: %v", err)
	}
	if *places {
		if *out != "" {
			return e.usageError("-abi prints, -o writes machine code: one of both")
		}
		return e.printABI(spec, names)
	}
	if *out != "" {
		return e.writeObject(spec, names, *arch, *out)
	}
	worst := exitOK
	for _, name := range names {
		if err := e.printCode(spec.Copy(), name, *arch); err != nil {
			worst = max(worst, e.fail(loadCode(err), err))
		}
	}
	return worst
}

// printCode loads one program and prints its listing.
func (e *env) printCode(spec *ebpf.CollectionSpec, name, arch string) error {
	c, err := skep.NewCollectionWithOptions(spec, skep.Options{Programs: []string{name}})
	if err != nil {
		return err
	}
	defer c.Close()
	text, err := c.Programs[name].Disassemble(arch)
	if err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "program %s\n%s\n", name, text)
	return nil
}

// printABI prints where arguments live.
func (e *env) printABI(spec *ebpf.CollectionSpec, names []string) int {
	worst := exitOK
	for _, name := range names {
		if err := skep.DescribeArguments(e.stdout, spec, name); err != nil {
			worst = e.fail(exitUsage, err)
		}
	}
	return worst
}

// writeObject writes the code of all programs to a file, or nothing if one of them does not load.
func (e *env) writeObject(spec *ebpf.CollectionSpec, names []string, arch, out string) int {
	if f, err := elf.Open(out); err == nil {
		f.Close()
		if f.Machine == elf.EM_BPF {
			return e.usageError("-o: %s holds BPF programs, it is not overwritten", out)
		}
	}
	c, err := skep.NewCollectionWithOptions(spec, skep.Options{Programs: names})
	if err != nil {
		return e.fail(exitRejected, err)
	}
	defer c.Close()
	progs := make([]*skep.Program, len(names))
	for i, name := range names {
		progs[i] = c.Programs[name]
	}
	var b bytes.Buffer
	if err := skep.WriteObject(&b, arch, progs...); err != nil {
		return e.fail(exitRejected, err)
	}
	if err := os.WriteFile(out, b.Bytes(), 0o666); err != nil {
		return e.fail(exitUsage, err)
	}
	return exitOK
}
