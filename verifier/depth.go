package verifier

import (
	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/progtype"
)

// This file bounds the BPF stack over all chains of calls (check_max_stack_depth). Stack arguments do not count.

// roundDepth is a function's share of the stack as a JIT lays it out (round_up_stack_depth).
func roundDepth(d int) int { return (d + 15) &^ 15 }

// maxTailCallDepth is how much stack a chain may use before a function with tail calls (256 bytes).
const maxTailCallDepth = 256

func (e *env) checkDepth() error {
	private := e.has(privateStacks) && progtype.PrivateStack(e.prog.Type) && !(e.has(sharedKprobeStack) && e.prog.Type == ebpf.Kprobe && e.prog.AttachType == 0)
	for i := range e.funcs {
		if e.funcs[i].tailCall {
			private = false
		}
	}
	e.spreadTailCalls()
	if f := e.exceptionCallback; f != 0 { // it runs on the stack of the kernel, once the program's frames are gone
		if err := e.stackOf(f, false); err != nil {
			return err
		}
	}
	// Callbacks that run on their own use the stack of whom they interrupt, and so does what they call, also where the program calls it.
	for f := len(e.funcs) - 1; f >= 0; f-- {
		if f != 0 && !e.funcs[f].async {
			continue
		}
		if err := e.stackOf(f, private && f == 0); err != nil {
			return err
		}
	}
	return nil
}

// spreadTailCalls marks the functions from which a tail call can be reached.
func (e *env) spreadTailCalls() {
	for changed := true; changed; {
		changed = false
		for f := range e.funcs {
			for _, c := range e.funcs[f].calls {
				if e.funcs[c].tailReach && !e.funcs[f].tailReach {
					e.funcs[f].tailReach, changed = true, true
				}
			}
		}
	}
}

// depthWalk visits the chains of calls. seen[f][n] is one more than the greatest depth with which function f was entered
// as the n-th of a chain: entering it again with less finds nothing new, which keeps the walk short however many chains
// there are.
type depthWalk struct {
	e       *env
	private bool
	seen    [][isa.MaxFrames]int
}

// visit checks function f, entered as the n-th of a chain (from 0) with depth bytes in use.
func (w *depthWalk) visit(f, n, depth int) error {
	e, info := w.e, &w.e.funcs[f]
	e.insn = e.prog.Funcs[f].Start
	if n >= isa.MaxFrames {
		return e.reject(CodeStackDepth, "the call stack of %d frames is too deep !", n)
	}
	if w.seen[f][n] > depth {
		return nil
	}
	w.seen[f][n] = depth + 1
	if f != 0 && info.tailCall && depth >= maxTailCallDepth {
		return e.reject(CodeStackDepth, "tail_calls are not allowed when call stack of previous frames is %d bytes. Too large", depth)
	}
	own := roundDepth(info.depth)
	info.shared = info.shared || !w.private
	if !info.shared && own >= privateStackMin {
		if own > isa.StackSize {
			return e.reject(CodeStackDepth, "stack size of subprog %d is %d. Too large", f, own)
		}
	} else if depth += own; depth > isa.StackSize {
		return e.reject(CodeStackDepth, "combined stack size of %d calls is %d. Too large", n+1, depth)
	}
	for i, c := range info.calls {
		switch callee := &e.funcs[c]; {
		case callee.async && callee.tailCall:
			return e.reject(CodeCall, "tail call in a callback that runs on its own")
		case callee.async && !info.direct[i]:
			continue // it has a stack of its own
		}
		if err := w.visit(c, n+1, depth); err != nil {
			return err
		}
	}
	return nil
}

// privateStackMin is the least stack size for which the kernel gives a function a stack of its own.
const privateStackMin = 64

// stackOf bounds the stack of what begins with function f.
func (e *env) stackOf(f int, private bool) error {
	w := depthWalk{e: e, private: private, seen: make([][isa.MaxFrames]int, len(e.funcs))}
	return w.visit(f, 0, 0)
}
