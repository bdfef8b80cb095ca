package verifier

import (
	"slices"
	"strings"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/isa"
)

// This file checks the arguments of helpers against their prototypes; the checks of memory serve kfuncs and global
// functions too.

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
		return e.noLeak(isa.Reg(op), "R%d leaks addr into helper function")
	}
	if r.typ.isPacket() && !e.passesPacket(m.proto.PktAccess) {
		return e.reject(CodePermission, "helper access to the packet is not allowed")
	}
	if a, err = e.valueArg(a, m); err != nil {
		return err
	}
	null := r.isNull() && a.OrNull
	if null {
		if err := e.markPrecise(op); err != nil {
			return err
		}
	} else {
		if err := e.argType(op, a, m); err != nil {
			return err
		}
		release := m.proto.ReleaseArg == op && !(a.Kind == ArgDynptr && r.typ == ptrToStack) // a dynptr is released wherever it lies
		if err := e.argOffset(op, release); err != nil {
			return err
		}
	}
	if m.proto.ReleaseArg == op {
		if a.Kind == ArgDynptr {
			if err := e.releasableDynptr(op); err != nil {
				return err
			}
		} else if r.ref == 0 && !r.isNull() {
			return e.reject(CodeReference, "R%d must be referenced when passed to release function", op)
		}
		m.releaseOp = op
	}
	if r.ref != 0 && a.Kind != ArgKptrPlace {
		if m.ref != 0 {
			return e.reject(CodeInternal, "verifier internal error: more than one arg with ref_obj_id R%d %d %d", op, r.ref, m.ref)
		}
		m.ref = r.ref
	}
	return e.useArg(op, a, null, m)
}

// valueArg returns what an argument that is a map's value has to be for the map that was passed (resolve_map_arg_type): maps of
// sockets take sockets, and a look into a Bloom filter reads the value that it looks for.
func (e *env) valueArg(a *HelperArg, m *callMeta) (*HelperArg, error) {
	if a.Kind != ArgMapValue && a.Kind != ArgUninitMapValue {
		return a, nil
	}
	if m.mapIdx < 0 {
		return nil, e.reject(CodeType, "invalid map_ptr to access map->type")
	}
	changed := *a
	switch t := e.maps[m.mapIdx].Type; {
	case hasFullSockets(t) && (a.Kind != ArgMapValue || a.OrNull):
		return nil, e.reject(CodeType, "invalid arg_type for sockmap/sockhash")
	case hasFullSockets(t):
		changed.Kind = ArgSockPtr
	case t == ebpf.BloomFilter && m.proto.ID == fnMapPeek:
		changed.Kind = ArgMapValue
	}
	return &changed, nil
}

// memTypes are what can be passed as memory; the order is that of messages.
var memTypes = []regType{ptrToStack, ptrToPacket, ptrToPacketMeta, ptrToMapKey, ptrToMapValue, ptrToMem, ptrToMem | ringBuf, ptrToBuf,
	ptrToBTF | trusted}

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
	ArgFixedWriteMem:   memTypes,
	ArgSockPtr:         {ptrToSockCommon, ptrToSocket, ptrToTCPSock, ptrToXDPSock, ptrToBTF, ptrToBTF | trusted},
	ArgStruct:          {ptrToBTF, ptrToBTF | trusted, ptrToBTF | memRCU},
	ArgRingBufMem:      {ptrToMem | ringBuf},
	ArgConstSize:       {scalarValue},
	ArgConstSizeOrZero: {scalarValue},
	ArgConstAllocSize:  {scalarValue},
	ArgCtx:             {ptrToCtx},
	ArgSockCommon:      {ptrToSockCommon, ptrToSocket, ptrToTCPSock, ptrToXDPSock},
	ArgSocket:          {ptrToSocket},
	ArgConstStr:        {ptrToMapValue},
	ArgFunc:            {ptrToFunc},
	ArgStack:           {ptrToStack},
	ArgSpinLock:        {ptrToMapValue, ptrToBTF | memAlloc},
	ArgTimer:           {ptrToMapValue},
	ArgKptrPlace:       {ptrToMapValue, ptrToBTF | memAlloc},
	ArgPerCPU:          {ptrToBTF | percpu, ptrToBTF | percpu | memRCU, ptrToBTF | percpu | trusted},
	ArgDynptr:          {ptrToStack, constPtrToDynptr},

	ArgConstAllocSizeOrZero: {scalarValue},
}

// argType checks the type of an argument (check_reg_type).
func (e *env) argType(op int, a *HelperArg, m *callMeta) error {
	if a.Kind == ArgKptr {
		return e.xchgValue(op, m)
	}
	r := &e.st.fr().regs[op]
	t := r.typ
	if a.OrNull {
		t &^= maybeNull
	}
	if !writesArg(a.Kind) && !a.NotReadOnly {
		t &^= rdonly
	}
	if takesSlices(a.Kind) {
		t &^= sliceMask
	}
	want, ok := argTypes[a.Kind]
	if !ok {
		return e.reject(CodeInternal, "verifier internal error: unsupported arg type %d", a.Kind)
	}
	if !slices.Contains(want, t) {
		return e.reject(CodeType, "R%d type=%s expected=%s", op, r.typ, typeList(want))
	}
	if r.typ.base() == ptrToBTF {
		return e.structArg(op, a, m)
	}
	return nil
}

