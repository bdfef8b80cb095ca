//go:build linux && (amd64 || arm64)

package native

import (
	"context"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/skep-bpf/skep/internal/ir"
	"github.com/skep-bpf/skep/internal/offheap"
	"github.com/skep-bpf/skep/internal/rt"
)

// counters is a program that goes round n times over the words at its context: word 0 += 3; word 1 += 1 with the old value
// fetched; the lower halves of words 2 += 1 and 3 ^= 1, fetched; word 4 and the lower half of word 5 += 1 by compare and
// exchange. It returns the sum of what it fetched from word 1.
func counters(n int64) *ir.Program {
	imm := func(op ir.Op, dst uint8, v int64) ir.Insn {
		return ir.Insn{Op: op, W: 8, Dst: dst, Imm: v, Flag: ir.FlagImm}
	}
	atomic := func(op ir.Op, w, flag uint8, word int32) ir.Insn {
		return ir.Insn{Op: op, W: w, Flag: flag, Dst: 7, Src: 2, Off: 8 * word}
	}
	in := []ir.Insn{mov(7, 1), movImm(6, n), movImm(9, 0), {Op: ir.Yield},
		movImm(2, 3), atomic(ir.AtomicAdd, 8, 0, 0),
		movImm(2, 1), atomic(ir.AtomicAdd, 8, ir.FlagFetch, 1), add(9, 2),
		movImm(2, 1), atomic(ir.AtomicAdd, 4, 0, 2),
		movImm(2, 1), atomic(ir.AtomicXor, 4, ir.FlagFetch, 3)}
	for word, w := range map[int32]uint8{4: 8, 5: 4} {
		again := int32(len(in))
		in = append(in, ir.Insn{Op: ir.Load, W: w, Dst: 0, Src: 7, Off: 8 * word}, mov(8, 0), mov(2, 0), imm(ir.Add, 2, 1),
			atomic(ir.AtomicCmpXchg, w, 0, word), ir.Insn{Op: ir.Jcc, Sub: ir.NE, W: 8, Dst: 0, Src: 8, Off: again})
	}
	in = append(in, imm(ir.Sub, 6, 1), ir.Insn{Op: ir.Jcc, Sub: ir.NE, W: 8, Dst: 6, Flag: ir.FlagImm, Off: 3}, mov(0, 9), exit)
	return prog("counters", in...)
}

// TestAtomicsContended lets programs work on the same words at the same time: nothing is lost, and each fetched value is
// fetched once. Also as on a processor without extensions.
func TestAtomicsContended(t *testing.T) {
	t.Run("extensions", contend)
	t.Run("none", func(t *testing.T) {
		plain(t)
		contend(t)
	})
}

func contend(t *testing.T) {
	mem := sharedMemory(t)
	const rounds = 500_000
	t.Logf("%+v", features)
	c := load(t, counters(rounds))
	workers := max(rt.CPUs(), 2)
	var wg sync.WaitGroup
	var fetched atomic.Uint64
	for range workers {
		wg.Go(func() {
			r := rt.Acquire()
			defer r.Release()
			r.Ctx = mem.Addr()
			v, err := c.Exec(context.Background(), r)
			if err != nil {
				t.Error(err)
			}
			fetched.Add(v)
		})
	}
	wg.Wait()
	n := uint64(workers * rounds)
	for word, want := range []uint64{3 * n, n, n, n & 1, n, n} {
		if got := wordAt(mem, word); got != want {
			t.Errorf("word %d is %d, want %d", word, got, want)
		}
	}
	if got, want := fetched.Load(), n*(n-1)/2; got != want {
		t.Errorf("the fetched values' sum is %d, want %d", got, want)
	}
}

func wordAt(m *offheap.Region, i int) uint64 { return binary.LittleEndian.Uint64(m.Bytes()[8*i:]) }
