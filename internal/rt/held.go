package rt

import (
	"errors"

	"github.com/skep-bpf/skep/internal/abi"
)

// Held is something that a program got from a helper and has to give back: a record of a ring buffer, a lock, an object. The verifier
// proves that a program does, but a run can be abandoned, by its context or by a fault.
type Held struct {
	Addr uint64
	Kind HeldKind
}

// HeldKind says how a thing is given back in the program's place. It is a number, as machine code notes it as well.
type HeldKind uint64

// The kinds.
const (
	HeldRecord HeldKind = iota // a record of a ring buffer
	HeldLock                   // a bpf_spin_lock
	HeldDrain                  // a user ring buffer that is drained
	HeldBits                   // the copy of bits that an iterator goes through
	HeldObject                 // an object of the program, or one of its references
	HeldNode                   // a node that is about to be put into a tree
	heldKinds
)

var drops [heldKinds]func(addr uint64)

// OnDrop says how a kind of things is given back; the map that they belong to is held by the program still. It is for who has such things,
// when the process starts.
func OnDrop(k HeldKind, drop func(addr uint64)) { drops[k] = drop }

// HeldList is what a run holds. It lies off the Go heap, beside the run's stack: machine code that reserves and submits records without a
// call adds to it and takes away (abi.Held...). An entry's distance from the start of the list is the number of bytes that are used with
// it, so that the last one is at used, and in an empty list there stands the 0, which is no address.
type HeldList struct {
	used uint64 // bytes of held
	_    uint64
	held [abi.HeldMax]Held
}

var errHeld = errors.New("the program holds too many things")

// HoldIn makes l the list of the run. Engines call it.
func (r *Run) HoldIn(l *HeldList) {
	if r.held != l {
		r.dropHeld()
		r.held = l
	}
}

// all returns the entries in use.
func (l *HeldList) all() []Held { return l.held[:l.used/abi.HeldEntry] }

// Hold notes that the program holds h. A proven program cannot hold more than its stack has room for.
func (r *Run) Hold(h Held) {
	if r.held == nil {
		r.held = new(HeldList) // no engine runs here
	}
	n := len(r.held.all())
	if n == abi.HeldMax {
		drops[h.Kind](h.Addr)
		r.Err = errHeld
		return
	}
	r.held.held[n] = h
	r.held.used += abi.HeldEntry
}

// GiveBack notes that the program gave back what lies at addr; the last thing held is looked at first.
func (r *Run) GiveBack(addr uint64) {
	if r.held == nil {
		return
	}
	all := r.held.all()
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].Addr == addr {
			copy(all[i:], all[i+1:])
			r.held.used -= abi.HeldEntry
			return
		}
	}
}

// dropHeld gives back what an abandoned run held, the last first: a lock before the object that it lies in.
func (r *Run) dropHeld() {
	if r.held == nil {
		return
	}
	all := r.held.all()
	for i := len(all) - 1; i >= 0; i-- {
		drops[all[i].Kind](all[i].Addr)
	}
	r.held.used = 0
}
