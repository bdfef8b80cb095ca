package verifier

import (
	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/scalar"
)

// This file executes arithmetic on scalars and moves. Arithmetic on pointers is in ptralu.go, the abstract operations
// themselves are in internal/scalar.

func (e *env) checkALU(in isa.Insn) error {
	var err error
	switch in.AluOp() {
	case isa.AluEND, isa.AluNEG:
		err = e.checkUnary(in)
	case isa.AluMOV:
		err = e.checkMov(in)
	default:
		if in.AluOp() > isa.AluEND {
			return e.reject(CodeBadInsn, "invalid BPF_ALU opcode %x", in.AluOp())
		}
		err = e.checkBinary(in)
	}
	if err != nil {
		return err
	}
	return e.sane(&e.st.fr().regs[in.Dst], "alu")
}

const flagTestInvariants = 1 << 7 // BPF_F_TEST_REG_INVARIANTS

// sane forgets the bounds of a scalar that contradicts itself, which happens on paths that no run takes, and logs it
// (reg_bounds_sanity_check). A program can ask for a rejection instead, for which the kernel says EFAULT.
func (e *env) sane(r *reg, where string) error {
	what := r.Violation()
	if what == "" {
		return nil
	}
	text := "verifier bug: " + r.ViolationText(where, what)
	if e.prog.Flags&flagTestInvariants != 0 {
		return e.reject(CodeInternal, "%s", text)
	}
	e.log.printf("%s\n", text)
	r.Forget()
	return nil
}

func (e *env) checkUnary(in isa.Insn) error {
	if in.AluOp() == isa.AluNEG {
		if in.SrcIsReg() || in.Src != 0 || in.Off != 0 || in.Imm != 0 {
			return e.reject(CodeBadInsn, "BPF_NEG uses reserved fields")
		}
	} else if in.Src != 0 || in.Off != 0 || in.Imm != 16 && in.Imm != 32 && in.Imm != 64 ||
		in.Class() == isa.ClassALU64 && in.SrcIsReg() {
		return e.reject(CodeBadInsn, "BPF_END uses reserved fields")
	}
	if _, err := e.readReg(in.Dst); err != nil {
		return err
	}
	if err := e.noLeak(in.Dst, "R%d pointer arithmetic prohibited"); err != nil {
		return err
	}
	dst, err := e.writeReg(in.Dst)
	if err != nil {
		return err
	}
	if in.AluOp() == isa.AluNEG && dst.typ == scalarValue && e.has(negatedRanges) {
		is32 := in.Class() == isa.ClassALU
		dst.ALU(isa.AluNEG, scalar.Scalar{}, is32)
		dst.clearID()
		return nil
	}
	if dst.typ != scalarValue || in.AluOp() == isa.AluNEG {
		e.setUnknown(dst)
		return nil
	}
	// to little-endian only cuts on the machines skep knows; to big-endian and bswap turn the bytes around
	swap := in.Class() == isa.ClassALU64 || in.SrcIsReg()
	dst.ByteSwap(int(in.Imm)/8, swap)
	if swap || in.Imm != 64 {
		dst.clearID()
	}
	return nil
}

