package maps

import (
	"sync"

	"github.com/skep-bpf/skep/internal/offheap"
	"github.com/skep-bpf/skep/internal/rt"
)

// This file walks the elements of a map for bpf_for_each_map_elem, one call an element: a program's callback runs between them, and
// may change the map. The callback may also keep the key's address, as long as the program runs: keys lie in memory of the map.

// each is a store that can be walked.
type each interface {
	// next finds the element behind a position, 0 at first, and returns its position, the address of its key and that of its value
	// for a CPU slot, both 0 behind the last one.
	next(position uint64, cpu int) (uint64, uintptr, uintptr)
}

// NextElem finds the element of a map behind a position, 0 at first: its position, the address of its key and of its value for a CPU
// slot, both 0 behind the last one. Elements that are deleted or added meanwhile may be found or not.
func (m *Side) NextElem(position uint64, cpu int) (next uint64, key, value uintptr) {
	if s, ok := m.store.(each); ok {
		return s.next(position, cpu)
	}
	return 0, 0, 0
}

// KeyMemory is the memory of the keys that NextElem has given, where that is no part of the map's elements.
func (m *Side) KeyMemory() rt.Region {
	if a, ok := m.store.(*array); ok && a.keys.region != nil {
		return rt.Region{Base: uint64(a.keys.region.Addr()), Size: uint64(a.keys.region.Size()), ReadOnly: true, Name: "keys"}
	}
	return rt.Region{}
}

// next of an array: a position is an index.
func (a *array) next(position uint64, cpu int) (uint64, uintptr, uintptr) {
	if position >= uint64(a.maxEntries) {
		return position, 0, 0
	}
	i := uint32(position)
	key := a.keys.addr(i, a.maxEntries)
	if key == 0 {
		return position, 0, 0
	}
	return position + 1, key, a.m.addr(a.off(i, cpu))
}

// arrayKeys are the keys of an array as memory: a word for each, made when somebody asks for the first and filled as they are asked
// for.
type arrayKeys struct {
	once   sync.Once
	region *offheap.Region
	m      mem
}

// addr returns the address of key i of so many, 0 if there is no memory.
func (k *arrayKeys) addr(i, n uint32) uintptr {
	k.once.Do(func() {
		if r, err := offheap.Alloc(4 * int(n)); err == nil {
			k.region, k.m = r, memOf(r)
		}
	})
	if k.region == nil {
		return 0
	}
	k.m.u32(4 * int(i)).Store(i)
	return k.m.addr(4 * int(i))
}

func (k *arrayKeys) free() error {
	if k.region == nil {
		return nil
	}
	return k.region.Free()
}

// next of a hash: the bucket in the upper half, the link of the element found there in the lower one. An element that was deleted and
// used again meanwhile may lead into another bucket's chain: that ends this one's.
func (h *hash) next(position uint64, cpu int) (uint64, uintptr, uintptr) {
	b, link := uint32(position>>32), uint32(position)
	for ; b <= h.mask; b, link = b+1, 0 {
		if link == 0 {
			link = h.bucket(b).Load()
		} else {
			link = h.em.u32(h.elem(link) + offNext).Load()
		}
		if !isEnd(link) {
			return uint64(b)<<32 | uint64(link), h.em.addr(h.elem(link) + elemHeader), h.vm.addr(h.valueOff(link, cpu))
		}
	}
	return position, 0, 0
}
