package maps

import "sync/atomic"

// A pool hands out the elements first+1..first+n of a hash's slab (as links, see hash.go) and takes them back.
//
// The free list is a stack with a counter in the upper half of its head word, so that a pop never mistakes an element
// that was popped and pushed meanwhile (ABA). Elements never used before come from a counter, so that an empty map
// of a million entries has touched no memory.
//
// n is more than max: a writer takes its new element before it gives the old one back, one a stripe at most.
type pool struct {
	first, n uint32
	max      uint32        // elements that may be in the table
	count    atomic.Uint32 // elements that are, or will be in a moment
	unused   atomic.Uint32 // elements used at least once
	freeHead atomic.Uint64 // count<<32 | link
	hand     atomic.Uint32 // of LRU maps: where the last search for an old element ended
}

// anyCPU stands for a writer that is no program.
const anyCPU = -1

// makePools shares maxEntries out to so many pools and returns the size of the slab.
func (h *hash) makePools(pools int, maxEntries uint32) (slab uint32) {
	h.pools = make([]pool, pools)
	share := maxEntries / uint32(pools)
	for i := range h.pools {
		p := &h.pools[i]
		p.first, p.n, p.max = slab, share+stripeCount, share
		p.hand.Store(^uint32(0)) // in front of the first element
		slab += p.n
	}
	return slab
}

// poolFor returns the pool that a writer takes new elements from. Go's writers take turns with them.
func (h *hash) poolFor(cpu int) *pool {
	switch {
	case len(h.pools) == 1:
		return &h.pools[0]
	case cpu == anyCPU:
		return &h.pools[h.turn.Add(1)%uint32(len(h.pools))]
	}
	return &h.pools[cpu]
}

// poolOf returns the pool of an element.
func (h *hash) poolOf(link uint32) *pool {
	if len(h.pools) == 1 {
		return &h.pools[0]
	}
	return &h.pools[(link-1)/h.pools[0].n]
}

// reserve counts one element more unless the pool is used up.
func (p *pool) reserve() bool {
	for {
		n := p.count.Load()
		if n >= p.max {
			return false
		}
		if p.count.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// alloc takes an element from the free list or from those never used; 0 if there is none.
func (h *hash) alloc(p *pool) uint32 {
	for {
		head := p.freeHead.Load()
		link := uint32(head)
		if link == 0 {
			break
		}
		next := h.em.u32(h.elem(link) + offFree).Load()
		if p.freeHead.CompareAndSwap(head, (head>>32+1)<<32|uint64(next)) {
			return link
		}
	}
	for {
		n := p.unused.Load()
		if n >= p.n {
			return 0
		}
		if p.unused.CompareAndSwap(n, n+1) {
			return p.first + n + 1
		}
	}
}

// release gives an element back.
func (h *hash) release(link uint32) {
	p := h.poolOf(link)
	for {
		head := p.freeHead.Load()
		h.em.u32(h.elem(link) + offFree).Store(uint32(head))
		if p.freeHead.CompareAndSwap(head, (head>>32+1)<<32|uint64(link)) {
			return
		}
	}
}
