package verifier

import (
	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/bprintf"
	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/internal/progtype"
)

// This file checks helper calls: the arguments against the prototype, maps against the helper, and what r0 is
// afterwards (check_helper_call).

// Helpers that the verifier treats specially, by number (enum bpf_func_id).
const (
	fnMapLookup       = 1
	fnMapUpdate       = 2
	fnMapDelete       = 3
	fnSmpProcessorID  = 8
	fnTailCall        = 12
	fnRedirectMap     = 51
	fnSkRelease       = 86
	fnSnprintf        = 165
	fnMapLookupPercpu = 195
)

// callMeta is what the arguments of one call say about each other and about the result.
type callMeta struct {
	proto      *HelperProto
	mapIdx     int // -1 if no map was passed
	ref        uint32
	releaseOp  int
	fillOp     int // memory that the helper fills without reading it
	fillSize   int
	constKey   uint32
	hasKey     bool
	retMemSize int
}

func (e *env) checkHelperCall(in isa.Insn) error {
	id := in.Imm
	h := e.helper(id)
	name := "bpf_" + nameOf(h)
	if id == 0 {
		return e.reject(CodeCall, "program of this type cannot use helper bpf_unspec#0")
	}
	if h == nil {
		if n := isa.HelperName(id); n != "unknown" && n != "" {
			return e.unsupported("helper %s#%d", n, id)
		}
		return e.reject(CodeCall, "invalid func unknown#%d", id)
	}
	if !h.For(e.prog.Type) {
		return e.reject(CodeCall, "program of this type cannot use helper %s#%d", name, id)
	}
	if h.GPLOnly && !gplCompatible(e.prog.License) {
		return e.reject(CodeCall, "cannot call GPL-restricted function from non-GPL compatible program")
	}
	if h.MightSleep && e.prog.Flags&flagSleepable == 0 {
		return e.reject(CodeCall, "helper call might sleep in a non-sleepable prog")
	}
	m := &callMeta{proto: h, mapIdx: -1}
	for i := range h.Args {
		if err := e.checkHelperArg(i, m); err != nil {
			return err
		}
	}
	if err := e.noteMap(id, m); err != nil {
		return err
	}
	if m.fillSize > 0 {
		if err := e.fillStack(m.fillOp, int(e.st.fr().regs[m.fillOp].off), m.fillSize); err != nil {
			return err
		}
	}
	if err := e.releaseHelperRef(m); err != nil {
		return err
	}
	if err := e.checkSpecialHelper(id, m); err != nil {
		return err
	}
	fr := e.st.fr()
	fr.dropRegs()
	fr.dropStackArgs()
	e.scratchedRegs |= 1<<isa.R0 | argRegs
	if err := e.helperResult(m); err != nil {
		return err
	}
	if err := e.mapFits(id, m); err != nil {
		return err
	}
	if id == fnTailCall {
		return e.tailCall()
	}
	if h.ChangesPacket {
		e.dropPackets()
	}
	return nil
}

// tailCall walks both outcomes of a tail call in a function below the main one: the failed one waits; where it succeeds,
// the other program runs in this function's place and returns to its caller with any number, and it may have moved the
// packet. In the main function success ends the program.
func (e *env) tailCall() error {
	if e.st.cur == 0 {
		return nil
	}
	e.scratchedRegs |= 1 << isa.R0
	if _, err := e.push(e.insn+1, e.insn); err != nil {
		return err
	}
	e.dropPackets()
	e.setUnknown(&e.st.fr().regs[isa.R0])
	if err := e.leaveFunc(); err != nil {
		return err
	}
	e.insn--
	return nil
}

func nameOf(h *HelperProto) string {
	if h == nil {
		return ""
	}
	return h.Name
}

const flagSleepable = 1 << 4 // BPF_F_SLEEPABLE

// gplCompatible is the kernel's license_is_gpl_compatible.
func gplCompatible(l string) bool {
	switch l {
	case "GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL":
		return true
	}
	return false
}

