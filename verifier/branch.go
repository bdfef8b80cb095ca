package verifier

import (
	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/scalar"
)

// This file executes conditional jumps: it decides them where the states allow, else pushes the taken path and narrows
// both (check_cond_jmp_op).

// maxPacketOff is the largest packet offset that bounds are tracked for (MAX_PACKET_OFF).
const maxPacketOff = 0xffff

func (e *env) checkCondJump(in isa.Insn) error {
	if in.JmpOp() > isa.JmpJCOND {
		return e.reject(CodeBadInsn, "invalid BPF_JMP/JMP32 opcode %x", in.JmpOp())
	}
	if in.JmpOp() == isa.JmpJCOND {
		return e.checkMayGoto(in)
	}
	imm := reg{Scalar: scalar.Imm(in.Imm), typ: scalarValue}
	dst, src, err := e.jumpOperands(in, &imm)
	if err != nil {
		return err
	}
	if taken := e.branchTaken(in, dst, src); taken >= 0 {
		return e.followBranch(in, taken, dst, src)
	}
	links := e.jumpLinks(in, dst, src)
	other, err := e.push(e.insn+int(in.Off)+1, e.insn)
	if err != nil {
		return err
	}
	e.aux[e.insn].always, e.aux[e.insn].never = true, true
	oimm := imm
	odst, osrc := &other.fr().regs[in.Dst], &oimm
	if in.SrcIsReg() {
		osrc = &other.fr().regs[in.Src]
	}
	if err := e.narrow(in, dst, src, odst, osrc); err != nil {
		return err
	}
	if in.SrcIsReg() {
		e.syncBoth(other, src, osrc, &links)
	}
	e.syncBoth(other, dst, odst, &links)
	e.learnNonNull(in, dst, src, e.st.fr(), other.fr())
	if !in.IsJump32() && !in.SrcIsReg() && in.Imm == 0 && dst.typ.mayBeNull() &&
		(in.JmpOp() == isa.JmpJEQ || in.JmpOp() == isa.JmpJNE) {
		e.resolveNull(e.st, dst, in.JmpOp() == isa.JmpJNE)
		e.resolveNull(other, odst, in.JmpOp() == isa.JmpJEQ)
	} else if !e.matchPacket(in, dst, src, other, odst, osrc) {
		if err := e.noLeak(in.Dst, "R%d pointer comparison prohibited"); err != nil {
			return err
		}
	}
	if e.log.on() {
		e.printInsnState(e.st)
	}
	return nil
}

// jumpOperands returns both sides of a comparison; imm stands for the right one where that is a constant.
func (e *env) jumpOperands(in isa.Insn, imm *reg) (dst, src *reg, err error) {
	if dst, err = e.readReg(in.Dst); err != nil {
		return nil, nil, err
	}
	src = imm
	var flags uint8
	if in.SrcIsReg() {
		if in.Imm != 0 {
			return nil, nil, e.reject(CodeBadInsn, "BPF_JMP/JMP32 uses reserved fields")
		}
		if src, err = e.readReg(in.Src); err != nil {
			return nil, nil, err
		}
		if !dst.typ.isPacketAny() || !src.typ.isPacketAny() {
			if err := e.noLeak(in.Src, "R%d pointer comparison prohibited"); err != nil {
				return nil, nil, err
			}
		}
		if src.typ == ptrToStack {
			flags |= histSrcStack
		}
	} else if in.Src != 0 {
		return nil, nil, e.reject(CodeBadInsn, "BPF_JMP/JMP32 uses reserved fields")
	}
	if dst.typ == ptrToStack {
		flags |= histDstStack
	}
	if flags != 0 {
		e.pushHist(flags, 0, 0)
	}
	return dst, src, nil
}

// jumpLinks finds the scalars that are linked to either side, and notes for precision that they learn together.
func (e *env) jumpLinks(in isa.Insn, dst, src *reg) (links linkedRegs) {
	if in.SrcIsReg() && src.typ == scalarValue && src.id != 0 {
		e.collectLinked(e.st, src.id, &links)
	}
	if dst.typ == scalarValue && dst.id != 0 {
		e.collectLinked(e.st, dst.id, &links)
	}
	if links.n > 1 {
		e.pushLinked(links)
	}
	return links
}

// syncBoth gives what both paths found out about one operand to the scalars linked to it.
func (e *env) syncBoth(other *state, r, or *reg, links *linkedRegs) {
	if r.typ == scalarValue && r.id != 0 {
		e.syncLinked(e.st, r, links)
		e.syncLinked(other, or, links)
	}
}

// followBranch continues on the only way a decided jump can go.
func (e *env) followBranch(in isa.Insn, taken int, dst, src *reg) error {
	if dst.typ == scalarValue {
		if err := e.markPrecise(int(in.Dst)); err != nil {
			return err
		}
	}
	if in.SrcIsReg() && src.typ == scalarValue {
		if err := e.markPrecise(int(in.Src)); err != nil {
			return err
		}
	}
	if err := e.otherWay(in, taken); err != nil {
		return err
	}
	if taken == 1 {
		e.aux[e.insn].always = true
	} else {
		e.aux[e.insn].never = true
	}
	if e.log.on() {
		e.printInsnState(e.st)
	}
	if taken == 1 {
		e.insn += int(in.Off)
	}
	return nil
}

