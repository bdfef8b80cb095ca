package rt

// Held is something that a program got from a helper and has to give back: a record of a ring buffer. The verifier proves that a
// program does, but a run can be abandoned, by its context or by a fault.
type Held struct {
	Addr uint64
	// Drop gives it back in the program's place. The map that it belongs to is held by the program still.
	Drop func(addr uint64)
}

// Hold notes that the program holds h.
func (r *Run) Hold(h Held) { r.held = append(r.held, h) }

// GiveBack notes that the program gave back what lies at addr; the last thing held is looked at first.
func (r *Run) GiveBack(addr uint64) {
	n := len(r.held) - 1
	if n >= 0 && r.held[n].Addr == addr {
		r.held = r.held[:n]
		return
	}
	for i := n - 1; i >= 0; i-- {
		if r.held[i].Addr == addr {
			r.held = append(r.held[:i], r.held[i+1:]...)
			return
		}
	}
}

// dropHeld gives back what an abandoned run held.
func (r *Run) dropHeld() {
	for _, h := range r.held {
		h.Drop(h.Addr)
	}
	clear(r.held)
	r.held = r.held[:0]
}
