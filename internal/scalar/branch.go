package scalar

import (
	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/tnum"
)

// NotJSET is the condition that holds where isa.JmpJSET does not; instructions cannot express it.
const NotJSET = isa.JmpJSET | isa.SrcX

// Reverse returns the condition that holds where op does not (rev_opcode).
func Reverse(op uint8) uint8 {
	switch op {
	case isa.JmpJEQ:
		return isa.JmpJNE
	case isa.JmpJNE:
		return isa.JmpJEQ
	case isa.JmpJSET:
		return NotJSET
	case NotJSET:
		return isa.JmpJSET
	case isa.JmpJGE:
		return isa.JmpJLT
	case isa.JmpJGT:
		return isa.JmpJLE
	case isa.JmpJLE:
		return isa.JmpJGT
	case isa.JmpJLT:
		return isa.JmpJGE
	case isa.JmpJSGE:
		return isa.JmpJSLT
	case isa.JmpJSGT:
		return isa.JmpJSLE
	case isa.JmpJSLE:
		return isa.JmpJSGT
	case isa.JmpJSLT:
		return isa.JmpJSGE
	}
	return 0
}

// Flip returns the condition that says of (b, a) what op says of (a, b) (flip_opcode).
func Flip(op uint8) uint8 {
	switch op {
	case isa.JmpJGE:
		return isa.JmpJLE
	case isa.JmpJGT:
		return isa.JmpJLT
	case isa.JmpJLE:
		return isa.JmpJGE
	case isa.JmpJLT:
		return isa.JmpJGT
	case isa.JmpJSGE:
		return isa.JmpJSLE
	case isa.JmpJSGT:
		return isa.JmpJSLT
	case isa.JmpJSLE:
		return isa.JmpJSGE
	case isa.JmpJSLT:
		return isa.JmpJSGT
	}
	return op
}

// view is one operand of a comparison, widened to 64 bits: the whole number or its low half.
type view struct {
	v          tnum.Tnum
	umin, umax uint64
	smin, smax int64
}

func viewOf(s *Scalar, is32 bool) view {
	if is32 {
		return view{s.Var.Subreg(), uint64(s.U32min), uint64(s.U32max), int64(s.S32min), int64(s.S32max)}
	}
	return view{s.Var, s.Umin, s.Umax, s.Smin, s.Smax}
}

// BranchTaken decides the jump "if a op b": 1 always taken, 0 never, -1 unknown (is_scalar_branch_taken). A comparison
// of a register with itself is treated as one of two registers with equal knowledge, here and in Refine.
func BranchTaken(a, b *Scalar, op uint8, is32 bool) int {
	x, y := viewOf(a, is32), viewOf(b, is32)
	switch op {
	case isa.JmpJEQ:
		return equalTaken(a, b, &x, &y, is32)
	case isa.JmpJNE:
		if r := equalTaken(a, b, &x, &y, is32); r >= 0 {
			return 1 - r
		}
		return -1
	case isa.JmpJSET:
		if !y.v.IsConst() {
			x, y = y, x
		}
		switch {
		case !y.v.IsConst():
		case x.v.Value&y.v.Value != 0:
			return 1
		case x.v.Max()&y.v.Value == 0:
			return 0
		}
		return -1
	case isa.JmpJGT:
		return decide(x.umin > y.umax, x.umax <= y.umin)
	case isa.JmpJSGT:
		return decide(x.smin > y.smax, x.smax <= y.smin)
	case isa.JmpJLT:
		return decide(x.umax < y.umin, x.umin >= y.umax)
	case isa.JmpJSLT:
		return decide(x.smax < y.smin, x.smin >= y.smax)
	case isa.JmpJGE:
		return decide(x.umin >= y.umax, x.umax < y.umin)
	case isa.JmpJSGE:
		return decide(x.smin >= y.smax, x.smax < y.smin)
	case isa.JmpJLE:
		return decide(x.umax <= y.umin, x.umin > y.umax)
	case isa.JmpJSLE:
		return decide(x.smax <= y.smin, x.smin > y.smax)
	}
	return -1
}

func decide(always, never bool) int {
	switch {
	case always:
		return 1
	case never:
		return 0
	}
	return -1
}

// equalTaken decides equality: constants compare, disjoint sets differ. A 64-bit comparison looks at the low halves
// too.
func equalTaken(a, b *Scalar, x, y *view, is32 bool) int {
	switch {
	case x.v.IsConst() && y.v.IsConst():
		return decide(x.v.Value == y.v.Value, true)
	case !x.v.Overlap(y.v), x.umin > y.umax || x.umax < y.umin, x.smin > y.smax || x.smax < y.smin:
		return 0
	case is32:
	case a.U32min > b.U32max || a.U32max < b.U32min, a.S32min > b.S32max || a.S32max < b.S32min:
		return 0
	}
	return -1
}

