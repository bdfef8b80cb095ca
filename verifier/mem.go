package verifier

import (
	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/internal/progtype"
	"github.com/skep-bpf/skep/internal/tnum"
)

// This file checks loads, stores and atomics against the memory their pointer owns.

func (e *env) checkLoad(in isa.Insn) error {
	if in.IsStackArgLoad() {
		return e.loadStackArg(in)
	}
	if _, err := e.readReg(in.Src); err != nil {
		return err
	}
	dst, err := e.writeReg(in.Dst)
	if err != nil {
		return err
	}
	sx := in.Mode() == isa.ModeMEMSX
	typ := e.st.fr().regs[in.Src].typ
	if err := e.checkMem(int(in.Src), int(in.Off), in.Bytes(), accessRead, int(in.Dst), sx, false); err != nil {
		return err
	}
	if err := e.notePtr(typ, true); err != nil {
		return err
	}
	return e.sane(dst, "ldx")
}

func (e *env) checkStoreReg(in isa.Insn) error {
	if in.Mode() == isa.ModeATOMIC {
		return e.checkAtomic(in)
	}
	if in.Mode() != isa.ModeMEM || in.Imm != 0 {
		return e.reject(CodeBadInsn, "BPF_STX uses reserved fields")
	}
	if in.IsStackArgStore() {
		return e.storeStackArg(in)
	}
	typ, err := e.store(in, false)
	if err != nil {
		return err
	}
	return e.notePtr(typ, false)
}

// store checks the store of a register and returns the type of the pointer it goes through.
func (e *env) store(in isa.Insn, strict bool) (regType, error) {
	if _, err := e.readReg(in.Src); err != nil {
		return 0, err
	}
	dst, err := e.readReg(in.Dst)
	if err != nil {
		return 0, err
	}
	typ := dst.typ
	return typ, e.checkMem(int(in.Dst), int(in.Off), in.Bytes(), accessWrite, int(in.Src), false, strict)
}

func (e *env) checkStoreImm(in isa.Insn) error {
	if in.Mode() != isa.ModeMEM || in.Src != 0 {
		return e.reject(CodeBadInsn, "BPF_ST uses reserved fields")
	}
	if in.IsStackArgStore() {
		return e.storeStackArg(in)
	}
	dst, err := e.readReg(in.Dst)
	if err != nil {
		return err
	}
	typ := dst.typ
	if err := e.checkMem(int(in.Dst), int(in.Off), in.Bytes(), accessWrite, -1, false, false); err != nil {
		return err
	}
	return e.notePtr(typ, false)
}

// notePtr keeps the kind of pointer an instruction goes through: later stages compile the access for that kind alone
// (save_aux_ptr_type).
func (e *env) notePtr(typ regType, trustMayDiffer bool) error {
	own := func(t regType) bool {
		switch t.base() {
		case ptrToCtx, ptrToSocket, ptrToSockCommon, ptrToTCPSock, ptrToXDPSock, ptrToBTF, ptrToArena:
			return true
		}
		return t.base() == ptrToMem && t&untrusted != 0 && e.has(untrustedSums)
	}
	a := &e.aux[e.insn]
	switch {
	case a.ptr == notInit:
		a.ptr = typ
	case a.ptr != typ && (own(typ) || own(a.ptr)):
		if trustMayDiffer && typ.base() == ptrToBTF && a.ptr.base() == ptrToBTF {
			a.ptr |= typ & untrusted
			return nil
		}
		return e.reject(CodeType, "same insn cannot be used with different pointers")
	}
	return nil
}

