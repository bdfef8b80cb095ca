package scalar

import (
	"testing"

	"github.com/skep-bpf/skep/internal/isa"
)

// The range rules are generic in their width. Here they run exhaustively on four-bit numbers that stand in the high
// half of eight bits: x stands for x<<4, so that sums, differences and bit operations wrap and overflow as four-bit
// ones do.

type urange struct{ lo, hi uint8 }
type srange struct{ lo, hi int8 }

func allRanges() (us []urange, ss []srange) {
	for lo := range 16 {
		for hi := lo; hi < 16; hi++ {
			us = append(us, urange{uint8(lo << 4), uint8(hi << 4)})
			ss = append(ss, srange{int8((lo - 8) << 4), int8((hi - 8) << 4)})
		}
	}
	return us, ss
}

func (r urange) has(x uint8) bool { return r.lo <= x && x <= r.hi }
func (r srange) has(x int8) bool  { return r.lo <= x && x <= r.hi }

// TestRangeSums checks addition, subtraction and multiplication on every pair of ranges and every pair of their
// members: all results are inside, and the result is the tightest range that there is (addition and subtraction: where
// not everything is lost to a wrap).
func TestRangeSums(t *testing.T) {
	us, ss := allRanges()
	whole8 := urange{0, 255}
	wholeS := srange{-128, 127}
	for _, op := range []struct {
		name string
		f    func(uint8, uint8, int8, int8, uint8, uint8, int8, int8) (uint8, uint8, int8, int8)
		u    func(x, y uint8) uint8
		s    func(x, y int8) int8
		mul  bool
	}{
		{"add", addBounds[uint8, int8], func(x, y uint8) uint8 { return x + y }, func(x, y int8) int8 { return x + y }, false},
		{"sub", subBounds[uint8, int8], func(x, y uint8) uint8 { return x - y }, func(x, y int8) int8 { return x - y }, false},
		{"mul", mulBounds[uint8, int8], func(x, y uint8) uint8 { return x * y }, func(x, y int8) int8 { return x * y }, true},
	} {
		exact, lost := 0, 0
		for i := range us {
			for j := range us {
				a, b, sa, sb := us[i], us[j], ss[i], ss[j]
				step := 16
				if op.mul { // one factor is unscaled, so that the product is scaled once
					b, sb, step = urange{b.lo >> 4, b.hi >> 4}, srange{sb.lo >> 4, sb.hi >> 4}, 1
				}
				ulo, uhi, slo, shi := op.f(a.lo, a.hi, sa.lo, sa.hi, b.lo, b.hi, sb.lo, sb.hi)
				ur, sr := urange{ulo, uhi}, srange{slo, shi}
				uh, sh := urange{255, 0}, srange{127, -128}
				for x := int(a.lo); x <= int(a.hi); x += 16 {
					for y := int(b.lo); y <= int(b.hi); y += step {
						z := op.u(uint8(x), uint8(y))
						uh = urange{min(uh.lo, z), max(uh.hi, z)}
					}
				}
				for x := int(sa.lo); x <= int(sa.hi); x += 16 {
					for y := int(sb.lo); y <= int(sb.hi); y += step {
						z := op.s(int8(x), int8(y))
						sh = srange{min(sh.lo, z), max(sh.hi, z)}
					}
				}
				if !ur.has(uh.lo) || !ur.has(uh.hi) || !sr.has(sh.lo) || !sr.has(sh.hi) {
					t.Fatalf("%s(%v %v, %v %v) = %v %v misses %v %v", op.name, a, sa, b, sb, ur, sr, uh, sh)
				}
				for _, e := range []struct{ same, whole bool }{{ur == uh, ur == whole8}, {sr == sh, sr == wholeS}} {
					switch {
					case e.same:
						exact++
					case e.whole:
						lost++
					default:
						t.Fatalf("%s(%v %v, %v %v) = %v %v, best is %v %v", op.name, a, sa, b, sb, ur, sr, uh, sh)
					}
				}
			}
		}
		t.Logf("%s: %d results are the best possible, %d say nothing", op.name, exact, lost)
	}
}

