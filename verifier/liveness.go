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
	if h == nil || !h.For(e.prog.Type) {
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
	if k := int(in.Imm); k >= 0 && k < len(e.prog.Kfuncs) {
		if p := kfuncProto(&e.prog.Kfuncs[k]); p != nil {
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
	var succ []int
	for changed := true; changed; {
		changed = false
		for pc := n - 1; pc >= 0; pc-- {
			if pc > 0 && e.prog.Insns[pc-1].IsLdImm64() {
				continue
			}
			var out uint16
			succ = e.successors(succ[:0], pc)
			for _, s := range succ {
				if s < n {
					out |= e.aux[s].live
				}
			}
			if live := out&^def[pc] | use[pc]; live != e.aux[pc].live {
				e.aux[pc].live = live
				changed = true
			}
		}
	}
	if e.log.all() {
		e.printLive()
	}
	return nil
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
