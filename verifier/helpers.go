package verifier

import (
	"slices"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/bprintf"
	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/program"
)

// This file checks helper calls: the arguments against the prototype, maps against the helper, and what r0 is
// afterwards (check_helper_call).

// Helpers that the verifier treats specially, by number (enum bpf_func_id).
const (
	fnMapLookup        = 1
	fnMapUpdate        = 2
	fnMapDelete        = 3
	fnSmpProcessorID   = 8
	fnTailCall         = 12
	fnRedirectMap      = 51
	fnLocalStorage     = 81
	fnSkRelease        = 86
	fnMapPush          = 87
	fnMapPop           = 88
	fnMapPeek          = 89
	fnSkStorageGet     = 107
	fnSkStorageDelete  = 108
	fnDPath            = 147
	fnIMAInodeHash     = 161
	fnSnprintf         = 165
	fnFuncIP           = 173
	fnIMAFileHash      = 193
	fnMapLookupPercpu  = 195
	fnSpinLock         = 93
	fnSpinUnlock       = 94
	fnTimerSetCallback = 170
	fnDynptrFromMem    = 197
	fnDynptrWrite      = 202
)

// callMeta is what the arguments of one call say about each other and about the result.
type callMeta struct {
	proto      *HelperProto
	mapIdx     int   // -1 if no map was passed
	mapUID     int32 // tells maps of one template apart
	ref        uint32
	releaseOp  int
	fillOp     int // memory that the helper fills without reading it
	fillSize   int
	constKey   uint32
	hasKey     bool
	retMemSize int
	sizeMax    uint64 // the largest size that the helper can be given for memory
	callback   int    // the function passed
	kptr       *field // the pointer in a map's value or an object, or the list or tree
	async      asyncMap
	percpu     reg // the object of which every CPU has one

	dynptr              DynptrKind // the dynptr passed
	dynptrID, dynptrRef uint32
	movesPacket         bool
}

