package verifier

import (
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/isa"
)

// Pointers in map values and in objects of the program. One that is not referenced is loaded and stored as a number is, and what was
// loaded is trusted by nobody. A referenced one owns what it points to: it can be looked at, and changes hands by bpf_kptr_xchg only,
// which takes the program's reference for the one that was there.
//
// As check_map_kptr_access, map_kptr_match_type and btf_ld_kptr_type of Linux.

// rcuStructs are structures of the kernel that live as long as an RCU section lasts, once they were seen in it
// (rcu_protected_types).
var rcuStructs = map[string]bool{"prog_test_ref_kfunc": true, "cgroup": true, "bpf_cpumask": true, "task_struct": true, "bpf_crypto_ctx": true}

// kptrAt returns the pointer that an access to a map's value goes to, nil if it goes to plain bytes.
func (e *env) kptrAt(r *reg, off int) *field {
	if r.typ != ptrToMapValue || !r.Var.IsConst() {
		return nil
	}
	return e.records[r.aux].rec.find(off+int(r.Var.Value), fieldAnyKptr|fieldUptr)
}

// accessKptr checks the load or store of a pointer in a map's value, whose place and size are right.
func (e *env) accessKptr(f *field, value int) error {
	in := e.prog.Insns[e.insn]
	if in.Mode() != isa.ModeMEM {
		return e.reject(CodePermission, "kptr in map can only be accessed using BPF_MEM instruction mode")
	}
	if in.Class() != isa.ClassLDX && f.kind != fieldKptrUntrusted {
		return e.reject(CodePermission, "store to %s disallowed", map[bool]string{true: "uptr", false: "referenced kptr"}[f.kind == fieldUptr])
	}
	switch in.Class() {
	case isa.ClassLDX:
		return e.loadKptr(f, &e.st.fr().regs[value])
	case isa.ClassSTX:
		if e.st.fr().regs[value].isNull() {
			return e.markPrecise(value) // any other number would be no pointer
		}
		return e.kptrTakes(f, value)
	}
	if in.Imm != 0 {
		return e.reject(CodePermission, "BPF_ST imm must be 0 when storing to kptr at off=%d", f.off)
	}
	return nil
}

// loadKptr gives d what a pointer holds.
func (e *env) loadKptr(f *field, d *reg) error {
	if f.kind == fieldUptr {
		setPtr(d, ptrToMem|maybeNull)
		d.aux = int32(f.target.Size)
		if e.kernelUsed == "" { // nobody pins such memory here
			e.kernelUsed = "pointers to memory of users"
		}
	} else {
		t, err := e.kptrType(f)
		if err != nil {
			return err
		}
		setPtr(d, ptrToBTF|maybeNull|t)
		d.aux = e.intern(f.target)
	}
	e.idGen++
	d.id = e.idGen
	return nil
}

// kptrType says how far what a pointer holds can be relied on.
func (e *env) kptrType(f *field) (regType, error) {
	kept := f.kind == fieldKptrPercpu || f.kind == fieldKptr && (f.local || rcuStructs[f.target.Name])
	if !kept || !e.inRCU() {
		return untrusted, nil
	}
	t := memRCU
	switch {
	case f.kind == fieldKptrPercpu:
		t |= percpu
	case f.local:
		t |= memAlloc
	}
	if f.local {
		rec, err := e.structRecord(f.target)
		if err != nil {
			return 0, e.reject(CodeBTF, "struct %s: %v", f.target.Name, err)
		}
		if rec.has(fieldNodes) {
			t |= nonOwn
		}
	}
	return t, nil
}

// kptrTakes checks that what an operand points to can be kept by a pointer (map_kptr_match_type).
func (e *env) kptrTakes(f *field, op int) error {
	r := &e.st.fr().regs[op]
	name := ""
	bad := func() error {
		or := ""
		if f.kind == fieldKptrUntrusted {
			or = " or untrusted_ptr_" + f.target.Name
		}
		return e.reject(CodeType, "invalid kptr access, %s type=%s%s expected=ptr_%s%s", operandName(op), r.typ, name, f.target.Name, or)
	}
	if r.typ.base() != ptrToBTF {
		return bad()
	}
	kernel := e.isKernelType(r.aux)
	allowed := maybeNull | memAlloc
	switch {
	case kernel && f.kind == fieldKptrUntrusted:
		allowed = maybeNull | trusted | memRCU | untrusted
	case kernel:
		allowed = maybeNull | trusted | memRCU
	case f.kind == fieldKptrPercpu:
		allowed |= percpu
	}
	if r.typ&^baseMask&^allowed != 0 || (f.kind == fieldKptrPercpu) != (r.typ&percpu != 0) {
		return bad()
	}
	name = e.types[r.aux].TypeName()
	if err := e.fixedOff(op, true); err != nil {
		return err
	}
	if kernel == f.local || !e.isStruct(e.types[r.aux], int(r.off), f.target, f.kind != fieldKptrUntrusted, f.local) {
		return bad()
	}
	return nil
}

