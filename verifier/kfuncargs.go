package verifier

import (
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/kernelkfunc"
	"github.com/skep-bpf/skep/internal/program"
)

// This file checks the pointers that kfuncs get. What a pointer must be follows from the parameter: the suffix of its name, the type it
// points to; only then from what the program passes (get_kfunc_ptr_arg_type, check_kfunc_args).

// kfuncArgKind is what a kfunc wants of a pointer (enum kfunc_ptr_arg_type).
type kfuncArgKind uint8

const (
	kfuncMem     kfuncArgKind = iota // plain memory of the size of its type
	kfuncMemSize                     // plain memory, with its length in the next argument
	kfuncCtx
	kfuncNull // NULL where it may be
	kfuncBTF  // a structure by BTF, or what stands for one (sockets, maps)
	kfuncMap
	kfuncConstStr
	kfuncCallback
	kfuncIter
	kfuncIRQFlag
	kfuncDynptr
	kfuncUnknown // a kind that this verifier does not know
)

// kfuncArg is one pointer argument of a call.
type kfuncArg struct {
	i, op  int
	p      *btf.FuncParam
	ptr    *btf.Pointer
	target btf.Type // what p points to, without modifiers
	kind   kfuncArgKind
}

// kfuncPointer checks a pointer argument; skip says that it was memory whose length, the next argument, was checked with it.
func (e *env) kfuncPointer(i, op int, p *btf.FuncParam, ptr *btf.Pointer, m *kfuncMeta) (skip bool, err error) {
	r := &e.st.fr().regs[op]
	if e.validArgs(m) && (r.isNull() || r.typ.mayBeNull()) && !mayBeNullArg(p, m) {
		return false, e.reject(CodeNull, "Possibly NULL pointer passed to trusted %s", trustedName(i))
	}
	if err := e.noteKfuncRef(op, m); err != nil {
		return false, err
	}
	a := &kfuncArg{i: i, op: op, p: p, ptr: ptr, target: btf.UnderlyingType(ptr.Target)}
	if a.kind, err = e.kfuncArgKind(a, m); err != nil {
		return false, err
	}
	switch a.kind {
	case kfuncNull:
		return false, e.markPrecise(op)
	case kfuncMap:
		if !hasMap(r) {
			return false, e.reject(CodeType, "pointer in %s isn't map pointer", operandName(op))
		}
		err = e.kfuncTrust(op, m)
	case kfuncBTF:
		err = e.kfuncTrust(op, m)
	}
	if err != nil {
		return false, err
	}
	if err := e.kfuncOffset(op, m); err != nil {
		return false, err
	}
	skip, err = e.useKfuncPointer(a, m)
	if err == nil && m.releaseOp == op && a.kind != kfuncBTF {
		return false, e.releasesMemory(m)
	}
	return skip, err
}

// mayBeNullArg reports whether a parameter may be NULL by its name; what is optional is so for functions of the kernel only.
func mayBeNullArg(p *btf.FuncParam, m *kfuncMeta) bool {
	return suffix(p, "__nullable") || m.k.kernel && suffix(p, "__opt")
}

// releasesMemory refuses to give up a reference by memory: a record of a ring buffer, a slice of one and the buffer of an object have
// references, too, and are not what the function handed out. The kernel (6.18) takes any memory where the structure is of numbers only.
func (e *env) releasesMemory(m *kfuncMeta) error {
	return e.reject(CodeReference, "release kernel function %s expects refcounted PTR_TO_BTF_ID", m.k.Name)
}

// kfuncOffset checks that a pointer is there, and moved only as far as its type allows.
func (e *env) kfuncOffset(op int, m *kfuncMeta) error {
	r := &e.st.fr().regs[op]
	if r.typ == notInit {
		return e.reject(CodeUninit, "variable ? access var_off=%s disallowed", unbound.Var)
	}
	return e.argOffset(op, m.flag(program.KfuncRelease) && r.ref != 0)
}

// validArgs reports whether pointers to structures must be valid in one way or the other.
func (e *env) validArgs(k *kfuncMeta) bool { return e.trustedArgs(k) || k.flag(program.KfuncRCU) }

// noteKfuncRef keeps the reference that an argument stands for, and which argument gives it up.
func (e *env) noteKfuncRef(op int, m *kfuncMeta) error {
	r := &e.st.fr().regs[op]
	if r.ref == 0 {
		return nil
	}
	if m.flag(program.KfuncRelease) && m.ref != 0 {
		return e.reject(CodeInternal, "verifier internal error: more than one arg with ref_obj_id %s %d %d", operandName(op), r.ref, m.ref)
	}
	m.ref = r.ref
	if m.flag(program.KfuncRelease) {
		m.releaseOp = op
	}
	return nil
}

