package verifier

import (
	"github.com/cilium/ebpf/btf"
)

// This file checks accesses through pointers to BTF structures, and says what a load gives (check_ptr_to_btf_access).
//
// There are two kinds of structures. Those of the kernel are what the kernel shows its programs: pointers in them can be followed,
// and how far a pointer can be relied on is in its type: trusted (valid and not NULL), of RCU (valid while the section lasts), nothing
// (reads are safe, helpers take it) or untrusted (reads are safe, nobody takes it). Programs with such pointers only verify. The
// others are those of kfuncs that a caller of skep registers: they are read as memory, where they end is where access ends, and
// pointers in them are numbers, because nobody proves where they go. Objects of the program are read and written in the same way
// (objects.go); an untrusted pointer to one, from a map's value, is as one to a structure of the kernel.

// walkKey is one access of a structure.
type walkKey struct {
	typ       int32
	off, size int32
	flex      bool
}

// walk is walkStruct from a type that registers point to, remembered: a program reads the same fields again and again.
func (e *env) walkAt(typ int32, off, size int, flex bool) walked {
	k := walkKey{typ, int32(off), int32(size), flex}
	if w, ok := e.walks[k]; ok {
		return w
	}
	var flags regType
	w := walkStruct(e.types[typ], off, size, flags, flex)
	for range maxTypeDepth {
		if w.kind != walkedStruct {
			break
		}
		w = walkStruct(w.target, 0, size, w.flags, flex)
	}
	if w.kind == walkedStruct {
		w = walkFails("structure %s is too deep", e.types[typ].TypeName())
	}
	if w.kind == walkedPointer && e.kernelType[typ] {
		w.safe = e.fieldSafety(e.types[typ], &w)
	}
	if e.walks == nil {
		e.walks = map[walkKey]walked{}
	}
	e.walks[k] = w
	return w
}

// walkReg is walkAt through a register. Only structures of the kernel have arrays that go on behind their end: a fault reads as
// zero there.
func (e *env) walkReg(r *reg, off, size int) walked {
	return e.walkAt(r.aux, off, size, r.typ&memAlloc == 0 && (e.isKernelType(r.aux) || r.typ&untrusted != 0))
}

// checkStruct checks an access through a pointer to a BTF structure.
func (e *env) checkStruct(op, off, size int, kind accessKind) error {
	r := &e.st.fr().regs[op]
	name := e.types[r.aux].TypeName()
	kernel := e.isKernelType(r.aux)
	switch {
	case e.lacks(CapPerfmon):
		return e.reject(CodePermission, "'struct %s' access is allowed only to CAP_PERFMON and CAP_SYS_ADMIN", name)
	case kernel && !gplCompatible(e.prog.License):
		return e.reject(CodeCall, "Cannot access kernel 'struct %s' from non-GPL compatible program", name)
	case off < 0:
		return e.reject(CodeBounds, "%s is ptr_%s invalid negative access: off=%d", operandName(op), name, off)
	case !r.Var.IsConst() || r.Var.Value != 0:
		return e.reject(CodePointerMath, "%s is ptr_%s invalid variable offset: off=%d, var_off=%s", operandName(op), name, off, r.Var)
	case r.typ&userMem != 0:
		return e.reject(CodePermission, "%s is ptr_%s access user memory: off=%d", operandName(op), name, off)
	case r.typ&percpu != 0:
		return e.reject(CodePermission, "%s is ptr_%s access percpu memory: off=%d", operandName(op), name, off)
	case isAllocated(r.typ):
		return e.accessObject(r, off, size)
	case kind == accessWrite:
		return e.writeStruct(r, off, size)
	}
	return e.walkError(e.walkReg(r, off, size))
}

// walkError is what a failed walk is refused with, nil for one that found something.
func (e *env) walkError(w walked) error {
	if w.kind != walkedNothing {
		return nil
	}
	return e.reject(CodeBounds, "%s", w.why)
}

