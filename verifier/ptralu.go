package verifier

import (
	"github.com/skep-bpf/skep/internal/isa"
)

// saneOffset rejects offsets that could leave the 64-bit arithmetic of later checks (check_reg_sane_offset).
func (e *env) saneOffset(r *reg, t regType) error {
	if r.Var.IsConst() {
		if v := int64(r.Var.Value); v >= maxVarOff || v <= -maxVarOff {
			return e.reject(CodePointerMath, "math between %s pointer and %d is not allowed", t, v)
		}
	}
	switch {
	case r.off >= maxVarOff || r.off <= -maxVarOff:
		return e.reject(CodePointerMath, "%s pointer offset %d is not allowed", t, r.off)
	case r.Smin == -1<<63:
		return e.reject(CodePointerMath, "math between %s pointer and register with unbounded min value is not allowed", t)
	case r.Smin >= maxVarOff || r.Smin <= -maxVarOff:
		if r.isPointer() && e.has(pointerOffsets) {
			return e.reject(CodePointerMath, "%s pointer offset %d is not allowed", t, r.Smin)
		}
		return e.reject(CodePointerMath, "value %d makes %s pointer be out of bounds", r.Smin, t)
	}
	return nil
}

// adjustPtr computes in.Dst = ptr op off (adjust_ptr_min_max_vals). ptr is in.Dst's register or in.Src's.
func (e *env) adjustPtr(in isa.Insn, ptr, off *reg) error {
	regs := &e.st.fr().regs
	dst := &regs[in.Dst]
	known := off.Var.IsConst()
	if known && (off.Smin != off.Smax || off.Umin != off.Umax) || off.Smin > off.Smax || off.Umin > off.Umax {
		e.setUnknown(dst)
		return nil
	}
	if in.Class() != isa.ClassALU64 {
		if in.AluOp() == isa.AluSUB && !e.lacks(CapPerfmon) {
			e.setUnknown(dst)
			return nil
		}
		return e.reject(CodePointerMath, "R%d 32-bit pointer arithmetic prohibited", in.Dst)
	}
	if ptr.typ.mayBeNull() {
		return e.reject(CodeNull, "R%d pointer arithmetic on %s prohibited, null-check it first", in.Dst, ptr.typ)
	}
	if ptr.typ.base() == ptrToMem && ptr.typ&untrusted != 0 {
		if dst != ptr && e.has(untrustedSums) {
			*dst = *ptr
		}
		return nil // how far it moves does not matter
	}
	switch ptr.typ.base() {
	case ptrToCtx, ptrToMapValue, ptrToStack, ptrToPacketMeta, ptrToPacket, ptrToBTF, ptrToMem, ptrToTPBuffer, ptrToBuf, ptrToFunc, ptrToMapKey,
		constPtrToDynptr:
	case ptrToFlowKeys:
		if known {
			break
		}
		fallthrough
	case constPtrToMap:
		if known && off.Smin == 0 && in.AluOp() == isa.AluADD {
			break
		}
		fallthrough
	default:
		return e.reject(CodePointerMath, "R%d pointer arithmetic on %s prohibited", in.Dst, ptr.typ)
	}
	if err := e.saneOffset(off, ptr.typ); err != nil {
		return err
	}
	if err := e.saneOffset(ptr, ptr.typ); err != nil {
		return err
	}
	base, k := *ptr, *off // ptr or off may be dst itself
	self := dst == ptr
	*dst = base
	var san ptrSanitizer
	if err := san.begin(e, in, &base, &k, self); err != nil {
		return err
	}
	switch in.AluOp() {
	case isa.AluADD:
		e.addPtr(dst, &base, &k)
	case isa.AluSUB:
		if !self {
			return e.reject(CodePointerMath, "R%d tried to subtract pointer from scalar", in.Dst)
		}
		if base.typ == ptrToStack {
			return e.reject(CodePointerMath, "R%d subtraction from stack pointer prohibited", in.Dst)
		}
		e.subPtr(dst, &base, &k)
	case isa.AluAND, isa.AluOR, isa.AluXOR:
		return e.reject(CodePointerMath, "R%d bitwise operator %s on pointer prohibited", in.Dst, isa.AluText(in.AluOp(), false))
	default:
		return e.reject(CodePointerMath, "R%d pointer arithmetic with %s operator prohibited", in.Dst, isa.AluText(in.AluOp(), false))
	}
	if err := e.saneOffset(dst, base.typ); err != nil {
		return err
	}
	return san.end(e, in, dst)
}

// fixedSum adds a constant to a fixed offset if the result still fits.
func fixedSum(off int32, k int64) (int32, bool) {
	s := int64(off) + k
	return int32(s), s == int64(int32(s))
}

func (e *env) addPtr(dst, ptr, off *reg) {
	if off.Var.IsConst() {
		if s, ok := fixedSum(ptr.off, off.Smin); ok {
			dst.off = s
			dst.Forget32()
			dst.Sync()
			return
		}
	}
	dst.AddOffset(&off.Scalar)
	if ptr.typ.isPacket() {
		// what is known about the packet's length relates to another base now
		e.idGen++
		dst.id, dst.rng = e.idGen, 0
	}
}

func (e *env) subPtr(dst, ptr, off *reg) {
	if off.Var.IsConst() {
		if s, ok := fixedSum(ptr.off, -off.Smin); ok {
			dst.off = s
			dst.Forget32()
			dst.Sync()
			return
		}
	}
	dst.SubOffset(&off.Scalar)
	if ptr.typ.isPacket() {
		e.idGen++
		dst.id = e.idGen
		if off.Smin < 0 {
			dst.rng = 0
		}
	}
}