// checkMem checks an access of size bytes at operand op + off. value is the register stored or loaded, -1 for none.
// strict asks for natural alignment whatever the memory (check_mem_access).
func (e *env) checkMem(op, off, size int, kind accessKind, value int, sx, strict bool) error {
	regs := &e.st.fr().regs
	r := &regs[op]
	if err := e.checkAlign(r, off, size, strict); err != nil {
		return err
	}
	off += int(r.off)
	if r.typ == ptrToStack {
		var err error
		if kind == accessWrite {
			return e.writeStack(op, off, size, value)
		}
		if err = e.readStack(op, off, size, value); err == nil && value >= 0 {
			e.narrowLoad(&regs[value], size, sx)
		}
		return err
	}
	if err := e.checkRegion(op, off, size, kind); err != nil {
		return err
	}
	if f := e.kptrAt(r, off); f != nil {
		return e.accessKptr(f, value)
	}
	if kind == accessWrite || value < 0 {
		return nil
	}
	ptr := *r
	d := &regs[value]
	e.setUnknown(d)
	switch ptr.typ.base() {
	case ptrToCtx:
		e.loadCtx(d, off, size)
	case ptrToBTF:
		e.loadStruct(d, &ptr, off, size)
	case constPtrToMap:
		e.loadMapStruct(d, &ptr, off, size)
	case ptrToMapValue:
		if v, ok := e.constantValue(&ptr, off, size); ok {
			e.setConst(d, v)
		}
	}
	e.narrowLoad(d, size, sx)
	return nil
}

// narrowLoad cuts a loaded scalar to the width of the load. One whose sign bit may be set is another number after it was
// extended, so that its link to the spilled one ends. The kernel (6.18) keeps that link: it then believes numbers of the
// wrong sign.
func (e *env) narrowLoad(d *reg, size int, sx bool) {
	switch {
	case d.typ != scalarValue || size == 8:
	case sx:
		if d.Umax >= 1<<(8*size-1) && e.opt.Kernel618 == LikeUs {
			d.clearID()
		}
		e.signExtend(&d.Scalar, size)
	default:
		d.Truncate(size)
	}
}

// checkRegion checks an access to memory that is not the stack.
func (e *env) checkRegion(op, off, size int, kind accessKind) error {
	r := &e.st.fr().regs[op]
	switch b := r.typ.base(); {
	case r.typ == ptrToMapValue:
		if err := e.leakByStore(kind, "map"); err != nil {
			return err
		}
		if err := e.mapMayAccess(r, off, size, kind); err != nil {
			return err
		}
		return e.inMapValue(op, off, size, false, true)
	case r.typ == ptrToMapKey:
		if kind == accessWrite {
			return e.reject(CodePermission, "write to change key %s not allowed", operandName(op))
		}
		return e.inRegion(op, off, size, int64(e.maps[r.aux].KeySize), false)
	case b == ptrToMem && !r.typ.mayBeNull():
		if kind == accessWrite && r.typ&rdonly != 0 {
			return e.reject(CodePermission, "%s cannot write into %s", operandName(op), r.typ)
		}
		if r.typ&untrusted != 0 {
			return nil
		}
		if err := e.leakByStore(kind, "mem"); err != nil {
			return err
		}
		return e.inRegion(op, off, size, int64(r.aux), false)
	case r.typ == ptrToCtx:
		if err := e.leakByStore(kind, "ctx"); err != nil {
			return err
		}
		return e.checkCtx(op, off, size, kind)
	case r.typ.isPacket():
		if kind == accessWrite && !e.writesPacket() {
			return e.reject(CodePermission, "cannot write into packet")
		}
		if err := e.leakByStore(kind, "packet"); err != nil {
			return err
		}
		return e.inPacket(op, off, size, false)
	case r.typ == ptrToFlowKeys:
		return e.checkFlowKeys(off, size)
	case r.typ == ptrToTPBuffer:
		return e.checkTPBuffer(op, off, size)
	case r.typ == ptrToArena:
		return nil
	case r.typ.isSock():
		if kind == accessWrite {
			return e.reject(CodePermission, "%s cannot write into %s", operandName(op), r.typ)
		}
		return e.checkSock(op, off, size)
	case b == ptrToBuf && !r.typ.mayBeNull():
		return e.checkBuf(op, off, size, kind)
	case b == ptrToBTF && !r.typ.mayBeNull():
		return e.checkStruct(op, off, size, kind)
	case r.typ == constPtrToMap:
		return e.checkMapStruct(op, off, size, kind)
	}
	if r.typ.mayBeNull() {
		return e.reject(CodeNull, "%s invalid mem access '%s'", operandName(op), r.typ)
	}
	return e.reject(CodeType, "%s invalid mem access '%s'", operandName(op), r.typ)
}