// isStruct reports whether a pointer off bytes into have can stand for one to want. Types of the program are the same only if they
// are one.
func (e *env) isStruct(have btf.Type, off int, want *btf.Struct, strict, local bool) bool {
	if local && strict {
		return off == 0 && have == btf.Type(want)
	}
	ok, why := typesMatch(have, off, want, strict, !local)
	if !ok {
		e.logMismatch(why)
	}
	return ok
}

// xchgPlace checks the first argument of bpf_kptr_xchg: where a referenced pointer is (process_kptr_func).
func (e *env) xchgPlace(op int, m *callMeta) error {
	r := &e.st.fr().regs[op]
	rec := e.recordAt(r)
	if r.typ == ptrToMapValue {
		mr := &e.records[r.aux]
		if !mr.btf {
			return e.reject(CodeBTF, "map '%s' has to have BTF in order to use bpf_kptr_xchg", kernelName(e.maps[r.aux].Name))
		}
		m.mapIdx = int(r.aux)
	}
	off := int(r.off) + int(r.Var.Value)
	switch {
	case !r.Var.IsConst():
		return e.reject(CodePointerMath, "%s doesn't have constant offset. kptr has to be at the constant offset", operandName(op))
	case !rec.has(fieldAnyKptr):
		return e.reject(CodeType, "%s has no valid kptr", operandName(op))
	}
	f := rec.find(off, fieldAnyKptr)
	switch {
	case f == nil:
		return e.reject(CodeType, "off=%d doesn't point to kptr", off)
	case f.kind == fieldKptrUntrusted:
		return e.reject(CodeType, "off=%d kptr isn't referenced kptr", off)
	}
	m.kptr = f
	return nil
}

// xchgValue checks the second argument of bpf_kptr_xchg: what comes in the pointer's place (check_reg_type).
func (e *env) xchgValue(op int, m *callMeta) error {
	r := &e.st.fr().regs[op]
	switch r.typ &^ (maybeNull | memAlloc | percpu) {
	case ptrToBTF, ptrToBTF | trusted, ptrToBTF | memRCU:
	default:
		return e.reject(CodeType, "%s type=%s expected=ptr_, trusted_ptr_, rcu_ptr_", operandName(op), r.typ)
	}
	if r.typ.mayBeNull() {
		return e.reject(CodeNull, "Possibly NULL pointer passed to helper arg%d", op)
	}
	return e.kptrTakes(m.kptr, op)
}

// xchgRelease gives the program's reference away. An object of which every CPU has one stays readable as long as the RCU section.
func (e *env) xchgRelease(ref uint32) bool {
	if !e.st.dropRef(ref) {
		return false
	}
	rcu := e.inRCU()
	e.st.eachReg(func(r *reg) {
		switch {
		case r.ref != ref:
		case rcu && r.typ&memAlloc != 0 && r.typ&percpu != 0:
			r.ref = 0
			r.typ = r.typ&^memAlloc | memRCU
		default:
			e.setUnknown(r)
		}
	})
	return true
}

// xchgResult makes r0 what the pointer held.
func (e *env) xchgResult(r0 *reg, f *field) {
	setPtr(r0, ptrToBTF|maybeNull)
	if f.local {
		r0.typ |= memAlloc
		if f.kind == fieldKptrPercpu {
			r0.typ |= percpu
		}
	}
	r0.aux = e.intern(f.target)
	e.idGen++ // the kernel's numbers
}

// perCPUResult makes r0 one CPU's copy of an object of which every CPU has one. That of a program is its own, and lives as long as the
// RCU section.
func (e *env) perCPUResult(r0, obj *reg, orNull bool) error {
	if e.isKernelType(obj.aux) {
		return e.perCPUVariable(r0, obj, orNull)
	}
	if obj.typ&memRCU == 0 {
		return e.unsupported("per-CPU pointers that are not of RCU")
	}
	setPtr(r0, ptrToBTF|memAlloc|memRCU)
	r0.aux = obj.aux
	if orNull {
		r0.typ |= maybeNull
		e.idGen++
		r0.id = e.idGen
	}
	return nil
}
