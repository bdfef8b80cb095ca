package ir

import (
	"math/rand/v2"
	"testing"
)

// TestLiveOutChains compares with passes over everything until nothing changes, on programs whose jumps go anywhere: most need
// more than maxPasses.
func TestLiveOutChains(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	many := 0
	for range 300 {
		n := 5 + rnd.IntN(120)
		p := &Program{Insns: make([]Insn, n), Funcs: []Func{{Start: 0, End: n}}}
		for i := range p.Insns {
			in := &p.Insns[i]
			in.Dst, in.Src, in.W, in.Off = uint8(rnd.IntN(10)), uint8(rnd.IntN(10)), 8, int32(rnd.IntN(n))
			in.Op = []Op{Jmp, Jmp, Jmp, Mov, Add, Jcc, Exit, ArgLoad}[rnd.IntN(8)]
			if in.Op == Jmp && rnd.IntN(3) > 0 {
				in.Off = int32(max(i-1-rnd.IntN(3), 0)) // chains backwards
			}
		}
		want, passes := make([]RegSet, n), 0
		for changed := true; changed; passes++ {
			changed = false
			for i := n - 1; i >= 0; i-- {
				in, out := &p.Insns[i], RegSet(0)
				from := func(k int) { out |= want[k]&^p.Insns[k].Defs() | p.Insns[k].Uses() }
				if in.Op != Jmp && in.Op != Exit && i+1 < n {
					from(i + 1)
				}
				if in.Op.HasTarget() {
					from(int(in.Off))
				}
				changed = changed || out != want[i]
				want[i] = out
			}
		}
		if passes > maxPasses+1 {
			many++
		}
		got := LiveOut(p, nil)
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("instruction %d of %d: %010b, want %010b", i, n, got[i], want[i])
			}
		}
	}
	if many == 0 {
		t.Error("no program needed many passes")
	}
}
