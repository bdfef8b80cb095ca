package scalar

import (
	"fmt"
	"math"
	"math/bits"
	"reflect"
	"testing"

	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/tnum"
)

// window is eight concrete numbers in a row, base + k<<pos; Scalars are made of their subsets. The windows lie across
// every seam of the domain: zero, the sign bits of both widths, the top of the low half.
type window struct {
	base uint64
	pos  int
}

var windows = []window{
	{0, 0}, {^uint64(3), 0}, {1<<31 - 4, 0}, {1<<32 - 4, 0}, {1<<63 - 4, 0}, {^uint64(1<<31) - 3, 0},
	{0, 30}, {0, 61}, {0xfffffffe00000000, 31}, {0x7fffffff00000000, 29},
}

func (w window) value(k int) uint64 { return w.base + uint64(k)<<w.pos }

// sample is an abstract value with the window's members in it.
type sample struct {
	s       Scalar
	members []uint64
}

// samples returns the Scalars that subsets of the window give rise to: those with given unsigned and signed bounds and
// given known bits, synchronised, without doubles.
func (w window) samples() []sample {
	seen := map[Scalar]bool{}
	var out []sample
	for set := 1; set < 256; set++ {
		s := Unknown()
		and, or := ^uint64(0), uint64(0)
		s.Umin, s.Umax, s.Smin, s.Smax = math.MaxUint64, 0, math.MaxInt64, math.MinInt64
		for k := range 8 {
			if set>>k&1 == 0 {
				continue
			}
			x := w.value(k)
			and, or = and&x, or|x
			s.Umin, s.Umax = min(s.Umin, x), max(s.Umax, x)
			s.Smin, s.Smax = min(s.Smin, int64(x)), max(s.Smax, int64(x))
		}
		variants := []Scalar{s, s, s}
		variants[0].Var = tnum.Tnum{Value: and, Mask: and ^ or}
		variants[2] = Unknown()
		variants[2].Var = variants[0].Var
		for _, v := range variants {
			v.Sync()
			if seen[v] {
				continue
			}
			seen[v] = true
			sm := sample{s: v}
			for k := range 8 {
				if x := w.value(k); v.Contains(x) {
					sm.members = append(sm.members, x)
				}
			}
			out = append(out, sm)
		}
	}
	return out
}

// TestSync checks that synchronisation loses no member: each window's numbers that satisfy the descriptions before do
// so afterwards.
func TestSync(t *testing.T) {
	for _, w := range windows {
		for ulo := range 8 {
			for uhi := ulo; uhi < 8; uhi++ {
				for m := range uint64(256) {
					s := Unknown()
					s.Umin, s.Umax = min(w.value(ulo), w.value(uhi)), max(w.value(ulo), w.value(uhi))
					s.Var = tnum.Tnum{Value: w.value(int(m & 7)), Mask: 15<<60 | m<<w.pos | 1<<31}
					s.Var.Value &^= s.Var.Mask
					s.S32min = int32(w.value(int(m>>3&7))) - 2
					before := s
					s.Sync()
					for k := range 8 {
						if x := w.value(k); before.Contains(x) && !s.Contains(x) {
							t.Fatalf("%#x is in %+v, not in %+v", x, before, s)
						}
					}
				}
			}
		}
	}
}