// typeList lists types as the kernel's messages do.
func typeList(want []regType) string {
	names := make([]string, len(want))
	for i, t := range want {
		names[i] = t.String()
	}
	return strings.Join(names, ", ")
}

// writesArg reports whether a helper may write the memory of such an argument.
func writesArg(k ArgKind) bool {
	switch k {
	case ArgUninitMapValue, ArgUninitMem, ArgFixedUninitMem, ArgFixedWriteMem, ArgWriteMem:
		return true
	}
	return false
}

// takesSlices reports whether slices of dynptrs are memory for such an argument as well (ARG_PTR_TO_MEM).
func takesSlices(k ArgKind) bool {
	switch k {
	case ArgMem, ArgUninitMem, ArgWriteMem, ArgFixedMem, ArgFixedUninitMem, ArgFixedWriteMem:
		return true
	}
	return false
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
		if !r.typ.mayBeNull() && r.typ&sliceMask == 0 {
			return nil
		}
	case ptrToBTF:
		switch r.typ &^ baseMask {
		case 0, memAlloc, trusted, memRCU, memAlloc | nonOwn, memAlloc | nonOwn | memRCU:
			return e.fixedOff(op, true)
		}
	}
	return e.fixedOff(op, false)
}

// useArg checks what an argument's kind asks beyond its type.
func (e *env) useArg(op int, a *HelperArg, null bool, m *callMeta) error {
	r := &e.st.fr().regs[op]
	kind := accessKind(writesArg(a.Kind))
	switch a.Kind {
	case ArgConstMapPtr:
		if err := e.sameMap(op, &m.async, "timer"); err != nil {
			return err
		}
		m.mapIdx, m.mapUID = int(r.aux), r.rng
	case ArgFunc:
		m.callback = int(r.aux)
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
		return e.useMem(op, int(e.maps[m.mapIdx].ValueSize), kind, false, bool(kind), m)
	case ArgFixedMem, ArgFixedUninitMem, ArgFixedWriteMem:
		if null {
			return nil
		}
		if err := e.useMem(op, a.Size, kind, false, a.Kind == ArgFixedUninitMem, m); err != nil {
			return err
		}
		if a.Align {
			return e.checkAlign(r, 0, a.Size, true)
		}
	case ArgConstSize, ArgConstSizeOrZero:
		prev := &m.proto.Args[op-2]
		w := accessKind(writesArg(prev.Kind))
		return e.sizeArg(op, op-1, w, a.Kind == ArgConstSizeOrZero, bool(w) && prev.Kind != ArgWriteMem, m)
	case ArgDynptr:
		return e.helperDynptr(op, a, m)
	case ArgConstAllocSize, ArgConstAllocSizeOrZero:
		if !r.Var.IsConst() {
			return e.reject(CodeType, "R%d is not a known constant'", op)
		}
		m.retMemSize = int(r.Var.Value)
		return e.markPrecise(op)
	case ArgConstStr:
		_, err := e.constString(op)
		return err
	case ArgSpinLock:
		return e.spinLockArg(op, m.proto.ID)
	case ArgTimer:
		if err := e.asyncField(op, fieldTimer, &m.async); err != nil {
			return err
		}
		m.mapIdx = int(m.async.idx)
	case ArgKptrPlace:
		return e.xchgPlace(op, m)
	case ArgPerCPU:
		m.percpu = *r
	}
	return nil
}

// useKey checks a map key and finds out whether it is a known index.
func (e *env) useKey(op int, m *callMeta) error {
	mp := &e.maps[m.mapIdx]
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
		if kind == accessWrite && !e.writesPacket() {
			return e.reject(CodePermission, "cannot write into packet")
		}
		return e.inPacket(op, off, size, zeroOK)
	case b == ptrToMapValue:
		if err := e.mapMayAccess(r, off, size, kind); err != nil {
			return err
		}
		return e.inMapValue(op, off, size, zeroOK, false)
	case b == ptrToMapKey:
		if kind == accessWrite {
			return e.reject(CodePermission, "%s cannot write into %s", operandName(op), r.typ)
		}
		return e.inRegion(op, off, size, int64(e.maps[r.aux].KeySize), false)
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
	case b == ptrToBuf:
		return e.checkBuf(op, off, size, kind)
	case b == ptrToBTF && isAllocated(r.typ):
		return e.checkStruct(op, off, size, kind)
	case b == ptrToBTF && (kind == accessRead || e.opt.Kernel618 != LikeUs):
		return e.checkStruct(op, off, size, accessRead)
	case b == ptrToCtx && (e.ctx.Plain() || e.target != nil):
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

// sizeArg checks a length in operand op for the memory in operand memOp (check_mem_size_reg).
func (e *env) sizeArg(op, memOp int, kind accessKind, zeroOK, raw bool, m *callMeta) error {
	r := &e.st.fr().regs[op]
	if m != nil {
		m.sizeMax = r.Umax
	}
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
	m := &e.maps[r.aux]
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