// Refine narrows a and b to the numbers for which "a op b" holds and synchronises both (regs_refine_cond_op,
// reg_bounds_sync). For the path where a jump is not taken pass Reverse(op). On an impossible path the result may be
// contradictory: see Violation. a and b may be the same register: then pass the same pointer twice.
func Refine(a, b *Scalar, op uint8, is32 bool) {
	refine(a, b, op, is32)
	a.Sync()
	b.Sync()
}

func refine(a, b *Scalar, op uint8, is32 bool) {
	switch op {
	case isa.JmpJGE, isa.JmpJGT, isa.JmpJSGE, isa.JmpJSGT:
		op = Flip(op)
		a, b = b, a
	}
	switch op {
	case isa.JmpJEQ:
		refineEqual(a, b, is32)
	case isa.JmpJNE, isa.JmpJSET, NotJSET:
		v, ok := b.Known(is32)
		if !ok {
			a, b = b, a
			if v, ok = b.Known(is32); !ok {
				return
			}
		}
		refineConst(a, v, op, is32)
	case isa.JmpJLE, isa.JmpJLT:
		if is32 {
			a.U32max, b.U32min = less(a.U32min, a.U32max, b.U32min, b.U32max, op == isa.JmpJLT)
		} else {
			a.Umax, b.Umin = less(a.Umin, a.Umax, b.Umin, b.Umax, op == isa.JmpJLT)
		}
	case isa.JmpJSLE, isa.JmpJSLT:
		if is32 {
			a.S32max, b.S32min = less(a.S32min, a.S32max, b.S32min, b.S32max, op == isa.JmpJSLT)
		} else {
			a.Smax, b.Smin = less(a.Smin, a.Smax, b.Smin, b.Smax, op == isa.JmpJSLT)
		}
	}
}

// refineEqual leaves both operands what they have in common.
func refineEqual(a, b *Scalar, is32 bool) {
	if is32 {
		a.narrowU32(b.U32min, b.U32max)
		a.narrowS32(b.S32min, b.S32max)
		b.U32min, b.U32max, b.S32min, b.S32max = a.U32min, a.U32max, a.S32min, a.S32max
		low := a.Var.Subreg().Intersect(b.Var.Subreg())
		a.Var, b.Var = a.Var.WithSubreg(low), b.Var.WithSubreg(low)
		return
	}
	a.Umin, a.Umax = max(a.Umin, b.Umin), min(a.Umax, b.Umax)
	a.Smin, a.Smax = max(a.Smin, b.Smin), min(a.Smax, b.Smax)
	b.Umin, b.Umax, b.Smin, b.Smax = a.Umin, a.Umax, a.Smin, a.Smax
	a.Var = a.Var.Intersect(b.Var)
	b.Var = a.Var
}

// refineConst narrows s by a comparison with the constant v: an unequal constant trims a range that it is an edge of;
// "s & v is not zero" tells the bit where v has just one; "s & v is zero" tells all of v's bits.
func refineConst(s *Scalar, v uint64, op uint8, is32 bool) {
	switch {
	case op == isa.JmpJNE && is32:
		s.U32min, s.U32max = trim(s.U32min, s.U32max, uint32(v))
		s.S32min, s.S32max = trim(s.S32min, s.S32max, int32(v))
	case op == isa.JmpJNE:
		s.Umin, s.Umax = trim(s.Umin, s.Umax, v)
		s.Smin, s.Smax = trim(s.Smin, s.Smax, int64(v))
	case op == isa.JmpJSET:
		if v != 0 && v&(v-1) == 0 {
			s.Var = s.Var.Or(tnum.Const(v))
		}
	case op == NotJSET:
		// On a path that no run takes the bounds would contradict the bits.
		s.Forget()
		s.Var = s.Var.And(tnum.Const(^v))
	}
}

func trim[T signed | unsigned](lo, hi, v T) (T, T) {
	if lo == v {
		lo++
	}
	if hi == v {
		hi--
	}
	return lo, hi
}

// less returns the new upper bound of a and the new lower bound of b where a <= b, or a < b if strict.
func less[T signed | unsigned](amin, amax, bmin, bmax T, strict bool) (T, T) {
	if strict {
		return min(amax, bmax-1), max(amin+1, bmin)
	}
	return min(amax, bmax), max(amin, bmin)
}
