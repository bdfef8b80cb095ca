package verifier

import (
	"strings"

	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/kernelkfunc"
	"github.com/skep-bpf/skep/internal/program"
)

// This file checks kfunc calls by their BTF prototypes. An argument is checked by its type wherever it lives: register or
// stack slot (check_kfunc_call, check_kfunc_args).

// kfuncMeta is what the arguments of one kfunc call say about each other and about the result.
type kfuncMeta struct {
	k         *kfunc
	proto     *btf.FuncProto
	ref       uint32
	releaseOp int
	hasConst  bool
	constant  uint64
	bufSize   uint64 // of the memory that the result points to
	hasBuf    bool
	bufRdonly bool
	iter      *stackSlot // the iterator among the arguments
	hasProg   bool       // the program itself is one of the arguments

	dynptr              DynptrKind // the dynptr among the arguments that was there before
	dynptrID, dynptrRef uint32
	movesPacket         bool
}

func kfuncProto(k *program.Kfunc) *btf.FuncProto {
	if k.Type == nil {
		return nil
	}
	p, _ := k.Type.Type.(*btf.FuncProto)
	return p
}

func (k *kfuncMeta) flag(f program.KfuncFlags) bool { return k.k.Flags&f != 0 }

// trustedArgs reports whether pointers to structures must be valid for certain; what is released always must
// (is_kfunc_trusted_args).
func (e *env) trustedArgs(k *kfuncMeta) bool {
	return k.flag(program.KfuncTrustedArgs|program.KfuncRelease) || k.k.kernel && e.has(trustedByDefault) && !k.flag(program.KfuncRCU)
}

func (e *env) checkKfuncCall(in isa.Insn) error {
	if in.Imm < 0 || int(in.Imm) >= len(e.kfuncs) {
		return e.reject(CodeCall, "kfunc index %d is out of range", in.Imm)
	}
	if in.Off != 0 {
		return e.unsupported("kfuncs of kernel modules")
	}
	k := &e.kfuncs[in.Imm]
	if err := e.callableKfunc(k); err != nil {
		return err
	}
	m := &kfuncMeta{k: k, proto: kfuncProto(&k.Kfunc)}
	if err := e.checkIterProto(k); err != nil {
		return err
	}
	if err := e.builtinProto(m); err != nil {
		return err
	}
	if f := fieldKfuncs[k.Name]; f != nil {
		return e.callField(f, m)
	}
	n := len(m.proto.Params)
	if n > isa.MaxFuncArgs {
		return e.reject(CodeStackArgs, "Function %s has %d > %d args", k.Name, n, isa.MaxFuncArgs)
	}
	if err := e.targetTakes("kfunc", k.Name, n); err != nil {
		return err
	}
	if err := e.needStackArgs(n); err != nil {
		return err
	}
	for i := 0; i < n; i++ {
		skip, err := e.checkKfuncArg(i, m)
		if err != nil {
			return err
		}
		if skip {
			i++
		}
	}
	if err := e.kfuncSections(m); err != nil {
		return err
	}
	if m.flag(program.KfuncRelease) {
		if m.releaseOp == 0 {
			return e.reject(CodeReference, "release kernel function %s expects refcounted PTR_TO_BTF_ID", k.Name)
		}
		if !e.releaseRef(m.ref) {
			return e.reject(CodeReference, "kfunc %s#%d reference has not been acquired before", k.Name, in.Imm)
		}
	}
	if err := e.throwValue(m); err != nil {
		return err
	}
	fr := e.st.fr()
	fr.dropRegs()
	fr.dropStackArgs()
	e.scratchedRegs |= 1<<isa.R0 | argRegs
	if changesPacket(k) || m.movesPacket {
		e.dropPackets()
	}
	if err := e.kfuncResult(m); err != nil || iterOf(k) != iterNext {
		return err
	}
	return e.nextElement(m.iter)
}

// checkKfuncArg checks argument i (from 0); skip says that it was a memory argument whose length, the next one, was
// checked with it.
func (e *env) checkKfuncArg(i int, m *kfuncMeta) (skip bool, err error) {
	p := &m.proto.Params[i]
	op := argOperand(i + 1)
	switch {
	case suffix(p, "__prog"):
		return false, e.kfuncProg(op, m)
	case suffix(p, "__ign"):
		return false, nil
	}
	if op < firstSlot {
		e.scratch(isa.Reg(op))
	}
	t := btf.UnderlyingType(p.Type)
	if isIntOrEnum(t) {
		return false, e.kfuncScalar(op, p, m)
	}
	ptr, ok := t.(*btf.Pointer)
	if !ok {
		return false, e.reject(CodeType, "Unrecognized %s type %s", argName(i), kindName(t))
	}
	return e.kfuncPointer(i, op, p, ptr, m)
}