var aluOps = []struct {
	name string
	op   uint8
	f64  func(x, y uint64) uint64
	f32  func(x, y uint32) uint32
}{
	{"add", isa.AluADD, func(x, y uint64) uint64 { return x + y }, func(x, y uint32) uint32 { return x + y }},
	{"sub", isa.AluSUB, func(x, y uint64) uint64 { return x - y }, func(x, y uint32) uint32 { return x - y }},
	{"mul", isa.AluMUL, func(x, y uint64) uint64 { return x * y }, func(x, y uint32) uint32 { return x * y }},
	{"and", isa.AluAND, func(x, y uint64) uint64 { return x & y }, func(x, y uint32) uint32 { return x & y }},
	{"or", isa.AluOR, func(x, y uint64) uint64 { return x | y }, func(x, y uint32) uint32 { return x | y }},
	{"xor", isa.AluXOR, func(x, y uint64) uint64 { return x ^ y }, func(x, y uint32) uint32 { return x ^ y }},
	{"neg", isa.AluNEG, func(x, _ uint64) uint64 { return -x }, func(x, _ uint32) uint32 { return -x }},
	{"lsh", isa.AluLSH, func(x, y uint64) uint64 { return x << (y & 63) }, func(x, y uint32) uint32 { return x << (y & 31) }},
	{"rsh", isa.AluRSH, func(x, y uint64) uint64 { return x >> (y & 63) }, func(x, y uint32) uint32 { return x >> (y & 31) }},
	{"arsh", isa.AluARSH, func(x, y uint64) uint64 { return uint64(int64(x) >> (y & 63)) },
		func(x, y uint32) uint32 { return uint32(int32(x) >> (y & 31)) }},
	{"div", isa.AluDIV, func(x, y uint64) uint64 {
		if y == 0 {
			return 0
		}
		return x / y
	}, func(x, y uint32) uint32 {
		if y == 0 {
			return 0
		}
		return x / y
	}},
}

// tightness counts how often a bound is the best possible one for the window's members.
type tightness struct{ exact, all int }

func (h *tightness) add(s *Scalar, lo, hi uint64) {
	if h.all++; s.Umin == lo && s.Umax == hi {
		h.exact++
	}
}

// TestALU checks every operation, in both widths, on every pair of samples of every pair of windows: the results of
// all pairs of members are in the result, and it does not contradict itself.
func TestALU(t *testing.T) {
	all := make([][]sample, len(windows))
	for i, w := range windows {
		all[i] = w.samples()
	}
	for _, op := range aluOps {
		var h tightness
		for i, as := range all {
			for j, bs := range all {
				// All pairs of one window with itself and with the small numbers, a fixed selection of the others.
				step := 1
				if i != j && j != 0 || testing.Short() {
					step = 7
				}
				for n := 0; n < len(as)*len(bs); n += step {
					checkALU(t, op.op, op.name, &as[n/len(bs)], &bs[n%len(bs)], op.f64, op.f32, &h)
				}
			}
		}
		t.Logf("%s: unsigned bounds are the best possible in %d of %d", op.name, h.exact, h.all)
	}
}

func checkALU(t *testing.T, op uint8, name string, a, b *sample, f64 func(x, y uint64) uint64, f32 func(x, y uint32) uint32, h *tightness) {
	r64, r32 := a.s, a.s
	r64.ALU(op, b.s, false)
	r32.ALU(op, b.s, true)
	for _, r := range []*Scalar{&r64, &r32} {
		if v := r.Violation(); v != "" {
			t.Fatalf("%s(%s, %s) = %+v: %s", name, a.s.String(), b.s.String(), *r, v)
		}
	}
	lo, hi := uint64(math.MaxUint64), uint64(0)
	for _, x := range a.members {
		for _, y := range b.members {
			z := f64(x, y)
			lo, hi = min(lo, z), max(hi, z)
			if !r64.Contains(z) {
				t.Fatalf("%s(%s, %s) = %s does not hold %#x of %#x, %#x", name, a.s.String(), b.s.String(), r64.String(), z, x, y)
			}
			if z := uint64(f32(uint32(x), uint32(y))); !r32.Contains(z) {
				t.Fatalf("%s32(%s, %s) = %s does not hold %#x of %#x, %#x", name, a.s.String(), b.s.String(), r32.String(), z, x, y)
			}
		}
	}
	h.add(&r64, lo, hi)
}