// kfuncArgKind says what the parameter wants (get_kfunc_ptr_arg_type). For functions that whoever loads the program registered, a
// length behind a pointer wins over its type: the kernel checks the type alone of contexts and structures and leaves the length to the
// kfunc; a Go function has a slice of it.
func (e *env) kfuncArgKind(a *kfuncArg, m *kfuncMeta) (kfuncArgKind, error) {
	r := &e.st.fr().regs[a.op]
	sized := e.kfuncSize(a.i, m) != nil
	ours := sized && !m.k.kernel
	switch {
	case m.k.kernel && m.k.Name == kfuncKernCtx, e.isCtxType(a.ptr) && !ours:
		return kfuncCtx, nil
	case suffix(a.p, "__nullable") && r.isNull():
		return kfuncNull, nil
	case m.k.kernel && isDynptrType(a.target):
		return kfuncDynptr, nil
	case m.isIter(a):
		return kfuncIter, nil
	}
	switch s, _ := a.target.(*btf.Struct); {
	case suffix(a.p, "__str"):
		return kfuncConstStr, nil
	case suffix(a.p, "__map"):
		return kfuncMap, nil
	case suffix(a.p, "__irq_flag"):
		return kfuncIRQFlag, nil
	case unknownSuffix(a.p) != "", s != nil && (unknownStructs[s.Name] || !m.k.kernel && kernelOnly[s.Name]):
		return kfuncUnknown, nil
	case !ours && (r.typ.base() == ptrToBTF || m.k.kernel && e.kernelStructOf(r.typ) != ""):
		if !isComposite(a.target) {
			return 0, e.reject(CodeType, "kernel function %s args#%d pointer type %s %s is not supported", m.k.Name, a.i, kindName(a.target), a.target.TypeName())
		}
		return kfuncBTF, nil
	}
	if _, ok := a.target.(*btf.FuncProto); ok {
		return kfuncCallback, nil
	}
	return e.kfuncMemKind(a, sized)
}

// kfuncMemKind is what is left: memory, which must be numbers only, as it comes from the program.
func (e *env) kfuncMemKind(a *kfuncArg, sized bool) (kfuncArgKind, error) {
	_, void := a.target.(*btf.Void)
	if !scalarOnly(a.target) && !(sized && void) {
		or := ""
		if sized {
			or = "void, "
		}
		return 0, e.reject(CodeType, "%s pointer type %s %s must point to %sscalar, or struct with scalar", argName(a.i), kindName(a.target), a.target.TypeName(), or)
	}
	if sized {
		return kfuncMemSize, nil
	}
	return kfuncMem, nil
}

func isComposite(t btf.Type) bool {
	switch t.(type) {
	case *btf.Struct, *btf.Union:
		return true
	}
	return false
}

// isIter reports whether an argument is an iterator on the stack (is_kfunc_arg_iter).
func (k *kfuncMeta) isIter(a *kfuncArg) bool {
	if k.flag(kernelkfunc.Iter) {
		return a.i == 0
	}
	return suffix(a.p, "__iter")
}

// unknownStructs are argument types with rules of their own, which come with their runtimes.
var unknownStructs = map[string]bool{"bpf_list_head": true, "bpf_list_node": true, "bpf_rb_root": true,
	"bpf_rb_node": true, "bpf_wq": true, "bpf_timer": true, "bpf_res_spin_lock": true, "bpf_task_work": true}

// kernelOnly are structures that only the kernel's own functions can get.
var kernelOnly = map[string]bool{"bpf_map": true, "bpf_prog_aux": true, "bpf_dynptr": true}

// unknownSuffix returns the suffix of a parameter whose kind this verifier does not know, "" if it knows it.
func unknownSuffix(p *btf.FuncParam) string {
	for _, s := range []string{"__alloc", "__refcounted_kptr", "__uninit", "__const_map", "__arena"} {
		if suffix(p, s) {
			return s
		}
	}
	return ""
}

