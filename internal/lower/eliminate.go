package lower

import "github.com/skep-bpf/skep/internal/ir"

// eliminate makes the program smaller without changing what it does: jumps go where they end up, code that nothing
// reaches goes, computations whose result nobody reads go (the map pointer of an inlined lookup, for example).
func eliminate(p *ir.Program) {
	for i := range p.Funcs {
		thread(p, &p.Funcs[i])
	}
	to := make([]int32, len(p.Insns)+1)
	keep := make([]bool, len(p.Insns))
	for i := range p.Funcs {
		reach(p, &p.Funcs[i], keep)
	}
	compact(p, to, func(i int) bool { return !keep[i] })
	var live []ir.RegSet
	for range maxRounds {
		live = ir.LiveOut(p, live)
		if !compact(p, to, func(i int) bool { return droppable(&p.Insns[i], live[i], i) }) {
			return
		}
	}
}

// maxRounds bounds the search for dead computations: a chain of them goes one link a round.
const maxRounds = 4

// thread makes jumps to jumps go to the end of the chain, and jumps to an exit exits.
func thread(p *ir.Program, f *ir.Func) {
	for i := f.Start; i < f.End; i++ {
		in := &p.Insns[i]
		if !in.Op.HasTarget() {
			continue
		}
		for range maxRounds { // a chain may be a circle
			t := &p.Insns[in.Off]
			if t.Op != ir.Jmp {
				break
			}
			in.Off = t.Off
		}
		if in.Op == ir.Jmp && p.Insns[in.Off].Op == ir.Exit {
			*in = ir.Insn{Op: ir.Exit, PC: in.PC}
		}
	}
}

// reach marks what can be reached from the start of a function.
func reach(p *ir.Program, f *ir.Func, seen []bool) {
	work := []int{f.Start}
	for len(work) > 0 {
		i := work[len(work)-1]
		work = work[:len(work)-1]
		for i < f.End && !seen[i] {
			seen[i] = true
			in := &p.Insns[i]
			switch {
			case in.Op == ir.Jmp:
				i = int(in.Off)
				continue
			case in.Op == ir.Exit, in.Op == ir.Trap:
				i = f.End
				continue
			case in.Op.HasTarget():
				work = append(work, int(in.Off))
			}
			i++
		}
	}
}

func droppable(in *ir.Insn, live ir.RegSet, i int) bool {
	switch {
	case in.Pure():
		return !live.Has(in.Dst) || in.Op == ir.Mov && in.W == 8 && !in.UseImm() && in.Src == in.Dst
	case in.Op == ir.Jmp:
		return int(in.Off) == i+1
	}
	return false
}

// compact removes the instructions for which drop holds and reports whether there were any. to is room for where each
// instruction goes.
func compact(p *ir.Program, to []int32, drop func(i int) bool) bool {
	n := int32(0)
	for i := range p.Insns {
		to[i] = n
		if !drop(i) {
			n++
		}
	}
	to[len(p.Insns)] = n
	if int(n) == len(p.Insns) {
		return false
	}
	for i := range p.Insns {
		in := p.Insns[i]
		if to[i] == to[i+1] {
			continue
		}
		if in.Op.HasTarget() {
			in.Off = to[in.Off]
		}
		p.Insns[to[i]] = in
	}
	for i := range p.Funcs {
		f := &p.Funcs[i]
		f.Start, f.End = int(to[f.Start]), int(to[f.End])
	}
	p.Insns = p.Insns[:n]
	return true
}