func TestExtend(t *testing.T) {
	for _, w := range windows {
		for _, sm := range w.samples() {
			check := func(name string, f func(*Scalar), g func(uint64) uint64) {
				t.Helper()
				r := sm.s
				f(&r)
				if v := r.Violation(); v != "" {
					t.Fatalf("%s(%s) = %+v: %s", name, sm.s.String(), r, v)
				}
				for _, x := range sm.members {
					if z := g(x); !r.Contains(z) {
						t.Fatalf("%s(%s) = %s does not hold %#x of %#x", name, sm.s.String(), r.String(), z, x)
					}
				}
			}
			check("zext", (*Scalar).Zext32, func(x uint64) uint64 { return uint64(uint32(x)) })
			for _, n := range []int{1, 2, 4} {
				check(fmt.Sprint("truncate", n), func(s *Scalar) { s.Truncate(n) }, func(x uint64) uint64 { return x & (1<<(8*n) - 1) })
				check(fmt.Sprint("sext", n), func(s *Scalar) { s.SignExtend(n) }, func(x uint64) uint64 {
					return uint64(int64(x<<(64-8*n)) >> (64 - 8*n))
				})
				check(fmt.Sprint("sext low", n), func(s *Scalar) { s.SignExtendLow(n) }, func(x uint64) uint64 {
					return uint64(int64(x<<(64-8*n)) >> (64 - 8*n))
				})
				if n < 4 {
					check(fmt.Sprint("sext32", n), func(s *Scalar) { s.SignExtend32(n) }, func(x uint64) uint64 {
						return uint64(uint32(int32(uint32(x)<<(32-8*n)) >> (32 - 8*n)))
					})
				}
			}
			for _, n := range []int{2, 4, 8} {
				check(fmt.Sprint("swap", n), func(s *Scalar) { s.ByteSwap(n, true) }, func(x uint64) uint64 {
					return bits.ReverseBytes64(x) >> (64 - 8*n)
				})
				check(fmt.Sprint("host order", n), func(s *Scalar) { s.ByteSwap(n, false) }, func(x uint64) uint64 {
					return x << (64 - 8*n) >> (64 - 8*n)
				})
			}
		}
	}
}

// TestOffset checks arithmetic on pointer offsets.
func TestOffset(t *testing.T) {
	for _, wa := range windows {
		for _, wb := range windows {
			as, bs := wa.samples(), wb.samples()
			for n := 0; n < len(as)*len(bs); n += 5 {
				a, b := &as[n/len(bs)], &bs[n%len(bs)]
				add, sub := a.s, a.s
				add.AddOffset(&b.s)
				sub.SubOffset(&b.s)
				for _, x := range a.members {
					for _, y := range b.members {
						if !add.Contains(x+y) || !sub.Contains(x-y) {
							t.Fatalf("%s +- %s = %s, %s: not %#x, %#x", a.s.String(), b.s.String(), add.String(), sub.String(), x+y, x-y)
						}
					}
				}
			}
		}
	}
}

var conditions = []struct {
	name string
	op   uint8
	f    func(x, y uint64) bool
	f32  func(x, y uint32) bool
}{
	{"==", isa.JmpJEQ, func(x, y uint64) bool { return x == y }, func(x, y uint32) bool { return x == y }},
	{"!=", isa.JmpJNE, func(x, y uint64) bool { return x != y }, func(x, y uint32) bool { return x != y }},
	{">", isa.JmpJGT, func(x, y uint64) bool { return x > y }, func(x, y uint32) bool { return x > y }},
	{">=", isa.JmpJGE, func(x, y uint64) bool { return x >= y }, func(x, y uint32) bool { return x >= y }},
	{"<", isa.JmpJLT, func(x, y uint64) bool { return x < y }, func(x, y uint32) bool { return x < y }},
	{"<=", isa.JmpJLE, func(x, y uint64) bool { return x <= y }, func(x, y uint32) bool { return x <= y }},
	{"s>", isa.JmpJSGT, func(x, y uint64) bool { return int64(x) > int64(y) }, func(x, y uint32) bool { return int32(x) > int32(y) }},
	{"s>=", isa.JmpJSGE, func(x, y uint64) bool { return int64(x) >= int64(y) }, func(x, y uint32) bool { return int32(x) >= int32(y) }},
	{"s<", isa.JmpJSLT, func(x, y uint64) bool { return int64(x) < int64(y) }, func(x, y uint32) bool { return int32(x) < int32(y) }},
	{"s<=", isa.JmpJSLE, func(x, y uint64) bool { return int64(x) <= int64(y) }, func(x, y uint32) bool { return int32(x) <= int32(y) }},
	{"&", isa.JmpJSET, func(x, y uint64) bool { return x&y != 0 }, func(x, y uint32) bool { return x&y != 0 }},
}