// checkHelperArg checks argument i (from 0) of a helper (check_func_arg).
func (e *env) checkHelperArg(i int, m *callMeta) error {
	a := &m.proto.Args[i]
	if a.Kind == ArgDontCare {
		return nil
	}
	op := i + 1
	r, err := e.readReg(isa.Reg(op))
	if err != nil {
		return err
	}
	if a.Kind == ArgAnything {
		return nil
	}
	if r.typ.isPacket() && (!m.proto.PktAccess || !progtype.HelperPacketAccess(e.prog.Type)) {
		return e.reject(CodePermission, "helper access to the packet is not allowed")
	}
	null := r.isNull() && a.OrNull
	if null {
		if err := e.markPrecise(op); err != nil {
			return err
		}
	} else {
		if err := e.argType(op, a, m.proto.ReleaseArg == op); err != nil {
			return err
		}
		if err := e.argOffset(op, m.proto.ReleaseArg == op); err != nil {
			return err
		}
	}
	if m.proto.ReleaseArg == op {
		if r.ref == 0 && !r.isNull() {
			return e.reject(CodeReference, "R%d must be referenced when passed to release function", op)
		}
		m.releaseOp = op
	}
	if r.ref != 0 {
		if m.ref != 0 {
			return e.reject(CodeInternal, "verifier internal error: more than one arg with ref_obj_id R%d %d %d", op, r.ref, m.ref)
		}
		m.ref = r.ref
	}
	return e.useArg(op, a, null, m)
}

// memTypes are what can be passed as memory; the order is that of messages.
var memTypes = []regType{ptrToStack, ptrToPacket, ptrToPacketMeta, mapKeyType, ptrToMapValue, ptrToMem, ptrToBTF}

// mapKeyType stands in messages for PTR_TO_MAP_KEY, which only callbacks have.
const mapKeyType = baseMask - 1

var argTypes = map[ArgKind][]regType{
	ArgConstMapPtr:     {constPtrToMap},
	ArgMapKey:          memTypes,
	ArgMapValue:        memTypes,
	ArgUninitMapValue:  memTypes,
	ArgMem:             memTypes,
	ArgUninitMem:       memTypes,
	ArgWriteMem:        memTypes,
	ArgFixedMem:        memTypes,
	ArgFixedUninitMem:  memTypes,
	ArgConstSize:       {scalarValue},
	ArgConstSizeOrZero: {scalarValue},
	ArgConstAllocSize:  {scalarValue},
	ArgCtx:             {ptrToCtx},
	ArgSockCommon:      {ptrToSockCommon, ptrToSocket, ptrToTCPSock},
	ArgSocket:          {ptrToSocket},
	ArgConstStr:        {ptrToMapValue},
}

// argType checks the type of an argument (check_reg_type).
func (e *env) argType(op int, a *HelperArg, release bool) error {
	r := &e.st.fr().regs[op]
	t := r.typ
	if a.OrNull {
		t &^= maybeNull
	}
	if !writesArg(a.Kind) {
		t &^= rdonly
	}
	want, ok := argTypes[a.Kind]
	if !ok {
		return e.reject(CodeInternal, "verifier internal error: unsupported arg type %d", a.Kind)
	}
	for _, w := range want {
		if t == w && w != ptrToBTF {
			return nil
		}
	}
	return e.reject(CodeType, "R%d type=%s expected=%s", op, r.typ, expectedTypes(a.Kind, want, release))
}

// expectedTypes lists the accepted types as the kernel's messages do.
func expectedTypes(kind ArgKind, want []regType, release bool) string {
	switch {
	case len(want) == len(memTypes):
		return "fp, pkt, pkt_meta, map_key, map_value, mem, ringbuf_mem, buf, trusted_ptr_"
	case kind == ArgSockCommon && release:
		return "sock_common, sock, tcp_sock, xdp_sock, ptr_, trusted_ptr_"
	case kind == ArgSockCommon:
		return "sock_common, sock, tcp_sock, xdp_sock"
	}
	return want[0].String()
}

