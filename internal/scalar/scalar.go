// Package scalar is the value domain of a scalar register: what the verifier knows of a 64-bit number.
//
// The theorem. A Scalar stands for the set of numbers x that satisfy all of its five descriptions at once: x is in
// the tristate number Var; Umin <= x <= Umax unsigned; Smin <= x <= Smax signed; and the same for the low 32 bits of
// x (U32min.. and S32min..). Every transfer function here is sound: if x is in a and y in b, the machine's result of
// the operation is in the Scalar returned; Refine keeps every pair (x, y) that satisfies the condition. Sync moves
// knowledge between the descriptions without losing a member. What is known after an operation is exactly what Linux
// 6.18 knows (kernel/bpf/verifier.c, functions named at each place): its order of steps is kept where a different one
// would give different bounds, because the log shows them and pruning compares them.
//
// It knows nothing of pointers, states or programs.
package scalar

import (
	"math"

	"github.com/skep-bpf/skep/internal/tnum"
)

// Scalar is the knowledge of one number. It is a plain value; the zero Scalar is the constant 0. Bounds are inclusive.
type Scalar struct {
	Var            tnum.Tnum
	Smin, Smax     int64
	Umin, Umax     uint64
	S32min, S32max int32
	U32min, U32max uint32
}

// Unknown returns the Scalar of every number.
func Unknown() Scalar {
	s := Scalar{Var: tnum.Unknown()}
	s.forget64()
	s.forget32()
	return s
}

// Const returns the Scalar of v alone.
func Const(v uint64) Scalar {
	var s Scalar
	s.SetConst(v)
	return s
}

// Imm returns the Scalar of an instruction's immediate operand, sign-extended to 64 bits.
func Imm(v int32) Scalar { return Const(uint64(int64(v))) }

// SetConst makes s the constant v (__mark_reg_known).
func (s *Scalar) SetConst(v uint64) {
	s.Var = tnum.Const(v)
	s.Smin, s.Smax = int64(v), int64(v)
	s.Umin, s.Umax = v, v
	s.S32min, s.S32max = int32(v), int32(v)
	s.U32min, s.U32max = uint32(v), uint32(v)
}

// SetConst32 makes the low 32 bits the constant v and leaves the upper half and the 64-bit bounds
// (__mark_reg32_known).
func (s *Scalar) SetConst32(v uint32) {
	s.Var = s.Var.ConstSubreg(v)
	s.S32min, s.S32max = int32(v), int32(v)
	s.U32min, s.U32max = v, v
}

// Forget drops all bounds and keeps Var (__mark_reg_unbounded).
func (s *Scalar) Forget() {
	s.forget64()
	s.forget32()
}

func (s *Scalar) forget64() {
	s.Smin, s.Smax = math.MinInt64, math.MaxInt64
	s.Umin, s.Umax = 0, math.MaxUint64
}

// Forget32 drops the bounds of the low half (__mark_reg32_unbounded).
func (s *Scalar) Forget32() { s.forget32() }

func (s *Scalar) forget32() {
	s.S32min, s.S32max = math.MinInt32, math.MaxInt32
	s.U32min, s.U32max = 0, math.MaxUint32
}

// SetS32Range intersects the signed bounds, 64-bit and 32-bit, with [lo, hi] and synchronises
// (__mark_reg_s32_range without its check: call Check).
func (s *Scalar) SetS32Range(lo, hi int32) {
	s.S32min, s.S32max = max(s.S32min, lo), min(s.S32max, hi)
	s.Smin, s.Smax = max(s.Smin, int64(lo)), min(s.Smax, int64(hi))
	s.Sync()
}

// IsUnknown reports whether nothing is known.
func (s *Scalar) IsUnknown() bool { return *s == Unknown() }

// IsConst reports whether one value is left.
func (s *Scalar) IsConst() bool { return s.Var.Mask == 0 }

// SubregIsConst reports whether one value of the low 32 bits is left.
func (s *Scalar) SubregIsConst() bool { return s.Var.SubregIsConst() }

// Known reports whether the number, or with is32 its low half, is one value (is_reg_const), and returns it.
func (s *Scalar) Known(is32 bool) (uint64, bool) {
	if is32 {
		return uint64(uint32(s.Var.Value)), s.Var.SubregIsConst()
	}
	return s.Var.Value, s.Var.IsConst()
}

// Contains reports whether x is in the set that s stands for.
func (s *Scalar) Contains(x uint64) bool {
	return s.Var.Contains(x) && s.Umin <= x && x <= s.Umax && s.Smin <= int64(x) && int64(x) <= s.Smax &&
		s.U32min <= uint32(x) && uint32(x) <= s.U32max && s.S32min <= int32(x) && int32(x) <= s.S32max
}

// Covers reports whether every description of cur lies inside that of s: what pruning asks of a precise scalar
// (range_within and tnum_in).
func (s *Scalar) Covers(cur *Scalar) bool {
	return s.Umin <= cur.Umin && s.Umax >= cur.Umax && s.Smin <= cur.Smin && s.Smax >= cur.Smax &&
		s.U32min <= cur.U32min && s.U32max >= cur.U32max && s.S32min <= cur.S32min && s.S32max >= cur.S32max &&
		s.Var.In(cur.Var)
}

// Violation names what is inconsistent in s, "" if nothing is: bounds out of order, or a constant whose bounds are
// not that constant (reg_bounds_sanity_check). A contradictory Scalar arises on a path that no run takes; the kernel
// logs it and then forgets the bounds.
func (s *Scalar) Violation() string {
	switch {
	case s.Umin > s.Umax || s.Smin > s.Smax || s.U32min > s.U32max || s.S32min > s.S32max:
		return "range bounds violation"
	case s.Var.IsConst():
		v := s.Var.Value
		if s.Umin != v || s.Umax != v || s.Smin != int64(v) || s.Smax != int64(v) {
			return "const tnum out of sync with range bounds"
		}
	}
	if s.Var.SubregIsConst() {
		v := uint32(s.Var.Value)
		if s.U32min != v || s.U32max != v || s.S32min != int32(v) || s.S32max != int32(v) {
			return "const subreg tnum out of sync with range bounds"
		}
	}
	return ""
}
