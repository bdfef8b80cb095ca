package verifier

import (
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/program"
)

// Objects of the program, of types of its own. Who allocates one owns it: a reference that has to be given back, to the allocator or to
// a list, a tree or a pointer, which own it from then on. An object under a lock that a list or tree owns can be read and written as
// long as the lock is held, and not longer, because others can take it out and free it (nonOwn). Where objects are counted, several can
// own one.
//
// As check_special_kfunc, ref_convert_owning_non_owning and process_kf_arg_ptr_to_graph_root of Linux.

// callNew allocates an object.
func (e *env) callNew(c *fieldCall) error {
	s, err := e.localType(c.constant)
	if err != nil {
		return err
	}
	rec, err := e.structRecord(s)
	if err == nil {
		err = e.checkOwners(rec)
	}
	if err != nil {
		return e.reject(CodeBTF, "struct %s: %v", s.Name, err)
	}
	e.noteObject(c.constant, s, rec, false)
	e.newReference(e.afterCall(), ptrToBTF|memAlloc, s, c)
	return nil
}

// maxPerCPUObject is the largest size of an object of which every CPU has one (BPF_GLOBAL_PERCPU_MA_MAX_SIZE).
const maxPerCPUObject = 512

// callNewPerCPU allocates an object for every CPU.
func (e *env) callNewPerCPU(c *fieldCall) error {
	s, err := e.localType(c.constant)
	if err != nil {
		return err
	}
	switch {
	case s.Size > maxPerCPUObject:
		return e.reject(CodeBounds, "bpf_percpu_obj_new type size (%d) is greater than %d", s.Size, maxPerCPUObject)
	case !scalarOnly(s):
		return e.reject(CodeType, "bpf_percpu_obj_new type ID argument must be of a struct of scalars")
	}
	if rec, err := e.structRecord(s); err != nil || rec != nil {
		return e.reject(CodeType, "bpf_percpu_obj_new type ID argument must not contain special fields")
	}
	e.noteObject(c.constant, s, nil, true)
	e.newReference(e.afterCall(), ptrToBTF|memAlloc|percpu, s, c)
	return nil
}

// localType finds a structure of the program by its number.
func (e *env) localType(id uint64) (*btf.Struct, error) {
	switch {
	case id>>32 != 0:
		return nil, e.reject(CodeType, "local type ID argument must be in range [0, U32_MAX]")
	case e.prog.Types == nil || e.prog.Funcs[0].Type == nil:
		return nil, e.reject(CodeBTF, "bpf_obj_new/bpf_percpu_obj_new requires prog BTF")
	}
	t, err := e.prog.Types.TypeByID(btf.TypeID(id))
	if s, ok := t.(*btf.Struct); ok && err == nil {
		return s, nil
	}
	return nil, e.reject(CodeType, "bpf_obj_new/bpf_percpu_obj_new type ID argument must be of a struct")
}

// newReference makes r0 a pointer to an object of the program that it owns.
func (e *env) newReference(r0 *reg, t regType, s *btf.Struct, c *fieldCall) {
	setPtr(r0, t)
	r0.aux = e.intern(s)
	orNull := c.flag(program.KfuncRetNull) && !c.owned // of an object that is owned, another reference can always be had
	if orNull {
		e.idGen++ // the kernel's numbers
	}
	r0.ref = e.acquireRef()
	if orNull {
		r0.typ |= maybeNull
		r0.id = r0.ref
	}
	if r0.id == 0 {
		e.giveID(r0)
	}
}

// callDrop gives an object back.
func (e *env) callDrop(c *fieldCall) error {
	if !e.releaseRef(c.ref) {
		return e.reject(CodeReference, "kfunc %s#%d reference has not been acquired before", c.k.Name, e.prog.Insns[e.insn].Imm)
	}
	e.afterCall().setNotInit()
	return nil
}

// callRefcount makes the program another owner of an object that is counted.
func (e *env) callRefcount(c *fieldCall) error {
	e.newReference(e.afterCall(), ptrToBTF|memAlloc, c.target, c)
	return nil
}

// rootArg checks a list or tree, whose lock must be held (__process_kf_arg_ptr_to_graph_root).
func (e *env) rootArg(i, op int, kind fieldKind, c *fieldCall) error {
	r := &e.st.fr().regs[op]
	if r.typ != ptrToMapValue && r.typ != ptrToBTF|memAlloc {
		return e.reject(CodeType, "arg#%d expected pointer to map value or allocated object", i)
	}
	if r.typ != ptrToMapValue && r.ref == 0 {
		return e.referenced(r)
	}
	if !r.Var.IsConst() {
		return e.reject(CodePointerMath, "%s doesn't have constant offset. %s has to be at the constant offset", operandName(op), kind)
	}
	rec := e.recordAt(r)
	off := int(r.off) + int(r.Var.Value)
	if c.root = rec.find(off, kind); c.root == nil {
		return e.reject(CodeType, "%s not found at offset=%d", kind, off)
	}
	on, id := lockPlace(r)
	held := false
	for i := range e.st.refs {
		l := &e.st.refs[i]
		held = held || l.kind.isLock() && l.on == on && l.id == id
	}
	if held {
		return nil
	}
	at := rec.offset(fieldSpinLock)
	if at < 0 {
		at = -22 // as the kernel has it: -EINVAL
	}
	const needed = "bpf_spin_lock at off=%d must be held for %s"
	if !e.locked() {
		return e.reject(CodeCall, needed, at, kind)
	}
	return e.why(e.reject(CodeCall, "held lock and object are not in the same allocation"), needed, at, kind)
}

