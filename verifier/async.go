package verifier

import (
	"github.com/skep-bpf/skep/internal/isa"
)

// Timers and work queues lie in map values; what they call runs later, from its own stack, with the map, the key and the value. Such a
// callback is a path of its own that begins with nothing: no registers but its arguments, no references, no locks. It is walked for
// every call that sets it, unless it was walked from such a beginning before.
//
// As process_timer_func, push_async_cb and set_timer_callback_state of Linux.

// asyncField checks that an operand points to the timer (or the like) of a map's value and notes the map.
func (e *env) asyncField(op int, kind fieldKind, m *asyncMap) error {
	r := &e.st.fr().regs[op]
	rec := e.records[r.aux].rec
	name := kernelName(e.maps[r.aux].Name)
	switch off := r.off + int32(r.Var.Value); {
	case !r.Var.IsConst():
		return e.reject(CodePointerMath, "%s doesn't have constant offset. %s has to be at the constant offset", operandName(op), kind)
	case !e.records[r.aux].btf:
		return e.reject(CodeBTF, "map '%s' has to have BTF in order to use %s", name, kind)
	case !rec.has(kind):
		return e.reject(CodeType, "map '%s' has no valid %s", name, kind)
	case rec.offset(kind) != int(off):
		return e.reject(CodeType, "off %d doesn't point to 'struct %s' that is at %d", off, kind, rec.offset(kind))
	}
	*m = asyncMap{known: true, idx: r.aux, uid: r.rng}
	return nil
}

// asyncMap is the map whose value has the timer that a call is about. Maps in maps have one template: uid tells them apart.
type asyncMap struct {
	known bool
	idx   int32
	uid   int32
}

// sameMap checks that the map that is passed with a timer, if there is one, is the map that the timer lies in.
func (e *env) sameMap(op int, m *asyncMap, what string) error {
	r := &e.st.fr().regs[op]
	if m.known && (m.idx != r.aux || m.uid != r.rng) {
		return e.reject(CodeType, "%s pointer in R%d map_uid=%d doesn't match map pointer in R%d map_uid=%d", what, op-1, m.uid, op, r.rng)
	}
	return nil
}

// asyncKind says what a callback that runs on its own returns.
type asyncKind uint8

const (
	asyncNone asyncKind = iota // no such callback
	asyncZero
	asyncAny // any number of 32 bits
)

// pushAsync keeps the path through a callback that runs later, on its own (push_async_cb).
func (e *env) pushAsync(f int, m *asyncMap, kind asyncKind, sleeps bool) error {
	e.noteCallback(f)
	if err := e.matchArgs(f); err != nil {
		// the caller's registers are not the callback's arguments: only a contradiction counts
		if r, ok := err.(*rejection); !ok || r.code == CodeInternal {
			return err
		}
	}
	e.funcs[f].callback, e.funcs[f].async = true, true
	start := e.prog.Funcs[f].Start
	fr := e.newFrame()
	*fr = frame{callsite: -1, fn: int32(f), written: ^uint64(0), stack: fr.stack[:0], async: kind, entries: e.st.fr().entries + 1}
	e.initFrame(fr)
	for r, t := range map[isa.Reg]regType{isa.R1: constPtrToMap, isa.R2: ptrToMapKey, isa.R3: ptrToMapValue} {
		setPtr(&fr.regs[r], t)
		fr.regs[r].aux, fr.regs[r].rng = m.idx, m.uid
	}
	s := &state{branches: 1, first: start, last: -1, sleeps: sleeps}
	s.frames[0] = fr
	e.scratchedRegs, e.scratchedStack = ^uint32(0), ^uint64(0)
	e.stack = append(e.stack, pending{st: s, insn: start, prev: e.insn, logPos: len(e.log.buf)})
	if len(e.stack) > maxPending {
		return e.reject(CodeTooComplex, "The sequence of %d jumps is too complex for async cb.", len(e.stack))
	}
	return nil
}

// asyncReturn checks what a callback that ran on its own returns in a register, or throws.
func (e *env) asyncReturn(kind asyncKind, op isa.Reg, name string) error {
	r := &e.st.fr().regs[op]
	if r.typ != scalarValue {
		return e.reject(CodeReturn, "At async callback return the register %s is not a known value (%s)", name, r.typ)
	}
	if err := e.markPrecise(int(op)); err != nil {
		return err
	}
	lo, hi := int64(0), int64(0)
	if kind == asyncAny {
		lo, hi = -1<<31, 1<<31-1
	}
	if r.Smin < lo || r.Smax > hi {
		return e.reject(CodeReturn, "At async callback return the register %s has%s should have been in [%d, %d]", name, boundsText(&r.Scalar), lo, hi)
	}
	return nil
}

// asyncCall reports whether in sets a callback that runs later (is_async_callback_calling_insn).
func (e *env) asyncCall(in isa.Insn) bool {
	switch {
	case in.IsHelperCall():
		return in.Imm == fnTimerSetCallback
	case in.IsKfuncCall() && in.Imm >= 0 && int(in.Imm) < len(e.prog.Kfuncs):
		switch e.prog.Kfuncs[in.Imm].Name {
		case "bpf_wq_set_callback_impl", "bpf_task_work_schedule_signal_impl", "bpf_task_work_schedule_resume_impl":
			return true
		}
	}
	return false
}
