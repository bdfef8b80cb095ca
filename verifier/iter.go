package verifier

import (
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/isa"
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

// States of an iterator, in aux of the register that stands for it in its slot; ref is its reference, off its depth.
const (
	iterActive int32 = 1 + iota
	iterDrained
)

// iterKfunc reports what a kfunc does to an iterator over numbers, the one kind there is.
func iterKfunc(name string) iterCall {
	switch name {
	case program.KfuncIterNumNew:
		return iterNew
	case program.KfuncIterNumNext:
		return iterNext
	case program.KfuncIterNumDestroy:
		return iterDestroy
	}
	return iterNone
}

// callIter checks a call of one of an iterator's kfuncs.
func (e *env) callIter(call iterCall, m *kfuncMeta) error {
	if !iterProto(call, m.proto) {
		return e.reject(CodeBTF, "kernel function %s is declared with another prototype", m.k.Name)
	}
	it, err := e.readReg(isa.R1)
	if err != nil {
		return err
	}
	if it.typ != ptrToStack {
		return e.reject(CodeType, "arg#0 expected pointer to an iterator on stack")
	}
	var slot *stackSlot
	if call == iterNew {
		err = e.newIter()
	} else {
		slot, err = e.knownIter(call)
	}
	if err != nil {
		return err
	}
	for r := isa.R2; call == iterNew && r <= isa.R3; r++ {
		if v, err := e.readReg(r); err != nil {
			return err
		} else if v.typ != scalarValue {
			return e.reject(CodeType, "R%d is not a scalar", r)
		}
	}
	fr := e.st.fr()
	fr.dropRegs()
	fr.dropStackArgs()
	e.scratchedRegs |= 1<<isa.R0 | argRegs
	switch call {
	case iterNew:
		e.setUnknown(&fr.regs[isa.R0])
	case iterNext:
		return e.nextElement(slot)
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

// iterSlot returns the slot that r1 points to, nil if the stack does not reach there yet (iter_get_spi).
func (e *env) iterSlot() (*stackSlot, int, error) {
	r := &e.st.fr().regs[isa.R1]
	if !r.Var.IsConst() {
		return nil, 0, e.reject(CodePointerMath, "iter has to be at a constant offset")
	}
	off := int(r.off) + int(int64(r.Var.Value))
	if off%8 != 0 || off >= 0 {
		return nil, 0, e.reject(CodePointerMath, "cannot pass in iter at an offset=%d", off)
	}
	fr := e.st.frames[r.aux]
	spi, _ := slotIndex(off)
	if spi >= len(fr.stack) {
		return nil, spi, nil
	}
	return &fr.stack[spi], spi, nil
}

// isIter reports whether all bytes of the slot are an iterator's.
func (s *stackSlot) isIter() bool {
	for _, t := range s.typ {
		if t != slotIter {
			return false
		}
	}
	return true
}

// newIter makes the slot that r1 points to an iterator.
func (e *env) newIter() error {
	const message = "expected uninitialized iter_num as arg #0"
	s, _, err := e.iterSlot()
	if err != nil {
		return e.why(err, message)
	}
	if s != nil {
		for _, t := range s.typ {
			if t == slotIter {
				return e.reject(CodeType, message)
			}
		}
	}
	if err := e.checkMem(int(isa.R1), 0, 8, accessWrite, -1, false, false); err != nil {
		return err
	}
	s, spi, err := e.iterSlot()
	if err != nil || s == nil {
		return e.reject(CodeInternal, "verifier internal error: no slot for an iterator")
	}
	s.typ = [8]uint8{slotIter, slotIter, slotIter, slotIter, slotIter, slotIter, slotIter, slotIter}
	setPtr(&s.spilled, ptrToStack)
	s.spilled.ref, s.spilled.aux = e.acquireRef(), iterActive
	e.scratchedStack |= 1 << spi
	return nil
}

// knownIter returns the slot of the iterator that r1 points to; destroying it gives its reference back.
func (e *env) knownIter(call iterCall) (*stackSlot, error) {
	const message = "expected an initialized iter_num as arg #0"
	s, spi, err := e.iterSlot()
	if err != nil {
		return nil, e.why(err, message)
	}
	if s == nil || !s.isIter() {
		return nil, e.reject(CodeType, message)
	}
	frame := int(e.st.fr().regs[isa.R1].aux)
	e.markRead(frame, spi)
	if call != iterDestroy {
		return s, nil
	}
	if !e.releaseRef(s.spilled.ref) {
		return nil, e.reject(CodeInternal, "verifier internal error: an iterator without reference")
	}
	*s = stackSlot{}
	e.st.frames[frame].written |= 1 << spi
	e.scratchedStack |= 1 << spi
	return nil, nil
}

// nextElement walks both outcomes of asking an iterator: an element is for later, the end for now.
func (e *env) nextElement(slot *stackSlot) error {
	r0 := &e.st.fr().regs[isa.R0]
	setPtr(r0, ptrToMem|rdonly|maybeNull)
	r0.aux = 4 // int
	r0.ref = slot.spilled.ref
	e.idGen++
	r0.id = e.idGen
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
	e.scratchedStack = ^uint64(0)
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
	return spi < len(fr.stack) && fr.stack[spi].isIter() && fr.stack[spi].spilled.aux == iterActive
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
	return old.aux == cur.aux && e.idmap.same(old.ref, cur.ref)
}

// noIter rejects reads of an iterator's bytes in [lo, end) of a frame; op is the pointer, size the access.
func (e *env) noIter(fr *frame, lo, end int, reject func(off, i int) error) error {
	for o := lo; o < end; o++ {
		if spi, i := slotIndex(o); spi < len(fr.stack) && fr.stack[spi].typ[i] == slotIter {
			return reject(lo, o-lo)
		}
	}
	return nil
}
