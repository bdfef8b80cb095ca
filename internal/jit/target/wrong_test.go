package target

import (
	"errors"
	"testing"

	"github.com/skep-bpf/skep/internal/ir"
)

// TestWrongArguments hands every back end programs that lowering never makes: arguments that no slot of the frame holds, calls
// that need more slots than there are. Each is an internal error that names the instruction; no offset is masked.
func TestWrongArguments(t *testing.T) {
	exit := ir.Insn{Op: ir.Exit}
	wide := []ir.Func{{End: 2, OutArgs: 7}, {Start: 2, End: 3, InArgs: 7}}
	for _, c := range []struct {
		name  string
		in    ir.Insn
		funcs []ir.Func
	}{
		{"store beyond the seventh slot", ir.Insn{Op: ir.ArgStore, Sub: 13, Src: 1}, []ir.Func{{End: 2, OutArgs: 7}}},
		{"store beyond the frame's slots", ir.Insn{Op: ir.ArgStore, Sub: 9, Src: 1}, []ir.Func{{End: 2, OutArgs: 3}}},
		{"store of an argument in a register", ir.Insn{Op: ir.ArgStore, Sub: 5, Src: 1}, []ir.Func{{End: 2, OutArgs: 7}}},
		{"extension beyond the frame's slots", ir.Insn{Op: ir.ArgExt, Sub: 12, W: 4}, []ir.Func{{End: 2, OutArgs: 6}}},
		{"load in the entry function", ir.Insn{Op: ir.ArgLoad, Sub: 6}, []ir.Func{{End: 2}}},
		{"call that needs more slots than the frame has", ir.Insn{Op: ir.Call, Off: 1}, []ir.Func{{End: 2, OutArgs: 6}, wide[1]}},
		{"native call of more arguments than the frame has", ir.Insn{Op: ir.CallNative, Imm: 4096, Sub: 12}, []ir.Func{{End: 2, OutArgs: 6}}},
		{"host call of thirteen arguments", ir.Insn{Op: ir.CallHost, Imm: 99, Sub: 13}, []ir.Func{{End: 2, OutArgs: 7}}},
		{"tail call without a map", ir.Insn{Op: ir.TailCall, Off: 3}, []ir.Func{{End: 2}}},
		{"tail call in a function with slots", ir.Insn{Op: ir.TailCall}, []ir.Func{{End: 2, OutArgs: 1}}},
	} {
		insns := []ir.Insn{c.in, exit}
		if len(c.funcs) > 1 {
			insns = append(insns, exit)
		}
		for _, m := range Targets {
			_, err := m.Compile(&ir.Program{Name: "wrong", Insns: insns, Funcs: c.funcs, Maps: []ir.Map{{Kind: ir.MapProgArray, Base: 4096, MaxEntries: 1}}})
			var e *ir.Error
			if !errors.As(err, &e) || e.Index != 0 {
				t.Errorf("%s: %s: %v", m.Name, c.name, err)
			}
		}
	}
	for _, slots := range []int{-1, 8} {
		for _, m := range Targets {
			if _, err := m.Compile(&ir.Program{Name: "wrong", Insns: []ir.Insn{exit}, Funcs: []ir.Func{{End: 1, OutArgs: slots}}}); err == nil {
				t.Errorf("%s: a frame of %d slots", m.Name, slots)
			}
		}
	}
}
