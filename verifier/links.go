package verifier

import (
	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/scalar"
)

// Linked scalars: copies of one number, or sums of it with constants, share an id. What a branch finds out about one
// holds for all of them.

const maxLinked = 6 // LINKED_REGS_MAX

// place is where a linked scalar lives: an operand or a stack slot of a frame.
type place struct {
	frame uint8
	index uint8 // operand, or slot
	stack bool
}

type linkedRegs struct {
	n  uint8
	at [maxLinked]place
}

// reg returns the register state at p.
func (s *state) reg(p place) *reg {
	if p.stack {
		return &s.frames[p.frame].stack[p.index].spilled
	}
	return &s.frames[p.frame].regs[p.index]
}

// collectLinked notes where the scalars of one id live, dead registers left out (in 6.12 they are not); what does not fit loses its link
// (collect_linked_regs).
func (e *env) collectLinked(st *state, id uint32, links *linkedRegs) {
	id &^= addConst
	add := func(r *reg, p place) {
		if r.typ != scalarValue || r.id&^addConst != id {
			return
		}
		if links.n < maxLinked {
			links.at[links.n] = p
			links.n++
		} else {
			r.clearID()
		}
	}
	for i := st.cur; i >= 0; i-- {
		fr := st.frames[i]
		for j := range fr.regs {
			if j != int(isa.R10) && (!e.has(liveLinks) || e.liveAt(st, e.insn, i, j)) {
				add(&fr.regs[j], place{uint8(i), uint8(j), false})
			}
		}
		for j := range fr.stack {
			if fr.stack[j].isSpill() {
				add(&fr.stack[j].spilled, place{uint8(i), uint8(j), true})
			}
		}
	}
}

// syncLinked gives what is known about known to the scalars linked to it (sync_linked_regs).
func (e *env) syncLinked(st *state, known *reg, links *linkedRegs) {
	for _, p := range links.at[:links.n] {
		r := st.reg(p)
		if r == known || r.typ != scalarValue || r.id&^addConst != known.id&^addConst {
			continue
		}
		if both := (r.id | known.id) & addConst; both == addConst {
			continue // sums of different widths: neither follows from the other
		} else if both == 0 || r.id == known.id && r.off == known.off {
			*r = *known
			continue
		} else {
			follow(r, known, both == addConst32)
		}
	}
}

// follow makes r what it is as a sum of the linked number with a constant, where known is another such sum.
func follow(r, known *reg, is32 bool) {
	delta := int64(0)
	if r.id&addConst != 0 {
		delta = int64(r.off)
	}
	if known.id&addConst != 0 {
		delta -= int64(known.off)
	}
	id, off := r.id, r.off
	*r = *known
	r.id, r.off = id, off
	r.ALU(isa.AluADD, scalar.Const(uint64(delta)), is32)
}
