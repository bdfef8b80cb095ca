package skep

import (
	"github.com/skep-bpf/skep/internal/ir"
	"github.com/skep-bpf/skep/internal/objects"
	"github.com/skep-bpf/skep/internal/rt"
)

// Objects that programs allocate. Those of a collection share a heap, which lives as long as a program or an object in it.

// newObject makes the host functions by which the program allocates objects, and those of which each CPU slot has a copy (lower.Env).
func (p *Program) newObject(perCPU bool) rt.Handle {
	which := 0
	if perCPU {
		which = 1
	}
	if p.makers[which] == 0 {
		h := rt.Register(p.heap.Maker(p.res.Objects, perCPU))
		p.makers[which] = h
		p.handles = append(p.handles, h)
	}
	return p.makers[which]
}

// reachObjects finds objects, for the engine that checks accesses.
func reachObjects(addr, n uint64) (ir.Region, bool) {
	g, ok := objects.Find(addr, n)
	return ir.Region(g), ok
}
