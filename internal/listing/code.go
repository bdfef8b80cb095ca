package listing

import (
	"sort"

	"github.com/skep-bpf/skep/internal/ir"
	"github.com/skep-bpf/skep/internal/jit/target"
)

// Code is the machine code of a program, and what each byte of it belongs to.
type Code struct {
	Target *target.Target
	Text   []byte
	Funcs  []Func // ascending; they cover Text
	// PCAt gives the BPF instruction of the code at an offset, -1 for none (prologue).
	PCAt func(off int) int
}

// Func is the machine code of one function.
type Func struct {
	Name      string
	Off, Size int
	Entry     bool // the program's first
}

// Functions returns the functions of p in code of size bytes, whose offsets are in the order of p's functions.
func Functions(p *ir.Program, offs []int, size int) []Func {
	funcs := make([]Func, len(offs))
	for i, off := range offs {
		funcs[i] = Func{Name: p.Funcs[i].Name, Off: off, Entry: p.IsEntry(i)}
	}
	sort.SliceStable(funcs, func(i, j int) bool { return funcs[i].Off < funcs[j].Off })
	for i := range funcs {
		end := size
		if i+1 < len(funcs) {
			end = funcs[i+1].Off
		}
		funcs[i].Size = end - funcs[i].Off
	}
	return funcs
}