// TestBranch checks every condition, in both widths, on pairs of samples: a decided jump is decided right for all pairs
// of members, and each side of an undecided one keeps every pair that goes there.
func TestBranch(t *testing.T) {
	all := make([][]sample, len(windows))
	for i, w := range windows {
		all[i] = w.samples()
	}
	for _, c := range conditions {
		decided, total := 0, 0
		for i, as := range all {
			for j, bs := range all {
				step := 1
				if i != j && j != 0 || testing.Short() {
					step = 7
				}
				for n := 0; n < len(as)*len(bs); n += step {
					a, b := &as[n/len(bs)], &bs[n%len(bs)]
					for _, is32 := range []bool{false, true} {
						holds := c.f
						if is32 {
							holds = func(x, y uint64) bool { return c.f32(uint32(x), uint32(y)) }
						}
						total++
						if checkBranch(t, c.op, c.name, a, b, is32, holds) {
							decided++
						}
					}
				}
			}
		}
		t.Logf("%s: %d of %d decided", c.name, decided, total)
	}
}

func checkBranch(t *testing.T, op uint8, name string, a, b *sample, is32 bool, holds func(x, y uint64) bool) (decided bool) {
	taken := BranchTaken(&a.s, &b.s, op, is32)
	ta, tb, fa, fb := a.s, b.s, a.s, b.s
	if taken < 0 {
		Refine(&ta, &tb, op, is32)
		Refine(&fa, &fb, Reverse(op), is32)
	}
	for _, x := range a.members {
		for _, y := range b.members {
			h := holds(x, y)
			switch {
			case taken >= 0 && (taken == 1) != h:
				t.Fatalf("%s %s %s (32: %t) decided as %d, but %#x, %#x", a.s.String(), name, b.s.String(), is32, taken, x, y)
			case taken < 0 && h && !(ta.Contains(x) && tb.Contains(y)):
				t.Fatalf("%s %s %s (32: %t): taken %s, %s loses %#x, %#x", a.s.String(), name, b.s.String(), is32, ta.String(), tb.String(), x, y)
			case taken < 0 && !h && !(fa.Contains(x) && fb.Contains(y)):
				t.Fatalf("%s %s %s (32: %t): not taken %s, %s loses %#x, %#x", a.s.String(), name, b.s.String(), is32, fa.String(), fb.String(), x, y)
			}
		}
	}
	return taken >= 0
}

// TestBranchSelf checks a comparison of a register with itself.
func TestBranchSelf(t *testing.T) {
	for _, w := range windows {
		for _, sm := range w.samples() {
			for _, c := range conditions {
				taken := BranchTaken(&sm.s, &sm.s, c.op, false)
				yes, no := sm.s, sm.s
				Refine(&yes, &yes, c.op, false)
				Refine(&no, &no, Reverse(c.op), false)
				for _, x := range sm.members {
					h := c.f(x, x)
					if taken >= 0 && (taken == 1) != h || taken < 0 && h && !yes.Contains(x) || taken < 0 && !h && !no.Contains(x) {
						t.Fatalf("%s %s itself: %d, %s, %s wrong for %#x", sm.s.String(), c.name, taken, yes.String(), no.String(), x)
					}
				}
			}
		}
	}
}