// kfuncSize returns the parameter behind parameter i if it is the length of the memory there and the program passes a number for it,
// else nil (is_kfunc_arg_mem_size).
func (e *env) kfuncSize(i int, m *kfuncMeta) *btf.FuncParam {
	if i+1 >= len(m.proto.Params) {
		return nil
	}
	p := &m.proto.Params[i+1]
	if !isIntOrEnum(btf.UnderlyingType(p.Type)) || !suffix(p, "__sz") && !suffix(p, "__szk") {
		return nil
	}
	if m.k.kernel && e.st.fr().regs[argOperand(i+2)].typ != scalarValue {
		return nil
	}
	return p
}

// hasMap reports whether the kernel finds a map in what it keeps of a register. It looks for one in a place that it uses for other things
// with other pointers; what those are is checked after that.
func hasMap(r *reg) bool {
	switch b := r.typ.base(); {
	case r.typ.isMapPointer(), b == ptrToBTF, b == ptrToFunc:
		return true
	case r.typ.isPacketAny():
		return r.rng != 0
	case b == ptrToMem, b == ptrToStack:
		return r.aux != 0
	}
	return false
}

// kernelStructOf is the structure of the kernel that a pointer of another kind stands for, "" if there is none (reg2btf_ids).
func (e *env) kernelStructOf(t regType) string {
	switch t.base() {
	case constPtrToMap:
		return "bpf_map"
	case ptrToSocket:
		return "sock"
	case ptrToSockCommon:
		return "sock_common"
	case ptrToTCPSock:
		return "tcp_sock"
	}
	return ""
}

// safeFlags are those that make a pointer to a structure trusted (BPF_REG_TRUSTED_MODIFIERS).
const safeFlags = trusted | memAlloc | nonOwn

// kfuncTrust checks that what a kfunc is to rely on can be relied on (is_trusted_reg, is_rcu_reg).
func (e *env) kfuncTrust(op int, m *kfuncMeta) error {
	r := &e.st.fr().regs[op]
	flags := r.typ &^ baseMask
	switch {
	case !e.validArgs(m), r.ref != 0:
	case e.kernelStructOf(r.typ) != "" && flags&^safeFlags == 0:
	case flags&safeFlags != 0 && flags&^safeFlags == 0:
	case !m.flag(program.KfuncRCU):
		return e.reject(CodeType, "%s must be referenced or trusted", operandName(op))
	case r.typ&memRCU == 0:
		return e.reject(CodeType, "%s must be a rcu pointer", operandName(op))
	}
	return nil
}

// useKfuncPointer checks a pointer against what its parameter wants.
func (e *env) useKfuncPointer(a *kfuncArg, m *kfuncMeta) (skip bool, err error) {
	r := &e.st.fr().regs[a.op]
	switch a.kind {
	case kfuncCtx:
		if r.typ != ptrToCtx {
			return false, e.reject(CodeType, "%s expected pointer to ctx, but got %s", argName(a.i), r.typ)
		}
		return false, nil
	case kfuncMem:
		size, err := btf.Sizeof(a.target)
		if err != nil || size < 0 {
			return false, e.reject(CodeBTF, "%s reference type('%s %s') size cannot be determined: -22", argName(a.i), kindName(a.target), a.target.TypeName())
		}
		return false, e.checkMemArg(a.op, size)
	case kfuncMemSize:
		return true, e.kfuncSizedMem(a, m)
	case kfuncBTF:
		return false, e.kfuncStruct(a, a.target, m)
	case kfuncMap:
		return false, e.kfuncMapArg(a, m)
	case kfuncIter:
		return false, e.kfuncIterArg(a, m)
	case kfuncIRQFlag:
		return false, e.kfuncIRQ(a, m)
	case kfuncDynptr:
		return false, e.kfuncDynptr(a, m)
	case kfuncConstStr:
		if r.typ != ptrToMapValue {
			return false, e.reject(CodeType, "%s doesn't point to a const string", argName(a.i))
		}
		_, err := e.constString(a.op)
		return false, err
	}
	return false, e.unknownKfuncArg(a, m)
}

// unknownKfuncArg refuses an argument kind that is not known; one of them can never be a stack argument.
func (e *env) unknownKfuncArg(a *kfuncArg, m *kfuncMeta) error {
	s := unknownSuffix(a.p)
	if s == "__arena" && a.op >= firstSlot {
		return e.reject(CodeStackArgs, "%s arena pointer cannot be a stack argument", operandName(a.op))
	}
	switch {
	case s != "":
		return e.unsupported("kfunc %s: arguments with suffix %s", m.k.Name, s)
	case a.kind == kfuncCallback:
		return e.unsupported("kfunc %s: callback arguments", m.k.Name)
	}
	return e.unsupported("kfunc %s: arguments of type struct %s", m.k.Name, a.target.TypeName())
}

