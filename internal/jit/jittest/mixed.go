package jittest

import (
	"math/rand/v2"

	"github.com/skep-bpf/skep/internal/ir"
)

// Mixed makes a program of about n instructions with jumps, memory accesses and arithmetic.
func Mixed(n int) *ir.Program {
	r := rand.New(rand.NewPCG(1, 1))
	p := &ir.Program{Name: "mixed"}
	for i := range n {
		in := ir.Insn{Op: ir.Add + ir.Op(r.IntN(int(ir.Arsh-ir.Add))), W: 8, Dst: uint8(r.IntN(10)), Src: uint8(r.IntN(10)), PC: int32(i)}
		switch r.IntN(6) {
		case 0:
			in = ir.Insn{Op: ir.Jcc, Sub: uint8(r.IntN(int(ir.NumConds))), W: 8, Dst: in.Dst, Imm: int64(r.IntN(300)), Flag: ir.FlagImm, Off: int32(min(i+1+r.IntN(60), n)), PC: int32(i)}
		case 1:
			in = ir.Insn{Op: ir.Load, W: 8, Dst: in.Dst, Src: 10, Off: -8, PC: int32(i)}
		case 2:
			in = ir.Insn{Op: ir.Store, W: 4, Dst: 10, Src: in.Src, Off: -16, PC: int32(i)}
		case 3:
			in.Src, in.Imm, in.Flag = 0, int64(r.Int32()), ir.FlagImm
		}
		if in.Op >= ir.Div && in.Op <= ir.SMod && r.IntN(5) != 0 {
			in.Op = ir.Xor
		}
		p.Insns = append(p.Insns, in)
	}
	p.Insns = append(p.Insns, ir.Insn{Op: ir.Exit, PC: int32(n)})
	p.Funcs = []ir.Func{{End: len(p.Insns), Stack: 16}}
	return p
}
