package verifier

import "github.com/skep-bpf/skep/internal/isa"

// Live registers, computed before the walk: a register that no path reads before writing it cannot matter, and pruning
// need not compare it (compute_live_registers).

const argRegs = 1<<isa.R1 | 1<<isa.R2 | 1<<isa.R3 | 1<<isa.R4 | 1<<isa.R5

// usesDefs returns the registers that the instruction at pc reads and writes, r10 excepted.
func (e *env) usesDefs(pc int) (use, def uint16) {
	in := e.prog.Insns[pc]
	use, def = uint16(in.Reads()), uint16(in.Writes())
	switch {
	case in.IsExit():
		use |= 1 << isa.R0
	case in.Class() == isa.ClassLD && !in.IsLdImm64():
		return 1<<isa.R10 - 1, 0 // legacy packet loads: everything may matter, as the kernel has it
	case in.IsPseudoCall():
		use |= argRegs
	case in.IsKfuncCall():
		use |= argRegs & uint16(1<<(e.kfuncRegArgs(in)+1)-1)
	case in.IsCall():
		use |= argRegs & uint16(1<<(e.helperArgs(in.Imm)+1)-1)
	case in.IsStackArgLoad():
		use = 0
	case in.IsStackArgStore():
		use &^= 1 << in.Dst
	}
	return use &^ (1 << isa.R10), def
}

// helperArgs returns how many arguments helper id takes; five if the program does not have it.
func (e *env) helperArgs(id int32) int {
	h := e.helper(id)
	if h != nil {
		h = e.protoFor(h)
	}
	if h == nil {
		return 5
	}
	n := 5
	for n > 0 && h.Args[n-1].Kind == ArgDontCare {
		n--
	}
	return n
}

func (e *env) helper(id int32) *HelperProto {
	if e.opt.Helpers == nil {
		return nil
	}
	return e.opt.Helpers(id)
}

// kfuncRegArgs returns how many register arguments a kfunc takes; five if it is unknown.
func (e *env) kfuncRegArgs(in isa.Insn) int {
	if k := e.kfuncOf(in); k != nil && !k.denied {
		if p := kfuncProto(&k.Kfunc); p != nil {
			return min(len(p.Params), isa.MaxRegArgs)
		}
	}
	return isa.MaxRegArgs
}

func (e *env) findLive() error {
	n := len(e.prog.Insns)
	use, def := make([]uint16, n), make([]uint16, n)
	for pc := range use {
		use[pc], def[pc] = e.usesDefs(pc)
	}
	e.flowLive(use, def)
	if e.log.all() && e.has(liveTable) {
		e.printLive()
	}
	return nil
}

// flowLive spreads liveness against the flow until nothing changes. An instruction is looked at again only when what is
// live behind it has grown, at most once for each register: long chains of jumps backwards cost no more than others.
func (e *env) flowLive(use, def []uint16) {
	n := len(use)
	var succ []int
	first := make([]int32, n+1) // predecessors of pc are preds[first[pc]:first[pc+1]]
	each := func(f func(pc, to int)) {
		for pc := 0; pc < n; pc++ {
			succ = e.successors(succ[:0], pc)
			for _, to := range succ {
				if to < n {
					f(pc, to)
				}
			}
			if e.prog.Insns[pc].IsLdImm64() {
				pc++
			}
		}
	}
	each(func(_, to int) { first[to+1]++ })
	for i := range n {
		first[i+1] += first[i]
	}
	preds, next := make([]int32, first[n]), append([]int32(nil), first[:n]...)
	each(func(pc, to int) { preds[next[to]] = int32(pc); next[to]++ })
	work, queued := make([]int32, 0, n), make([]bool, n)
	for pc := range n { // the last one is taken first
		if pc == 0 || !e.prog.Insns[pc-1].IsLdImm64() {
			work, queued[pc] = append(work, int32(pc)), true
		}
	}
	for len(work) > 0 {
		pc := work[len(work)-1]
		work, queued[pc] = work[:len(work)-1], false
		var out uint16
		succ = e.successors(succ[:0], int(pc))
		for _, to := range succ {
			if to < n {
				out |= e.aux[to].live
			}
		}
		live := out&^def[pc] | use[pc]
		if live == e.aux[pc].live {
			continue
		}
		e.aux[pc].live = live
		for _, p := range preds[first[pc]:first[pc+1]] {
			if !queued[p] {
				work, queued[p] = append(work, p), true
			}
		}
	}
}

// printLive writes the table of live registers, with the number of the loop an instruction belongs to in front.
func (e *env) printLive() {
	scc := e.components()
	e.log.printf("Live regs before insn:\n")
	for pc := 0; pc < len(e.prog.Insns); pc++ {
		if scc[pc] != 0 {
			e.log.printf("%3d ", scc[pc])
		} else {
			e.log.printf("    ")
		}
		e.log.printf("%3d: ", pc)
		for r := 0; r < 10; r++ {
			if e.aux[pc].live>>r&1 != 0 {
				e.log.printf("%d", r)
			} else {
				e.log.printf(".")
			}
		}
		e.log.buf = append(isa.AppendText(append(e.log.buf, ' '), e.prog.Insns, pc, &e.names), '\n')
		if e.prog.Insns[pc].IsLdImm64() {
			pc++
		}
	}
}
