package verifier

import (
	"github.com/skep-bpf/skep/internal/isa"
)

// Locks that lie in map values and in objects of the program. A lock is known by what it lies in, which is an id (of the lookup or the
// allocation that gave the pointer) and, where ids are not needed or not enough, the map. It stands in the list of references, in the
// order in which it was taken.
//
// While a lock is held nothing may be called that could take long, sleep, or want the same lock. What is owned by a list or tree under
// the lock can be used without a reference meanwhile (objects.go); that ends with the unlock.
//
// As process_spin_lock and check_resource_leak of Linux 6.18.

// inProgram is what a lock lies in if that is an object of the program, in the place of a map.
const inProgram int32 = -1

// lock is how a kind of lock is taken or released.
type lock struct {
	kind   refKind
	field  fieldKind
	prefix string // of the names of its functions
}

var (
	plainLock  = lock{refLock, fieldSpinLock, "bpf_spin"}
	resLock    = lock{refResLock, fieldResSpinLock, "bpf_res_spin"}
	resLockIRQ = lock{refResLockIRQ, fieldResSpinLock, "bpf_res_spin"}
)

// lastLock returns the lock that was taken last and is still held, nil if there is none.
func (s *state) lastLock() *refState {
	for i := len(s.refs) - 1; i >= 0; i-- {
		if s.refs[i].kind.isLock() {
			return &s.refs[i]
		}
	}
	return nil
}

func (e *env) locked() bool { return e.st.lastLock() != nil }

// lockPlace returns what an operand that has to point to a lock points into: a map and id, or an object's id.
func lockPlace(r *reg) (on int32, id uint32) {
	if r.typ == ptrToMapValue {
		return r.aux, r.id
	}
	return inProgram, r.id
}

// lockArg checks that an operand points to a lock.
func (e *env) lockArg(op int, l *lock) error {
	r := &e.st.fr().regs[op]
	inMap := r.typ == ptrToMapValue
	owner := "local 'kptr'"
	if inMap {
		owner = "map '" + kernelName(e.maps[r.aux].Name) + "'"
	}
	switch off := r.off + int32(r.Var.Value); {
	case !r.Var.IsConst():
		return e.reject(CodePointerMath, "%s doesn't have constant offset. %s_lock has to be at the constant offset", operandName(op), l.prefix)
	case inMap && !e.records[r.aux].btf:
		return e.reject(CodeBTF, "%s has to have BTF in order to use %s_lock", owner, l.prefix)
	case !e.recordAt(r).has(l.field):
		return e.reject(CodeType, "%s has no valid %s_lock", owner, l.prefix)
	case e.recordAt(r).offset(l.field) != int(off):
		return e.reject(CodeType, "off %d doesn't point to 'struct %s_lock' that is at %d", off, l.prefix, e.recordAt(r).offset(l.field))
	}
	return nil
}

// takeLock takes the lock that an operand points to.
func (e *env) takeLock(op int, l *lock) error {
	if err := e.lockArg(op, l); err != nil {
		return err
	}
	on, id := lockPlace(&e.st.fr().regs[op])
	if l.kind == refLock && e.locked() {
		return e.reject(CodeCall, "Locking two bpf_spin_locks are not allowed")
	}
	for i := range e.st.refs {
		if r := &e.st.refs[i]; l.kind != refLock && (r.kind == refResLock || r.kind == refResLockIRQ) && r.id == id && r.on == on {
			return e.reject(CodeCall, "Acquiring the same lock again, AA deadlock detected")
		}
	}
	e.st.refs = append(e.st.refs, refState{id: id, insn: int32(e.insn), kind: l.kind, on: on})
	return nil
}

