package maps

import (
	"sync/atomic"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/errno"
)

// LRU hashes: where a new element finds no place an old one makes room. Which one is as in the kernel an approximation, here
// the clock: each element has a mark that a program's lookup sets, and a hand goes round the elements of a pool, clears
// marks and takes the first element that has none. The kernel keeps two lists for the same purpose.

// What an element's use word says. It changes under the lock of the element's stripe, but for the mark.
const (
	useFree   = iota // not in the table
	useOld           // in the table
	useRecent        // and found by a program since the hand came by
)

// clockScan is how many marks one writer clears before it takes the next element whatever its mark, so that no update of a large map
// takes long.
const clockScan = 128

func isLRU(t ebpf.MapType) bool { return t == ebpf.LRUHash || t == ebpf.LRUCPUHash }

func (h *hash) use(link uint32) *atomic.Uint32 { return h.em.u32(h.elem(link) + offUse) }

// markRecent marks an element of an LRU map as used. The mark of one that is deleted at this moment stays away.
func (h *hash) markRecent(link uint32) {
	if !h.lru {
		return
	}
	if u := h.use(link); u.Load() == useOld {
		u.CompareAndSwap(useOld, useRecent)
	}
}

// putLRU is put of an LRU hash. Room for a new element is made before the stripe is locked, since that locks another one.
func (h *hash) putLRU(p *pool, key []byte, hv uint32, flags uint64, fill, inPlace func(link uint32)) errno.Errno {
	for {
		reserved := false
		if flags != updateExist && h.find(key, hv) == 0 {
			if reserved = h.makeRoom(p); !reserved {
				return errno.ENOMEM // as the kernel, where other writers have taken all there was
			}
		}
		again := false
		room := func() bool {
			ok := reserved || p.reserve()
			again = !ok // the key went away between the two looks, and the pool is full
			reserved = false
			return ok
		}
		s := h.lock(hv & h.mask)
		e := h.putLocked(p, key, hv, flags, room, fill, inPlace)
		s.Unlock()
		if reserved { // and not needed
			p.count.Add(^uint32(0))
		}
		if !again {
			return e
		}
	}
}

// makeRoom counts a new element in, after taking an old one out if need be. It fails where all there is belongs to writers that are
// about to insert.
func (h *hash) makeRoom(p *pool) bool {
	for misses := 0; !p.reserve(); {
		if h.evict(p) {
			continue
		}
		if misses++; misses == 8 {
			return false
		}
	}
	return true
}

// evict takes one element of the pool out of the table. It fails where there is none, since others took all out meanwhile.
func (h *hash) evict(p *pool) bool {
	cleared := 0
	for range 4 * uint64(p.n) {
		link := p.first + p.hand.Add(1)%p.n + 1
		switch u := h.use(link); u.Load() {
		case useFree:
			continue
		case useRecent:
			if cleared < clockScan {
				u.CompareAndSwap(useRecent, useOld)
				cleared++
				continue
			}
		}
		if h.evictElem(p, link) {
			return true
		}
	}
	return false
}

// evictElem takes an element out unless somebody else just did.
func (h *hash) evictElem(p *pool, link uint32) bool {
	hv := h.em.u32(h.elem(link) + offHash)
	at := hv.Load()
	s := h.lock(at & h.mask)
	defer s.Unlock()
	// A new hash is written before the use word is: in this order the two cannot be those of different keys.
	if h.use(link).Load() == useFree || hv.Load() != at {
		return false
	}
	h.unlink(link)
	p.count.Add(^uint32(0))
	return true
}
