package tnum

import (
	"math/bits"
	"math/rand/v2"
	"testing"
)

// all returns every Tnum whose bits outside the width bits from bit pos are known zeros.
func all(width, pos int) []Tnum {
	var ts []Tnum
	for m := range uint64(1) << width {
		for v := range uint64(1) << width {
			if v&m == 0 {
				ts = append(ts, Tnum{v << pos, m << pos})
			}
		}
	}
	return ts
}

// members calls f for each value in γ(a).
func members(a Tnum, f func(uint64)) {
	for s := a.Mask; ; s = (s - 1) & a.Mask {
		f(a.Value | s)
		if s == 0 {
			return
		}
	}
}

// hull collects values and gives the smallest Tnum that holds them all.
type hull struct {
	and, or uint64
	some    bool
}

func (h *hull) add(x uint64) {
	if !h.some {
		h.and, h.or, h.some = x, x, true
	}
	h.and &= x
	h.or |= x
}

func (h *hull) best() Tnum { return Tnum{h.and, h.and ^ h.or} }

var binary = []struct {
	name     string
	abstract func(a, b Tnum) Tnum
	concrete func(x, y uint64) uint64
	optimal  bool
}{
	{"add", Tnum.Add, func(x, y uint64) uint64 { return x + y }, true},
	{"sub", Tnum.Sub, func(x, y uint64) uint64 { return x - y }, true},
	{"and", Tnum.And, func(x, y uint64) uint64 { return x & y }, true},
	{"or", Tnum.Or, func(x, y uint64) uint64 { return x | y }, true},
	{"xor", Tnum.Xor, func(x, y uint64) uint64 { return x ^ y }, true},
	{"mul", Tnum.Mul, func(x, y uint64) uint64 { return x * y }, false},
}

// TestBinary checks every pair of Tnums of five bits and every pair of their members, with the five bits at the low
// end, across the middle, and at the high end, where results wrap.
func TestBinary(t *testing.T) {
	const width = 5
	for _, op := range binary {
		for _, pos := range []int{0, 30, 64 - width} {
			as, bs := all(width, pos), all(width, pos)
			if op.name == "mul" {
				bs = all(width, 0)
			}
			exact, pairs := 0, 0
			for _, a := range as {
				for _, b := range bs {
					got := op.abstract(a, b)
					if got.Value&got.Mask != 0 {
						t.Fatalf("%s(%v, %v) = %v is ill-formed", op.name, a, b, got)
					}
					var h hull
					members(a, func(x uint64) {
						members(b, func(y uint64) { h.add(op.concrete(x, y)) })
					})
					best := h.best()
					if !got.In(best) {
						t.Fatalf("%s(%v, %v) = %v does not hold %v", op.name, a, b, got, best)
					}
					if pairs++; got == best {
						exact++
					} else if op.optimal {
						t.Fatalf("%s(%v, %v) = %v, best is %v", op.name, a, b, got, best)
					}
				}
			}
			t.Logf("%s at bit %d: %d of %d results are the best possible", op.name, pos, exact, pairs)
		}
	}
}

// TestMulPrecision pins how often multiplication is exact: a change of the algorithm shows here before it shows as a
// difference to the kernel.
func TestMulPrecision(t *testing.T) {
	exact := 0
	for _, a := range all(4, 0) {
		for _, b := range all(4, 0) {
			var h hull
			members(a, func(x uint64) { members(b, func(y uint64) { h.add(x * y) }) })
			if a.Mul(b) == h.best() {
				exact++
			}
		}
	}
	if exact != mulExact4 {
		t.Errorf("%d of %d products are exact, want %d", exact, 81*81, mulExact4)
	}
}

const mulExact4 = 5946

func TestUnary(t *testing.T) {
	const width = 6
	for _, pos := range []int{0, 28, 58} {
		for _, a := range all(width, pos) {
			check := func(name string, got Tnum, f func(uint64) uint64) {
				t.Helper()
				var h hull
				members(a, func(x uint64) { h.add(f(x)) })
				if got != h.best() {
					t.Fatalf("%s(%v) = %v, want %v", name, a, got, h.best())
				}
			}
			check("neg", a.Neg(), func(x uint64) uint64 { return -x })
			for n := range uint8(64) {
				check("lshift", a.Lshift(n), func(x uint64) uint64 { return x << n })
				check("rshift", a.Rshift(n), func(x uint64) uint64 { return x >> n })
				check("arshift", a.Arshift(n, 64), func(x uint64) uint64 { return uint64(int64(x) >> n) })
				if n < 32 {
					check("arshift32", a.Arshift(n, 32), func(x uint64) uint64 { return uint64(uint32(int32(x) >> n)) })
				}
			}
			for size := range 9 {
				check("cast", a.Cast(size), func(x uint64) uint64 { return x & (1<<(8*size) - 1) })
			}
			check("clear subreg", a.ClearSubreg(), func(x uint64) uint64 { return x &^ 0xffffffff })
			check("const subreg", a.ConstSubreg(0x12345678), func(x uint64) uint64 { return x&^0xffffffff | 0x12345678 })
			check("bswap16", a.Bswap(2), func(x uint64) uint64 { return uint64(bits.ReverseBytes16(uint16(x))) })
			check("bswap32", a.Bswap(4), func(x uint64) uint64 { return uint64(bits.ReverseBytes32(uint32(x))) })
			check("bswap64", a.Bswap(8), bits.ReverseBytes64)
			for _, size := range []uint64{0, 1, 2, 8, 64} {
				want := true
				members(a, func(x uint64) { want = want && (size == 0 || x%size == 0) })
				if a.IsAligned(size) != want {
					t.Fatalf("%v.IsAligned(%d) = %t", a, size, !want)
				}
			}
		}
	}
}

