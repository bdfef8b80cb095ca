package verifier

import "github.com/skep-bpf/skep/internal/isa"

// This file walks the control-flow graph once: everything must be reachable, nothing may run off the program's end, and
// the places are marked where states are compared (prune points) and where the way of an execution cannot be retraced
// by counting down (jump points). As check_cfg of Linux.

// successors appends the slots that can follow slot pc inside its function: first the next one, then a jump's target.
func (e *env) successors(dst []int, pc int) []int {
	in := e.prog.Insns[pc]
	if in.IsLdImm64() {
		return append(dst, pc+2)
	}
	if c := in.Class(); c != isa.ClassJMP && c != isa.ClassJMP32 {
		return append(dst, pc+1)
	}
	switch in.JmpOp() {
	case isa.JmpEXIT:
		return dst
	case isa.JmpCALL:
		return append(dst, pc+1)
	case isa.JmpJA:
		return append(dst, in.JumpTarget(pc))
	}
	return append(dst, pc+1, in.JumpTarget(pc))
}

func (e *env) checkCFG() error {
	n := len(e.prog.Insns)
	reached := make([]bool, n)
	work := []int{0}
	reached[0] = true
	if f := e.exceptionCallback; f != 0 { // nothing needs to call it
		work = append(work, e.prog.Funcs[f].Start)
		reached[e.prog.Funcs[f].Start] = true
	}
	var succ []int
	for len(work) > 0 {
		pc := work[len(work)-1]
		work = work[:len(work)-1]
		e.insn = pc
		e.markPoints(pc)
		succ = e.successors(succ[:0], pc)
		if in := e.prog.Insns[pc]; in.IsPseudoCall() || in.IsPseudoFunc() {
			succ = append(succ, pc+int(in.Imm)+1)
		}
		for _, to := range succ {
			if to < 0 || to >= n {
				return e.reject(CodeControlFlow, "jump out of range from insn %d to %d", pc, to)
			}
			if !reached[to] {
				reached[to] = true
				work = append(work, to)
			}
		}
	}
	for i := 0; i < n; i++ {
		e.insn = i
		if !reached[i] {
			return e.reject(CodeControlFlow, "unreachable insn %d", i)
		}
		if e.prog.Insns[i].IsLdImm64() {
			if reached[i+1] {
				return e.reject(CodeControlFlow, "jump into the middle of ldimm64 insn %d", i)
			}
			i++
		}
	}
	return nil
}

// markPoints marks the prune and jump points that the instruction at pc makes.
func (e *env) markPoints(pc int) {
	in := e.prog.Insns[pc]
	point := func(i int) {
		if i >= 0 && i < len(e.aux) {
			e.aux[i].prune, e.aux[i].jump = true, true
		}
	}
	switch {
	case in.IsPseudoFunc():
		point(pc + 2)
		e.aux[pc].prune = true
		point(pc + int(in.Imm) + 1)
	case in.IsCall():
		point(pc + 1)
		if e.asksIter(in) {
			e.aux[pc].prune, e.aux[pc].iterNext, e.aux[pc].force = true, true, true
			e.funcs[e.prog.FuncAt(pc)].iterates = true
		}
		if e.callsBack(in) {
			point(pc)
			e.aux[pc].callback, e.aux[pc].force = true, true
		}
		if e.asyncCall(in) {
			e.aux[pc].prune = true // before the call makes a path that was walked
		}
		if in.IsPseudoCall() {
			e.aux[pc].prune = true
			point(pc + int(in.Imm) + 1)
		}
	case in.Class() != isa.ClassJMP && in.Class() != isa.ClassJMP32, in.JmpOp() == isa.JmpEXIT:
	case in.JmpOp() == isa.JmpJA:
		point(in.JumpTarget(pc))
	default:
		e.aux[pc].prune = true
		if in.IsMayGoto() {
			e.aux[pc].force = true
		}
		point(in.JumpTarget(pc))
	}
	if e.opt.CheckpointEvery {
		e.aux[pc].prune = true
	}
}

// asksIter reports whether in asks an iterator for its next element (is_iter_next_kfunc).
func (e *env) asksIter(in isa.Insn) bool {
	k := e.kfuncOf(in)
	return k != nil && !k.denied && iterOf(k) == iterNext
}

// callsBack reports whether in is the call of a helper that calls a function of the program while it runs
// (is_sync_callback_calling_insn).
func (e *env) callsBack(in isa.Insn) bool {
	if in.IsKfuncCall() {
		k := int(in.Imm)
		return k >= 0 && k < len(e.prog.Kfuncs) && e.prog.Kfuncs[k].Name == "bpf_rbtree_add_impl"
	}
	if !in.IsHelperCall() {
		return false
	}
	h := e.helper(in.Imm)
	return h != nil && h.Callback != CallbackNone && h.Callback != CallbackAsync
}

// components numbers the strongly connected components of the graph that have more than one instruction or a jump to
// itself, from 1 on, in the order Tarjan's algorithm finishes them; 0 is outside of any loop.
func (e *env) components() []int {
	n := len(e.prog.Insns)
	const done = int(^uint(0) >> 1)
	scc, pre, low := make([]int, n), make([]int, n), make([]int, n)
	var stack, dfs, succ []int
	clock, next := 1, 1
	for root := 0; root < n; root++ {
		if pre[root] != 0 {
			continue
		}
		dfs = append(dfs[:0], root)
	walk:
		for len(dfs) > 0 {
			w := dfs[len(dfs)-1]
			if pre[w] == 0 {
				pre[w], low[w] = clock, clock
				clock++
				stack = append(stack, w)
			}
			succ = e.successors(succ[:0], w)
			for _, s := range succ {
				if s < n && pre[s] == 0 {
					dfs = append(dfs, s)
					continue walk
				}
			}
			self := false
			for _, s := range succ {
				if s < n {
					low[w] = min(low[w], low[s])
					self = self || s == w
				}
			}
			dfs = dfs[:len(dfs)-1]
			if low[w] < pre[w] {
				continue
			}
			loop := self || stack[len(stack)-1] != w
			for {
				t := stack[len(stack)-1]
				stack = stack[:len(stack)-1]
				low[t] = done
				if loop {
					scc[t] = next
				}
				if t == w {
					break
				}
			}
			if loop {
				next++
			}
		}
	}
	return scc
}