// branchTaken decides the jump: 1 always, 0 never, -1 unknown (is_branch_taken).
func (e *env) branchTaken(in isa.Insn, dst, src *reg) int {
	op, is32 := in.JmpOp(), in.IsJump32()
	if dst.typ.isPacketAny() && src.typ.isPacketAny() && !is32 {
		return packetBranch(dst, src, op)
	}
	if dst.isPointer() || src.isPointer() {
		// decided only where a pointer that cannot be NULL meets the constant 0, all 64 bits of it
		ptr, k := dst, src
		if dst.typ == scalarValue {
			ptr, k = src, dst
		}
		if is32 || !k.isNull() || !e.notNull(ptr) {
			return -1
		}
		switch op {
		case isa.JmpJEQ:
			return 0
		case isa.JmpJNE:
			return 1
		}
		return -1
	}
	return scalar.BranchTaken(&dst.Scalar, &src.Scalar, op, is32)
}

func (t regType) isPacketAny() bool { return t.isPacket() || t == ptrToPacketEnd }

// notNull reports whether a pointer is certainly not NULL (reg_not_null). A variable offset without bounds could wrap to
// zero.
func (e *env) notNull(r *reg) bool {
	if !bounded(r) {
		return false
	}
	switch r.typ.base() {
	case ptrToMem:
		return r.typ&untrusted == 0
	case ptrToSocket, ptrToTCPSock, ptrToMapValue, ptrToMapKey, ptrToSockCommon, constPtrToMap:
		return true
	case ptrToXDPSock:
		return e.has(equalIfKnown)
	case ptrToBTF:
		return isTrusted(r)
	}
	return false
}

// bounded reports whether a pointer is typed as not NULL and its offset cannot wrap to zero.
func bounded(r *reg) bool {
	return !r.typ.mayBeNull() && r.Smin > -maxVarOff && r.Smax < maxVarOff
}

// isTrusted reports whether a pointer to a BTF type is valid by what the kernel knows: a held reference or a trusted
// source (is_trusted_reg).
func isTrusted(r *reg) bool {
	const safe = trusted | memAlloc | nonOwn
	flags := r.typ &^ baseMask
	return r.ref != 0 || flags&safe != 0 && flags&^safe == 0
}

// packetBranch decides a comparison with the packet's end by what was found out before (is_pkt_ptr_branch_taken).
func packetBranch(dst, src *reg, op uint8) int {
	pkt := dst
	switch {
	case src.typ == ptrToPacketEnd:
	case dst.typ == ptrToPacketEnd:
		pkt, op = src, scalar.Flip(op)
	default:
		return -1
	}
	if pkt.rng >= 0 {
		return -1
	}
	yes := func(b bool) int {
		if b {
			return 1
		}
		return 0
	}
	switch op {
	case isa.JmpJLE, isa.JmpJGT:
		if pkt.rng == beyondPktEnd {
			return yes(op == isa.JmpJGT)
		}
	case isa.JmpJLT, isa.JmpJGE:
		return yes(op == isa.JmpJGE)
	}
	return -1
}

// narrow refines both operands of a comparison of scalars on both paths (reg_set_min_max).
func (e *env) narrow(in isa.Insn, dst, src, odst, osrc *reg) error {
	if dst.isPointer() || src.isPointer() {
		return nil
	}
	op, is32 := in.JmpOp(), in.IsJump32()
	scalar.Refine(&dst.Scalar, &src.Scalar, scalar.Reverse(op), is32)
	scalar.Refine(&odst.Scalar, &osrc.Scalar, op, is32)
	for _, r := range [4]struct {
		*reg
		where string
	}{{odst, "true_reg1"}, {osrc, "true_reg2"}, {dst, "false_reg1"}, {src, "false_reg2"}} {
		if err := e.sane(r.reg, r.where); err != nil {
			return err
		}
	}
	return nil
}

// learnNonNull: a pointer equal to one that is not NULL is not NULL either.
func (e *env) learnNonNull(in isa.Insn, dst, src *reg, fr, ofr *frame) {
	if in.IsJump32() || !in.SrcIsReg() || !dst.isPointer() || !src.isPointer() ||
		dst.typ.base() == ptrToBTF || src.typ.base() == ptrToBTF {
		return
	}
	var eq *frame
	switch in.JmpOp() {
	case isa.JmpJEQ:
		eq = ofr
	case isa.JmpJNE:
		eq = fr
	default:
		return
	}
	dstOK, srcOK := e.notNull(dst), e.notNull(src)
	if !e.has(equalIfKnown) { // all kinds of pointers count
		dstOK, srcOK = bounded(dst), bounded(src)
	}
	if dstOK && src.typ.mayBeNull() {
		e.setNonNull(&eq.regs[in.Src])
	}
	if srcOK && dst.typ.mayBeNull() {
		e.setNonNull(&eq.regs[in.Dst])
	}
}

