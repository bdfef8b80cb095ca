package verifier

import (
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/isa"
)

// This file checks accesses of contexts that are the arguments of a function of the kernel (btf_ctx_access).

// ctxLoad is what a load from such a context gives.
type ctxLoad struct {
	typ    regType // scalarValue for numbers
	target btf.Type
	limits *[2]int32 // of a number, if they are known
}

// checkCtxBTF checks an access of the context at off, which is known.
func (e *env) checkCtxBTF(off, size int, kind accessKind) error {
	if off >= 0 && off < 8*isa.MaxFuncArgs && kind == accessRead && off%size == 0 {
		if _, ok := e.ctxArg(off, size, true); ok {
			e.maxCtx = max(e.maxCtx, off+size)
			return nil
		}
	}
	err := e.reject(CodePermission, "invalid bpf_context access off=%d size=%d", off, size)
	e.printLine(e.insn, "; ")
	return err
}

// loadCtxBTF gives d what is at off.
func (e *env) loadCtxBTF(d *reg, off, size int) {
	l, ok := e.ctxArg(off, size, false)
	switch {
	case !ok:
		return
	case l.typ == scalarValue:
		if l.limits != nil {
			d.Smin, d.Smax = int64(l.limits[0]), int64(l.limits[1])
			d.S32min, d.S32max = l.limits[0], l.limits[1]
			d.Sync()
		}
		return
	}
	setPtr(d, l.typ)
	if l.target != nil {
		d.aux = e.intern(l.target)
	}
	if l.typ.mayBeNull() {
		e.idGen++
		d.id = e.idGen
	}
}

// ctxArg finds out what a load of size bytes at off gives. With log, it says why not, and what it found.
func (e *env) ctxArg(off, size int, log bool) (l ctxLoad, ok bool) {
	say := func(format string, args ...any) {
		if log {
			e.log.printf(format, args...)
		}
	}
	t := e.target
	if off%8 != 0 {
		say("func '%s' offset %d is not multiple of 8\n", t.name, off)
		return l, false
	}
	i := t.argAt(off)
	count := len(t.proto.Params) - t.first
	l.typ = scalarValue
	var typ btf.Type
	switch {
	case i < count:
		typ = t.proto.Params[i+t.first].Type
	case i == count && e.seesResult():
		typ = t.proto.Return
		l.limits = e.resultLimits()
		if s := skipModifiers(typ, true); e.prog.AttachType == ebpf.AttachModifyReturn && !smallInt(s) {
			say("ret type %s not allowed for fmod_ret\n", kindName(s))
			return l, false
		}
	default:
		say("func '%s' doesn't have %d-th argument\n", t.name, i+1)
		return l, false
	}
	typ = skipModifiers(typ, true)
	switch typ.(type) {
	case *btf.Struct, *btf.Union:
		return l, true
	case *btf.Int, *btf.Enum:
		if _, isEnum := typ.(*btf.Enum); isEnum || smallInt(typ) {
			return l, true
		}
	}
	p, isPtr := typ.(*btf.Pointer)
	if !isPtr {
		say("func '%s' arg%d '%s' has type %s. Only pointer access is allowed\n", t.name, i, anon(typ.TypeName()), kindName(typ))
		return l, false
	}
	if size != 8 {
		say("func '%s' size %d must be 8\n", t.name, size)
		return l, false
	}
	return e.ctxPointer(p, i, off, say)
}