func (e *env) checkHelperCall(in isa.Insn) error {
	id := in.Imm
	h, err := e.callable(id)
	if err != nil {
		return err
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
	if h.ChangesPacket || m.movesPacket {
		e.dropPackets()
	}
	return nil
}

// callable returns the prototype of helper id if the program may call it.
func (e *env) callable(id int32) (*HelperProto, error) {
	if id == 0 {
		return nil, e.reject(CodeCall, "program of this type cannot use helper bpf_unspec#0")
	}
	h := e.helper(id)
	if h == nil {
		if n := isa.HelperName(id); n != "unknown" && n != "" {
			return nil, e.unsupported("helper %s#%d", n, id)
		}
		return nil, e.reject(CodeCall, "invalid func unknown#%d", id)
	}
	name := "bpf_" + h.Name
	h = e.protoFor(h)
	switch {
	case h == nil || e.lacksHelper(h.Name) || e.targetLacksHelper(h.Name):
		return nil, e.reject(CodeCall, "program of this type cannot use helper %s#%d", name, id)
	case h.GPLOnly && !gplCompatible(e.prog.License):
		return nil, e.reject(CodeCall, "cannot call GPL-restricted function from non-GPL compatible program")
	case !e.helperAllowed(id):
		return nil, e.reject(CodeCall, "helper call is not allowed in probe")
	case h.MightSleep && !e.sleepable():
		return nil, e.reject(CodeCall, "helper call might sleep in a non-sleepable prog")
	case h.Missing != "":
		return nil, e.unsupported("helper %s#%d: %s", name, id, h.Missing)
	}
	return h, e.helperSections(h)
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

const flagSleepable = 1 << 4 // BPF_F_SLEEPABLE

// gplCompatible is the kernel's license_is_gpl_compatible.
func gplCompatible(l string) bool {
	switch l {
	case "GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL":
		return true
	}
	return false
}

// releaseHelperRef gives up the reference that a releasing helper takes.
func (e *env) releaseHelperRef(m *callMeta) error {
	if m.releaseOp == 0 {
		return nil
	}
	if m.proto.Args[m.releaseOp-1].Kind == ArgDynptr {
		return e.releaseDynptr(m.releaseOp)
	}
	release := e.releaseRef
	if m.kptr != nil {
		release = e.xchgRelease
	}
	if m.ref != 0 && release(m.ref) || m.ref == 0 && e.st.fr().regs[m.releaseOp].isNull() {
		return nil
	}
	return e.reject(CodeReference, "func bpf_%s#%d reference has not been acquired before", m.proto.Name, m.proto.ID)
}

// noteMap keeps which map a call always gets, and known keys (record_func_map, record_func_key).
func (e *env) noteMap(id int32, m *callMeta) error {
	if m.mapIdx < 0 {
		return nil
	}
	mp := &e.maps[m.mapIdx]
	if readOnly(mp) && writesMap(id) {
		return e.reject(CodePermission, "write into map forbidden")
	}
	fact, a := &e.facts[e.insn], &e.aux[e.insn]
	switch {
	case m.mapIdx >= len(e.prog.Maps): // a map in a map: which one is known only when the program runs
		fact.Map, fact.HasConstKey = -1, false
		if at := int32(slices.Index(e.inner, int32(m.mapIdx))) + 1; !a.mapSeen || fact.InMap == at {
			fact.InMap = at
		} else {
			fact.InMap = 0
		}
	case !a.mapSeen:
		fact.Map = int32(m.mapIdx)
		fact.HasConstKey, fact.ConstKey = m.hasKey, m.constKey
	default:
		fact.InMap = 0
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

// writesMap reports whether helper id changes a map's values; pop takes one out of it.
func writesMap(id int32) bool {
	switch id {
	case fnMapUpdate, fnMapDelete, fnMapPush, fnMapPop:
		return true
	}
	return false
}

func (e *env) noteTailCall(mp *program.Map, seen bool) error {
	if mp.Type != ebpf.ProgramArray {
		return e.reject(CodeCall, "expected prog array map for tail call")
	}
	fact := &e.facts[e.insn]
	r := &e.st.fr().regs[isa.R3]
	k, ok := r.Known(false)
	if r.typ != scalarValue || !ok || k >= uint64(mp.MaxEntries) {
		fact.TailCallIndex = -1
		return nil
	}
	if seen && fact.TailCallIndex != int32(k) {
		fact.TailCallIndex = -1 // no one index, but each was looked at
	} else {
		fact.TailCallIndex = int32(k)
	}
	return e.markPrecise(int(isa.R3))
}

// checkSpecialHelper checks what only some helpers ask.
func (e *env) checkSpecialHelper(id int32, m *callMeta) error {
	switch id {
	case fnTailCall:
		return e.heldRefs("tail_call")
	case fnSnprintf:
		return e.checkSnprintf()
	case fnLocalStorage:
		if !e.st.fr().regs[isa.R2].isNull() {
			return e.reject(CodeCall, "get_local_storage() doesn't support non-zero flags")
		}
		return e.markPrecise(int(isa.R2))
	case fnFuncIP:
		switch {
		case e.prog.Type == ebpf.Tracing && !hasTrampoline(e.prog.Type, e.prog.AttachType):
			return e.reject(CodeCall, "func bpf_get_func_ip#173 supported only for fentry/fexit/fmod_ret programs")
		case e.prog.Type != ebpf.Kprobe && e.prog.Type != ebpf.Tracing:
			return e.reject(CodeCall, "func bpf_get_func_ip#173 not supported for program type %d", e.prog.Type)
		}
	}
	if m.proto.Callback != CallbackNone {
		return e.callCallback(m)
	}
	return e.dynptrHelper(id, m)
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
		switch {
		case m.proto.ID == fnSmpProcessorID:
			e.limitCPU(r0)
		case m.proto.RetLength:
			limitLength(r0, m.sizeMax)
		}
	case RetVoid:
		r0.setNotInit()
	case RetMapValueOrNull:
		if m.mapIdx < 0 {
			return e.reject(CodeInternal, "kernel subsystem misconfigured verifier")
		}
		ptr(ptrToMapValue)
		r0.aux, r0.rng = int32(m.mapIdx), m.mapUID
		if f := e.found(&e.maps[m.mapIdx]); f != ptrToMapValue && f != constPtrToMap {
			e.facts[e.insn].FindsSocket = true
		}
		if m.proto.ID == fnMapLookup && m.hasKey && e.elementExists(m) {
			// an element of an array at a known index inside it always exists
			r0.typ &^= maybeNull
			if !e.keepsID(r0) {
				r0.id = 0
				e.idGen--
			}
		}
	case RetMapValue:
		setPtr(r0, ptrToMapValue)
		r0.aux = int32(m.mapIdx)
		e.giveID(r0)
	case RetRingBufMemOrNull:
		ptr(ptrToMem | ringBuf)
		r0.aux = int32(m.retMemSize)
	case RetSockCommonOrNull:
		ptr(ptrToSockCommon)
	case RetSocketOrNull:
		ptr(ptrToSocket)
	case RetTCPSockOrNull:
		ptr(ptrToTCPSock)
	case RetStruct, RetStructTrusted, RetStructOrNull:
		return e.structResult(r0, m)
	case RetDynptrMemOrNull:
		ptr(ptrToMem)
		r0.aux, r0.rng, r0.ref = int32(m.retMemSize), int32(m.dynptrID), m.dynptrRef
	case RetMemOrNull:
		ptr(ptrToMem)
		r0.aux = int32(m.proto.RetSize)
		if m.proto.RetSize == 0 {
			r0.aux = int32(m.retMemSize)
		}
	case RetKptrOrNull:
		e.xchgResult(r0, m.kptr)
	case RetThisCPU, RetThisCPUOrNull:
		return e.perCPUResult(r0, &m.percpu, m.proto.Ret == RetThisCPUOrNull)
	default:
		return e.reject(CodeInternal, "unknown return type %d of func %s#%d", m.proto.Ret, m.proto.Name, m.proto.ID)
	}
	switch {
	case m.proto.Cast:
		r0.ref = m.ref
	case m.proto.Acquires, m.proto.ID == fnMapLookup && m.mapIdx >= 0 && hasFullSockets(e.maps[m.mapIdx].Type):
		r0.ref = e.acquireRef()
		r0.id = r0.ref
	}
	return nil
}

// elementExists reports whether a lookup at a known index finds an element whatever the map in the program's hands is: arrays in maps
// can be shorter than their template if that has BPF_F_INNER_MAP.
func (e *env) elementExists(m *callMeta) bool {
	mp := &e.maps[m.mapIdx]
	if !e.has(constantKeys) || m.mapIdx >= len(e.prog.Maps) && mp.Flags&flagInnerMap != 0 {
		return false
	}
	return m.constKey < mp.MaxEntries
}

const flagInnerMap = 1 << 12 // BPF_F_INNER_MAP

const maxErrno = 4095 // MAX_ERRNO

// limitLength bounds the length of what a helper wrote, or the error number in its place (do_refine_retval_range).
func limitLength(r0 *reg, size uint64) {
	r0.Smin, r0.S32min = -maxErrno, -maxErrno
	r0.Smax, r0.S32max = int64(size), int32(size)
	r0.Sync()
}

// limitCPU bounds bpf_get_smp_processor_id's result where the number of slots is known.
func (e *env) limitCPU(r0 *reg) {
	if n := e.opt.CPUs; n > 0 {
		r0.Umax, r0.U32max = uint64(n-1), uint32(n-1)
		r0.Smin, r0.S32min, r0.Smax, r0.S32max = 0, 0, int64(n-1), int32(n-1)
		r0.Sync()
	}
}
