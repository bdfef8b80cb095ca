package lower

import (
	"fmt"

	"github.com/skep-bpf/skep/internal/ir"
	"github.com/skep-bpf/skep/internal/program"
)

// Exceptions. A throw returns from its function with the number thrown in r0 and marks the run. Behind each call of a function that can
// throw the mark is looked at, and if it is there the caller returns as well; so every frame is left by its own epilogue. The main
// function takes the mark away, and the exception callback makes the program's result of the number. Nothing is paid where nothing can
// throw.

// isThrow reports whether kfunc k is bpf_throw. Without a proof nobody knows the exception callback.
func (l *lowerer) isThrow(k int) bool {
	return k >= 0 && k < len(l.p.Kfuncs) && l.p.Kfuncs[k].Name == program.KfuncThrow && l.res != nil
}

// findThrowers finds the functions that can throw: themselves, or in what they call or have called. A proof says that the exception
// callback is none.
func (l *lowerer) findThrowers() error {
	l.throws = make([]bool, len(l.p.Funcs))
	callers := make([][]int, len(l.p.Funcs))
	var work []int
	for f := range l.p.Funcs {
		for pc := l.p.Funcs[f].Start; pc < l.p.Funcs[f].End; pc++ {
			switch in := l.p.Insns[pc]; {
			case !l.live[pc]:
			case in.IsKfuncCall() && l.isThrow(int(in.Imm)):
				work = append(work, f)
			case in.IsPseudoCall(), in.IsPseudoFunc():
				if callee := l.p.FuncAt(pc + 1 + int(in.Imm)); callee >= 0 {
					callers[callee] = append(callers[callee], f)
				}
			}
		}
	}
	for len(work) > 0 {
		f := work[len(work)-1]
		work = work[:len(work)-1]
		if !l.throws[f] {
			l.throws[f] = true
			work = append(work, callers[f]...)
		}
	}
	if l.res != nil && l.res.ExceptionCallback > 0 && l.throws[l.res.ExceptionCallback] {
		return fmt.Errorf("program %s: the exception callback can throw", l.p.Name)
	}
	return nil
}

// inMain reports whether the main function is the running one.
func (l *lowerer) inMain() bool { return l.p.FuncAt(l.pc) == 0 }

// throw emits bpf_throw(r1 number).
func (l *lowerer) throw() {
	start := len(l.out.Insns)
	l.move(0, 1)
	if l.inMain() {
		l.thrown = append(l.thrown, l.jumpAhead(ir.Insn{Op: ir.Jmp}))
	} else {
		l.emit(ir.Insn{Op: ir.SetThrown, Imm: 1})
		l.emit(ir.Insn{Op: ir.Exit})
	}
	l.inside(start)
}

// passOn emits what goes behind a call of function f.
func (l *lowerer) passOn(f int) {
	if l.throws[f] {
		l.leave = append(l.leave, l.jumpAhead(ir.Insn{Op: ir.IfThrown, Flag: ir.FlagInside}))
	}
}

// catch emits, at the end of the running function, where its calls that threw go on, and its own throws if it is the main function.
func (l *lowerer) catch() {
	leave, thrown := l.leave, l.thrown
	l.leave, l.thrown = l.leave[:0], l.thrown[:0]
	if len(leave)+len(thrown) == 0 {
		return
	}
	start := len(l.out.Insns)
	for _, j := range leave {
		l.land(j)
	}
	if l.inMain() {
		if len(leave) > 0 {
			l.emit(ir.Insn{Op: ir.SetThrown})
		}
		for _, j := range thrown {
			l.land(j)
		}
		if f := l.res.ExceptionCallback; f > 0 {
			l.move(1, 0)
			l.callFunc(f)
		}
	}
	l.emit(ir.Insn{Op: ir.Exit})
	l.inside(start - 1) // no BPF instruction stands here
}
