package lower

import "github.com/skep-bpf/skep/internal/ir"

// eliminate drops computations whose result nobody reads (the map pointer of an inlined lookup, for example) and jumps
// to the next instruction.
func eliminate(p *ir.Program) {
	var live []ir.RegSet
	to := make([]int32, len(p.Insns)+1)
	for round := 0; round < 4; round++ { // a chain of dead computations goes one link a round
		live = ir.LiveOut(p, live)
		n := int32(0)
		for i := range p.Insns {
			to[i] = n
			if !droppable(&p.Insns[i], live[i], i) {
				n++
			}
		}
		if int(n) == len(p.Insns) {
			return
		}
		to[len(p.Insns)] = n
		compact(p, to)
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

// compact removes the instructions i with to[i] == to[i+1] and moves every other to to[i].
func compact(p *ir.Program, to []int32) {
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
	p.Insns = p.Insns[:to[len(p.Insns)]]
}