// writesArg reports whether a helper may write the memory of such an argument.
func writesArg(k ArgKind) bool {
	return k == ArgUninitMapValue || k == ArgUninitMem || k == ArgFixedUninitMem || k == ArgWriteMem
}

// argOffset checks that a pointer passed on is moved only as far as its type allows (check_func_arg_reg_off).
func (e *env) argOffset(op int, release bool) error {
	r := &e.st.fr().regs[op]
	if release {
		if r.off != 0 {
			return e.reject(CodePointerMath, "%s must have zero offset when passed to release func or trusted arg to kfunc", operandName(op))
		}
		return e.fixedOff(op, false)
	}
	switch r.typ.base() {
	case ptrToStack, ptrToPacket, ptrToPacketMeta, ptrToMapValue, ptrToMem, scalarValue:
		if !r.typ.mayBeNull() {
			return nil
		}
	case ptrToBTF:
		return e.fixedOff(op, true)
	}
	return e.fixedOff(op, false)
}

// useArg checks what an argument's kind asks beyond its type.
func (e *env) useArg(op int, a *HelperArg, null bool, m *callMeta) error {
	r := &e.st.fr().regs[op]
	kind := accessKind(writesArg(a.Kind))
	switch a.Kind {
	case ArgConstMapPtr:
		m.mapIdx = int(r.aux)
	case ArgMapKey:
		if m.mapIdx < 0 {
			return e.reject(CodeType, "invalid map_ptr to access map->key")
		}
		return e.useKey(op, m)
	case ArgMapValue, ArgUninitMapValue:
		if null {
			return nil
		}
		if m.mapIdx < 0 {
			return e.reject(CodeType, "invalid map_ptr to access map->value")
		}
		return e.useMem(op, int(e.prog.Maps[m.mapIdx].ValueSize), kind, false, bool(kind), m)
	case ArgFixedMem, ArgFixedUninitMem:
		if null {
			return nil
		}
		if err := e.useMem(op, a.Size, kind, false, bool(kind), m); err != nil {
			return err
		}
		if a.Align {
			return e.checkAlign(r, 0, a.Size, true)
		}
	case ArgConstSize, ArgConstSizeOrZero:
		prev := &m.proto.Args[op-2]
		w := accessKind(writesArg(prev.Kind))
		return e.sizeArg(op, op-1, w, a.Kind == ArgConstSizeOrZero, bool(w) && prev.Kind != ArgWriteMem, m)
	case ArgConstAllocSize:
		if !r.Var.IsConst() {
			return e.reject(CodeType, "R%d is not a known constant'", op)
		}
		m.retMemSize = int(r.Var.Value)
		return e.markPrecise(op)
	case ArgConstStr:
		_, err := e.constString(op)
		return err
	}
	return nil
}

// useKey checks a map key and finds out whether it is a known index.
func (e *env) useKey(op int, m *callMeta) error {
	mp := &e.prog.Maps[m.mapIdx]
	if err := e.useMem(op, int(mp.KeySize), accessRead, false, false, m); err != nil {
		return err
	}
	if mp.Type != ebpf.Array && mp.Type != ebpf.PerCPUArray {
		return nil
	}
	var err error
	m.constKey, m.hasKey, err = e.constantKey(op, int(mp.KeySize))
	return err
}

