package verifier

import (
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/isa"
)

// This file is about addresses of the kernel's variables (check_pseudo_btf_id).

// checkKsym checks before the walk that the variable whose address an instruction loads is there. What loaders find out on their own,
// they say here.
func (e *env) checkKsym(in isa.Insn) error {
	if in.Imm < 0 || int(in.Imm) >= len(e.prog.Ksyms) {
		return e.reject(CodeBadInsn, "kernel variable %d is out of range", in.Imm)
	}
	if e.kernelUsed == "" {
		e.kernelUsed = "variables"
	}
	k := &e.prog.Ksyms[in.Imm]
	switch {
	case !k.Typed:
		return nil
	case e.kernelTypes() == nil:
		return e.unsupported("kernel variable %s: the types of the kernel are not known", k.Name)
	}
	v, percpu := e.kernelVar(k.Name)
	if v == nil {
		return e.reject(CodeBTF, "extern (var ksym) '%s': not found in kernel BTF", k.Name)
	}
	if t := skipModifiers(v.Type, true); !percpu && !isComposite(t) {
		if n, err := btf.Sizeof(t); err != nil || n < 0 || n >= maxVarOff {
			return e.reject(CodeBTF, "ldimm64 unable to resolve the size of type '%s': -22", anon(t.TypeName()))
		}
	}
	return nil
}

// kernelVar finds a variable of the kernel, and whether every CPU has one of its own.
func (e *env) kernelVar(name string) (v *btf.Var, percpu bool) {
	if err := e.kernel.TypeByName(name, &v); err != nil {
		return nil, false
	}
	var section *btf.Datasec
	if err := e.kernel.TypeByName(".data..percpu", &section); err != nil {
		return v, false
	}
	for _, s := range section.Vars {
		if s.Type == btf.Type(v) {
			return v, true
		}
	}
	return v, false
}

// loadKsym makes dst the address of a variable of the kernel.
func (e *env) loadKsym(dst *reg, i int32) error {
	k := &e.prog.Ksyms[i]
	if !k.Typed {
		e.setUnknown(dst) // some number
		return nil
	}
	v, each := e.kernelVar(k.Name)
	t := skipModifiers(v.Type, true)
	switch {
	case each:
		setPtr(dst, ptrToBTF|percpu)
		dst.aux = e.intern(v.Type)
	case isComposite(t):
		setPtr(dst, ptrToBTF)
		dst.aux = e.intern(v.Type)
	default:
		n, err := btf.Sizeof(t)
		if err != nil {
			return e.reject(CodeBTF, "size of kernel variable %s is unknown: %v", k.Name, err)
		}
		setPtr(dst, ptrToMem|rdonly)
		dst.aux = int32(n)
	}
	return nil
}

// perCPUVariable makes r0 one CPU's copy of a variable of the kernel.
func (e *env) perCPUVariable(r0, v *reg, orNull bool) error {
	t := skipModifiers(e.types[v.aux], true)
	if isComposite(t) {
		setPtr(r0, ptrToBTF)
		r0.aux = v.aux
	} else {
		n, err := btf.Sizeof(t)
		if err != nil || n < 0 || n >= maxVarOff {
			return e.reject(CodeBTF, "unable to resolve the size of type '%s': -22", anon(t.TypeName()))
		}
		setPtr(r0, ptrToMem|rdonly)
		r0.aux = int32(n)
	}
	if orNull {
		r0.typ |= maybeNull
		e.idGen++
		r0.id = e.idGen
	}
	return nil
}