// insertArg checks an object that the program owns and that a list or tree is to own.
func (e *env) insertArg(i, op int, kind fieldKind, c *fieldCall) error {
	r := &e.st.fr().regs[op]
	if r.typ != ptrToBTF|memAlloc {
		return e.reject(CodeType, "arg#%d expected pointer to allocated object", i)
	}
	if err := e.referenced(r); err != nil {
		return err
	}
	return e.nodeArg(op, kind, c)
}

// inTreeArg checks an object that is in a tree.
func (e *env) inTreeArg(op int, c *fieldCall) error {
	r := &e.st.fr().regs[op]
	switch {
	case r.typ&nonOwn == 0 && r.ref == 0:
		return e.reject(CodeReference, "%s can only take non-owning or refcounted bpf_rb_node pointer", c.k.Name)
	case e.inTreeCallback():
		return e.reject(CodeCall, "%s not allowed in rbtree cb", c.k.Name)
	}
	return e.nodeArg(op, fieldRBNode, c)
}

// nodeArg checks that an operand points to the member of an object by which the list or tree holds it
// (__process_kf_arg_ptr_to_graph_node).
func (e *env) nodeArg(op int, kind fieldKind, c *fieldCall) error {
	r := &e.st.fr().regs[op]
	if !r.Var.IsConst() {
		return e.reject(CodePointerMath, "%s doesn't have constant offset. %s has to be at the constant offset", operandName(op), kind)
	}
	off := int(r.off) + int(r.Var.Value)
	if e.recordAt(r).find(off, kind) == nil {
		return e.reject(CodeType, "%s not found at offset=%d", kind, off)
	}
	want, have := c.root.target, e.types[r.aux]
	if have != btf.Type(want) {
		return e.reject(CodeType, "operation on %s expects arg#1 %s at offset=%d in struct %s, but arg is at offset=%d in struct %s",
			c.root.kind, kind, c.root.node, want.Name, off, have.TypeName())
	}
	c.target = want
	if off != c.root.node {
		return e.reject(CodeType, "arg#1 offset=%d, but expected %s at offset=%d in struct %s", off, kind, c.root.node, want.Name)
	}
	return nil
}

// callPush puts an object that the program owns into a list or tree, which owns it afterwards.
func (e *env) callPush(c *fieldCall) error {
	ref := e.st.fr().regs[isa.R2].ref
	if ref == 0 || !e.st.dropRef(ref) {
		return e.reject(CodeReference, "kfunc %s#%d reference has not been acquired before", c.k.Name, e.prog.Insns[e.insn].Imm)
	}
	e.st.eachReg(func(r *reg) {
		if r.ref == ref {
			r.ref = 0
			e.setNonOwning(r)
		}
	})
	e.setUnknown(e.afterCall())
	return nil
}

// setNonOwning makes a pointer one to an object that a list or tree owns (ref_set_non_owning).
func (e *env) setNonOwning(r *reg) {
	r.typ |= nonOwn
	if e.recordAt(r).has(fieldRefcount) {
		r.typ |= memRCU
	}
}

// setNode makes r a pointer to the member by which an object is in a list or tree (mark_reg_graph_node).
func (e *env) setNode(r *reg, root *field) {
	setPtr(r, ptrToBTF|memAlloc)
	r.aux, r.off = e.intern(root.target), int32(root.node)
}

// callTake takes an object out of a list or tree: the program owns it afterwards, if there was one.
func (e *env) callTake(c *fieldCall) error {
	r0 := e.afterCall()
	e.newReference(r0, ptrToBTF|memAlloc, c.root.target, c)
	r0.off = int32(c.root.node)
	return nil
}

// callPeek finds an object in a list or tree, which goes on owning it.
func (e *env) callPeek(c *fieldCall) error {
	r0 := e.afterCall()
	e.setNode(r0, c.root)
	e.setNonOwning(r0)
	r0.typ |= maybeNull
	e.idGen++
	r0.id = e.idGen
	return nil
}

// callTreeAdd puts an object into a tree; a callback says where.
func (e *env) callTreeAdd(c *fieldCall) error {
	m := &callMeta{proto: &HelperProto{Callback: callbackLess}, mapIdx: -1, callback: c.callback, kptr: c.root}
	if err := e.pushCallback(m); err != nil {
		return e.why(err, "kfunc %s#%d failed callback verification", c.k.Name, e.prog.Insns[e.insn].Imm)
	}
	return e.callPush(c)
}

// lessArgs sets the arguments of a callback that compares two objects.
func (e *env) lessArgs(root *field, callee *frame) {
	for _, op := range []isa.Reg{isa.R1, isa.R2} {
		e.setNode(&callee.regs[op], root)
		e.setNonOwning(&callee.regs[op])
	}
}

// accessObject checks a load or store in an object of the program: it goes to plain bytes (btf_struct_access).
func (e *env) accessObject(r *reg, off, size int) error {
	if rec := e.recordAt(r); rec != nil {
		for i := range rec.fields {
			if f := &rec.fields[i]; off < f.off+f.size && f.off < off+size {
				return e.reject(CodePermission, "direct access to %s is disallowed", f.kind)
			}
		}
	}
	return e.walkError(e.walkReg(r, off, size))
}
