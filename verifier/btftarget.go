package verifier

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/isa"
)

// Programs of some types get the arguments of what they attach to as their context. This file finds that function in the types of the
// kernel (bpf_check_attach_target, check_struct_ops_btf_id); btfctx.go checks what is read of its arguments.

// target is what a program attaches to.
type target struct {
	name  string // in messages
	proto *btf.FuncProto
	first int // parameters in front that programs do not see
	// args are arguments of which more is known than their type says, by offset (ctx_arg_info).
	args map[int]ctxArg
	// trusted: pointers to structures are valid while the program runs (prog_args_trusted).
	trusted bool
	// nulls says for each pointer of a tracepoint whether it may be NULL or an error number in its place.
	nulls nullArgs
	// socks: struct sock is shown as struct tcp_sock.
	socks bool
	// member is, of a struct_ops program, the member of the structure that it is for.
	member btf.Member
}

// ctxArg is what an argument of the context is.
type ctxArg struct {
	typ    regType
	target string // the structure that it points to, if the function's prototype does not say
}

// byBTF reports whether the context of the program's type is described by types of the kernel.
func byBTF(t ebpf.ProgramType) bool {
	switch t {
	case ebpf.Tracing, ebpf.LSM, ebpf.StructOps:
		return true
	}
	return false
}

// findTarget finds what the program attaches to.
func (e *env) findTarget() error {
	if !byBTF(e.prog.Type) {
		return nil
	}
	if e.kernelTypes() == nil {
		return e.unsupported("programs of type %v: the types of the kernel are not known", e.prog.Type)
	}
	if e.prog.AttachTo == "" && e.prog.Type != ebpf.StructOps {
		return e.reject(CodeBTF, "Tracing programs must provide btf_id")
	}
	e.target = &target{}
	switch {
	case e.prog.Type == ebpf.StructOps:
		return e.structOpsTarget()
	case e.prog.Type == ebpf.LSM:
		return e.lsmTarget()
	}
	switch e.prog.AttachType {
	case ebpf.AttachTraceRawTp:
		return e.tracepointTarget()
	case ebpf.AttachTraceIter:
		return e.iterTarget()
	case ebpf.AttachTraceFEntry, ebpf.AttachTraceFExit, ebpf.AttachModifyReturn:
		return e.functionTarget()
	}
	return e.reject(CodeCall, "programs of type %v cannot have the expected attach type %v", e.prog.Type, e.prog.AttachType)
}

// noTarget rejects a target that the kernel does not have; no loader gets as far as the kernel's verifier with it.
func (e *env) noTarget(what, name string) error {
	return e.reject(CodeBTF, "attach target %s: the kernel has no such %s", name, what)
}

// kernelFunc returns the prototype of a function of the kernel, nil if there is none. Of several of one name it is the first, as
// for loaders.
func (e *env) kernelFunc(name string) *btf.FuncProto {
	types, err := e.kernel.AnyTypesByName(name)
	if err != nil {
		return nil
	}
	for _, t := range types {
		if f, ok := t.(*btf.Func); ok {
			proto, _ := f.Type.(*btf.FuncProto)
			return proto
		}
	}
	return nil
}

// tracepointTarget: the arguments of a raw tracepoint are those of its typedef, behind a pointer of the kernel's own. Where the
// function that has the typedef's type is there, its parameters have names.
func (e *env) tracepointTarget() error {
	name := e.prog.AttachTo
	var def *btf.Typedef
	if err := e.kernel.TypeByName("btf_trace_"+name, &def); err != nil {
		return e.noTarget("tracepoint", name)
	}
	p, ok := def.Type.(*btf.Pointer)
	if !ok {
		return e.noTarget("tracepoint", name)
	}
	proto, ok := p.Target.(*btf.FuncProto)
	if !ok {
		return e.noTarget("tracepoint", name)
	}
	if named := e.kernelFunc("__bpf_trace_" + name); named != nil && len(named.Params) == len(proto.Params) {
		proto = named
	}
	nulls := rawTracepointNulls[name]
	if e.has(tracepointErrors) {
		nulls |= laterTracepointNulls[name]
	}
	*e.target = target{name: name, proto: proto, first: 1, trusted: true, nulls: nulls}
	return nil
}

// functionTarget: fentry, fexit and fmod_ret programs.
func (e *env) functionTarget() error {
	name := e.prog.AttachTo
	proto := e.kernelFunc(name)
	if proto == nil {
		return e.noTarget("function", name)
	}
	if err := e.distill(name, proto); err != nil {
		return err
	}
	*e.target = target{name: name, proto: proto}
	return e.mayAttach(name)
}

// distill checks that a trampoline can be made for a function (btf_distill_func_proto).
func (e *env) distill(name string, proto *btf.FuncProto) error {
	if len(proto.Params) > isa.MaxFuncArgs {
		return e.reject(CodeBTF, "The function %s has %d arguments. Too many.", name, len(proto.Params))
	}
	ret := skipModifiers(proto.Return, true)
	if n := argBytes(ret); n < 0 && !isVoid(ret) || isComposite(ret) {
		return e.reject(CodeBTF, "The function %s return type %s is unsupported", name, kindName(ret))
	}
	for i := range proto.Params {
		t := skipModifiers(proto.Params[i].Type, true)
		switch n := argBytes(t); {
		case isVoid(t) && i == len(proto.Params)-1:
			return e.reject(CodeBTF, "The function %s with variable args is unsupported", name)
		case n < 0 || n > 16:
			return e.reject(CodeBTF, "The function %s arg%d type %s is unsupported", name, i, kindName(t))
		case n == 0:
			return e.reject(CodeBTF, "The function %s has malformed void argument", name)
		}
	}
	return nil
}

// argBytes is the size of an argument of t, which has no modifiers in front; -1 for what is none (__get_type_size).
func argBytes(t btf.Type) int {
	switch x := t.(type) {
	case *btf.Pointer:
		return 8
	case *btf.Int:
		return int(x.Size)
	case *btf.Enum:
		return int(x.Size)
	case *btf.Struct:
		return int(x.Size)
	case *btf.Union:
		return int(x.Size)
	}
	return -1
}

func isVoid(t btf.Type) bool {
	_, ok := t.(*btf.Void)
	return ok
}

// returnsNothing reports whether the function returns nothing.
func (t *target) returnsNothing() bool { return isVoid(t.proto.Return) }
