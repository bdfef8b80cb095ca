package verifier

import "github.com/skep-bpf/skep/internal/kernelkfunc"

// Sections: parts of a run in which something of the kernel's stands still. RCU read sections keep what RCU protects, sections without
// preemption keep the processor, sections without interrupts keep what interrupts change. Nothing may sleep in them, each ends in the
// run that began it, and those without interrupts end in the order of a stack, each with the flag that its beginning left on the
// program's stack.
//
// As check_kfunc_call, process_irq_flag and check_resource_leak of Linux.

// sections are those that a state is in.
type sections struct {
	rcu     int32
	preempt int32
	irq     uint32 // the id of the innermost section without interrupts, 0 outside
}

// Names of the functions that begin and end sections.
const (
	kfuncRCULock        = "bpf_rcu_read_lock"
	kfuncRCUUnlock      = "bpf_rcu_read_unlock"
	kfuncPreemptDisable = "bpf_preempt_disable"
	kfuncPreemptEnable  = "bpf_preempt_enable"
	kfuncIRQSave        = "bpf_local_irq_save"
	kfuncIRQRestore     = "bpf_local_irq_restore"
)

// kfuncSections begins and ends sections as a kfunc does, and refuses one that may sleep in any.
func (e *env) kfuncSections(m *kfuncMeta) error {
	name := m.k.Name
	if !m.k.kernel {
		name = "" // a function of that name that was registered is another
	}
	sleeps := m.flag(kernelkfunc.Sleepable)
	s := &e.st.sections
	switch {
	case name == kfuncRCULock && s.rcu > 0:
		return e.reject(CodeCall, "nested rcu read lock (kernel function %s)", name)
	case name == kfuncRCULock:
		s.rcu++
	case name == kfuncRCUUnlock && s.rcu == 0:
		return e.reject(CodeCall, "unmatched rcu read unlock (kernel function %s)", name)
	case name == kfuncRCUUnlock:
		s.rcu--
		e.endRCU()
	case sleeps && s.rcu > 0:
		return e.reject(CodeCall, "kernel func %s is sleepable within rcu_read_lock region", m.k.Name)
	}
	switch {
	case name == kfuncPreemptDisable:
		s.preempt++
	case name == kfuncPreemptEnable && s.preempt == 0:
		return e.reject(CodeCall, "unmatched attempt to enable preemption (kernel function %s)", name)
	case name == kfuncPreemptEnable:
		s.preempt--
	case sleeps && s.preempt > 0:
		return e.reject(CodeCall, "kernel func %s is sleepable within non-preemptible region", m.k.Name)
	case sleeps && s.irq != 0:
		return e.reject(CodeCall, "kernel func %s is sleepable within IRQ-disabled region", m.k.Name)
	case m.flag(kernelkfunc.RCUProtected) && !e.inRCU():
		return e.reject(CodeCall, "kernel func %s requires RCU critical section protection", m.k.Name)
	}
	return nil
}

// endRCU takes the trust from everything that RCU protected.
func (e *env) endRCU() {
	end := func(r *reg) {
		if r.typ&memRCU != 0 {
			r.typ = r.typ&^(memRCU|maybeNull) | untrusted
		}
	}
	e.st.eachReg(end)
	for i := 0; i <= e.st.cur; i++ {
		for j := range e.st.frames[i].stack {
			if s := &e.st.frames[i].stack[j]; s.typ[0] == slotIter {
				end(&s.spilled)
			}
		}
	}
}

// helperSections refuses helpers that may sleep in sections.
func (e *env) helperSections(h *HelperProto) error {
	where := ""
	switch s := &e.st.sections; {
	case !h.MightSleep:
		return nil
	case s.rcu > 0:
		where = "rcu_read_lock region"
	case s.preempt > 0:
		where = "non-preemptible region"
	case s.irq != 0:
		where = "IRQ-disabled region"
	default:
		return nil
	}
	return e.reject(CodeCall, "sleepable helper bpf_%s#%d in %s", h.Name, h.ID, where)
}

// openSections refuses to leave the program, in the way that what names, from inside of a section (check_resource_leak).
func (e *env) openSections(what string) error {
	section := ""
	switch s := &e.st.sections; {
	case s.irq != 0:
		section = kfuncIRQSave
	case s.rcu > 0:
		section = kfuncRCULock
	case s.preempt > 0:
		section = kfuncPreemptDisable
	default:
		return nil
	}
	return e.reject(CodeReference, "%s cannot be used inside %s-ed region", what, section)
}

