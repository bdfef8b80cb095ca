package maps

// This file walks the elements of a map for bpf_for_each_map_elem, one call an element: a program's callback runs between them, and
// may change the map.

// each is a store that can be walked.
type each interface {
	// next finds the element behind a position, 0 at first, and returns its position, the address of its key (0: the key is the
	// position's upper half) and that of its value for a CPU slot, 0 behind the last one.
	next(position uint64, cpu int) (uint64, uintptr, uintptr)
}

// NextElem finds the element of a map behind a position, 0 at first: its position, the address of its key (0: the key is the
// position's upper 32 bits) and of its value for a CPU slot, 0 behind the last one. Elements that are deleted or added meanwhile may
// be found or not.
func (m *Side) NextElem(position uint64, cpu int) (next uint64, key, value uintptr) {
	if s, ok := m.store.(each); ok {
		return s.next(position, cpu)
	}
	return 0, 0, 0
}

// next of an array: the index to come in the lower half, that of the element found in the upper half.
func (a *array) next(position uint64, cpu int) (uint64, uintptr, uintptr) {
	i := uint32(position)
	if i >= a.maxEntries {
		return position, 0, 0
	}
	return uint64(i)<<32 | uint64(i+1), 0, a.m.addr(a.off(i, cpu))
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