// mapMayAccess checks the map's access flags (check_map_access_type).
func (e *env) mapMayAccess(r *reg, off, size int, kind accessKind) error {
	m := &e.maps[r.aux]
	switch {
	case kind == accessWrite && readOnly(m):
		return e.reject(CodePermission, "write into map forbidden, value_size=%d off=%d size=%d", m.ValueSize, off, size)
	case kind == accessRead && m.Flags&flagWriteOnlyProg != 0:
		return e.reject(CodePermission, "read from map forbidden, value_size=%d off=%d size=%d", m.ValueSize, off, size)
	}
	return nil
}

// readOnly reports whether programs may not change the map's values; those of device maps never.
func readOnly(m *program.Map) bool {
	return m.Flags&flagReadOnlyProg != 0 || m.Type == ebpf.DevMap || m.Type == ebpf.DevMapHash
}

const (
	flagReadOnlyProg  = 1 << 7 // BPF_F_RDONLY_PROG
	flagWriteOnlyProg = 1 << 8 // BPF_F_WRONLY_PROG
)

// inRegion checks off plus the pointer's variable offset against a region of total bytes (check_mem_region_access).
func (e *env) inRegion(op, off, size int, total int64, zeroOK bool) error {
	r := &e.st.fr().regs[op]
	if r.Smin < 0 && (r.Smin == -1<<63 || int64(off)+r.Smin != int64(int32(int64(off)+r.Smin)) || r.Smin+int64(off) < 0) {
		return e.reject(CodeBounds, "%s min value is negative, either use unsigned index or do a if (index >=0) check.", operandName(op))
	}
	if err := e.fits(op, r.Smin+int64(off), size, total, zeroOK); err != nil {
		return e.why(err, "%s min value is outside of the allowed memory range", operandName(op))
	}
	if r.Umax >= maxVarOff {
		return e.reject(CodeBounds, "%s unbounded memory access, make sure to bounds check any such access", operandName(op))
	}
	if err := e.fits(op, int64(r.Umax)+int64(off), size, total, zeroOK); err != nil {
		return e.why(err, "%s max value is outside of the allowed memory range", operandName(op))
	}
	return nil
}

// fits is the comparison itself (__check_mem_access).
func (e *env) fits(op int, off int64, size int, total int64, zeroOK bool) error {
	if off >= 0 && (size > 0 || size == 0 && zeroOK) && off+int64(size) <= total {
		return nil
	}
	r := &e.st.fr().regs[op]
	switch r.typ {
	case ptrToMapValue:
		return e.reject(CodeBounds, "invalid access to map value, value_size=%d off=%d size=%d", total, off, size)
	case ptrToMapKey:
		return e.reject(CodeBounds, "invalid access to map key, key_size=%d off=%d size=%d", total, off, size)
	case ptrToPacket, ptrToPacketMeta, ptrToPacketEnd:
		return e.reject(CodeBounds, "invalid access to packet, off=%d size=%d, %s(id=%d,off=%d,r=%d)", off, size, operandName(op), r.id, off, total)
	}
	return e.reject(CodeBounds, "invalid access to memory, mem_size=%d off=%d size=%d", total, off, size)
}

// inPacket checks an access to the packet against the range that a comparison with its end proved (check_packet_access).
func (e *env) inPacket(op, off, size int, zeroOK bool) error {
	r := &e.st.fr().regs[op]
	if r.Smin < 0 {
		return e.reject(CodeBounds, "%s min value is negative, either use unsigned index or do a if (index >=0) check.", operandName(op))
	}
	if r.rng < 0 {
		return e.reject(CodeBounds, "%s offset is outside of the packet", operandName(op))
	}
	if err := e.fits(op, int64(off), size, int64(r.rng), zeroOK); err != nil {
		return e.why(err, "%s offset is outside of the packet", operandName(op))
	}
	e.maxPkt = max(e.maxPkt, off+int(r.Umax)+size-1)
	return nil
}

// fixedOff checks that a pointer is unmodified, or moved by a constant at most (__check_ptr_off_reg).
func (e *env) fixedOff(op int, offOK bool) error {
	r := &e.st.fr().regs[op]
	switch {
	case r.off < 0:
		return e.reject(CodePointerMath, "negative offset %s ptr %s off=%d disallowed", r.typ, operandName(op), r.off)
	case !offOK && r.off != 0:
		return e.reject(CodePointerMath, "dereference of modified %s ptr %s off=%d disallowed", r.typ, operandName(op), r.off)
	case !r.Var.IsConst() || r.Var.Value != 0:
		return e.reject(CodePointerMath, "variable %s access var_off=%s disallowed", r.typ, r.Var)
	}
	return nil
}

