package verifier

import (
	"strings"

	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/isa"
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
func (k *kfuncMeta) trustedArgs() bool {
	return k.flag(program.KfuncTrustedArgs | program.KfuncRelease)
}

// unmodelled reports whether the call of a kernel's function does more to the state than is known here. Those that have been done are
// not in this list; special has them all.
func unmodelled(name string) bool {
	for _, p := range []string{"bpf_iter_", "bpf_dynptr_", "bpf_obj_", "bpf_percpu_obj_", "bpf_list_", "bpf_rbtree_", "bpf_rcu_",
		"bpf_preempt_", "bpf_local_irq_", "bpf_res_spin_", "bpf_wq_", "bpf_arena_", "bpf_refcount_"} {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	switch name {
	case "bpf_throw", "bpf_cast_to_kern_ctx", "bpf_rdonly_cast", "bpf_session_cookie", "bpf_get_kmem_cache",
		"bpf_set_dentry_xattr", "bpf_remove_dentry_xattr", "bpf_stream_vprintk", "__bpf_trap":
		return true
	}
	return false
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
	if call := iterKfunc(k.Name); call != iterNone {
		return e.callIter(call, m)
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
	if m.flag(program.KfuncRelease) {
		if m.releaseOp == 0 {
			return e.reject(CodeReference, "release kernel function %s expects refcounted PTR_TO_BTF_ID", k.Name)
		}
		if !e.releaseRef(m.ref) {
			return e.reject(CodeReference, "kfunc %s#%d reference has not been acquired before", k.Name, in.Imm)
		}
	}
	fr := e.st.fr()
	fr.dropRegs()
	fr.dropStackArgs()
	e.scratchedRegs |= 1<<isa.R0 | argRegs
	return e.kfuncResult(m)
}

// checkKfuncArg checks argument i (from 0); skip says that it was a memory argument whose length, the next one, was
// checked with it.
func (e *env) checkKfuncArg(i int, m *kfuncMeta) (skip bool, err error) {
	p := &m.proto.Params[i]
	op := argOperand(i + 1)
	if suffix(p, "__ign") {
		return false, nil
	}
	if op < firstSlot {
		// what is not initialised says so as any read of it would
		if _, err := e.readReg(isa.Reg(op)); err != nil {
			return false, err
		}
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

func (e *env) kfuncPointer(i, op int, p *btf.FuncParam, ptr *btf.Pointer, m *kfuncMeta) (bool, error) {
	r := &e.st.fr().regs[op]
	trustedArgs := m.trustedArgs() || m.flag(program.KfuncRCU)
	nullable := suffix(p, "__nullable")
	if trustedArgs && (r.isNull() || r.typ.mayBeNull()) && !nullable {
		return false, e.reject(CodeNull, "Possibly NULL pointer passed to trusted %s", trustedName(i))
	}
	if r.ref != 0 {
		if m.flag(program.KfuncRelease) && m.ref != 0 {
			return false, e.reject(CodeInternal, "verifier internal error: more than one arg with ref_obj_id %s %d %d", operandName(op), r.ref, m.ref)
		}
		m.ref = r.ref
		if m.flag(program.KfuncRelease) {
			m.releaseOp = op
		}
	}
	if s := unsupportedSuffix(p); s != "" {
		return false, e.kfuncKind(op, m, s)
	}
	target := btf.UnderlyingType(ptr.Target)
	if s, ok := target.(*btf.Struct); ok && kernelStructs[s.Name] {
		return false, e.unsupported("kfunc %s: arguments of type struct %s", m.k.Name, s.Name)
	}
	if _, ok := target.(*btf.FuncProto); ok {
		return false, e.unsupported("kfunc %s: callback arguments", m.k.Name)
	}
	// With a length behind it, a pointer is to memory of that length, whatever its type. The kernel checks the type alone
	// of contexts and structures and leaves the length to the kfunc; a Go function has a slice of it.
	sized := m.sizeOf(i) != nil
	isCtx := e.isCtxType(ptr) && !sized
	switch {
	case isCtx:
	case nullable && r.isNull():
		return false, e.markPrecise(op)
	case r.typ.base() == ptrToBTF && !sized:
		return false, e.kfuncStruct(i, op, target, m)
	}
	if err := e.argOffset(op, m.flag(program.KfuncRelease) && r.ref != 0); err != nil {
		return false, err
	}
	if isCtx {
		if r.typ != ptrToCtx {
			return false, e.reject(CodeType, "%s expected pointer to ctx, but got %s", argName(i), r.typ)
		}
		return false, nil
	}
	return e.kfuncMem(i, op, target, m)
}

// trustedName is how messages about trusted arguments count: from 0 in registers, as 6.18 does.
func trustedName(i int) string {
	if i < isa.MaxRegArgs {
		return "arg" + itoa(i)
	}
	return operandName(argOperand(i + 1))
}

// kernelStructs are argument types with rules of their own, which come with their runtimes.
var kernelStructs = map[string]bool{"bpf_dynptr": true, "bpf_list_head": true, "bpf_list_node": true, "bpf_rb_root": true,
	"bpf_rb_node": true, "bpf_wq": true, "bpf_timer": true, "bpf_res_spin_lock": true, "bpf_task_work": true, "bpf_map": true,
	"bpf_prog_aux": true}

// unsupportedSuffix returns the suffix of a parameter whose kind this verifier does not know, "" if it knows it.
func unsupportedSuffix(p *btf.FuncParam) string {
	for _, s := range []string{"__alloc", "__refcounted_kptr", "__str", "__map", "__uninit", "__iter", "__irq_flag", "__prog",
		"__const_map", "__arena"} {
		if suffix(p, s) {
			return s
		}
	}
	return ""
}

// kfuncKind refuses an argument kind that is not known yet; two of them can never be stack arguments.
func (e *env) kfuncKind(op int, m *kfuncMeta, s string) error {
	if op >= firstSlot {
		switch s {
		case "__prog":
			return e.reject(CodeStackArgs, "%s prog->aux cannot be a stack argument", operandName(op))
		case "__arena":
			return e.reject(CodeStackArgs, "%s arena pointer cannot be a stack argument", operandName(op))
		}
	}
	return e.unsupported("kfunc %s: arguments with suffix %s", m.k.Name, s)
}

// kfuncStruct checks a pointer to a BTF structure against the parameter's type.
func (e *env) kfuncStruct(i, op int, target btf.Type, m *kfuncMeta) error {
	r := &e.st.fr().regs[op]
	want, ok := target.(*btf.Struct)
	if !ok {
		return e.reject(CodeType, "kernel function %s args#%d pointer type %s %s is not supported", m.k.Name, i, kindName(target), target.TypeName())
	}
	if r.typ&untrusted != 0 {
		return e.reject(CodeType, "%s must be referenced or trusted", operandName(op))
	}
	switch valid := isTrusted(r); {
	case !valid && m.flag(program.KfuncRCU):
		return e.reject(CodeType, "%s must be a rcu pointer", operandName(op))
	case !valid && m.trustedArgs():
		return e.reject(CodeType, "%s must be referenced or trusted", operandName(op))
	case r.typ.mayBeNull():
		return e.reject(CodeNull, "%s is %s expected %s or socket", argName(i), r.typ, r.typ&(baseMask|trusted))
	}
	release := m.flag(program.KfuncRelease) && r.ref != 0
	if err := e.argOffset(op, release); err != nil {
		return err
	}
	have := e.types[r.aux]
	if ok, why := typesMatch(have, int(r.off), want, release || nocastAlias(have, want), e.isKernelType(r.aux)); !ok {
		e.logMismatch(why)
		return e.reject(CodeType, "kernel function %s args#%d expected pointer to STRUCT %s but %s has a pointer to %s %s",
			m.k.Name, i, want.Name, operandName(op), kindName(have), have.TypeName())
	}
	return nil
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

// sizeOf returns the parameter behind parameter i if it is the length of the memory there, else nil.
func (m *kfuncMeta) sizeOf(i int) *btf.FuncParam {
	if i+1 >= len(m.proto.Params) {
		return nil
	}
	p := &m.proto.Params[i+1]
	if isIntOrEnum(btf.UnderlyingType(p.Type)) && (suffix(p, "__sz") || suffix(p, "__szk")) {
		return p
	}
	return nil
}

// kfuncMem checks a pointer to plain memory: of the parameter's own size, or of the length in the next argument.
func (e *env) kfuncMem(i, op int, target btf.Type, m *kfuncMeta) (bool, error) {
	next := m.sizeOf(i)
	_, void := target.(*btf.Void)
	if !scalarOnly(target) && !(next != nil && void) {
		or := ""
		if next != nil {
			or = "void, "
		}
		return false, e.reject(CodeType, "%s pointer type %s %s must point to %sscalar, or struct with scalar", argName(i), kindName(target), target.TypeName(), or)
	}
	if next == nil {
		size, err := btf.Sizeof(target)
		if err != nil || size < 0 {
			return false, e.reject(CodeBTF, "%s reference type('%s %s') size cannot be determined: -22", argName(i), kindName(target), target.TypeName())
		}
		return false, e.checkMemArg(op, size)
	}
	sizeOp := argOperand(i + 2)
	if sizeOp < firstSlot {
		if _, err := e.readReg(isa.Reg(sizeOp)); err != nil {
			return false, err
		}
	}
	size := &e.st.fr().regs[sizeOp]
	if size.typ != scalarValue {
		return false, e.reject(CodeType, "%s is not a scalar", operandName(sizeOp))
	}
	if r := &e.st.fr().regs[op]; !r.isNull() || !suffix(&m.proto.Params[i], "__opt") {
		if err := e.memPair(op, sizeOp); err != nil {
			return false, e.why(err, "%s %s memory, len pair leads to invalid memory access", argName(i), argName(i+1))
		}
	} else if err := e.markPrecise(op); err != nil {
		return false, err
	}
	if suffix(next, "__szk") {
		return true, e.kfuncConst(sizeOp, m)
	}
	return true, nil
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
	target := btf.UnderlyingType(ptr.Target)
	switch x := target.(type) {
	case *btf.Void:
		if !m.hasBuf {
			e.setUnknown(r0)
			return nil
		}
		setPtr(r0, ptrToMem)
	case *btf.Struct:
		setPtr(r0, ptrToBTF)
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