func suffix(p *btf.FuncParam, s string) bool {
	return len(p.Name) > len(s) && strings.HasSuffix(p.Name, s)
}

func (e *env) kfuncScalar(op int, p *btf.FuncParam, m *kfuncMeta) error {
	r := &e.st.fr().regs[op]
	if r.typ != scalarValue {
		return e.reject(CodeType, "%s is not a scalar", operandName(op))
	}
	switch {
	case suffix(p, "__k"):
		return e.kfuncConst(op, m)
	case p.Name == "rdonly_buf_size", p.Name == "rdwr_buf_size":
		if m.hasBuf {
			return e.reject(CodeType, "2 or more rdonly/rdwr_buf_size parameters for kfunc")
		}
		if !r.Var.IsConst() {
			return e.reject(CodeType, "%s is not a const", operandName(op))
		}
		if r.Var.Value > 1<<31-1 {
			return e.reject(CodeBounds, "%s rdonly/rdwr_buf_size exceeds u32 max", operandName(op))
		}
		m.hasBuf, m.bufSize, m.bufRdonly = true, r.Var.Value, p.Name == "rdonly_buf_size"
		return e.markPrecise(op)
	}
	return nil
}

func (e *env) kfuncConst(op int, m *kfuncMeta) error {
	r := &e.st.fr().regs[op]
	if m.hasConst {
		return e.reject(CodeType, "verifier internal error: only one constant argument permitted")
	}
	if !r.Var.IsConst() {
		return e.reject(CodeType, "%s must be a known constant", operandName(op))
	}
	m.hasConst, m.constant = true, r.Var.Value
	return e.markPrecise(op)
}

// nocastAlias reports whether one of two structures is the other before it is complete, so that neither can stand for the other
// although they are alike (btf_type_ids_nocast_alias).
func nocastAlias(a, b btf.Type) bool {
	const suffix = "___init"
	x, y := a.TypeName(), b.TypeName()
	return x != y && (x+suffix == y || y+suffix == x)
}

func sameStruct(a, b *btf.Struct) bool {
	return a == b || a.Name != "" && a.Name == b.Name && a.Size == b.Size
}

// memPair checks memory in one operand with its length in another, for reading and writing
// (check_kfunc_mem_size_reg). A pointer that may be NULL is checked as if it were not: the kfunc sees the NULL.
func (e *env) memPair(op, sizeOp int) error {
	r := &e.st.fr().regs[op]
	if r.isNull() {
		// NULL goes with a length of zero only, and that is relied on
		if err := e.markPrecise(op); err != nil {
			return err
		}
	}
	typ := r.typ
	r.typ &^= maybeNull
	defer func() { r.typ = typ }()
	if err := e.sizeArg(sizeOp, op, accessRead, true, false, nil); err != nil {
		return err
	}
	return e.sizeArg(sizeOp, op, accessWrite, true, false, nil)
}

// checkMemArg checks that an operand points to size bytes that a callee may read and write, or is NULL (check_mem_reg).
func (e *env) checkMemArg(op, size int) error {
	r := &e.st.fr().regs[op]
	if r.isNull() {
		return e.markPrecise(op)
	}
	typ := r.typ
	r.typ &^= maybeNull
	defer func() { r.typ = typ }()
	if err := e.useMem(op, size, accessRead, true, false, nil); err != nil {
		return err
	}
	return e.useMem(op, size, accessWrite, true, false, nil)
}

// scalarOnly reports whether a type consists of numbers only (btf_type_is_scalar, __btf_type_is_scalar_struct).
func scalarOnly(t btf.Type) bool { return onlyScalars(t, 0, map[btf.Type]int{}) }

