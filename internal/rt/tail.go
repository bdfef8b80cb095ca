package rt

import (
	"sync/atomic"
)

// Target is a program as a tail call reaches it.
type Target struct {
	Entry  uint64 // address of its machine code, 0 if it has none
	Interp any    // *interp.Code, nil if it is not interpreted
}

// ProgArray is the engine's half of a program array (BPF_MAP_TYPE_PROG_ARRAY): entry addresses off the Go heap for
// machine code, and the same targets for the interpreter. The map type owns the memory and serialises Set.
type ProgArray struct {
	addrs   []uint64 // off the Go heap
	targets []atomic.Pointer[Target]
}

// NewProgArray makes an array over addrs, zeroed off-heap memory of one word per entry, which must live as long as
// any program that was lowered with the array.
func NewProgArray(addrs []uint64) *ProgArray {
	return &ProgArray{addrs: addrs, targets: make([]atomic.Pointer[Target], len(addrs))}
}

// Len returns the number of entries.
func (a *ProgArray) Len() int { return len(a.addrs) }

// Set replaces entry i; nil empties it. Runs that have read the old entry may still enter it.
func (a *ProgArray) Set(i int, t *Target) {
	a.targets[i].Store(t)
	var entry uint64
	if t != nil {
		entry = t.Entry
	}
	atomic.StoreUint64(&a.addrs[i], entry)
}

// Get returns entry i, nil if it is empty or i is out of range.
func (a *ProgArray) Get(i uint64) *Target {
	if i >= uint64(len(a.targets)) {
		return nil
	}
	return a.targets[i].Load()
}

// Interp returns the interpreter's program at index i, nil if there is none.
func (a *ProgArray) Interp(i uint64) any {
	if t := a.Get(i); t != nil {
		return t.Interp
	}
	return nil
}
