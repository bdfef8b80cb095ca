package verifier

import "github.com/skep-bpf/skep/internal/isa"

// Without CAP_PERFMON the paths are walked, too, that only a processor which guesses takes: the other way of a jump that is decided, and a
// pointer that did not move where arithmetic is confined. What would be refused on such a path is no reason for a rejection: the kernel
// (6.18) puts a barrier there, and the path ends. They matter for what is kept of the states, for how arithmetic is confined, and
// because an endless loop or too much work on them is a reason all the same. As do_check and sanitize_speculative_path.
//
// No fact of a path like that reaches a later stage as if it were true: code that only they reach counts as not reached, and the
// others (branches, maps, pointers) get less sure, never surer.

// stepOrStop is step, but for what ends a speculative path.
func (e *env) stepOrStop(printState *bool) (outcome, error) {
	if !e.st.speculative || !e.has(barriers) {
		return e.markedStep(printState)
	}
	a := &e.aux[e.insn]
	if a.barrier {
		return pathEnd, nil
	}
	out, err := e.markedStep(printState)
	switch {
	case err != nil && recoverable(err):
		// the arithmetic is not reached by speculation any more, and need not be confined
		a.barrier, a.alu, e.note = true, aluLimit{}, ""
		return pathEnd, nil
	case err == nil && a.barrierBehind:
		return pathEnd, nil
	}
	return out, err
}

// recoverable reports whether a barrier helps: not against too much work or contradictions, and what skep does not know is refused
// on any path (error_recoverable_with_nospec).
func recoverable(err error) bool {
	r, ok := err.(*rejection)
	return ok && r.code != CodeTooComplex && r.code != CodeInternal && r.code != CodeUnsupported
}

// speculate keeps a path for later that only speculation takes, from instruction to (sanitize_speculative_path).
func (e *env) speculate(to int) (*state, error) {
	s, err := e.push(to, e.insn)
	if err == nil {
		s.speculative = true
	}
	return s, err
}

// otherWay keeps the way that a decided jump does not go; what was compared may be anything there.
func (e *env) otherWay(in isa.Insn, taken int) error {
	if !e.lacks(CapPerfmon) {
		return nil
	}
	to := e.insn + 1
	if taken == 0 {
		to += int(in.Off)
	}
	s, err := e.speculate(to)
	if err != nil {
		return err
	}
	e.setUnknown(&s.fr().regs[in.Dst])
	if in.SrcIsReg() {
		e.setUnknown(&s.fr().regs[in.Src])
	}
	return nil
}

// noteSpill puts a barrier behind a store that replaces a pointer on the stack, or stores one, so that no later load is guessed to read
// what was there before (check_stack_write_fixed_off).
func (e *env) noteSpill(s *stackSlot, first, size int, r *reg) {
	if !e.lacks(CapPerfmon) {
		return
	}
	barrier := r != nil && r.isPointer() && r.typ.spillable()
	for i := range size {
		t := s.typ[(first-i)&7]
		barrier = barrier || t != slotMisc && t != slotZero
	}
	if barrier {
		e.aux[e.insn].barrierBehind = true
	}
}

// how is what the log says of a path.
func (s *state) how() string {
	if s.speculative {
		return " (speculative execution)"
	}
	return ""
}
