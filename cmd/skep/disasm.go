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
	spec, names, code, ok := e.someOf(fs, args, prog)
	if !ok {
		return code
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
