package main

import (
	"fmt"

	"github.com/skep-bpf/skep"
)

var disasmVerb = &verb{
	name: "disasm", args: "FILE [-prog NAME]", short: "show BPF instructions with their source lines",
	help: `
Prints the instructions of each program as the kernel's log has them, without verifying anything.
  -prog NAME  only this program

Example:
  skep disasm prog.o -prog my_xdp
`,
}

func init() { disasmVerb.run = runDisasm }

func runDisasm(e *env, args []string) int {
	fs := e.flags()
	prog := fs.String("prog", "", "")
	files, code, ok := e.parse(fs, args)
	if !ok {
		return code
	}
	if len(files) != 1 {
		return e.usageError("one file is needed")
	}
	spec, err := skep.LoadCollectionSpec(files[0])
	if err != nil {
		return e.fail(exitUsage, err)
	}
	names := programs(spec, *prog)
	if len(names) == 0 {
		return e.fail(exitUsage, fmt.Errorf("%s: %s", files[0], noProgram(spec, *prog)))
	}
	worst := exitOK
	for _, name := range names {
		fmt.Fprintf(e.stdout, "program %s (%s)\n", name, spec.Programs[name].Type)
		if err := skep.DisassembleSpec(e.stdout, spec, name); err != nil {
			worst = e.fail(exitUsage, err)
		}
		fmt.Fprintln(e.stdout)
	}
	return worst
}
