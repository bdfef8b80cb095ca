package verifier

import (
	"strings"

	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/program"
)

// Exceptions: bpf_throw ends the program from any depth of calls. What the program returns is what its exception callback makes of the
// number thrown, a global function that a tag of the main function names; without one it is the number itself. Nothing may be held where
// a throw happens, in any frame, and no function of a callback may throw: the helper that calls it would never come to its end.
//
// As bpf_find_exception_callback_insn_off, check_kfunc_call and check_max_stack_depth_subprog of Linux.

const exceptionTag = "exception_callback:"

// findExceptionCallback finds the function that runs where the program throws.
func (e *env) findExceptionCallback() error {
	e.insn = -1
	main := e.prog.Funcs[0].Type
	if main == nil {
		return nil
	}
	name := ""
	for _, tag := range main.Tags {
		n, ok := strings.CutPrefix(tag, exceptionTag)
		switch {
		case !ok:
		case name != "":
			return e.reject(CodeBTF, "multiple exception callback tags for main subprog")
		default:
			name = n
		}
	}
	if name == "" {
		return nil
	}
	for f := range e.prog.Funcs {
		fn := &e.prog.Funcs[f]
		switch {
		case fn.Type == nil || fn.Type.Name != name:
		case !fn.Global:
			return e.reject(CodeBTF, "exception callback '%s' must have global linkage", name)
		case f == 0:
			return e.reject(CodeBTF, "invalid exception callback insn_off in func_info: 0")
		default:
			e.exceptionCallback = f
			e.funcs[f].callback = true
			return nil
		}
	}
	return e.reject(CodeBTF, "exception callback '%s' could not be found in BTF", name)
}

// isException reports whether the function that is walked on its own is the exception callback: what it returns the program returns.
func (e *env) isException() bool {
	return e.exceptionCallback != 0 && int(e.st.frames[0].fn) == e.exceptionCallback
}

// checkExceptionArgs checks the callback's parameters: the number that was thrown.
func (e *env) checkExceptionArgs(f int) error {
	if a := e.funcs[f].args; f == e.exceptionCallback && f != 0 && (len(a) != 1 || a[0].kind != argScalar) {
		return e.reject(CodeBTF, "exception cb only supports single integer argument")
	}
	return nil
}

// isThrow reports whether an instruction throws (is_bpf_throw_kfunc).
func (e *env) isThrow(in isa.Insn) bool {
	k := e.kfuncOf(in)
	return k != nil && k.kernel && k.Name == program.KfuncThrow
}

// throwValue checks the number that is thrown where it is what the program returns.
func (e *env) throwValue(m *kfuncMeta) error {
	if !m.k.kernel || m.k.Name != program.KfuncThrow {
		return nil
	}
	e.throws = true
	if e.exceptionCallback != 0 {
		return nil
	}
	if first := e.st.frames[0]; first.fn != 0 && first.async == asyncNone && e.opt.Kernel618 == LikeUs {
		// a global function that is walked on its own, but the program ends; the kernel (6.18) takes any number
		return e.programReturn(isa.R1, "R1")
	}
	return e.checkReturn(isa.R1, "R1")
}

// checkThrows refuses throws in callbacks and in what they call, and calls of the exception callback.
func (e *env) checkThrows() error {
	seen := make([][2]bool, len(e.funcs))
	if e.exceptionCallback != 0 {
		if err := e.throwsFrom(e.exceptionCallback, false, seen); err != nil {
			return err
		}
	}
	return e.throwsFrom(0, false, seen)
}

// throwsFrom checks function f and what it calls; inside says that a callback is among its callers.
func (e *env) throwsFrom(f int, inside bool, seen [][2]bool) error {
	inside = inside || e.funcs[f].callback
	index := 0
	if inside {
		index = 1
	}
	if seen[f][index] {
		return nil
	}
	seen[f][index] = true
	fn := &e.prog.Funcs[f]
	for i := fn.Start; i < fn.End; i++ {
		in := e.prog.Insns[i]
		e.insn = i
		if e.isThrow(in) && inside {
			return e.reject(CodeCall, "bpf_throw kfunc (insn %d) cannot be called from callback subprog %d", i, f)
		}
		if !in.IsPseudoCall() && !in.IsPseudoFunc() {
			continue
		}
		callee := e.callTarget(i)
		if callee == e.exceptionCallback && callee != 0 {
			if in.IsPseudoCall() {
				return e.reject(CodeCall, "insn %d cannot call exception cb directly", i)
			}
			continue
		}
		if err := e.throwsFrom(callee, inside, seen); err != nil {
			return err
		}
	}
	return nil
}