// useMem checks that a helper or kfunc may access size bytes at operand op (check_helper_mem_access). With raw, memory
// on the stack need not be initialised.
func (e *env) useMem(op, size int, kind accessKind, zeroOK, raw bool, m *callMeta) error {
	r := &e.st.fr().regs[op]
	off := int(r.off)
	switch b := r.typ.base(); {
	case r.typ.mayBeNull():
		// no bytes of what may not be there are fine
		if zeroOK && size == 0 {
			return nil
		}
	case r.typ.isPacket():
		if kind == accessWrite && !progtype.DirectPacketWrite(e.prog.Type) {
			return e.reject(CodePermission, "cannot write into packet")
		}
		return e.inPacket(op, off, size, zeroOK)
	case b == ptrToMapValue:
		if err := e.mapMayAccess(r, off, size, kind); err != nil {
			return err
		}
		return e.inRegion(op, off, size, int64(e.prog.Maps[r.aux].ValueSize), zeroOK)
	case b == ptrToMem:
		if kind == accessWrite && r.typ&rdonly != 0 {
			return e.reject(CodePermission, "%s cannot write into %s", operandName(op), r.typ)
		}
		return e.inRegion(op, off, size, int64(r.aux), zeroOK)
	case b == ptrToStack:
		if err := e.helperStack(op, off, size, kind, zeroOK, raw && r.Var.IsConst()); err != nil {
			return err
		}
		if raw && r.Var.IsConst() && m != nil {
			m.fillOp, m.fillSize = op, size
		}
		return nil
	case b == ptrToBTF && kind == accessRead:
		return e.checkStruct(op, off, size, accessRead)
	case b == ptrToCtx && !progtype.HasFixedCtx(e.prog.Type):
		if size == 0 && zeroOK {
			return nil
		}
		if size <= 0 {
			return e.reject(CodeBounds, "invalid zero-sized read")
		}
		if err := e.checkCtxBytes(op, size, kind); err != nil {
			return err
		}
		return nil
	}
	if zeroOK && size == 0 && r.isNull() {
		return nil
	}
	return e.reject(CodeType, "%s type=%s expected=fp", operandName(op), r.typ)
}

// checkCtxBytes checks a context that is plain memory, passed as such.
func (e *env) checkCtxBytes(op, size int, kind accessKind) error {
	if err := e.fixedOff(op, false); err != nil {
		return err
	}
	if !progtype.CtxAccess(e.prog.Type, e.prog.AttachType, size-1, 1, kind == accessWrite, false).OK {
		return e.reject(CodePermission, "invalid bpf_context access off=%d size=1", size-1)
	}
	e.maxCtx = max(e.maxCtx, size)
	return nil
}

// sizeArg checks a length in operand op for the memory in operand memOp (check_mem_size_reg).
func (e *env) sizeArg(op, memOp int, kind accessKind, zeroOK, raw bool, m *callMeta) error {
	r := &e.st.fr().regs[op]
	if !r.Var.IsConst() {
		raw = false // how much is written is not known: all of it must be initialised
	}
	switch {
	case r.Smin < 0:
		return e.reject(CodeBounds, "%s min value is negative, either use unsigned or 'var &= const'", operandName(op))
	case r.Umin == 0 && !zeroOK:
		return e.reject(CodeBounds, "%s invalid zero-sized read: u64=[%d,%d]", operandName(op), int64(r.Umin), int64(r.Umax))
	case r.Umax >= maxVarSize:
		return e.reject(CodeBounds, "%s unbounded memory access, use 'var &= const' or 'if (var < const)'", operandName(op))
	}
	if err := e.useMem(memOp, int(r.Umax), kind, zeroOK, raw, m); err != nil {
		return err
	}
	return e.markPrecise(op)
}

// constString returns the string that an operand points to: NUL-terminated, in a map that cannot change
// (check_reg_const_str).
func (e *env) constString(op int) (string, error) {
	r := &e.st.fr().regs[op]
	if r.typ != ptrToMapValue {
		return "", e.reject(CodeType, "%s type=%s expected=map_value", operandName(op), r.typ)
	}
	m := &e.prog.Maps[r.aux]
	if !isConstantMap(m) {
		return "", e.reject(CodePermission, "%s does not point to a readonly map'", operandName(op))
	}
	if !r.Var.IsConst() {
		return "", e.reject(CodeType, "%s is not a constant address'", operandName(op))
	}
	if err := e.inRegion(op, int(r.off), int(m.ValueSize)-int(r.off), int64(m.ValueSize), false); err != nil {
		return "", err
	}
	at := int(r.off) + int(r.Var.Value)
	for i := at; i < len(m.Contents); i++ {
		if m.Contents[i] == 0 {
			return string(m.Contents[at:i]), nil
		}
	}
	return "", e.reject(CodeType, "string is not zero-terminated")
}