func TestLattice(t *testing.T) {
	const width = 5
	for _, a := range all(width, 29) {
		for _, b := range all(width, 29) {
			var join, meet hull
			subset := true
			members(a, join.add)
			members(b, func(y uint64) {
				join.add(y)
				if a.Contains(y) {
					meet.add(y)
				} else {
					subset = false
				}
			})
			if got := a.Union(b); got != join.best() {
				t.Fatalf("union(%v, %v) = %v, want %v", a, b, got, join.best())
			}
			if a.Overlap(b) != meet.some {
				t.Fatalf("overlap(%v, %v) = %t", a, b, !meet.some)
			}
			if got := a.Intersect(b); meet.some && got != meet.best() {
				t.Fatalf("intersect(%v, %v) = %v, want %v", a, b, got, meet.best())
			}
			if a.In(b) != subset {
				t.Fatalf("in(%v, %v) = %t", a, b, !subset)
			}
		}
	}
}

func TestRange(t *testing.T) {
	for _, base := range []uint64{0, 1<<31 - 40, 1<<32 - 40, 1<<63 - 40, ^uint64(0) - 79} {
		for lo := base; lo < base+79; lo++ {
			var h hull
			for hi := lo; hi < base+79; hi++ {
				h.add(hi)
				// The smallest Tnum that has only leading bits known.
				low := uint64(1)<<bits.Len64(lo^hi) - 1
				want := Tnum{lo &^ low, low}
				if got := Range(lo, hi); got != want || !got.In(h.best()) {
					t.Fatalf("Range(%#x, %#x) = %v, want %v", lo, hi, got, want)
				}
			}
		}
	}
	if got := Range(0, ^uint64(0)); got != Unknown() {
		t.Errorf("the whole range is %v", got)
	}
}

func TestNext(t *testing.T) {
	for _, pos := range []int{0, 30, 58} {
		for _, a := range all(6, pos) {
			for i := range uint64(130) {
				z := a.Value - 3<<pos + i<<pos/2 // below, between and above the members
				want := a.Max()
				members(a, func(x uint64) {
					if x > z && x < want {
						want = x
					}
				})
				if got := a.Next(z); got != want {
					t.Fatalf("%v.Next(%#x) = %#x, want %#x", a, z, got, want)
				}
			}
		}
	}
}

// TestRandom goes beyond small widths: random wide Tnums and random members.
func TestRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	rnd := func() Tnum {
		m := r.Uint64() & r.Uint64() >> r.IntN(64)
		return Tnum{r.Uint64() >> r.IntN(64) &^ m, m}
	}
	for range 200_000 {
		a, b := rnd(), rnd()
		x, y := a.Value|r.Uint64()&a.Mask, b.Value|r.Uint64()&b.Mask
		for _, op := range binary {
			if got := op.abstract(a, b); !got.Contains(op.concrete(x, y)) {
				t.Fatalf("%s(%v, %v) = %v does not hold %s(%#x, %#x)", op.name, a, b, got, op.name, x, y)
			}
		}
	}
}

func TestString(t *testing.T) {
	for _, tt := range []struct {
		t    Tnum
		want string
	}{
		{Const(0), "0"},
		{Const(65535), "65535"},
		{Const(65536), "0x10000"},
		{Tnum{0, 0xff}, "(0x0; 0xff)"},
		{Unknown(), "(0x0; 0xffffffffffffffff)"},
		{Tnum{0x100, 3}, "(0x100; 0x3)"},
	} {
		if got := tt.t.String(); got != tt.want {
			t.Errorf("%#v: %q, want %q", tt.t, got, tt.want)
		}
	}
}

func BenchmarkMul(b *testing.B) {
	x, y := Tnum{0x1234, 0xff00}, Tnum{0, 0xffff}
	for b.Loop() {
		_ = x.Mul(y)
	}
}