// ctxPointer is ctxArg for argument i, a pointer.
func (e *env) ctxPointer(p *btf.Pointer, i, off int, say func(string, ...any)) (l ctxLoad, ok bool) {
	t := e.target
	known, isKnown := t.args[off]
	if isKnown && known.typ.base() == ptrToBuf {
		l.typ = known.typ
		return l, true
	}
	l.typ = scalarValue
	to := skipModifiers(p.Target, true)
	if _, isInt := to.(*btf.Int); isInt || isVoid(to) {
		return l, true
	}
	if isKnown {
		l.typ, l.target = known.typ, to
		if known.target != "" {
			s, found := e.kernelStructType(known.target)
			if !found {
				return l, false
			}
			l.target = s
		}
		return l, true
	}
	l.typ = ptrToBTF
	switch {
	case t.nulls.untrusted(i):
		l.typ |= untrusted
	case t.trusted:
		l.typ |= trusted
	}
	if i+t.first < len(t.proto.Params) && strings.HasSuffix(t.proto.Params[i+t.first].Name, "__nullable") || t.nulls.mayBeNull(i) {
		l.typ |= maybeNull
	}
	l.typ |= tagFlag(p.Target) &^ memRCU
	if n, _, _ := composite(to); n < 0 {
		say("func '%s' arg%d type %s is not a struct\n", t.name, i, kindName(to))
		return l, false
	}
	id, _ := e.kernel.TypeID(to)
	say("func '%s' arg%d has btf_id %d type %s '%s'\n", t.name, i, id, kindName(to), anon(to.TypeName()))
	if t.nulls.mayBeError(i) {
		say("marking pointer arg%d as scalar as it may encode error", i)
		l.typ = scalarValue
		return l, true
	}
	l.target = to
	if t.socks && to.TypeName() == "sock" && l.typ&^(baseMask|trusted) == 0 {
		s, found := e.kernelStructType("tcp_sock")
		if !found {
			return l, false
		}
		l.target = s
	}
	return l, true
}

// argAt returns the number of the argument at off; behind all of them the result has the next number. A tracepoint's own first
// parameter counts for the offsets, as in the kernel: all of them take eight bytes (get_ctx_arg_idx).
func (t *target) argAt(off int) int {
	end := 0
	for i := range t.proto.Params {
		if end += argSlot(t.proto.Params[i].Type); off < end {
			return i
		}
	}
	if end += argSlot(t.proto.Return); off < end {
		return len(t.proto.Params)
	}
	return len(t.proto.Params) + 1
}

// argSlot is how many bytes of the context a value of t takes.
func argSlot(t btf.Type) int {
	n := argBytes(skipModifiers(t, true))
	return (max(n, 0) + 7) / 8 * 8
}

// seesResult reports whether the result of the function is behind its arguments in the context.
func (e *env) seesResult() bool {
	switch e.prog.AttachType {
	case ebpf.AttachLSMMac, ebpf.AttachLSMCgroup, ebpf.AttachTraceFExit, ebpf.AttachModifyReturn:
		return true
	}
	return false
}

// smallInt reports whether t is a number of 8 bytes at most (btf_type_is_small_int).
func smallInt(t btf.Type) bool {
	n, ok := t.(*btf.Int)
	return ok && n.Size <= 8
}

// kernelStructType finds a structure of the kernel by name.
func (e *env) kernelStructType(name string) (btf.Type, bool) {
	i, ok := e.kernelStruct(name)
	if !ok {
		return nil, false
	}
	return e.types[i], true
}

// checkBuf checks an access of a buffer whose size is known only where the program is attached (check_buffer_access).
func (e *env) checkBuf(op, off, size int, kind accessKind) error {
	r := &e.st.fr().regs[op]
	name := "rdwr"
	if r.typ&rdonly != 0 {
		name = "rdonly"
		if kind == accessWrite {
			return e.reject(CodePermission, "%s cannot write into %s", operandName(op), r.typ)
		}
	}
	switch {
	case off < 0:
		return e.reject(CodeBounds, "%s invalid %s buffer access: off=%d, size=%d", operandName(op), name, off, size)
	case !r.Var.IsConst() || r.Var.Value != 0:
		return e.reject(CodePointerMath, "%s invalid variable buffer offset: off=%d, var_off=%s", operandName(op), off, r.Var)
	}
	return nil
}

// resultLimits is the range of what the function that a program attaches to returns, nil if it is not known
// (get_func_retval_range).
func (e *env) resultLimits() *[2]int32 {
	if e.prog.Type != ebpf.LSM || e.prog.AttachType != ebpf.AttachLSMMac {
		return nil
	}
	lo, hi, ok := e.lsmRange()
	if !ok {
		return nil
	}
	return &[2]int32{int32(lo), int32(hi)}
}
