package verifier

import (
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/kernelkfunc"
	"github.com/skep-bpf/skep/internal/program"
)

// Open-coded iterators: an iterator is an object on the program's stack, made by a kfunc bpf_iter_T_new, asked by bpf_iter_T_next, which
// gives a pointer to an element or NULL, and given back by bpf_iter_T_destroy. What the object holds is nobody's business: its bytes
// can be neither read nor counted on, and overwriting them loses it, which is a leak.
//
// The theorem is that of callbacks: every number of rounds is safe. bpf_iter_T_next is walked with both outcomes. With NULL the
// iterator is drained, for good; with an element the path goes on with scalars widened that change from round to round and decided
// nothing, until a round begins in a state that an earlier one at the same call covers in ranges (prune.go). That such a loop ends is
// the iterator's promise.
//
// As process_iter_arg, process_iter_next_call and is_state_visited of Linux.

// iterCall is what a kfunc does to an iterator.
type iterCall uint8

const (
	iterNone iterCall = iota
	iterNew
	iterNext
	iterDestroy
)

// States of an iterator, in aux of the register that stands for it in each of its slots; rng is its kind, off its depth. The first slot,
// that of the lowest address, has its reference.
const (
	iterActive int32 = 1 + iota
	iterDrained
)

// iterKind is a kind of iterators.
type iterKind struct {
	name  string // what stands behind bpf_iter_
	slots int    // of the stack
}

const iterPrefix = "bpf_iter_"

// iterOf reports what a kfunc does to an iterator (is_iter_kfunc).
func iterOf(k *kfunc) iterCall {
	switch f := k.Flags; {
	case !k.kernel:
	case f&kernelkfunc.IterNew != 0:
		return iterNew
	case f&kernelkfunc.IterNext != 0:
		return iterNext
	case f&kernelkfunc.IterDestroy != 0:
		return iterDestroy
	}
	return iterNone
}

// checkIterProto checks the declaration of a function on iterators that has no prototype of the kernel.
func (e *env) checkIterProto(k *kfunc) error {
	if program.BuiltinKfunc(k.Name) && iterOf(k) != iterNone && !iterProto(iterOf(k), kfuncProto(&k.Kfunc)) {
		return e.reject(CodeBTF, "kernel function %s is declared with another prototype", k.Name)
	}
	return nil
}

// iterProto reports whether a kfunc is declared as what it is: int new(it *, int, int), int *next(it *), void destroy(it *).
func iterProto(call iterCall, p *btf.FuncProto) bool {
	isPtr := func(t btf.Type) bool { _, ok := btf.UnderlyingType(t).(*btf.Pointer); return ok }
	isInt := func(t btf.Type) bool { i, ok := btf.UnderlyingType(t).(*btf.Int); return ok && i.Size == 4 }
	n := 1
	if call == iterNew {
		n = 3
	}
	if len(p.Params) != n || !isPtr(p.Params[0].Type) {
		return false
	}
	switch call {
	case iterNew:
		return isInt(p.Params[1].Type) && isInt(p.Params[2].Type) && isInt(p.Return)
	case iterNext:
		ptr, ok := btf.UnderlyingType(p.Return).(*btf.Pointer)
		return ok && isInt(ptr.Target)
	}
	_, void := btf.UnderlyingType(p.Return).(*btf.Void)
	return void
}

// iterKindOf returns the number of the kind of iterators that a parameter is for (btf_check_iter_arg). That over numbers is known by
// its functions, whatever the program calls their type.
func (e *env) iterKindOf(a *kfuncArg, m *kfuncMeta) (int32, error) {
	kind := iterKind{name: "num", slots: 1}
	if s, ok := a.target.(*btf.Struct); !program.BuiltinKfunc(m.k.Name) {
		if !ok || !strings.HasPrefix(s.Name, iterPrefix) || s.Size == 0 || s.Size%8 != 0 || s.Size > isa.StackSize {
			return 0, e.reject(CodeType, "expected valid iter pointer as arg #%d", a.i)
		}
		kind = iterKind{name: s.Name[len(iterPrefix):], slots: int(s.Size / 8)}
	}
	for i := range e.iterKinds {
		if e.iterKinds[i] == kind {
			return int32(i), nil
		}
	}
	e.iterKinds = append(e.iterKinds, kind)
	return int32(len(e.iterKinds) - 1), nil
}

// kfuncIterArg checks an iterator that is passed to a kfunc (process_iter_arg).
func (e *env) kfuncIterArg(a *kfuncArg, m *kfuncMeta) error {
	if m.k.Name == "bpf_iter_css_task_new" && !e.cssTaskAllowed() {
		return e.reject(CodeCall, "css_task_iter is only allowed in bpf_lsm, bpf_iter and sleepable progs")
	}
	if e.st.fr().regs[a.op].typ != ptrToStack {
		return e.reject(CodeType, "%s expected pointer to an iterator on stack", argName(a.i))
	}
	kind, err := e.iterKindOf(a, m)
	if err != nil {
		return err
	}
	call := iterOf(m.k)
	if call == iterNew {
		return e.newIter(a, kind, m)
	}
	return e.knownIter(a, kind, call, m)
}

// cssTaskAllowed reports whether the program may walk the tasks of a control group, for which a lock is taken that programs may hold
// elsewhere (check_css_task_iter_allowlist).
func (e *env) cssTaskAllowed() bool {
	switch e.prog.Type {
	case ebpf.LSM:
		return true
	case ebpf.Tracing:
		return e.prog.AttachType == ebpf.AttachTraceIter || e.sleepable()
	}
	return e.sleepable()
}