// releaseHelperRef gives up the reference that a releasing helper takes.
func (e *env) releaseHelperRef(m *callMeta) error {
	if m.releaseOp == 0 {
		return nil
	}
	if m.ref != 0 && e.releaseRef(m.ref) || m.ref == 0 && e.st.fr().regs[m.releaseOp].isNull() {
		return nil
	}
	return e.reject(CodeReference, "func bpf_%s#%d reference has not been acquired before", m.proto.Name, m.proto.ID)
}

// acquireRef makes a new reference (acquire_reference).
func (e *env) acquireRef() uint32 {
	e.idGen++
	e.st.refs = append(e.st.refs, refState{id: e.idGen, insn: int32(e.insn)})
	return e.idGen
}

// dropRef takes a reference off the list; false if it is not on it.
func (s *state) dropRef(id uint32) bool {
	for i := range s.refs {
		if s.refs[i].id == id {
			s.refs = append(s.refs[:i:i], s.refs[i+1:]...)
			return true
		}
	}
	return false
}

// releaseRef releases a reference: every pointer that stood for it, in registers, slots and stack arguments of every
// frame, becomes an unknown number (release_reference).
func (e *env) releaseRef(id uint32) bool {
	if !e.st.dropRef(id) {
		return false
	}
	e.st.eachReg(func(r *reg) {
		if r.ref == id {
			e.setUnknown(r)
		}
	})
	return true
}

// noteMap keeps which map a call always gets, and known keys (record_func_map, record_func_key).
func (e *env) noteMap(id int32, m *callMeta) error {
	if m.mapIdx < 0 {
		return nil
	}
	mp := &e.prog.Maps[m.mapIdx]
	if readOnly(mp) && (id == fnMapUpdate || id == fnMapDelete) {
		return e.reject(CodePermission, "write into map forbidden")
	}
	fact, a := &e.facts[e.insn], &e.aux[e.insn]
	switch {
	case !a.mapSeen:
		fact.Map = int32(m.mapIdx)
		fact.HasConstKey, fact.ConstKey = m.hasKey, m.constKey
	default:
		if fact.Map != int32(m.mapIdx) {
			fact.Map = -1
		}
		if !m.hasKey || fact.ConstKey != m.constKey {
			fact.HasConstKey = false
		}
	}
	if id == fnTailCall {
		if err := e.noteTailCall(mp, a.mapSeen); err != nil {
			return err
		}
	}
	a.mapSeen = true
	return nil
}

func (e *env) noteTailCall(mp *program.Map, seen bool) error {
	if mp.Type != ebpf.ProgramArray {
		return e.reject(CodeCall, "expected prog array map for tail call")
	}
	fact := &e.facts[e.insn]
	r := &e.st.fr().regs[isa.R3]
	k, ok := r.Known(false)
	if r.typ != scalarValue || !ok || k >= uint64(mp.MaxEntries) || seen && fact.TailCallIndex != int32(k) {
		fact.TailCallIndex = -1
		return nil
	}
	fact.TailCallIndex = int32(k)
	return e.markPrecise(int(isa.R3))
}

// checkSpecialHelper checks what only some helpers ask.
func (e *env) checkSpecialHelper(id int32, m *callMeta) error {
	switch id {
	case fnTailCall:
		return e.heldRefs("tail_call")
	case fnSnprintf:
		return e.checkSnprintf()
	}
	return nil
}