func TestFlipReverse(t *testing.T) {
	for _, c := range conditions {
		for _, x := range []uint64{0, 1, 2, 1 << 63, ^uint64(0)} {
			for _, y := range []uint64{0, 1, 2, 1 << 63, ^uint64(0)} {
				for _, d := range conditions {
					if d.op == Flip(c.op) && d.f(y, x) != c.f(x, y) {
						t.Errorf("flip of %s is %s", c.name, d.name)
					}
					if d.op == Reverse(c.op) && d.f(x, y) == c.f(x, y) {
						t.Errorf("reverse of %s is %s", c.name, d.name)
					}
				}
			}
		}
		if Reverse(Reverse(c.op)) != c.op || Flip(Flip(c.op)) != c.op {
			t.Errorf("%s: twice is not the same", c.name)
		}
	}
}

func TestString(t *testing.T) {
	ranged := func(lo, hi uint64) Scalar {
		s := Unknown()
		s.Umin, s.Umax = lo, hi
		s.Sync()
		return s
	}
	signed := Unknown()
	signed.SetS32Range(-4095, 0)
	for _, tt := range []struct {
		s    Scalar
		want string
	}{
		{Unknown(), "scalar()"},
		{Const(0), "0"},
		{Const(1 << 63), "0x8000000000000000"},
		{Imm(-32768), "-32768"},
		{Imm(-32769), "0xffffffffffff7fff"},
		{Const(32768), "0x8000"},
		{ranged(0, 255), "scalar(smin=smin32=0,smax=umax=smax32=umax32=255,var_off=(0x0; 0xff))"},
		{ranged(1, 1<<32-1), "scalar(smin=umin=umin32=1,smax=umax=0xffffffff,var_off=(0x0; 0xffffffff))"},
		{signed, "scalar(smin=smin32=-4095,smax=smax32=0)"},
	} {
		if got := tt.s.String(); got != tt.want {
			t.Errorf("%+v\n%s, want\n%s", tt.s, got, tt.want)
		}
	}
	s := Unknown()
	s.Smax = 7
	if got, want := string(s.AppendRanges([]byte("(id=3"))), "(id=3,smax=7"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestViolation(t *testing.T) {
	for _, tt := range []struct {
		spoil func(*Scalar)
		want  string
	}{
		{func(*Scalar) {}, ""},
		{func(s *Scalar) { s.Umin = 8 }, "range bounds violation"},
		{func(s *Scalar) { s.S32max = -1 }, "range bounds violation"},
		{func(s *Scalar) { s.Smin = 6 }, "const tnum out of sync with range bounds"},
		{func(s *Scalar) { s.U32min = 6 }, "const subreg tnum out of sync with range bounds"},
	} {
		s := Const(7)
		tt.spoil(&s)
		if got := s.Violation(); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}

func TestCovers(t *testing.T) {
	for _, w := range windows {
		ss := w.samples()
		for n := 0; n < len(ss)*len(ss); n += 3 {
			a, b := &ss[n/len(ss)], &ss[n%len(ss)]
			if !a.s.Covers(&b.s) {
				continue
			}
			for _, x := range b.members {
				if !a.s.Contains(x) {
					t.Fatalf("%s covers %s but for %#x", a.s.String(), b.s.String(), x)
				}
			}
		}
		for i := range ss {
			if !ss[i].s.Covers(&ss[i].s) {
				t.Fatalf("%s does not cover itself", ss[i].s.String())
			}
		}
	}
}

func TestSize(t *testing.T) {
	// The verifier copies these by the million.
	if got := reflect.TypeFor[Scalar]().Size(); got != 64 {
		t.Errorf("a Scalar has %d bytes, want 64", got)
	}
}

func BenchmarkSync(b *testing.B) {
	s := Const(0)
	s.Umax, s.Smax, s.Var = 100, 1000, tnum.Unknown()
	s.U32max, s.S32max = 1000, 1000
	for b.Loop() {
		c := s
		c.Sync()
	}
}

func BenchmarkAdd(b *testing.B) {
	s, k := Unknown(), Const(8)
	s.Umax = 100
	s.Sync()
	for b.Loop() {
		c := s
		c.ALU(isa.AluADD, k, false)
	}
}
