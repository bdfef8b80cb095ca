package ir

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestInsnSize(t *testing.T) {
	if n := reflect.TypeFor[Insn]().Size(); n != 24 {
		t.Errorf("an instruction takes %d bytes", n)
	}
	if NumOps > 64 {
		t.Errorf("%d operations", NumOps)
	}
}

// good is a program that each case of TestCheck spoils: it receives one slot and passes on two.
func good() *Program {
	return &Program{
		Name: "p",
		Insns: []Insn{
			{Op: Mov, W: 8, Dst: 0, Flag: FlagImm, PC: 4},
			{Op: Exit},
		},
		Funcs: []Func{{End: 2, Stack: 16, InArgs: 1, OutArgs: 2}},
		Maps:  []Map{{Kind: MapOther, Base: 1}, {Kind: MapArray}},
	}
}

func TestCheck(t *testing.T) {
	if err := Check(good()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		in   Insn
		want string
	}{
		{Insn{}, "unknown operation"},
		{Insn{Op: NumOps}, "unknown operation"},
		{Insn{Op: Mov, W: 2}, "width 2"},
		{Insn{Op: Mov, W: 9}, "width 9"},
		{Insn{Op: Load, W: 3}, "width 3"},
		{Insn{Op: Add, W: 8, Dst: 10}, "writes a register that cannot be written"},
		{Insn{Op: Add, W: 8, Src: 11}, "no such source register"},
		{Insn{Op: Store, W: 8, Dst: 11}, "no such destination register"},
		{Insn{Op: Load, W: 8, Flag: FlagImm}, "takes no immediate"},
		{Insn{Op: Add, W: 8, Imm: 1 << 31, Flag: FlagImm}, "immediate beyond 32 bits"},
		{Insn{Op: AtomicXchg, W: 8, Src: 10}, "writes a register that cannot be written"},
		{Insn{Op: AtomicAdd, W: 8, Src: 10, Flag: FlagFetch}, "writes a register that cannot be written"},
		{Insn{Op: AtomicAdd, W: 2}, "width 2"},
		{Insn{Op: Jmp, Off: 2}, "jumps out of its function"},
		{Insn{Op: Jcc, W: 8, Off: -1}, "jumps out of its function"},
		{Insn{Op: Jcc, W: 8, Sub: NumConds}, "no such condition"},
		{Insn{Op: MayGoto}, "may_goto in a function without its counter"},
		{Insn{Op: IfThrown, Off: 2}, "jumps out of its function"},
		{Insn{Op: SetThrown, Imm: 2}, "neither thrown nor not"},
		{Insn{Op: Sext, W: 4, Sub: 4}, "extends from width 4"},
		{Insn{Op: Zext, Sub: 8}, "extends from width 8"},
		{Insn{Op: Call, Off: 1}, "no such function"},
		{Insn{Op: CallHost, Sub: 5}, "calls nothing"},
		{Insn{Op: CallNative, Imm: 1, Sub: 8}, "8 arguments, the frame has 2 stack slots"},
		{Insn{Op: CallHost, Imm: 1, Sub: 13}, "13 arguments"},
		{Insn{Op: ArgLoad, Sub: 7}, "no incoming argument 7"},
		{Insn{Op: ArgLoad, Sub: 5}, "no incoming argument 5"},
		{Insn{Op: ArgStore, Sub: 8}, "no outgoing argument 8"},
		{Insn{Op: ArgExt, Sub: 6, W: 8}, "width 8"},
		{Insn{Op: ArrayLookup, Off: 2}, "no such map"},
		{Insn{Op: ArrayLookup, Off: 0}, "lookup in a map that is no array"},
		{Insn{Op: ArrayLookup, Off: 1}, "map without memory"},
		{Insn{Op: TailCall, Off: 1}, "tail call through a map that is no program array"},
	} {
		p := good()
		c.in.PC = 4
		p.Insns[0] = c.in
		err := Check(p)
		var e *Error
		if !errors.As(err, &e) || e.Index != 0 || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "insn 4") {
			t.Errorf("%v: %v, want %q", c.in, err, c.want)
		}
	}
	for want, spoil := range map[string]func(p *Program){
		"no instructions":                     func(p *Program) { p.Insns = nil },
		"runs off its end":                    func(p *Program) { p.Insns[1] = p.Insns[0] },
		"600 bytes of stack":                  func(p *Program) { p.Funcs[0].Stack = 600 },
		"9 bytes of stack":                    func(p *Program) { p.Funcs[0].Stack = 9 },
		"8 incoming":                          func(p *Program) { p.Funcs[0].InArgs = 8 },
		"instructions behind":                 func(p *Program) { p.Insns = append(p.Insns, p.Insns...) },
		"covers [0, 3)":                       func(p *Program) { p.Funcs[0].End = 3 },
		"callee expects 1 stack slots, the f": func(p *Program) { p.Funcs[0].OutArgs = 0; p.Insns[0] = Insn{Op: Call} },
	} {
		p := good()
		spoil(p)
		if err := Check(p); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestLiveOut(t *testing.T) {
	p := &Program{
		Insns: []Insn{
			{Op: Mov, W: 8, Dst: 6, Flag: FlagImm},                                     // 0
			{Op: Mov, W: 8, Dst: 7, Flag: FlagImm},                                     // 1: r7 is read only in the loop
			{Op: Add, W: 8, Dst: 6, Src: 7},                                            // 2
			{Op: Jcc, W: 8, Dst: 6, Sub: LT, Imm: 9, Flag: FlagImm, Off: 2},            // 3
			{Op: Mov, W: 8, Dst: 1, Src: 6},                                            // 4
			{Op: CallHost, Imm: 1, Sub: 1},                                             // 5
			{Op: Exit},                                                                 // 6
			{Op: AtomicCmpXchg, W: 8, Dst: 1, Src: 2}, {Op: Mov, W: 8, Src: 3, Dst: 0}, // 7, 8
			{Op: Exit},
		},
		Funcs: []Func{{End: 7}, {Start: 7, End: 10}},
	}
	want := []RegSet{1 << 6, 1<<6 | 1<<7, 1<<6 | 1<<7, 1<<6 | 1<<7, 1 << 1, 1, 0, 1 << 3, 1, 0}
	got := LiveOut(p, nil)
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%d %v: %b, want %b", i, p.Insns[i], got[i], want[i])
		}
	}
}
