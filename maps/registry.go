package maps

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/skep-bpf/skep/internal/offheap"
)

// Every map has a handle: the address of a small header outside the Go heap, which is what a program's 64-bit map load
// puts in a register. The header's first 8 bytes hold the map's number, an index into the table below, so that a helper
// finds the Go side with two loads. A program keeps its maps alive, so a live program's handle is always good; numbers
// of closed maps are used again.

const (
	headerSize      = 64 // a cache line: headers are read by every helper call
	headersPerBlock = 4096 / headerSize
)

var registry struct {
	mu     sync.Mutex
	table  atomic.Pointer[[]*Map] // copied on change, read without a lock; entry 0 is unused
	free   []uint32
	blocks []*offheap.Region // never freed: headers are reused with their numbers
}

// register gives m a number and a header.
func register(m *Map) error {
	r := &registry
	r.mu.Lock()
	defer r.mu.Unlock()
	var old []*Map
	if p := r.table.Load(); p != nil {
		old = *p
	}
	if len(old) == 0 {
		old = make([]*Map, 1)
	}
	var id uint32
	if n := len(r.free); n > 0 {
		id, r.free = r.free[n-1], r.free[:n-1]
	} else {
		id = uint32(len(old))
	}
	if int(id)/headersPerBlock >= len(r.blocks) {
		b, err := offheap.Alloc(headersPerBlock * headerSize)
		if err != nil {
			return fmt.Errorf("map header: %w", err)
		}
		r.blocks = append(r.blocks, b)
	}
	table := make([]*Map, max(len(old), int(id)+1))
	copy(table, old)
	table[id] = m
	m.id = id
	m.header = headerAt(r.blocks[id/headersPerBlock], int(id%headersPerBlock))
	*m.header = uint64(id)
	r.table.Store(&table)
	return nil
}

// unregister frees m's number. The caller knows that no program holds its handle.
func unregister(m *Map) {
	r := &registry
	r.mu.Lock()
	defer r.mu.Unlock()
	table := append([]*Map(nil), *r.table.Load()...)
	table[m.id] = nil
	*m.header = 0
	r.table.Store(&table)
	r.free = append(r.free, m.id)
}

// FromHandle returns the map whose handle h is. The caller knows, from the verifier's proof, that h is the handle of a
// map that the running program holds.
func FromHandle(h uint64) *Map {
	return (*registry.table.Load())[loadHeader(h)]
}
