package scalar

import (
	"math"

	"github.com/skep-bpf/skep/internal/tnum"
)

// signed and unsigned are the two readings of a bit pattern. The rules of this file and of alu.go hold for each width
// and are written once; tests run them exhaustively with the narrow types.
type signed interface{ ~int8 | ~int32 | ~int64 }
type unsigned interface{ ~uint8 | ~uint32 | ~uint64 }

// Sync lets the five descriptions learn from each other (reg_bounds_sync). Afterwards each holds what it held, or
// less. Three rounds of deduction, as the kernel has them, do not always reach the fixed point.
func (s *Scalar) Sync() {
	if s.IsConst() && *s == Const(s.Var.Value) {
		return // the most frequent case learns nothing
	}
	s.boundsFromVar()
	for range 3 {
		s.deduce32From64()
		s.U32min, s.U32max, s.S32min, s.S32max = crossSign(s.U32min, s.U32max, s.S32min, s.S32max)
		s.Umin, s.Umax, s.Smin, s.Smax = crossSign(s.Umin, s.Umax, s.Smin, s.Smax)
		s.deduce64From32()
	}
	s.varFromBounds()
	s.boundsFromVar()
}

// boundsFromVar intersects each range with the smallest and largest member of Var (__update_reg_bounds).
func (s *Scalar) boundsFromVar() {
	s.boundsFromVar32()
	lo, hi := s.Var.Min(), s.Var.Max()
	s.Smin = max(s.Smin, int64(lo|s.Var.Mask&(1<<63)))
	s.Smax = min(s.Smax, int64(lo|s.Var.Mask&math.MaxInt64))
	s.Umin = max(s.Umin, lo)
	s.Umax = min(s.Umax, hi)
	s.onlyMember()
}

// onlyMember makes s a constant where its unsigned range holds one member of Var (the end of __update_reg64_bounds).
func (s *Scalar) onlyMember() {
	next := s.Var.Next(s.Umin)
	switch inside := s.Umin&^s.Var.Mask == s.Var.Value; {
	case inside && next > s.Umax:
		s.SetConst(s.Umin)
	case !inside && next == s.Var.Max():
		s.SetConst(next)
	case !inside && next <= s.Umax && s.Var.Next(next) > s.Umax:
		s.SetConst(next)
	}
}

func (s *Scalar) boundsFromVar32() {
	lo, m := uint32(s.Var.Value), uint32(s.Var.Mask)
	s.S32min = max(s.S32min, int32(lo|m&(1<<31)))
	s.S32max = min(s.S32max, int32(lo|m&math.MaxInt32))
	s.U32min = max(s.U32min, lo)
	s.U32max = min(s.U32max, lo|m)
}

// crossSign lets the unsigned and the signed range of one width learn from each other (__reg64_deduce_bounds and the
// end of __reg32_deduce_bounds). Where one range does not cross the other's seam, both say the same. Where the signed
// range crosses zero it is two pieces in unsigned order, [0, smax] and [smin, max]: if the unsigned range misses one
// piece, the other is what is left.
func crossSign[U unsigned, S signed](umin, umax U, smin, smax S) (U, U, S, S) {
	if S(umin) <= S(umax) {
		smin, smax = max(smin, S(umin)), min(smax, S(umax))
	}
	switch {
	case U(smin) <= U(smax):
		umin, umax = max(umin, U(smin)), min(umax, U(smax))
	case umax < U(smin): // only the piece from zero up
		smin = S(umin)
		umax = min(umax, U(smax))
	case U(smax) < umin: // only the negative piece
		smax = S(umax)
		umin = max(umin, U(smin))
	}
	return umin, umax, smin, smax
}

// deduce32From64 narrows the bounds of the low half where a 64-bit range stays within one value of the upper half, or
// within two neighbouring values such that the low half runs from negative to positive without a gap
// (__reg32_deduce_bounds).
func (s *Scalar) deduce32From64() {
	if s.Umin>>32 == s.Umax>>32 {
		s.narrowU32(uint32(s.Umin), uint32(s.Umax))
		if int32(s.Umin) <= int32(s.Umax) {
			s.narrowS32(int32(s.Umin), int32(s.Umax))
		}
	}
	if s.Smin>>32 == s.Smax>>32 {
		if uint32(s.Smin) <= uint32(s.Smax) {
			s.narrowU32(uint32(s.Smin), uint32(s.Smax))
		}
		if int32(s.Smin) <= int32(s.Smax) {
			s.narrowS32(int32(s.Smin), int32(s.Smax))
		}
	}
	if uint32(s.Umin>>32)+1 == uint32(s.Umax>>32) && int32(s.Umin) < 0 && int32(s.Umax) >= 0 {
		s.narrowS32(int32(s.Umin), int32(s.Umax))
	}
	if uint32(s.Smin>>32)+1 == uint32(s.Smax>>32) && int32(s.Smin) < 0 && int32(s.Smax) >= 0 {
		s.narrowS32(int32(s.Smin), int32(s.Smax))
	}
}

func (s *Scalar) narrowU32(lo, hi uint32) {
	s.U32min, s.U32max = max(s.U32min, lo), min(s.U32max, hi)
}

func (s *Scalar) narrowS32(lo, hi int32) {
	s.S32min, s.S32max = max(s.S32min, lo), min(s.S32max, hi)
}

// deduce64From32 narrows the 64-bit bounds by the low half's: the low half of each bound is replaced where that
// tightens it (__reg_deduce_mixed_bounds).
func (s *Scalar) deduce64From32() {
	s.replaceLow(s.U32min, s.U32max)
	if uint32(s.S32min) <= uint32(s.S32max) {
		s.replaceLow(uint32(s.S32min), uint32(s.S32max))
	}
	// A sign-extended 32-bit number whose low half is not negative has a zero upper half.
	if s.S32min >= 0 && s.Smin >= math.MinInt32 && s.Smax <= math.MaxInt32 {
		s.Smin, s.Smax = int64(s.S32min), int64(s.S32max)
		s.Umin, s.Umax = uint64(s.S32min), uint64(s.S32max)
		s.Var = s.Var.Intersect(tnum.Range(s.Umin, s.Umax))
	}
}

func (s *Scalar) replaceLow(lo, hi uint32) {
	const upper = ^uint64(math.MaxUint32)
	s.Umin = max(s.Umin, s.Umin&upper|uint64(lo))
	s.Umax = min(s.Umax, s.Umax&upper|uint64(hi))
	s.Smin = max(s.Smin, int64(uint64(s.Smin)&upper|uint64(lo)))
	s.Smax = min(s.Smax, int64(uint64(s.Smax)&upper|uint64(hi)))
}

// varFromBounds intersects Var with what the unsigned bounds say about leading bits (__reg_bound_offset).
func (s *Scalar) varFromBounds() {
	v := s.Var.Intersect(tnum.Range(s.Umin, s.Umax))
	low := v.Subreg().Intersect(tnum.Range(uint64(s.U32min), uint64(s.U32max)))
	s.Var = v.ClearSubreg().Or(low)
}