// checkSnprintf checks the format against the number of values (check_bpf_snprintf_call).
func (e *env) checkSnprintf() error {
	n := &e.st.fr().regs[isa.R5]
	if !n.Var.IsConst() || n.Var.Value%8 != 0 {
		return e.reject(CodeType, "Invalid format string")
	}
	format, err := e.constString(int(isa.R3))
	if err != nil {
		return err
	}
	if bprintf.Check(append([]byte(format), 0), int(n.Var.Value)/8) != 0 {
		return e.reject(CodeType, "Invalid format string")
	}
	return nil
}

// helperResult sets r0.
func (e *env) helperResult(m *callMeta) error {
	r0 := &e.st.fr().regs[isa.R0]
	ptr := func(t regType) {
		setPtr(r0, t|maybeNull)
		e.idGen++
		r0.id = e.idGen
	}
	switch m.proto.Ret {
	case RetInteger:
		e.setUnknown(r0)
		if m.proto.ID == fnSmpProcessorID {
			e.limitCPU(r0)
		}
	case RetVoid:
		r0.setNotInit()
	case RetMapValueOrNull:
		if m.mapIdx < 0 {
			return e.reject(CodeInternal, "kernel subsystem misconfigured verifier")
		}
		ptr(ptrToMapValue)
		r0.aux = int32(m.mapIdx)
		if m.proto.ID == fnMapLookup && m.hasKey && m.constKey < e.prog.Maps[m.mapIdx].MaxEntries {
			// an element of an array at a known index inside it always exists
			r0.typ &^= maybeNull
			r0.id = 0
			e.idGen--
		}
	case RetSockCommonOrNull:
		ptr(ptrToSockCommon)
	case RetSocketOrNull:
		ptr(ptrToSocket)
	case RetTCPSockOrNull:
		ptr(ptrToTCPSock)
	case RetMemOrNull:
		ptr(ptrToMem)
		r0.aux = int32(m.proto.RetSize)
		if m.proto.RetSize == 0 {
			r0.aux = int32(m.retMemSize)
		}
	default:
		return e.reject(CodeInternal, "unknown return type %d of func %s#%d", m.proto.Ret, m.proto.Name, m.proto.ID)
	}
	if m.proto.Acquires {
		r0.ref = e.acquireRef()
		r0.id = r0.ref
	}
	return nil
}

// limitCPU bounds bpf_get_smp_processor_id's result where the number of slots is known.
func (e *env) limitCPU(r0 *reg) {
	if n := e.opt.CPUs; n > 0 {
		r0.Umax, r0.U32max = uint64(n-1), uint32(n-1)
		r0.Smin, r0.S32min, r0.Smax, r0.S32max = 0, 0, int64(n-1), int32(n-1)
		r0.Sync()
	}
}

// mapFits checks that map and helper go together (check_map_func_compatibility).
func (e *env) mapFits(id int32, m *callMeta) error {
	if m.mapIdx < 0 {
		return nil
	}
	t := e.prog.Maps[m.mapIdx].Type
	ok := true
	switch t {
	case ebpf.ProgramArray:
		ok = id == fnTailCall
	case ebpf.DevMap, ebpf.DevMapHash, ebpf.XSKMap:
		ok = id == fnRedirectMap || id == fnMapLookup
	case ebpf.CPUMap:
		ok = id == fnRedirectMap
	}
	switch id {
	case fnTailCall:
		ok = ok && t == ebpf.ProgramArray
	case fnRedirectMap:
		ok = ok && (t == ebpf.DevMap || t == ebpf.DevMapHash || t == ebpf.CPUMap || t == ebpf.XSKMap)
	case fnMapLookupPercpu:
		ok = ok && (t == ebpf.PerCPUArray || t == ebpf.PerCPUHash || t == ebpf.LRUCPUHash)
	}
	if ok && id == fnMapLookup && (t == ebpf.DevMap || t == ebpf.DevMapHash || t == ebpf.XSKMap) {
		return e.unsupported("lookups in maps of type %v", t)
	}
	if !ok {
		return e.reject(CodeCall, "cannot pass map_type %d into func bpf_%s#%d", t, m.proto.Name, id)
	}
	return nil
}