// sockStructs are the structures that socket pointers show.
var sockStructs = map[regType]progtype.Sock{
	ptrToSocket: progtype.SockFull, ptrToSockCommon: progtype.SockCommon, ptrToTCPSock: progtype.SockTCP, ptrToXDPSock: progtype.SockXDP,
}

// checkSock checks a read of a socket's fields (check_sock_access).
func (e *env) checkSock(op, off, size int) error {
	r := &e.st.fr().regs[op]
	if r.Smin < 0 {
		return e.reject(CodeBounds, "%s min value is negative, either use unsigned index or do a if (index >=0) check.", operandName(op))
	}
	if !r.Var.IsConst() || r.Var.Value != 0 || !progtype.SockAccess(sockStructs[r.typ], off, size) {
		return e.reject(CodePermission, "%s invalid %s access off=%d size=%d", operandName(op), r.typ, off, size)
	}
	return nil
}

// constantValue reads a value that cannot change: in a frozen map that programs cannot write (bpf_map_direct_read).
func (e *env) constantValue(r *reg, off, size int) (uint64, bool) {
	m := &e.maps[r.aux]
	if !isConstantMap(m) || !r.Var.IsConst() {
		return 0, false
	}
	at := off + int(r.Var.Value)
	if at < 0 || at+size > len(m.Contents) {
		return 0, false
	}
	v := uint64(0)
	for i := size - 1; i >= 0; i-- {
		v = v<<8 | uint64(m.Contents[at+i])
	}
	return v, true
}

// isConstantMap reports whether the map's contents can be relied on (bpf_map_is_rdonly).
func isConstantMap(m *program.Map) bool {
	return m.Type == ebpf.Array && m.Flags&flagReadOnlyProg != 0 && m.Frozen && m.Contents != nil
}

// checkAlign checks alignment: always on the stack, elsewhere only with BPF_F_STRICT_ALIGNMENT or where the instruction
// needs it (check_ptr_alignment).
func (e *env) checkAlign(r *reg, off, size int, strict bool) error {
	strict = strict || e.prog.Flags&flagStrictAlignment != 0 || r.typ == ptrToStack
	if !strict || size == 1 || r.typ == ptrToArena {
		return nil
	}
	if r.typ.isPacket() {
		const ipAlign = 2
		if !r.Var.Add(tnum.Const(uint64(int64(ipAlign + int(r.off) + off)))).IsAligned(uint64(size)) {
			return e.reject(CodeAlignment, "misaligned packet access off %d+%s+%d+%d size %d", ipAlign, r.Var, r.off, off, size)
		}
		return nil
	}
	if !r.Var.Add(tnum.Const(uint64(int64(int(r.off) + off)))).IsAligned(uint64(size)) {
		return e.reject(CodeAlignment, "misaligned %saccess off %s+%d+%d size %d", alignNames[r.typ], r.Var, r.off, off, size)
	}
	return nil
}

const flagStrictAlignment = 1 << 0 // BPF_F_STRICT_ALIGNMENT

var alignNames = map[regType]string{
	ptrToMapValue: "value ", ptrToCtx: "context ", ptrToStack: "stack ", ptrToSocket: "sock ",
	ptrToSockCommon: "sock_common ", ptrToTCPSock: "tcp_sock ", ptrToXDPSock: "xdp_sock ", ptrToFlowKeys: "flow keys ",
}

// checkAtomic checks read-modify-write instructions, load-acquire and store-release.
func (e *env) checkAtomic(in isa.Insn) error {
	if ordersMemory(in) && !e.has(orderedAtomics) {
		return e.reject(CodeBadInsn, "BPF_ATOMIC uses invalid atomic opcode %02x", uint32(in.Imm))
	}
	switch in.Info().Kind {
	case isa.KindLoadAcquire:
		return e.checkLoadAcquire(in)
	case isa.KindStoreRelease:
		return e.checkStoreRelease(in)
	case isa.KindAtomic, isa.KindAtomicFetch, isa.KindXchg, isa.KindCmpxchg:
		return e.checkRMW(in)
	}
	if !validAtomicOp(in.Imm) {
		return e.reject(CodeBadInsn, "BPF_ATOMIC uses invalid atomic opcode %02x", uint32(in.Imm))
	}
	return e.reject(CodeBadInsn, "invalid atomic operand size")
}