// kfuncProg accepts an argument that is the program itself, whatever the program passes: the kernel puts it there. Functions of skep
// get no such thing.
func (e *env) kfuncProg(op int, m *kfuncMeta) error {
	switch {
	case op >= firstSlot:
		return e.reject(CodeStackArgs, "%s prog->aux cannot be a stack argument", operandName(op))
	case m.hasProg:
		return e.reject(CodeType, "Only 1 prog->aux argument supported per-kfunc")
	}
	m.hasProg = true
	return nil
}

// kfuncMapArg checks a map, which is a structure of the kernel like others.
func (e *env) kfuncMapArg(a *kfuncArg, m *kfuncMeta) error {
	r := &e.st.fr().regs[a.op]
	switch {
	case m.k.kernel:
	case r.typ == constPtrToMap:
		return nil
	default: // there is no structure of the kernel that it could be
		return e.reject(CodeType, "%s is %s expected %s or socket", argName(a.i), r.typ, r.typ&(baseMask|safeFlags))
	}
	var want *btf.Struct
	if err := e.kernelTypes().TypeByName("bpf_map", &want); err != nil {
		return e.reject(CodeBTF, "the kernel's types have no struct bpf_map")
	}
	return e.kfuncStruct(a, want, m)
}

// trustedName is how messages about trusted arguments count: from 0 in registers, as 6.18 does.
func trustedName(i int) string {
	if i < isa.MaxRegArgs {
		return "arg" + itoa(i)
	}
	return operandName(argOperand(i + 1))
}

// kfuncStruct checks a pointer to a structure against the parameter's type (process_kf_arg_ptr_to_btf_id).
func (e *env) kfuncStruct(a *kfuncArg, target btf.Type, m *kfuncMeta) error {
	r := &e.st.fr().regs[a.op]
	stands := ""
	if m.k.kernel {
		stands = e.kernelStructOf(r.typ)
	}
	unsafe := r.typ&^(baseMask|safeFlags) != 0 && r.typ&memRCU == 0
	if (r.typ.base() != ptrToBTF || unsafe) && stands == "" {
		return e.reject(CodeNull, "%s is %s expected %s or socket", argName(a.i), r.typ, r.typ&(baseMask|safeFlags))
	}
	var have btf.Type
	if stands == "" {
		have = e.types[r.aux]
	} else {
		var s *btf.Struct
		if err := e.kernelTypes().TypeByName(stands, &s); err != nil {
			return e.reject(CodeBTF, "the kernel's types have no struct %s", stands)
		}
		have = s
	}
	strict := m.flag(program.KfuncRelease) && r.ref != 0 || nocastAlias(have, target)
	ok, why := typesMatch(have, int(r.off), target, strict, stands != "" || e.isKernelType(r.aux))
	view, isView := projections[target.TypeName()]
	// an object of the program is never one of the kernel, whatever its type is called
	theirs := m.k.kernel && stands == "" && !e.isKernelType(r.aux)
	if !ok {
		e.logMismatch(why) // also of a view, which is only thought of then
	}
	if (ok || isView && view == have.TypeName()) && !theirs {
		return nil
	}
	return e.reject(CodeType, "kernel function %s args#%d expected pointer to %s %s but %s has a pointer to %s %s",
		m.k.Name, a.i, kindName(target), target.TypeName(), operandName(a.op), kindName(have), have.TypeName())
}

// kfuncSizedMem checks memory whose length is the next argument.
func (e *env) kfuncSizedMem(a *kfuncArg, m *kfuncMeta) error {
	sizeOp := argOperand(a.i + 2)
	if sizeOp < firstSlot {
		e.scratch(isa.Reg(sizeOp))
	}
	if size := &e.st.fr().regs[sizeOp]; size.typ != scalarValue {
		return e.reject(CodeType, "%s is not a scalar", operandName(sizeOp))
	}
	if r := &e.st.fr().regs[a.op]; !r.isNull() || !suffix(a.p, "__opt") {
		if err := e.memPair(a.op, sizeOp); err != nil {
			return e.why(err, "%s %s memory, len pair leads to invalid memory access", argName(a.i), argName(a.i+1))
		}
	} else if err := e.markPrecise(a.op); err != nil {
		return err
	}
	if suffix(&m.proto.Params[a.i+1], "__szk") {
		return e.kfuncConst(sizeOp, m)
	}
	return nil
}