// resolveNull makes every register, slot and stack argument of r's id NULL or not (mark_ptr_or_null_regs).
func (e *env) resolveNull(st *state, r *reg, isNull bool) {
	id, ref := r.id, r.ref
	if ref != 0 && ref == id && isNull {
		st.dropRef(id)
	}
	st.eachReg(func(x *reg) {
		if !x.typ.mayBeNull() || x.id != id {
			return
		}
		if isNull {
			x.typ, x.id, x.ref = scalarValue, 0, 0
			x.aux, x.rng = 0, 0
			x.SetConst(0)
			x.off = 0
			x.precise = e.opt.ExactStates
			return
		}
		e.setNonNull(x)
		if !e.keepsID(x) {
			x.id = 0
		}
	})
}

// setNonNull gives a pointer that is not NULL after all its type: what a lookup in some maps finds is no value
// (mark_ptr_not_null_reg).
func (e *env) setNonNull(r *reg) {
	if r.typ.base() == ptrToMapValue {
		switch t := e.found(&e.maps[r.aux]); t {
		case ptrToMapValue:
		case constPtrToMap:
			r.typ, r.aux = t, e.inner[r.aux]
			if e.records[r.aux].rec.has(fieldTimer | fieldWorkqueue | fieldTaskWork) {
				r.rng = int32(r.id) // the lookup's: what lies in it goes with this map only
			}
			return
		default:
			r.typ, r.aux = t, 0
			return
		}
	}
	r.typ &^= maybeNull
}

// matchPacket learns from a comparison of a packet pointer with the packet's end how long the packet is at least
// (try_match_pkt_pointers).
func (e *env) matchPacket(in isa.Insn, dst, src *reg, other *state, odst, osrc *reg) bool {
	if !in.SrcIsReg() || in.IsJump32() {
		return false
	}
	pktVsEnd := func(a, b *reg) bool {
		return a.typ == ptrToPacket && b.typ == ptrToPacketEnd ||
			a.typ == ptrToPacketMeta && b.typ == ptrToPacket && b.off == 0 && b.id == 0 && b.Var.IsConst() && b.Var.Value == 0
	}
	op := in.JmpOp()
	left := pktVsEnd(dst, src)
	if !left && !pktVsEnd(src, dst) {
		return false
	}
	pkt, opkt := dst, odst
	if !left {
		pkt, opkt, op = src, osrc, scalar.Flip(op)
	}
	// now the question is "pkt op end"; good is the path on which the packet reaches pkt
	this := *pkt
	switch op {
	case isa.JmpJGT: // not taken: pkt <= end
		goodPacket(e.st, &this, false)
		markPktEnd(opkt, true)
	case isa.JmpJLT: // taken: pkt < end
		goodPacket(other, &this, true)
		markPktEnd(pkt, false)
	case isa.JmpJGE: // not taken: pkt < end
		goodPacket(e.st, &this, true)
		markPktEnd(opkt, false)
	case isa.JmpJLE: // taken: pkt <= end
		goodPacket(other, &this, false)
		markPktEnd(pkt, true)
	default:
		return false
	}
	return true
}

// goodPacket raises the known range of every packet pointer that shares pkt's id (find_good_pkt_pointers). With open,
// the byte at pkt is in the packet too.
func goodPacket(st *state, pkt *reg, open bool) {
	if pkt.off < 0 || pkt.off == 0 && open {
		return
	}
	if pkt.Umax > maxPacketOff || pkt.Umax+uint64(pkt.off) > maxPacketOff {
		return
	}
	rng := pkt.off
	if open {
		rng++
	}
	typ, id := pkt.typ, pkt.id
	st.eachReg(func(r *reg) {
		if r.typ == typ && r.id == id {
			r.rng = max(r.rng, rng)
		}
	})
}

func markPktEnd(r *reg, beyond bool) {
	if r.typ != ptrToPacket {
		return
	}
	if beyond {
		r.rng = beyondPktEnd
	} else {
		r.rng = atPktEnd
	}
}

// checkMayGoto walks on, with the jump taken first as the kernel does it: falling through waits, widened so that the
// loop comes to an end.
func (e *env) checkMayGoto(in isa.Insn) error {
	if in.Op != isa.ClassJMP|isa.JmpJCOND || in.Src != 0 || in.Dst != 0 || in.Imm != 0 {
		return e.reject(CodeBadInsn, "invalid may_goto imm %d", in.Imm)
	}
	e.aux[e.insn].always, e.aux[e.insn].never = true, true
	var before *state
	if e.st.parent != nil {
		before = e.entryBefore(e.st.parent, e.insn)
	}
	queued, err := e.push(e.insn+1, e.insn)
	if err != nil {
		return err
	}
	queued.mayGoto++
	if before != nil {
		e.widen(before, queued)
	}
	e.insn += int(in.Off)
	return nil
}
