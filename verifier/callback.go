package verifier

import (
	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/isa"
)

// Callbacks: functions of the program that a helper calls while it runs, any number of times. The theorem to prove is that
// every number of rounds is safe. The call is therefore walked like a loop: one path goes on behind it, as after no round; the
// other enters the callback, and its exit leads back to the call with whatever state it left. Checkpoints at the call
// end that: a round that begins in a state that an earlier one covers, in ranges, needs no walking (prune.go), and scalars
// that change from round to round and that nothing decided on are widened.
//
// As push_callback_call, prepare_func_exit and is_state_visited of Linux.

// CallbackKind says what a helper calls its callback with.
type CallbackKind uint8

// The kinds of callbacks.
const (
	CallbackNone    CallbackKind = iota
	CallbackLoop                 // bpf_loop: r1 the round, r2 what the caller passed on
	CallbackDynptr               // bpf_user_ringbuf_drain: r1 a dynptr of the record, r2 what the caller passed on
	CallbackMapElem              // bpf_for_each_map_elem: r1 the map, r2 key, r3 value, r4 what the caller passed on
	CallbackVMA                  // bpf_find_vma: r1 the task, r2 the area found, r3 what the caller passed on
	CallbackAsync                // bpf_timer_set_callback: later, on its own; r1 the map, r2 key, r3 value
	callbackLess                 // bpf_rbtree_add: r1 and r2 objects of the tree
)

// callCallback walks the rounds of a call with a callback; the current path goes on behind it.
func (e *env) callCallback(m *callMeta) error {
	if m.proto.Callback == CallbackAsync {
		return e.pushAsync(m.callback, &m.async, asyncZero, false)
	}
	if m.proto.Callback == CallbackLoop {
		if err := e.noteLoop(m.callback); err != nil {
			return err
		}
		// whether there is another round is read off this register
		if err := e.markPrecise(int(isa.R1)); err != nil {
			return err
		}
		fr := e.st.fr()
		if uint64(fr.rounds) >= fr.regs[isa.R1].Umax {
			fr.rounds = 0
			if e.log.all() {
				e.log.printf("frame%d bpf_loop iteration limit reached\n", e.st.cur)
			}
			return nil
		}
	}
	return e.pushCallback(m)
}

// pushCallback keeps the path through one round of the callback for later.
func (e *env) pushCallback(m *callMeta) error {
	f := m.callback
	if err := e.matchArgs(f); err != nil {
		// the caller's registers are not the callback's arguments: only a contradiction counts
		if r, ok := err.(*rejection); !ok || r.code == CodeInternal {
			return err
		}
	}
	e.funcs[f].callback = true
	e.noteCallback(f)
	s, err := e.push(e.prog.Funcs[f].Start, e.insn)
	if err != nil {
		return err
	}
	if s.cur+1 >= isa.MaxFrames {
		return e.reject(CodeStackDepth, "the call stack of %d frames is too deep", s.cur+2)
	}
	caller, callee := s.fr(), e.newFrame()
	*callee = frame{callsite: int32(e.insn), fn: int32(f), no: int32(s.cur + 1), written: ^uint64(0), stack: callee.stack[:0], callback: true}
	e.initFrame(callee)
	if err := e.callbackArgs(m, caller, callee); err != nil {
		return err
	}
	s.cur++
	s.frames[s.cur] = callee
	s.unrolled++
	e.scratchedRegs, e.scratchedStack = ^uint32(0), ^uint64(0)
	caller.rounds++
	e.st.fr().rounds = 0
	return nil
}

// callbackArgs sets what the helper passes to its callback.
func (e *env) callbackArgs(m *callMeta, caller, callee *frame) error {
	switch m.proto.Callback {
	case CallbackLoop:
		e.setUnknown(&callee.regs[isa.R1])
		callee.regs[isa.R2] = caller.regs[isa.R3]
	case CallbackDynptr:
		e.idGen++
		markDynptr(&callee.regs[isa.R1], DynptrLocal, 0, e.idGen)
		callee.regs[isa.R2] = caller.regs[isa.R3]
	case CallbackMapElem:
		if !hasForEach(e.maps[m.mapIdx].Type) {
			return e.reject(CodeCall, "callback function not allowed for map")
		}
		for r, t := range map[isa.Reg]regType{isa.R1: constPtrToMap, isa.R2: ptrToMapKey, isa.R3: ptrToMapValue} {
			setPtr(&callee.regs[r], t)
			callee.regs[r].aux, callee.regs[r].rng = int32(m.mapIdx), m.mapUID
		}
		// of the value's own, so that its lock is not taken for that of another round's value, as the kernel does
		e.giveID(&callee.regs[isa.R3])
		callee.regs[isa.R4] = caller.regs[isa.R3]
	case CallbackVMA:
		return e.vmaArgs(m, caller, callee)
	case callbackLess:
		e.lessArgs(m.kptr, callee)
	default:
		return e.reject(CodeInternal, "verifier internal error: callback of kind %d", m.proto.Callback)
	}
	return nil
}

// vmaArgs sets what bpf_find_vma passes: the task as the caller has it, and an area of its memory, of which nothing is known but that
// it can be read (set_find_vma_callback_state).
func (e *env) vmaArgs(m *callMeta, caller, callee *frame) error {
	area, ok := e.kernelStruct("vm_area_struct")
	if !ok {
		return e.unsupported("helper bpf_%s: the kernel's types have no struct vm_area_struct", m.proto.Name)
	}
	callee.regs[isa.R1] = caller.regs[isa.R1]
	setPtr(&callee.regs[isa.R2], ptrToBTF)
	callee.regs[isa.R2].aux = area
	callee.regs[isa.R3] = caller.regs[isa.R4]
	return nil
}

// hasForEach reports whether bpf_for_each_map_elem can walk maps of type t.
func hasForEach(t ebpf.MapType) bool {
	switch t {
	case ebpf.Array, ebpf.PerCPUArray, ebpf.Hash, ebpf.PerCPUHash, ebpf.LRUHash, ebpf.LRUCPUHash:
		return true
	}
	return false
}

// noteCallback keeps which function a call always gets.
func (e *env) noteCallback(f int) {
	fact := &e.facts[e.insn]
	switch {
	case fact.Callback == CallbackUnknown:
		fact.Callback = int32(f)
	case fact.Callback != int32(f):
		fact.Callback = CallbackSeveral
	}
}

// leaveCallback checks what a callback returns and goes back to the call (prepare_func_exit).
func (e *env) leaveCallback(callee *frame) error {
	r0 := &callee.regs[isa.R0]
	if r0.typ != scalarValue {
		return e.reject(CodeReturn, "R0 not a scalar value")
	}
	if err := e.markPrecise(int(isa.R0)); err != nil {
		return err
	}
	if r0.Smin < 0 || r0.Smax > 1 {
		return e.reject(CodeReturn, "At callback return the register R0 has%s should have been in [%d, %d]", boundsText(&r0.Scalar), 0, 1)
	}
	return nil
}

// widenRound forgets, back at the call, what changed since the round before and decided nothing.
func (e *env) widenRound() {
	if before := e.entryBefore(e.st, e.insn); before != nil {
		e.widen(before, e.st)
	}
}
