package verifier

import (
	"strings"

	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/program"
)

// Functions of the kernel on dynptrs (process_dynptr_func as check_kfunc_args calls it, check_kfunc_call for slices).

// dynptrMakers are the functions that make dynptrs of one kind; others that make one make a copy of their argument.
var dynptrMakers = map[string]DynptrKind{
	"bpf_dynptr_from_skb": DynptrSkb, "bpf_dynptr_from_skb_meta": DynptrSkbMeta, "bpf_dynptr_from_xdp": DynptrXDP,
}

// writesByKfunc reports whether a function writes to the dynptr that is its first argument.
func writesByKfunc(k *kfunc) bool {
	name := k.Name
	read := strings.HasPrefix(name, "bpf_probe_read_") || strings.HasPrefix(name, "bpf_copy_from_user_")
	return k.kernel && (name == "bpf_dynptr_copy" || name == "bpf_dynptr_memset" || read && strings.HasSuffix(name, "_dynptr"))
}

const (
	nameSlice     = "bpf_dynptr_slice"
	nameSliceRdwr = "bpf_dynptr_slice_rdwr"
)

// makesSlice reports whether the function returns a slice.
func (k *kfuncMeta) makesSlice() bool {
	return k.k.kernel && (k.k.Name == nameSlice || k.k.Name == nameSliceRdwr)
}

// Types in the prototypes.
var (
	tVoid   = &btf.Void{}
	tInt    = &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}
	tU8     = &btf.Int{Name: "unsigned char", Size: 1}
	tU32    = &btf.Int{Name: "unsigned int", Size: 4}
	tU64    = &btf.Int{Name: "unsigned long long", Size: 8}
	tBool   = &btf.Int{Name: "_Bool", Size: 1, Encoding: btf.Bool}
	tMem    = &btf.Pointer{Target: tVoid}
	tDynptr = &btf.Pointer{Target: &btf.Struct{Name: "bpf_dynptr", Size: 16}}
	tSkb    = &btf.Pointer{Target: &btf.Struct{Name: "__sk_buff", Members: []btf.Member{{Name: "sk", Type: tMem}}}} // not all numbers
	tXDP    = &btf.Pointer{Target: &btf.Struct{Name: "xdp_md"}}
)

// kernelProto is a prototype with parameters of these names, each of its type.
func kernelProto(ret btf.Type, names string, types ...btf.Type) *btf.FuncProto {
	p := &btf.FuncProto{Return: ret}
	for i, name := range strings.Fields(names) {
		p.Params = append(p.Params, btf.FuncParam{Name: name, Type: types[i]})
	}
	return p
}

var (
	sliceProto = kernelProto(tMem, "p offset buffer__opt buffer__szk", tDynptr, tU32, tMem, tU32)
	isProto    = kernelProto(tBool, "p", tDynptr)
)

func fromProto(ctx *btf.Pointer) *btf.FuncProto {
	return kernelProto(tInt, "ctx flags ptr__uninit", ctx, tU64, tDynptr)
}

// builtinProtos are the prototypes of functions that skep runs by itself, without the kernel's types. They are the kernel's: a
// program's declaration has no names, and the names of the parameters say what they are.
var builtinProtos = map[string]*btf.FuncProto{
	"bpf_dynptr_from_skb":  fromProto(tSkb),
	"bpf_dynptr_from_xdp":  fromProto(tXDP),
	nameSlice:              sliceProto,
	nameSliceRdwr:          sliceProto,
	"bpf_dynptr_adjust":    kernelProto(tInt, "p start end", tDynptr, tU32, tU32),
	"bpf_dynptr_is_null":   isProto,
	"bpf_dynptr_is_rdonly": isProto,
	"bpf_dynptr_size":      kernelProto(tU32, "p", tDynptr),
	"bpf_dynptr_clone":     kernelProto(tInt, "p clone__uninit", tDynptr, tDynptr),
	"bpf_dynptr_copy":      kernelProto(tInt, "dst_ptr dst_off src_ptr src_off size", tDynptr, tU32, tDynptr, tU32, tU32),
	"bpf_dynptr_memset":    kernelProto(tInt, "p offset size val", tDynptr, tU32, tU32, tU8),
	program.KfuncThrow:     kernelProto(tVoid, "cookie", tU64),
}

// builtinProto puts the kernel's prototype in the place of the program's declaration.
func (e *env) builtinProto(m *kfuncMeta) error {
	p := builtinProtos[m.k.Name]
	if p == nil || !m.k.kernel || !program.BuiltinKfunc(m.k.Name) {
		return nil
	}
	if !sameShape(m.proto, p) {
		return e.reject(CodeBTF, "kernel function %s is declared with another prototype", m.k.Name)
	}
	m.proto = p
	return nil
}

// sameShape reports whether two prototypes pass the same kinds of things in the same places: numbers and pointers, and what pointers
// to structures point to.
func sameShape(a, b *btf.FuncProto) bool {
	if len(a.Params) != len(b.Params) || !sameKind(a.Return, b.Return) {
		return false
	}
	for i := range a.Params {
		if !sameKind(a.Params[i].Type, b.Params[i].Type) {
			return false
		}
	}
	return true
}

func sameKind(a, b btf.Type) bool {
	a, b = btf.UnderlyingType(a), btf.UnderlyingType(b)
	p, isPtr := a.(*btf.Pointer)
	q, wantPtr := b.(*btf.Pointer)
	if isPtr != wantPtr {
		return false
	}
	if !isPtr {
		return isIntOrEnum(a) && isIntOrEnum(b) || isVoid(a) && isVoid(b)
	}
	return isDynptrType(p.Target) == isDynptrType(q.Target)
}

// kfuncDynptr checks a dynptr argument of a function of the kernel.
func (e *env) kfuncDynptr(k *kfuncArg, m *kfuncMeta) error {
	a := dynptrArg{uninit: suffix(k.p, "__uninit"), rdonly: e.st.fr().regs[k.op].typ == constPtrToDynptr}
	if a.uninit {
		if a.kind = dynptrMakers[m.k.Name]; a.kind == DynptrAny {
			a.kind, a.ref = m.dynptr, m.dynptrRef
		}
		if a.kind == DynptrAny {
			return e.unsupported("kfunc %s: dynptrs that it makes", m.k.Name)
		}
	}
	if err := e.useDynptr(k.op, a); err != nil || a.uninit {
		return err
	}
	r := e.dynptrAt(k.op)
	if k.i == 0 && writesByKfunc(m.k) && DynptrKind(r.aux).movesByWrite() {
		m.movesPacket = e.opt.Kernel618 == LikeUs // as bpf_dynptr_write does; the kernel (6.18) does not look
	}
	m.dynptr, m.dynptrID, m.dynptrRef = DynptrKind(r.aux), r.id, r.ref
	return nil
}

// sliceResult makes r0 a slice of the dynptr that was passed, as long as the constant says. It has the dynptr's reference: a slice
// of a record is not used when that was submitted. The kernel (6.18) leaves that out.
func (e *env) sliceResult(r0 *reg, m *kfuncMeta) error {
	if !m.hasConst || m.constant >= maxVarSize {
		return e.reject(CodeInternal, "verifier internal error: bpf_dynptr_slice(_rdwr) no constant size")
	}
	setPtr(r0, ptrToMem|m.dynptr.flag())
	r0.aux, r0.rng, r0.ref = int32(m.constant), int32(m.dynptrID), m.dynptrRef
	if m.k.Name == nameSlice {
		r0.typ |= rdonly
	} else if !e.writesPacket() {
		return e.reject(CodePermission, "the prog does not allow writes to packet data")
	}
	return nil
}
