//go:build linux && (amd64 || arm64)

package native

import (
	"context"
	"testing"

	"github.com/skep-bpf/skep/internal/ir"
	"github.com/skep-bpf/skep/internal/rt"
)

func BenchmarkEnterReturn(b *testing.B) {
	c := load(b, prog("ret", movImm(0, 42), exit))
	r := acquire(b)
	for b.Loop() {
		c.Exec(context.Background(), r)
	}
}

func BenchmarkAcquireRelease(b *testing.B) {
	for b.Loop() {
		rt.Acquire().Release()
	}
}

// benchCall times n calls in a loop of one run.
func benchCall(b *testing.B, nargs int, call ir.Insn) {
	in := []ir.Insn{movImm(6, int64(b.N)), {Op: ir.Yield}}
	for i := 1; i <= min(nargs, 5); i++ {
		in = append(in, movImm(uint8(i), int64(i)))
	}
	for i := 6; i <= nargs; i++ {
		in = append(in, ir.Insn{Op: ir.ArgStore, Sub: uint8(i), Src: 6})
	}
	call.Sub = uint8(nargs)
	in = append(in, call, ir.Insn{Op: ir.Sub, W: 8, Dst: 6, Imm: 1, Flag: ir.FlagImm},
		ir.Insn{Op: ir.Jcc, Sub: ir.NE, W: 8, Dst: 6, Flag: ir.FlagImm, Off: 1}, exit)
	c := load(b, prog("calls", in...))
	r := acquire(b)
	b.ResetTimer()
	if _, err := c.Exec(context.Background(), r); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkHostCall(b *testing.B) {
	h := rt.Register(func(r *rt.Run, a *[12]uint64) uint64 { return a[0] + a[11] })
	defer rt.Unregister(h)
	for _, n := range []int{1, 6, 12} {
		b.Run(string(rune('0'+n/10))+string(rune('0'+n%10)), func(b *testing.B) {
			benchCall(b, n, ir.Insn{Op: ir.CallHost, Imm: int64(h)})
		})
	}
}

func BenchmarkRunWithCalls(b *testing.B) {
	h := rt.Register(func(r *rt.Run, a *[12]uint64) uint64 { return a[0] + a[11] })
	defer rt.Unregister(h)
	for _, n := range []int{1, 4} {
		b.Run(string(rune('0'+n)), func(b *testing.B) {
			var in []ir.Insn
			for range n {
				in = append(in, ir.Insn{Op: ir.CallHost, Imm: int64(h), Sub: 5})
			}
			c := load(b, prog("calls", append(in, exit)...))
			r := acquire(b)
			for b.Loop() {
				c.Exec(context.Background(), r)
			}
		})
	}
}
