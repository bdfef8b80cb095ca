package maps

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/offheap"
	"github.com/skep-bpf/skep/internal/rt"
)

// Every map has a handle: the address of a small header outside the Go heap, which is what a program's 64-bit map load
// puts in a register. Its layout is in internal/rt: the map's number, an index into the table below, so that a helper
// finds the Go side with two loads, and of an array where its values are, for code that finds its map only when it runs. A program keeps its maps alive, so a live program's handle is always good; numbers
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
	setHeader(m)
	r.table.Store(&table)
	return nil
}

// header returns the words of a map's header.
func header(m *Map) mem { return memAt(m.header) }

// setHeader fills the header in. The number comes last: it makes the handle good.
func setHeader(m *Map) {
	h := header(m)
	if a, ok := m.store.(*array); ok && m.typ == ebpf.Array {
		h.u64(rt.HeaderValues).Store(uint64(a.m.addr(0)))
		h.u64(rt.HeaderEntries).Store(uint64(a.maxEntries))
	}
	h.u64(rt.HeaderID).Store(uint64(m.id))
}

func clearHeader(m *Map) {
	for off := rt.HeaderID; off <= rt.HeaderEntries; off += 8 {
		header(m).u64(off).Store(0)
	}
}

// headerRegion returns the block of headers that holds n bytes at addr.
func headerRegion(addr, n uint64) (rt.Region, bool) {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	for _, b := range registry.blocks {
		if g := (rt.Region{Base: uint64(b.Addr()), Size: uint64(b.Size()), ReadOnly: true, Name: "map headers"}); g.Contains(addr, n) {
			return g, true
		}
	}
	return rt.Region{}, false
}

// unregister frees m's number. The caller knows that no program holds its handle.
func unregister(m *Map) {
	r := &registry
	r.mu.Lock()
	defer r.mu.Unlock()
	table := append([]*Map(nil), *r.table.Load()...)
	table[m.id] = nil
	clearHeader(m)
	r.table.Store(&table)
	r.free = append(r.free, m.id)
}

// FromHandle returns the map whose handle h is. The caller knows, from the verifier's proof, that h is the handle of a
// map that the running program holds.
func FromHandle(h uint64) *Map {
	return (*registry.table.Load())[loadHeader(h)]
}