// mayCallSleeping reports whether a function that may sleep can be called.
func (e *env) mayCallSleeping() bool {
	s := &e.st.sections
	return e.sleepable() && s.rcu == 0 && s.preempt == 0 && s.irq == 0
}

// kfuncIRQ checks the flag of a section without interrupts: where it begins the flag is put on the stack, where it ends it is taken off
// (process_irq_flag).
func (e *env) kfuncIRQ(a *kfuncArg, m *kfuncMeta) error {
	if e.st.fr().regs[a.op].typ != ptrToStack {
		return e.reject(CodeType, "%s doesn't point to an irq flag on stack", argName(a.i))
	}
	switch {
	case m.k.kernel && m.k.Name == kfuncIRQSave:
		return e.saveIRQ(a, irqNative)
	case m.k.kernel && m.k.Name == kfuncIRQRestore:
		return e.restoreIRQ(a, irqNative)
	}
	return e.unsupported("kfunc %s: arguments with suffix __irq_flag", m.k.Name)
}

// Who began a section without interrupts has to end it; in aux of the register that stands for a flag in its slot.
const (
	irqNative int32 = iota
	irqLock         // a lock that keeps interrupts away
)

// irqOwner names who began a section as messages do.
func irqOwner(class int32) string {
	if class == irqLock {
		return "lock"
	}
	return "native"
}

// saveIRQ puts a flag where an argument points to (mark_stack_slot_irq_flag).
func (e *env) saveIRQ(a *kfuncArg, class int32) error {
	s, _, err := e.objectSlots(a.op, 1, "irq_flag")
	if err == nil && s != nil && s[0].holds(slotIRQ) {
		err = e.reject(CodeType, "expected uninitialized irq flag as arg#%d", a.i)
	} else if err != nil {
		err = e.why(err, "expected uninitialized irq flag as arg#%d", a.i)
	}
	if err != nil {
		return err
	}
	if err := e.checkMem(a.op, 0, 8, accessWrite, -1, false, false); err != nil {
		return err
	}
	s, spi, err := e.objectSlots(a.op, 1, "irq_flag")
	if err != nil || s == nil {
		return e.reject(CodeInternal, "verifier internal error: no slot for an irq flag")
	}
	setPtr(&s[0].spilled, ptrToStack)
	s[0].spilled.ref, s[0].spilled.aux = e.acquireIRQ(), class
	s[0].fill(slotIRQ)
	e.scratchedStack |= 1 << spi
	return nil
}

// restoreIRQ takes the flag away that an argument points to (unmark_stack_slot_irq_flag).
func (e *env) restoreIRQ(a *kfuncArg, class int32) error {
	s, spi, err := e.objectSlots(a.op, 1, "irq_flag")
	if err != nil {
		return e.why(err, "expected an initialized irq flag as arg#%d", a.i)
	}
	if s == nil || !s[0].isWhole(slotIRQ) {
		return e.reject(CodeType, "expected an initialized irq flag as arg#%d", a.i)
	}
	if by := s[0].spilled.aux; by != class {
		return e.reject(CodeType, "irq flag acquired by %s kfuncs cannot be restored with %s kfuncs", irqOwner(by), irqOwner(class))
	}
	frame := int(e.st.fr().regs[a.op].aux)
	e.markRead(frame, spi)
	if err := e.releaseIRQ(s[0].spilled.ref); err != nil {
		return err
	}
	*s[0] = stackSlot{}
	e.st.frames[frame].written |= 1 << spi
	e.scratchedStack |= 1 << spi
	return nil
}

// acquireIRQ begins a section without interrupts (acquire_irq_state).
func (e *env) acquireIRQ() uint32 {
	id := e.acquireRef()
	e.st.refs[len(e.st.refs)-1].kind = refIRQ
	e.st.irq = id
	return id
}

// releaseIRQ ends the innermost section without interrupts, which id must be (release_irq_state).
func (e *env) releaseIRQ(id uint32) error {
	outer := uint32(0)
	for _, r := range e.st.refs {
		switch {
		case r.kind != refIRQ:
		case r.id != e.st.irq:
			outer = r.id
		case r.id == id:
			e.st.dropRef(id)
			e.st.irq = outer
			return nil
		default:
			return e.reject(CodeReference, "cannot restore irq state out of order, expected id=%d acquired at insn_idx=%d", r.id, r.insn)
		}
	}
	return e.reject(CodeInternal, "verifier internal error: an irq flag without section")
}

// sameSections reports whether two states are in the same sections (refsafe).
func (e *env) sameSections(old, cur *state) bool {
	a, b := &old.sections, &cur.sections
	return a.rcu == b.rcu && a.preempt == b.preempt && e.idmap.same(a.irq, b.irq)
}