func (e *env) checkMov(in isa.Insn) error {
	if !in.SrcIsReg() {
		if in.Src != 0 || in.Off != 0 {
			return e.reject(CodeBadInsn, "BPF_MOV uses reserved fields")
		}
		dst, err := e.writeReg(in.Dst)
		if err != nil {
			return err
		}
		if in.Class() == isa.ClassALU64 {
			e.setConst(dst, uint64(int64(in.Imm)))
		} else {
			e.setConst(dst, uint64(uint32(in.Imm)))
		}
		return nil
	}
	wide := in.Class() == isa.ClassALU64
	if wide && in.Off == 1 {
		if in.Imm != 1 && in.Imm != 1<<16 {
			return e.reject(CodeBadInsn, "addr_space_cast insn can only convert between address space 1 and 0")
		}
		return e.addrSpaceCast(in)
	}
	if in.Imm != 0 || in.Off != 0 && in.Off != 8 && in.Off != 16 && (!wide || in.Off != 32) {
		return e.reject(CodeBadInsn, "BPF_MOV uses reserved fields")
	}
	src, err := e.readReg(in.Src)
	if err != nil {
		return err
	}
	if !wide {
		err = e.noLeak(in.Src, "R%d partial copy of pointer")
	} else if in.Off != 0 {
		err = e.noLeak(in.Src, "R%d sign-extension part of pointer")
	}
	if err != nil {
		return err
	}
	dst, err := e.writeReg(in.Dst)
	if err != nil {
		return err
	}
	if wide {
		e.mov64(dst, src, int(in.Off))
	} else {
		e.mov32(dst, src, int(in.Off))
	}
	return nil
}

// mov64 is dst = src, or the sign-extended low bits of src.
func (e *env) mov64(dst, src *reg, bits int) {
	switch {
	case bits == 0:
		e.linkScalar(src)
		*dst = *src
	case src.typ == scalarValue:
		same := src.Umax < 1<<(bits-1)
		if same {
			e.linkScalar(src)
		}
		*dst = *src
		if !same {
			dst.clearID()
		}
		e.signExtend(&dst.Scalar, bits/8)
	default:
		e.setUnknown(dst)
	}
}

// signExtend extends the low size bytes of s to 64 bits.
func (e *env) signExtend(s *scalar.Scalar, size int) {
	if e.has(extensionByHalf) {
		s.SignExtendLow(size)
	} else {
		s.SignExtend(size)
	}
}

// mov32 is the move of the low half, with the upper one zeroed.
func (e *env) mov32(dst, src *reg, bits int) {
	if src.typ != scalarValue {
		e.setUnknown(dst)
		dst.Zext32()
		return
	}
	same := src.fits(32)
	if bits != 0 {
		same = src.Umax < 1<<(bits-1)
	}
	if same {
		e.linkScalar(src)
	}
	*dst = *src
	if !same {
		dst.clearID()
	}
	if bits != 0 {
		dst.SignExtend32(bits / 8)
	} else {
		dst.Zext32()
	}
}

// linkScalar gives a scalar that is about to be copied an id, so that what a branch finds out about one copy holds for
// the other (assign_scalar_id_before_mov).
func (e *env) linkScalar(src *reg) {
	if src.typ != scalarValue {
		return
	}
	if src.id&addConst != 0 {
		src.clearID()
	}
	if src.id == 0 && !src.Var.IsConst() {
		e.idGen++
		src.id = e.idGen
	}
}

func (e *env) checkBinary(in isa.Insn) error {
	op := in.AluOp()
	signedOff := in.Off == 1 && (op == isa.AluMOD || op == isa.AluDIV)
	if in.SrcIsReg() {
		if in.Imm != 0 || in.Off != 0 && !signedOff {
			return e.reject(CodeBadInsn, "BPF_ALU uses reserved fields")
		}
		if _, err := e.readReg(in.Src); err != nil {
			return err
		}
	} else if in.Src != 0 || in.Off != 0 && !signedOff {
		return e.reject(CodeBadInsn, "BPF_ALU uses reserved fields")
	}
	if _, err := e.readReg(in.Dst); err != nil {
		return err
	}
	if (op == isa.AluMOD || op == isa.AluDIV) && !in.SrcIsReg() && in.Imm == 0 {
		return e.reject(CodeBadInsn, "div by zero")
	}
	if !in.SrcIsReg() && (op == isa.AluLSH || op == isa.AluRSH || op == isa.AluARSH) {
		size := int32(64)
		if in.Class() == isa.ClassALU {
			size = 32
		}
		if in.Imm < 0 || in.Imm >= size {
			return e.reject(CodeBadInsn, "invalid shift %d", in.Imm)
		}
	}
	if _, err := e.writeReg(in.Dst); err != nil {
		return err
	}
	return e.adjust(in)
}

