package interp_test

import (
	"context"
	"testing"

	"github.com/skep-bpf/skep/internal/interp"
	"github.com/skep-bpf/skep/internal/ir"
	"github.com/skep-bpf/skep/internal/rt"
)

// BenchmarkInsn reports the time of one instruction of a loop with arithmetic and stack accesses.
func BenchmarkInsn(b *testing.B) {
	const rounds = 1000
	c, err := interp.New(program(movImm(0, 0), movImm(6, rounds), ir.Insn{Op: ir.Yield},
		ir.Insn{Op: ir.Mov, W: 8, Dst: 1, Src: 0}, ir.Insn{Op: ir.Lsh, W: 8, Dst: 1, Imm: 13, Flag: ir.FlagImm}, ir.Insn{Op: ir.Xor, W: 8, Dst: 0, Src: 1},
		ir.Insn{Op: ir.Store, W: 8, Dst: 10, Src: 0, Off: -8}, ir.Insn{Op: ir.Load, W: 8, Dst: 0, Src: 10, Off: -8},
		ir.Insn{Op: ir.Add, W: 8, Dst: 0, Imm: 1, Flag: ir.FlagImm}, ir.Insn{Op: ir.Sub, W: 8, Dst: 6, Imm: 1, Flag: ir.FlagImm},
		ir.Insn{Op: ir.Jcc, Sub: ir.NE, W: 8, Dst: 6, Flag: ir.FlagImm, Off: 2}, exit), interp.Options{})
	if err != nil {
		b.Fatal(err)
	}
	r := rt.Acquire()
	defer r.Release()
	for b.Loop() {
		if _, err := c.Exec(context.Background(), r); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(rounds*8), "ns/insn")
}