// TestRangeBits checks the bounds after and, or, xor of every pair of four-bit unsigned ranges, given the span of the
// tristate number of the exact results.
func TestRangeBits(t *testing.T) {
	us, _ := allRanges()
	for _, op := range []struct {
		code uint8
		f    func(x, y uint8) uint8
	}{
		{isa.AluAND, func(x, y uint8) uint8 { return x & y }},
		{isa.AluOR, func(x, y uint8) uint8 { return x | y }},
		{isa.AluXOR, func(x, y uint8) uint8 { return x ^ y }},
	} {
		for _, a := range us {
			for _, b := range us {
				and, or := uint8(255), uint8(0)
				uh, sh := urange{255, 0}, srange{127, -128}
				for x := int(a.lo); x <= int(a.hi); x += 16 {
					for y := int(b.lo); y <= int(b.hi); y += 16 {
						z := op.f(uint8(x), uint8(y))
						and, or = and&z, or|z
						uh = urange{min(uh.lo, z), max(uh.hi, z)}
						sh = srange{min(sh.lo, int8(z)), max(sh.hi, int8(z))}
					}
				}
				ulo, uhi, slo, shi := bitBounds[uint8, int8](op.code, and, or, a.lo, a.hi, b.lo, b.hi)
				ur, sr := urange{ulo, uhi}, srange{slo, shi}
				if !ur.has(uh.lo) || !ur.has(uh.hi) || !sr.has(sh.lo) || !sr.has(sh.hi) {
					t.Fatalf("op %#x (%v, %v) = %v %v misses %v %v", op.code, a, b, ur, sr, uh, sh)
				}
			}
		}
	}
}

// TestCrossSign checks on every unsigned and every signed four-bit range that no common number is lost, that nothing
// is gained, and that where there are common numbers and their hull is known from one side the result is it.
func TestCrossSign(t *testing.T) {
	us, ss := allRanges()
	exact, loose := 0, 0
	for _, u := range us {
		for _, s := range ss {
			ulo, uhi, slo, shi := crossSign(u.lo, u.hi, s.lo, s.hi)
			ur, sr := urange{ulo, uhi}, srange{slo, shi}
			uh, sh, some := urange{255, 0}, srange{127, -128}, false
			for x := 0; x < 256; x += 16 {
				if b := uint8(x); u.has(b) && s.has(int8(b)) {
					uh, sh, some = urange{min(uh.lo, b), max(uh.hi, b)}, srange{min(sh.lo, int8(b)), max(sh.hi, int8(b))}, true
				}
			}
			if !some {
				continue // a contradiction: nothing is promised
			}
			for x := 0; x < 256; x += 16 {
				if b := uint8(x); (u.has(b) && s.has(int8(b))) != (ur.has(b) && sr.has(int8(b))) {
					t.Fatalf("crossSign(%v, %v) = %v %v: %d is lost or gained", u, s, ur, sr, b)
				}
			}
			if ur == uh && sr == sh {
				exact++
			} else {
				loose++
			}
		}
	}
	t.Logf("%d of %d results are the hull", exact, exact+loose)
	if exact < loose*4 {
		t.Errorf("only %d of %d results are the hull", exact, exact+loose)
	}
}

// TestTrimAndLess checks the two range rules of refinement exhaustively.
func TestTrimAndLess(t *testing.T) {
	for lo := range uint8(16) {
		for hi := lo; hi < 16; hi++ {
			for v := range uint8(16) {
				if lo == hi && v == lo {
					continue // decided before
				}
				l, h := trim(lo, hi, v)
				for x := lo; x <= hi; x++ {
					if x != v && (x < l || x > h) {
						t.Fatalf("trim(%d, %d, %d) = %d, %d loses %d", lo, hi, v, l, h, x)
					}
				}
				if l < lo || h > hi || v == lo && l != lo+1 || v == hi && h != hi-1 {
					t.Fatalf("trim(%d, %d, %d) = %d, %d", lo, hi, v, l, h)
				}
				for w := v; w < 16; w++ { // [lo, hi] < [v, w]
					for _, strict := range []bool{false, true} {
						checkLess(t, lo, hi, v, w, strict)
					}
				}
			}
		}
	}
}

func checkLess(t *testing.T, alo, ahi, blo, bhi uint8, strict bool) {
	if alo > bhi || strict && alo == bhi {
		return // decided before
	}
	amax, bmin := less(alo, ahi, blo, bhi, strict)
	wantMax, wantMin := uint8(0), uint8(255)
	for x := alo; x <= ahi; x++ {
		for y := blo; y <= bhi; y++ {
			if x < y || !strict && x == y {
				wantMax, wantMin = max(wantMax, x), min(wantMin, y)
			}
		}
	}
	if amax != wantMax || bmin != wantMin {
		t.Fatalf("less(%d..%d, %d..%d, %t) = %d, %d, want %d, %d", alo, ahi, blo, bhi, strict, amax, bmin, wantMax, wantMin)
	}
}