// logMismatch writes what a walk in search of a type failed with, if it did.
func (e *env) logMismatch(why string) {
	if why != "" {
		e.log.printf("%s\n", why)
	}
}

// writeStruct checks a write into a BTF structure: which fields can be written is the program type's to say.
func (e *env) writeStruct(r *reg, off, size int) error {
	if r.typ&untrusted != 0 {
		return e.reject(CodePermission, "only read is supported")
	}
	return e.writeKernelField(r, off, size)
}

// loadStruct gives d what was read through ptr.
func (e *env) loadStruct(d, ptr *reg, off, size int) {
	w := e.walkReg(ptr, off, size)
	alloc, kernel := ptr.typ&memAlloc != 0, e.isKernelType(ptr.aux)
	switch {
	case w.kind == walkedAddress && (kernel || alloc):
		e.setAddress(d)
	case w.kind == walkedPointer && !alloc && (kernel || ptr.typ&untrusted != 0):
		e.setLoaded(d, &w, e.followed(ptr, &w))
	}
}

// setAddress makes d a pointer to memory of which nothing is known: reads do no harm in the kernel, which catches the fault. Nothing
// here does, so that the program does not run.
func (e *env) setAddress(d *reg) {
	if e.has(untrustedMemory) {
		setPtr(d, ptrToMem|rdonly|untrusted)
	} else {
		e.setUnknown(d) // a number
	}
	if e.kernelUsed == "" {
		e.kernelUsed = "pointers that can be any address"
	}
}

// setLoaded makes d the pointer that a walk found (mark_btf_ld_reg).
func (e *env) setLoaded(d *reg, w *walked, flags regType) {
	setPtr(d, ptrToBTF|flags)
	d.aux = e.intern(w.target)
	if flags&maybeNull != 0 {
		e.idGen++
		d.id = e.idGen
	}
}

// followed says how far a pointer that was read through ptr can be relied on.
func (e *env) followed(ptr *reg, w *walked) regType {
	flags := w.flags
	switch {
	case ptr.typ&untrusted != 0:
		return untrusted
	case !isTrusted(ptr) && ptr.typ&memRCU == 0: // what pointers without a mark lead to has none either
		return e.unmarked(flags)
	case w.safe == safeTrusted:
		return flags | trusted
	case w.safe == safeTrustedOrNull:
		return flags | trusted | maybeNull
	case !e.inRCU() || ptr.typ.mayBeNull():
		return untrusted
	case w.safe == safeRCU:
		return flags | memRCU
	case w.safe == safeRCUOrNull:
		return (flags | memRCU | maybeNull) &^ untrusted
	case flags&memRCU != 0:
		return flags | maybeNull
	case flags&(percpu|userMem) != 0:
		return flags
	}
	return e.unmarked(flags)
}

// unmarked is a pointer of which the structure does not say how far it can be relied on: helpers take it in old kernels.
func (e *env) unmarked(flags regType) regType {
	if e.has(untrustedWalks) {
		return untrusted
	}
	return flags &^ (trusted | memRCU)
}

// inRCU reports whether what RCU protects cannot go away here: programs that may not sleep are inside of a section from start to end
// (in_rcu_cs).
func (e *env) inRCU() bool {
	return e.st.rcu > 0 || e.locked() || !e.sleepable()
}

// sleepable reports whether the code that is walked may sleep (in_sleepable).
func (e *env) sleepable() bool {
	if e.st == nil {
		return e.prog.Flags&flagSleepable != 0
	}
	return e.st.sleeps
}

// isKernelType reports whether a type that registers point to is one of the kernel.
func (e *env) isKernelType(typ int32) bool { return e.kernelType[typ] }

// kernelStruct finds a structure of the kernel by name and returns its index, false if there is none.
func (e *env) kernelStruct(name string) (int32, bool) {
	if name == "" {
		return 0, false
	}
	spec := e.kernelTypes()
	if spec == nil {
		return 0, false
	}
	var s *btf.Struct
	if err := spec.TypeByName(name, &s); err != nil {
		return 0, false
	}
	return e.intern(s), true
}
