package verifier

import (
	"slices"
	"strings"

	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/program"
)

// This file is about the tags by which a function says more of a parameter than its type does (btf_prepare_func_args).

// argTags is a set of them.
type argTags uint8

const (
	tagCtx argTags = 1 << iota
	tagNonnull
	tagArena
	tagTrusted
	tagNullable
	tagUntrusted
)

var tagNames = map[string]argTags{
	"arg:ctx": tagCtx, "arg:nonnull": tagNonnull, "arg:arena": tagArena, "arg:trusted": tagTrusted, "arg:nullable": tagNullable,
	"arg:untrusted": tagUntrusted,
}

// readTags reads the tags of parameter i; others than those of arguments do not count.
func (e *env) readTags(fn *program.Func, i int, tags []string) (set argTags, err error) {
	for _, tag := range tags {
		if !strings.HasPrefix(tag, "arg:") {
			continue
		}
		if !fn.Global {
			return 0, e.reject(CodeBTF, "arg#%d type tag is not supported in static functions", i)
		}
		t, ok := tagNames[tag]
		if !ok || t == tagUntrusted && !e.has(untrustedMemory) {
			return 0, e.reject(CodeBTF, "arg#%d has unsupported set of tags", i)
		}
		set |= t
	}
	return set, nil
}

// trustedArg is a parameter that is a valid pointer to a structure of the kernel.
func (e *env) trustedArg(i int, target btf.Type, set argTags) (argInfo, error) {
	if set&tagNonnull != 0 {
		return argInfo{}, e.reject(CodeBTF, "arg#%d has invalid combination of tags", i)
	}
	t, err := e.sameInKernel(i, target)
	if err != nil {
		return argInfo{}, err
	}
	return argInfo{kind: argStruct, nullable: set&tagNullable != 0, typ: t}, nil
}

// untrustedArg is a parameter that can be any number.
func (e *env) untrustedArg(i int, target btf.Type, set argTags) (argInfo, error) {
	if set != tagUntrusted {
		return argInfo{}, e.reject(CodeBTF, "arg#%d untrusted cannot be combined with any other tags", i)
	}
	if isVoid(target) || isIntOrEnum(target) {
		return argInfo{kind: argUntrusted, typ: -1}, nil
	}
	t, err := e.sameInKernel(i, target)
	if err != nil {
		return argInfo{}, err
	}
	if k := e.types[t]; !isComposite(k) {
		return argInfo{}, e.reject(CodeBTF, "arg#%d has type %s '%s', but only struct or primitive types are allowed", i, kindName(k), anon(k.TypeName()))
	}
	return argInfo{kind: argUntrusted, typ: t}, nil
}

// sameInKernel finds the kernel's type of the name of one of the program's, whose name may have a flavor behind three underscores
// (btf_get_ptr_to_btf_id).
func (e *env) sameInKernel(i int, t btf.Type) (int32, error) {
	spec := e.kernelTypes()
	if spec == nil {
		return 0, e.unsupported("parameters that are structures of the kernel: the types of the kernel are not known")
	}
	name, _, _ := strings.Cut(t.TypeName(), "___")
	types, _ := spec.AnyTypesByName(name)
	var same []btf.Type
	for _, k := range types {
		if name != "" && kindName(k) == kindName(t) {
			same = append(same, k)
		}
	}
	switch {
	case name == "":
		return 0, e.reject(CodeBTF, "arg#%d reference type('%s %s') candidate matching error: -22", i, kindName(t), anon(t.TypeName()))
	case len(same) == 0:
		return 0, e.reject(CodeBTF, "arg#%d reference type('%s %s') has no matches", i, kindName(t), anon(t.TypeName()))
	case len(same) > 1:
		return 0, e.reject(CodeBTF, "arg#%d reference type('%s %s') is ambiguous", i, kindName(t), anon(t.TypeName()))
	}
	return e.intern(same[0]), nil
}

// matchStruct checks what is passed for a trusted parameter: as a helper's argument of that type.
func (e *env) matchStruct(op int, a argInfo) error {
	if a.nullable && e.st.fr().regs[op].isNull() {
		return nil
	}
	r := &e.st.fr().regs[op]
	t := r.typ
	if a.nullable {
		t &^= maybeNull
	}
	if e.has(trustedByDefault) && (t.base() != ptrToBTF || !isTrusted(&reg{typ: t, ref: r.ref})) {
		return e.reject(CodeType, "R%d must be referenced or trusted", op)
	}
	if want := argTypes[ArgStruct]; !slices.Contains(want, t) {
		return e.reject(CodeType, "R%d type=%s expected=%s", op, r.typ, typeList(want))
	}
	if err := e.pointsTo(op, e.types[a.typ], false); err != nil {
		return err
	}
	return e.argOffset(op, false)
}

// entryStruct is entryArg for a structure of the kernel, or any address.
func (e *env) entryStruct(r *reg, a argInfo) {
	switch {
	case a.kind == argUntrusted && a.typ < 0:
		e.setAddress(r)
		return
	case a.kind == argUntrusted:
		setPtr(r, ptrToBTF|untrusted)
	default:
		setPtr(r, ptrToBTF|trusted)
	}
	if a.nullable {
		r.typ |= maybeNull
	}
	r.aux = a.typ
	e.idGen++
	r.id = e.idGen
}
