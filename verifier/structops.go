package verifier

import (
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// This file is about programs that are methods of structures of the kernel (check_struct_ops_btf_id): which structures and members
// there are, what the methods get, and what they may return.

// opsKind is a structure whose methods can be programs.
type opsKind struct {
	socks bool // struct sock is struct tcp_sock there
	// without are members for which no program can be made; sleepers those whose programs may sleep, all of them if anySleeps.
	without, sleepers []string
	anySleeps         bool
	noHelpers         bool
}

var opsKinds = map[string]opsKind{
	"bpf_dummy_ops":      {sleepers: []string{"test_sleepable"}, noHelpers: true},
	"tcp_congestion_ops": {socks: true, anySleeps: true, without: []string{"get_info"}},
}

// structOpsTarget finds the method that a struct_ops program is: AttachTo is structure and member, with a colon between.
func (e *env) structOpsTarget() error {
	name, member, ok := strings.Cut(e.prog.AttachTo, ":")
	switch {
	case !gplCompatible(e.prog.License):
		return e.reject(CodeCall, "struct ops programs must have a GPL compatible license")
	case !ok:
		return e.unsupported("struct_ops programs that no structure refers to")
	}
	var s *btf.Struct
	if err := e.kernel.TypeByName(name, &s); err != nil {
		return e.noTarget("structure", name)
	}
	kind, ok := opsKinds[name]
	if !ok {
		return e.unsupported("methods of struct %s", name)
	}
	i := slices.IndexFunc(s.Members, func(m btf.Member) bool { return m.Name == member })
	if i < 0 {
		return e.noTarget("member", e.prog.AttachTo)
	}
	m := &s.Members[i]
	proto := funcPointer(m.Type)
	switch {
	case proto == nil:
		return e.reject(CodeBTF, "attach to invalid member %s(@idx %d) of struct %s", member, i, name)
	case slices.Contains(kind.without, member), e.sleepable() && !kind.anySleeps && !slices.Contains(kind.sleepers, member):
		return e.reject(CodeBTF, "attach to unsupported member %s of struct %s", member, name)
	}
	*e.target = target{name: member, proto: proto, trusted: true, socks: kind.socks, member: *m, args: e.stubArgs(name, member, proto)}
	return nil
}

// funcPointer returns the prototype that a pointer to a function has, nil for any other type.
func funcPointer(t btf.Type) *btf.FuncProto {
	p, ok := skipModifiers(t, true).(*btf.Pointer)
	if !ok {
		return nil
	}
	proto, _ := skipModifiers(p.Target, true).(*btf.FuncProto)
	return proto
}

// stubArgs are the arguments that the kernel's stub of a method describes by the names of its parameters (prepare_arg_info).
func (e *env) stubArgs(structure, member string, proto *btf.FuncProto) map[int]ctxArg {
	stub := e.kernelFunc(structure + "__" + member)
	if stub == nil || len(stub.Params) != len(proto.Params) {
		return nil
	}
	args := map[int]ctxArg{}
	off := 0
	for i := range stub.Params {
		if strings.HasSuffix(stub.Params[i].Name, "__nullable") {
			args[off] = ctxArg{typ: trustedOrNull}
		}
		off += argSlot(proto.Params[i].Type)
	}
	return args
}

// noHelpers reports whether programs for the structure have no helpers at all.
func (e *env) noHelpers() bool {
	if e.prog.Type != ebpf.StructOps {
		return false
	}
	name, _, _ := strings.Cut(e.prog.AttachTo, ":")
	return opsKinds[name].noHelpers
}