// adjust applies a two-operand operation (adjust_reg_min_max_vals).
func (e *env) adjust(in isa.Insn) error {
	regs := &e.st.fr().regs
	dst := &regs[in.Dst]
	imm := reg{typ: scalarValue}
	src := &imm
	if in.SrcIsReg() {
		src = &regs[in.Src]
	} else {
		imm.Scalar = scalar.Imm(in.Imm)
	}
	switch {
	case dst.typ == ptrToArena || src.typ == ptrToArena:
		arenaALU(dst, src)
		return nil
	case dst.isPointer() && src.isPointer():
		if in.AluOp() == isa.AluSUB && !e.lacks(CapPerfmon) {
			e.setUnknown(dst)
			return nil
		}
		return e.reject(CodePointerMath, "R%d pointer %s pointer prohibited", in.Dst, isa.AluText(in.AluOp(), false))
	case src.isPointer():
		// scalar op pointer: the result is a pointer
		if err := e.markPrecise(int(in.Dst)); err != nil {
			return err
		}
		off := *dst
		return e.adjustPtr(in, src, &off)
	case dst.isPointer():
		if in.SrcIsReg() {
			if err := e.markPrecise(int(in.Src)); err != nil {
				return err
			}
		}
		return e.adjustPtr(in, dst, src)
	case in.SrcIsReg() && dst.precise && !e.opt.ExactStates:
		if err := e.markPrecise(int(in.Src)); err != nil {
			return err
		}
	}
	return e.adjustScalar(in, dst, src)
}

func (e *env) adjustScalar(in isa.Insn, dst, src *reg) error {
	op, is32 := in.AluOp(), in.Class() == isa.ClassALU
	if (op == isa.AluAND || op == isa.AluOR) && src.Var.IsConst() {
		if err := e.maybeFork(in, dst); err != nil {
			return err
		}
	}
	if err := e.sanitizeValue(in); err != nil {
		return err
	}
	link, off := linkAfter(in, dst, src)
	if e.lacks(CapBPF) {
		link, off = 0, 0
	}
	dst.ALU(op, src.Scalar, is32)
	dst.precise = dst.precise || e.opt.ExactStates
	dst.id, dst.off = link, off
	return nil
}

// linkAfter returns the id and distance that dst has after dst op src: a sum with a constant stays linked to the number
// it was made from, once. A 32-bit sum does only if the number has no upper half.
func linkAfter(in isa.Insn, dst, src *reg) (id uint32, off int32) {
	op, is32 := in.AluOp(), in.Class() == isa.ClassALU
	k, isConst := src.Known(is32)
	if op != isa.AluADD && op != isa.AluSUB || dst.id == 0 || dst.id&addConst != 0 || !isConst || in.SrcIsReg() && in.Src == in.Dst {
		return 0, 0
	}
	n, flag := int64(k), uint32(addConst64)
	if is32 {
		if !dst.fits(32) {
			return 0, 0
		}
		n, flag = int64(int32(k)), addConst32
	}
	if op == isa.AluSUB {
		n = -n
	}
	if n != int64(int32(n)) || n == -1<<31 && op == isa.AluSUB {
		return 0, 0
	}
	return dst.id | flag, int32(n)
}

// maybeFork splits the path where a mask that is 0 or all ones meets a constant (maybe_fork_scalars).
func (e *env) maybeFork(in isa.Insn, dst *reg) error {
	is32, forks := dst.Forks()
	if !forks {
		return nil
	}
	other, err := e.push(e.insn, e.insn)
	if err != nil {
		return err
	}
	od := &other.fr().regs[in.Dst]
	if is32 {
		od.SetConst32(0)
		dst.SetConst32(^uint32(0))
	} else {
		od.SetConst(0)
		dst.SetConst(^uint64(0))
	}
	return nil
}