func validAtomicOp(imm int32) bool {
	switch imm &^ isa.AtomicFETCH {
	case isa.AtomicADD, isa.AtomicOR, isa.AtomicAND, isa.AtomicXOR:
		return true
	}
	return imm == isa.AtomicXCHG || imm == isa.AtomicCMPXCHG || imm == isa.AtomicLoadAcq || imm == isa.AtomicStoreRel
}

// atomicPtr rejects memory that atomics may not touch (atomic_ptr_type_ok).
func (e *env) atomicPtr(r isa.Reg, what string) error {
	t := e.st.fr().regs[r].typ
	if t.noAtomics() || t == ptrToArena && !e.arenaAtomic(e.prog.Insns[e.insn]) {
		return e.reject(CodePermission, "BPF_ATOMIC %s R%d %s is not allowed", what, r, t)
	}
	return nil
}

func (e *env) checkRMW(in isa.Insn) error {
	if in.Size() != isa.SizeW && in.Size() != isa.SizeDW {
		return e.reject(CodeBadInsn, "invalid atomic operand size")
	}
	if _, err := e.readReg(in.Src); err != nil {
		return err
	}
	dst, err := e.readReg(in.Dst)
	if err != nil {
		return err
	}
	kind := in.Info().Kind
	if kind == isa.KindCmpxchg {
		if _, err := e.readReg(isa.R0); err != nil {
			return err
		}
		if err := e.noLeak(isa.R0, "R%d leaks addr into mem"); err != nil {
			return err
		}
	}
	if err := e.noLeak(in.Src, "R%d leaks addr into mem"); err != nil {
		return err
	}
	if err := e.atomicPtr(in.Dst, "stores into"); err != nil {
		return err
	}
	typ := dst.typ
	load := -1
	switch kind {
	case isa.KindCmpxchg:
		load = int(isa.R0)
	case isa.KindAtomicFetch, isa.KindXchg:
		load = int(in.Src)
	}
	if load >= 0 {
		// unknown before the checks: an address in the register that is fetched into is refused
		d, err := e.writeReg(isa.Reg(load))
		if err != nil {
			return err
		}
		e.setUnknown(d)
	}
	if err := e.checkMem(int(in.Dst), int(in.Off), in.Bytes(), accessRead, -1, false, true); err != nil {
		return err
	}
	if load >= 0 {
		if err := e.checkMem(int(in.Dst), int(in.Off), in.Bytes(), accessRead, load, false, true); err != nil {
			return err
		}
	}
	if err := e.notePtr(typ, false); err != nil {
		return err
	}
	return e.checkMem(int(in.Dst), int(in.Off), in.Bytes(), accessWrite, -1, false, true)
}

func (e *env) checkLoadAcquire(in isa.Insn) error {
	src, err := e.readReg(in.Src)
	if err != nil {
		return err
	}
	typ := src.typ
	if e.has(atomicTypesFirst) && typ.noAtomics() {
		return e.reject(CodePermission, "BPF_ATOMIC loads from R%d %s is not allowed", in.Src, typ)
	}
	if _, err := e.writeReg(in.Dst); err != nil {
		return err
	}
	if err := e.checkMem(int(in.Src), int(in.Off), in.Bytes(), accessRead, int(in.Dst), false, true); err != nil {
		return err
	}
	if typ.noAtomics() {
		return e.reject(CodePermission, "BPF_ATOMIC loads from R%d %s is not allowed", in.Src, typ)
	}
	return e.notePtr(typ, false)
}

func (e *env) checkStoreRelease(in isa.Insn) error {
	typ, err := e.store(in, true)
	if err != nil {
		return err
	}
	if typ.noAtomics() {
		return e.reject(CodePermission, "BPF_ATOMIC stores into R%d %s is not allowed", in.Dst, typ)
	}
	return e.notePtr(typ, false)
}
