package verifier

import (
	"github.com/skep-bpf/skep/internal/isa"
)

// Arithmetic on pointers without CAP_PERFMON. The kernel rewrites each addition of a register to a pointer so that even a processor that
// guesses stays inside the stack or the map's value; how is decided by the first path that comes by, and other paths must
// agree. skep rewrites nothing, and refuses what the kernel could not have rewritten (sanitize_ptr_alu, sanitize_val_alu,
// sanitize_check_bounds).

// aluLimit is how the arithmetic of one instruction would be confined.
type aluLimit struct {
	set   bool
	state uint8
	limit uint32
}

// The bits of aluLimit.state, as far as they tell ways apart.
const (
	aluScalar   = 1 << iota // no pointer takes part
	aluNegative             // what is added is negative
	aluConstant
	aluSrc // the number is in the source register
	aluDst
)

const notForUsers = "pointer arithmetic with it prohibited for !root"

// sanitized reports whether an instruction would be rewritten; one behind a barrier need not be (can_skip_alu_sanitation).
func (e *env) sanitized(in isa.Insn) bool {
	return e.lacks(CapPerfmon) && in.SrcIsReg() && !e.aux[e.insn].barrier && (in.AluOp() == isa.AluADD || in.AluOp() == isa.AluSUB)
}

// sanitizeValue notes that an instruction works on numbers.
func (e *env) sanitizeValue(in isa.Insn) error {
	if !e.sanitized(in) {
		return nil
	}
	return e.sameLimit(in, aluLimit{true, aluScalar, 0})
}

// sameLimit keeps how an instruction is confined, and refuses another way (update_alu_sanitation_state).
func (e *env) sameLimit(in isa.Insn, l aluLimit) error {
	a := &e.aux[e.insn].alu
	if a.set && *a != l {
		return e.refuseALU(in, "R%d tried to %s from different maps, paths or scalars, %s")
	}
	*a = l
	return nil
}

func (e *env) refuseALU(in isa.Insn, format string) error {
	op := "sub"
	if in.AluOp() == isa.AluADD {
		op = "add"
	}
	return e.reject(CodePointerMath, format, in.Dst, op, notForUsers)
}

// ptrSanitizer is the judgement of one instruction that adds a number to a pointer or subtracts it: begin comes before the operation,
// end behind it.
type ptrSanitizer struct {
	ptr    isa.Reg // the pointer's register
	toLeft bool
	before aluLimit
}

// begin judges ptr op off; self says that the pointer is in the destination.
func (s *ptrSanitizer) begin(e *env, in isa.Insn, ptr, off *reg, self bool) error {
	if !e.sanitized(in) {
		return nil
	}
	constant, negative := off.Var.IsConst(), off.Smin < 0
	if e.st.speculative {
		return e.unmoved(constant)
	}
	if !constant && negative != (off.Smax < 0) {
		number := in.Src
		if !self {
			number = in.Dst
		}
		return e.reject(CodePointerMath, "R%d has unknown scalar with mixed signed bounds, %s", number, notForUsers)
	}
	s.toLeft = (in.AluOp() == isa.AluADD) == negative
	s.ptr = in.Dst
	if !self {
		s.ptr = in.Src
	}
	limit, err := e.ptrLimit(in, s.ptr, ptr, s.toLeft)
	if err != nil {
		return err
	}
	s.before = aluLimit{set: true, limit: limit}
	if negative {
		s.before.state |= aluNegative
	}
	if constant {
		s.before.state |= aluConstant
	} else {
		e.exploreLimits = true
	}
	if self {
		s.before.state |= aluSrc
	} else {
		s.before.state |= aluDst
	}
	return e.unmoved(constant)
}

// unmoved keeps the path on which the pointer, which is in the destination by now, does not move: what is added is masked to zero if it is
// outside of the limit. Constants are not masked.
func (e *env) unmoved(constant bool) error {
	if constant {
		return nil
	}
	_, err := e.speculate(e.insn + 1)
	return err
}

// end judges the result in dst.
func (s *ptrSanitizer) end(e *env, in isa.Insn, dst *reg) error {
	if err := e.stayInside(in, dst); err != nil || e.st.speculative || !e.sanitized(in) {
		return err
	}
	limit, err := e.ptrLimit(in, s.ptr, dst, s.toLeft)
	if err != nil {
		return err
	}
	l := s.before
	l.limit = max(limit, l.limit) - min(limit, l.limit)
	return e.sameLimit(in, l)
}

// ptrLimit is how far a pointer is from the end of its memory in the direction it moves (retrieve_ptr_limit).
func (e *env) ptrLimit(in isa.Insn, r isa.Reg, ptr *reg, toLeft bool) (uint32, error) {
	var limit, most uint32
	switch ptr.typ {
	case ptrToStack:
		most = isa.StackSize
		if toLeft {
			most++
		}
		limit = uint32(-(int64(ptr.Var.Value) + int64(ptr.off)))
	case ptrToMapValue:
		most = e.maps[ptr.aux].ValueSize
		limit = uint32(ptr.Umax) + uint32(ptr.off)
		if toLeft {
			limit = uint32(ptr.Smin) + uint32(ptr.off)
		}
	default:
		return 0, e.reject(CodePointerMath, "R%d has pointer with unsupported alu operation, %s", r, notForUsers)
	}
	if limit >= most {
		return 0, e.refuseALU(in, "R%d tried to %s beyond pointer bounds, %s")
	}
	return limit, nil
}

// stayInside refuses arithmetic that leaves the stack or the map's value, whether or not the result is used
// (sanitize_check_bounds).
func (e *env) stayInside(in isa.Insn, dst *reg) error {
	if !e.lacks(CapPerfmon) {
		return nil
	}
	switch dst.typ {
	case ptrToStack:
		off := int64(dst.off) + int64(dst.Var.Value)
		if !dst.Var.IsConst() {
			return e.reject(CodePointerMath, "R%d variable stack access prohibited for !root, var_off=%s off=%d", in.Dst, dst.Var, int32(off))
		}
		if off >= 0 || off < -isa.StackSize {
			return e.reject(CodePointerMath, "R%d stack pointer arithmetic goes out of range, prohibited for !root; off=%d", in.Dst, int32(off))
		}
	case ptrToMapValue:
		if err := e.inMapValue(int(in.Dst), int(dst.off), 1, false, false); err != nil {
			return e.why(err, "R%d pointer arithmetic of map value goes out of range, prohibited for !root", in.Dst)
		}
	}
	return nil
}