// releaseLock releases the lock that an operand points to: the one that was taken last.
func (e *env) releaseLock(op int, l *lock) error {
	if err := e.lockArg(op, l); err != nil {
		return err
	}
	last := e.st.lastLock()
	if last == nil {
		return e.reject(CodeCall, "%s_unlock without taking a lock", l.prefix)
	}
	on, id := lockPlace(&e.st.fr().regs[op])
	for i := range e.st.refs {
		r := &e.st.refs[i]
		if r.kind != l.kind || r.id != id || r.on != on {
			continue
		}
		if last.id != id || last.on != on {
			return e.reject(CodeCall, "%s_unlock cannot be out of order", l.prefix)
		}
		e.st.refs = append(e.st.refs[:i:i], e.st.refs[i+1:]...)
		e.dropNonOwning()
		return nil
	}
	return e.reject(CodeCall, "%s_unlock of different lock", l.prefix)
}

// spinLockArg checks the one argument of bpf_spin_lock and bpf_spin_unlock and does what they do.
func (e *env) spinLockArg(op int, id int32) error {
	if e.inTreeCallback() {
		return e.reject(CodePermission, "can't spin_{lock,unlock} in rbtree cb")
	}
	if id == fnSpinLock {
		return e.takeLock(op, &plainLock)
	}
	return e.releaseLock(op, &plainLock)
}

// dropNonOwning forgets pointers to objects that the program does not own: without the lock, they can be gone
// (invalidate_non_owning_refs).
func (e *env) dropNonOwning() {
	e.st.eachReg(func(r *reg) {
		if r.typ&nonOwn != 0 {
			e.setUnknown(r)
		}
	})
}

// callUnderLock checks that what is called may be called where a lock is held.
func (e *env) callUnderLock(in isa.Insn) error {
	if !e.locked() {
		return nil
	}
	ok := true
	switch {
	case in.IsKfuncCall():
		ok = int(in.Imm) >= 0 && int(in.Imm) < len(e.prog.Kfuncs) && kfuncUnderLock(e.prog.Kfuncs[in.Imm].Name)
	case in.IsHelperCall():
		ok = in.Imm == fnSpinUnlock
	}
	if !ok {
		return e.reject(CodeCall, "function calls are not allowed while holding a lock")
	}
	return nil
}

// kfuncUnderLock reports whether a kfunc may be called where a lock is held (kfunc_spin_allowed).
func kfuncUnderLock(name string) bool {
	switch name {
	case "bpf_list_push_front_impl", "bpf_list_push_back_impl", "bpf_list_pop_front", "bpf_list_pop_back", "bpf_list_front", "bpf_list_back",
		"bpf_rbtree_add_impl", "bpf_rbtree_remove", "bpf_rbtree_first", "bpf_rbtree_root", "bpf_rbtree_left", "bpf_rbtree_right",
		"bpf_refcount_acquire_impl",
		"bpf_iter_num_new", "bpf_iter_num_next", "bpf_iter_num_destroy",
		"bpf_res_spin_lock", "bpf_res_spin_unlock", "bpf_res_spin_lock_irqsave", "bpf_res_spin_unlock_irqrestore":
		return true
	}
	return false
}

// inTreeCallback reports whether the walk is in a callback that compares objects of a tree, where the tree's lock is held
// (in_rbtree_lock_required_cb).
func (e *env) inTreeCallback() bool {
	for i := e.st.cur; i > 0; i-- {
		fr := e.st.frames[i]
		if !fr.callback {
			continue
		}
		if in := e.prog.Insns[fr.callsite]; in.IsKfuncCall() && isTreeKfunc(e.prog.Kfuncs[in.Imm].Name) {
			return true
		}
	}
	return false
}

// isTreeKfunc reports whether a kfunc works on trees (is_bpf_rbtree_api_kfunc).
func isTreeKfunc(name string) bool {
	switch name {
	case "bpf_rbtree_add_impl", "bpf_rbtree_remove", "bpf_rbtree_first", "bpf_rbtree_root", "bpf_rbtree_left", "bpf_rbtree_right":
		return true
	}
	return false
}
