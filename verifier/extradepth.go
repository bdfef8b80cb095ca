package verifier

import "github.com/skep-bpf/skep/internal/isa"

// The stack depths that the kernel prints are those after its rewrites, which come when the depth has been judged: spills of fast
// calls are gone (fastcall.go); bpf_loop becomes a loop in the program where its flags are always zero and its callback is one, and keeps three registers on the stack
// (optimize_bpf_loop); may_goto keeps a counter and the time there (do_misc_fixups of 6.18). skep rewrites nothing of
// the kind; only the figures are the kernel's.

const (
	inlinedLoopStack = 24
	mayGotoStack     = 16
	// before it looked at the clock
	untimedMayGotoStack = 8
)

// loopInline is whether a call of bpf_loop can be made a loop.
type loopInline struct {
	seen, fits bool
	fn         int32
}

// noteLoop keeps whether a call of bpf_loop can be made a loop (update_loop_inline_state). That its flags are zero becomes a decision.
func (e *env) noteLoop(fn int) error {
	l := &e.aux[e.insn].loop
	if l.seen && !l.fits {
		return nil
	}
	if !l.seen {
		l.seen, l.fn = true, int32(fn)
	}
	zero := e.st.fr().regs[isa.R4].isNull()
	l.fits = zero && l.fn == int32(fn)
	if !zero {
		return nil
	}
	return e.markPrecise(int(isa.R4))
}

// shownDepth is the stack of function f as the log has it of an accepted program.
func (e *env) shownDepth(f int) int {
	d := e.funcs[f].leftDepth()
	for pc := e.prog.Funcs[f].Start; pc < e.prog.Funcs[f].End; pc++ {
		if e.aux[pc].loop.fits {
			d += inlinedLoopStack
			break
		}
	}
	switch {
	case e.funcs[f].mayGoto && e.has(timedMayGoto):
		d += mayGotoStack
	case e.funcs[f].mayGoto:
		d += untimedMayGotoStack
	}
	return d
}