// newIter makes the slots that an argument points to an iterator (mark_stack_slots_iter).
func (e *env) newIter(a *kfuncArg, kind int32, m *kfuncMeta) error {
	n := e.iterKinds[kind].slots
	message := func() string {
		return fmt.Sprintf("expected uninitialized iter_%s as arg #%d", e.iterKinds[kind].name, a.i)
	}
	slots, _, err := e.objectSlots(a.op, n, "iter")
	if err != nil {
		return e.why(err, "%s", message())
	}
	for _, s := range slots {
		if s.holds(slotIter) {
			return e.reject(CodeType, "%s", message())
		}
	}
	for i := range n {
		if err := e.checkMem(a.op, 8*i, 8, accessWrite, -1, false, false); err != nil {
			return err
		}
	}
	slots, spi, err := e.objectSlots(a.op, n, "iter")
	if err != nil || slots == nil {
		return e.reject(CodeInternal, "verifier internal error: no slots for an iterator")
	}
	ref := e.acquireRef()
	for i, s := range slots {
		s.fill(slotIter)
		setPtr(&s.spilled, ptrToStack|e.iterTrust(m))
		s.spilled.aux, s.spilled.rng = iterActive, kind
		if i == 0 {
			s.spilled.ref = ref
		}
		e.scratchedStack |= 1 << (spi - i)
	}
	return nil
}

// iterTrust is how long an iterator can be relied on: one whose kernel structures RCU protects, inside of the RCU section that it was
// made in.
func (e *env) iterTrust(m *kfuncMeta) regType {
	switch {
	case !m.flag(kernelkfunc.RCUProtected):
		return 0
	case e.inRCU():
		return memRCU
	}
	return untrusted
}

// knownIter checks the iterator that an argument points to (is_iter_reg_valid_init); destroying it gives its reference back.
func (e *env) knownIter(a *kfuncArg, kind int32, call iterCall, m *kfuncMeta) error {
	message := func() string {
		return fmt.Sprintf("expected an initialized iter_%s as arg #%d", e.iterKinds[kind].name, a.i)
	}
	slots, spi, err := e.objectSlots(a.op, e.iterKinds[kind].slots, "iter")
	if err != nil {
		return e.why(err, "%s", message())
	}
	if slots == nil {
		return e.reject(CodeType, "%s", message())
	}
	for i, s := range slots {
		if s.spilled.typ&untrusted != 0 { // whatever is in the slot
			return e.reject(CodeType, "expected an RCU CS when using %s", m.k.Name)
		}
		if !s.isWhole(slotIter) || s.spilled.rng != kind || (s.spilled.ref != 0) != (i == 0) {
			return e.reject(CodeType, "%s", message())
		}
	}
	frame := int(e.st.fr().regs[a.op].aux)
	for i := range slots {
		e.markRead(frame, spi-i)
		e.scratchedStack |= 1 << (spi - i)
	}
	m.iter, m.ref = slots[0], slots[0].spilled.ref
	if call != iterDestroy {
		return nil
	}
	if !e.releaseRef(m.ref) {
		return e.reject(CodeInternal, "verifier internal error: an iterator without reference")
	}
	for i, s := range slots {
		*s = stackSlot{}
		e.st.frames[frame].written |= 1 << (spi - i)
		e.scratchedStack |= 1 << (spi - i)
	}
	return nil
}

// nextElement walks both outcomes of asking an iterator: an element, which r0 points to, is for later, the end for now
// (process_iter_next_call).
func (e *env) nextElement(slot *stackSlot) error {
	r0 := &e.st.fr().regs[isa.R0]
	if slot.spilled.aux == iterActive {
		var before *state
		if e.st.parent != nil {
			before = e.entryBefore(e.st.parent, e.insn)
		}
		slot.spilled.off++ // for the copy
		queued, err := e.push(e.insn+1, e.insn)
		slot.spilled.off--
		if err != nil {
			return err
		}
		if before != nil {
			e.widen(before, queued)
		}
		queued.fr().regs[isa.R0].typ &^= maybeNull
	}
	slot.spilled.aux = iterDrained
	e.setConst(r0, 0)
	return nil
}

// nextIsActive reports whether the iterator that a call of bpf_iter_T_next in st asks has not ended.
func (e *env) nextIsActive(st *state) bool {
	r := &st.fr().regs[isa.R1]
	off := int(r.off) + int(int64(r.Var.Value))
	if r.typ != ptrToStack || !r.Var.IsConst() || off >= 0 || off%8 != 0 {
		return false
	}
	spi, _ := slotIndex(off)
	fr := st.frames[r.aux]
	return spi < len(fr.stack) && fr.stack[spi].isWhole(slotIter) && fr.stack[spi].spilled.aux == iterActive
}

// depthsDiffer reports whether an active iterator of old is in another round in cur (iter_active_depths_differ).
func depthsDiffer(old, cur *state) bool {
	for f := 0; f <= old.cur && f <= cur.cur; f++ {
		a, b := old.frames[f], cur.frames[f]
		for i := 0; i < min(len(a.stack), len(b.stack)); i++ {
			if s := &a.stack[i]; s.typ[0] == slotIter && s.spilled.aux == iterActive && s.spilled.off != b.stack[i].spilled.off {
				return true
			}
		}
	}
	return false
}

// iterSafe reports whether an iterator of old covers one of cur; its depth does not matter.
func (e *env) iterSafe(old, cur *reg) bool {
	return old.typ == cur.typ && old.aux == cur.aux && old.rng == cur.rng && e.idmap.same(old.ref, cur.ref)
}
