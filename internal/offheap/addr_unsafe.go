package offheap

import "unsafe"

// Addr returns the address of the region's first byte, 0 after Free. The memory does not move: it is not the
// collector's.
func (r *Region) Addr() uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(r.b))) }
