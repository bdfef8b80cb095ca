// Package jit holds what the back ends have in common: the form of their results, and the checks and sums over a lowered
// program that do not depend on the machine. It knows no encodings.
package jit

import (
	"sort"

	"github.com/skep-bpf/skep/internal/ir"
)

// Place says that the code from Off on, up to the next Place, belongs to BPF instruction PC (-1: to no instruction).
type Place struct {
	Off int32
	PC  int32
}

// Code is position-independent machine code and what is known of it.
type Code struct {
	Text   []byte
	Funcs  []int   // offset of each function
	Places []Place // ascending by Off
	// Depth is the most machine stack, in bytes, that one run uses: its frames and those of the
	// functions it calls. It does not count machine code it calls, nor what a tail call adds.
	Depth int
}

// PCAt returns the BPF instruction that the code at off belongs to, -1 if none.
func (c *Code) PCAt(off int) int {
	k := sort.Search(len(c.Places), func(i int) bool { return int(c.Places[i].Off) > off })
	if k == 0 {
		return -1
	}
	return int(c.Places[k-1].PC)
}

// AddPlace appends to places that the code from off on belongs to BPF instruction pc.
func AddPlace(places []Place, off, pc int32) []Place {
	if n := len(places); n > 0 {
		switch last := &places[n-1]; {
		case last.PC == pc:
			return places
		case last.Off == off:
			last.PC = pc
			return places
		}
	}
	return append(places, Place{off, pc})
}

// Slack is what a stub that leaves to Go pushes below the deepest frame, at most, in bytes.
const Slack = 256

// MayGotoBudget is how often one frame may go round by may_goto (BPF_MAX_LOOPS).
const MayGotoBudget = 8 << 20

// Check refuses what no code can be made for, beside what ir.Check refuses.
func Check(p *ir.Program) error {
	if err := ir.Check(p); err != nil {
		return err
	}
	fail := func(i int, reason string) error {
		return &ir.Error{Program: p.Name, Index: i, Insn: p.Insns[i], Reason: reason}
	}
	for i := range p.Funcs {
		if p.IsEntry(i) && p.Funcs[i].InArgs != 0 {
			return fail(p.Funcs[i].Start, "the entry function has stack arguments")
		}
	}
	for i := range p.Insns {
		if in := &p.Insns[i]; in.Op == ir.Call && p.IsEntry(int(in.Off)) {
			return fail(i, "calls the entry function")
		}
	}
	return nil
}

// StackDepth returns the deepest stack over all call chains from the entries, in bytes; frames holds what one call of each
// function takes. A recursive program has no depth: an error names the call.
func StackDepth(p *ir.Program, frames []int) (int, error) {
	const open = -1
	depth := make([]int, len(frames))
	var walk func(f int) error
	walk = func(f int) error {
		depth[f] = open
		most := 0
		for i := p.Funcs[f].Start; i < p.Funcs[f].End; i++ {
			in := &p.Insns[i]
			if in.Op != ir.Call {
				continue
			}
			callee := int(in.Off)
			if depth[callee] == open {
				return &ir.Error{Program: p.Name, Index: i, Insn: *in, Reason: "recursive call"}
			}
			if depth[callee] == 0 {
				if err := walk(callee); err != nil {
					return err
				}
			}
			most = max(most, depth[callee])
		}
		depth[f] = most + frames[f]
		return nil
	}
	most := 0
	for f := range p.Funcs {
		if !p.IsEntry(f) {
			continue
		}
		if err := walk(f); err != nil {
			return 0, err
		}
		most = max(most, depth[f])
	}
	return most + Slack, nil
}
