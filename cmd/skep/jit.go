package main

import (
	"fmt"

	"github.com/skep-bpf/skep/internal/jit/target"
)

var jitVerb = &verb{
	name: "jit", args: "FILE [-prog NAME] [-arch ARCH]", short: "show source, BPF instructions and machine code side by side",
	help: `
Prints each program with its source lines, BPF instructions and the machine code of each instruction.
  -prog NAME  only this program
  -arch ARCH  whose machine code: amd64, or another that a wrong name lists; works on every machine. The default is this
              machine's, or amd64 where there is no compiler for it

Instructions without machine code were found dead by the verifier, or are part of another's code.

Examples:
  skep jit prog.o
  skep jit prog.o -prog my_xdp -arch amd64 | less
`,
}

func init() { jitVerb.run = runJIT }

func runJIT(e *env, args []string) int {
	fs := e.flags()
	prog := fs.String("prog", "", "")
	arch := fs.String("arch", "", "")
	spec, names, code, ok := e.someOf(fs, args, prog)
	if !ok {
		return code
	}
	if _, err := target.Lookup(*arch); err != nil {
		return e.usageError("-arch: %v", err)
	}
	worst := exitOK
	for _, name := range names {
		text, err := machineText(spec.Copy(), name, *arch)
		if err != nil {
			worst = e.fail(exitRejected, err)
			continue
		}
		fmt.Fprintf(e.stdout, "program %s\n%s\n", name, text)
	}
	return worst
}