// onlyScalars is scalarOnly at a depth. seen has the depth, from 1, at which a structure was found to be of numbers: not as
// deep it is too, so that shared structures are looked at once for each depth at most.
func onlyScalars(t btf.Type, depth int, seen map[btf.Type]int) bool {
	t = btf.UnderlyingType(t)
	if isIntOrEnum(t) {
		return true
	}
	var members []btf.Member
	switch x := t.(type) {
	case *btf.Struct:
		members = x.Members
	case *btf.Union:
		members = x.Members
	default:
		return false
	}
	if seen[t] > depth {
		return true
	}
	if depth > 3 {
		return false
	}
	for _, m := range members {
		mt := btf.UnderlyingType(m.Type)
		if a, ok := mt.(*btf.Array); ok {
			if a.Nelems == 0 || !isIntOrEnum(btf.UnderlyingType(a.Type)) {
				return false
			}
			continue
		}
		if !onlyScalars(mt, depth+1, seen) {
			return false
		}
	}
	seen[t] = depth + 1
	return true
}

// kfuncResult sets r0 by the return type.
func (e *env) kfuncResult(m *kfuncMeta) error {
	r0 := &e.st.fr().regs[isa.R0]
	t := btf.UnderlyingType(m.proto.Return)
	ptr, isPtr := t.(*btf.Pointer)
	isStruct := false
	if isPtr {
		_, isStruct = btf.UnderlyingType(ptr.Target).(*btf.Struct)
	}
	if m.flag(program.KfuncAcquire) && !isStruct {
		return e.reject(CodeType, "acquire kernel function does not return PTR_TO_BTF_ID")
	}
	switch {
	case isIntOrEnum(t):
		e.setUnknown(r0)
		return nil
	case isPtr:
		return e.kfuncPointerResult(r0, ptr, m)
	}
	if _, void := t.(*btf.Void); void {
		r0.setNotInit()
		return nil
	}
	return e.reject(CodeType, "kernel function %s returns %s %s, which is not supported", m.k.Name, kindName(t), t.TypeName())
}

func (e *env) kfuncPointerResult(r0 *reg, ptr *btf.Pointer, m *kfuncMeta) error {
	if m.isCast() {
		return e.castResult(r0, m)
	}
	if m.k.kernel && m.k.Name == kfuncSessionCookie {
		m.hasBuf, m.bufSize = true, 8
	}
	target := btf.UnderlyingType(ptr.Target)
	switch x := target.(type) {
	case *btf.Void:
		if m.makesSlice() {
			if err := e.sliceResult(r0, m); err != nil {
				return err
			}
			break
		}
		if !m.hasBuf {
			e.setUnknown(r0)
			return nil
		}
		setPtr(r0, ptrToMem)
	case *btf.Struct:
		setPtr(r0, ptrToBTF|e.resultTrust(m))
		r0.aux = e.intern(x)
	default:
		setPtr(r0, ptrToMem)
	}
	if r0.typ == ptrToMem {
		if err := e.kfuncBuffer(r0, target, m); err != nil {
			return err
		}
	}
	if m.flag(program.KfuncRetNull) {
		r0.typ |= maybeNull
		e.idGen++
		r0.id = e.idGen
	}
	if m.flag(program.KfuncAcquire) {
		r0.ref = e.acquireRef()
		if m.flag(program.KfuncRetNull) {
			r0.id = r0.ref
		}
	}
	return nil
}

// resultTrust is how far a structure that a kfunc hands out can be relied on: what an iterator gives as far as the iterator.
func (e *env) resultTrust(m *kfuncMeta) regType {
	switch {
	case m.k.kernel && m.k.Name == "bpf_get_kmem_cache": // whatever lies at the address that it was given
		return untrusted
	case iterOf(m.k) != iterNext && m.flag(kernelkfunc.RCUProtected):
		return memRCU
	case iterOf(m.k) != iterNext:
		return 0
	case m.iter.spilled.typ&memRCU != 0:
		return memRCU
	}
	return trusted
}

// kfuncBuffer gives the result its size: that of the *_buf_size argument, or of the type, which is then read-only.
func (e *env) kfuncBuffer(r0 *reg, target btf.Type, m *kfuncMeta) error {
	size, ro := int(m.bufSize), m.bufRdonly
	if !m.hasBuf || size == 0 {
		n, err := btf.Sizeof(target)
		if err != nil || n <= 0 {
			return e.reject(CodeType, "kernel function %s returns pointer type %s %s is not supported", m.k.Name, kindName(target), target.TypeName())
		}
		size, ro = n, true
	}
	if size >= maxVarSize {
		return e.reject(CodeBounds, "kernel function %s returns %d bytes", m.k.Name, size)
	}
	r0.aux = int32(size)
	if ro {
		r0.typ |= rdonly
	}
	if !m.flag(program.KfuncRelease) {
		r0.ref = m.ref
	}
	return nil
}
