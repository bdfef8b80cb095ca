package maps

import (
	"sync/atomic"
	"unsafe"

	"github.com/skep-bpf/skep/internal/offheap"
	"github.com/skep-bpf/skep/internal/rt"
)

// Everything here works on memory of an offheap.Region that the map owns. Precondition of every function: the offsets
// lie inside the region they are given, which the map's creation computed and its index checks keep; the region is
// freed only when no program and no Go call uses the map (refs in map.go).

// mem is the start of a region. It is a pointer to memory that is not the collector's.
type mem struct{ p unsafe.Pointer }

func memOf(r *offheap.Region) mem { return mem{unsafe.Pointer(unsafe.SliceData(r.Bytes()))} }

func (m mem) addr(off int) uintptr       { return uintptr(m.p) + uintptr(off) }
func (m mem) bytes(off, n int) []byte    { return unsafe.Slice((*byte)(unsafe.Add(m.p, off)), n) }
func (m mem) u32(off int) *atomic.Uint32 { return (*atomic.Uint32)(unsafe.Add(m.p, off)) }
func (m mem) u64(off int) *atomic.Uint64 { return (*atomic.Uint64)(unsafe.Add(m.p, off)) }
func (m mem) words(n int) []uint64       { return unsafe.Slice((*uint64)(m.p), n) }
func (m mem) load64(off int) uint64      { return *(*uint64)(unsafe.Add(m.p, off)) }
func (m mem) store64(off int, v uint64)  { *(*uint64)(unsafe.Add(m.p, off)) = v }
func (m mem) load32(off int) uint32      { return *(*uint32)(unsafe.Add(m.p, off)) }
func key64(key []byte) uint64            { return *(*uint64)(unsafe.Pointer(unsafe.SliceData(key))) }
func key32(key []byte) uint32            { return *(*uint32)(unsafe.Pointer(unsafe.SliceData(key))) }
func loadHeader(h uint64) uint64         { return *(*uint64)(unsafe.Pointer(unsafe.SliceData(rt.Mem(h, 8)))) }
func headerAt(r *offheap.Region, i int) *uint64 {
	return (*uint64)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(r.Bytes())), i*headerSize))
}
func memAt(h *uint64) mem { return mem{unsafe.Pointer(h)} }

// recordOwner returns the number of the map in whose ring buffer the record lies whose bytes begin at addr: its header says how many
// pages the ring's own page lies in front of it. The caller knows that addr is a record's, by the verifier's proof.
func recordOwner(addr uint64) uint64 {
	pages := *(*uint32)(unsafe.Pointer(unsafe.SliceData(rt.Mem(addr-ringHeader+4, 4))))
	return ownerAt((addr-ringHeader)&^(ringPage-1) - uint64(pages)<<ringShift)
}

// ownerAt returns the number of the map whose ring buffer begins at start.
func ownerAt(start uint64) uint64 {
	return *(*uint64)(unsafe.Pointer(unsafe.SliceData(rt.Mem(start+ringOwner, 8))))
}

// addrOf returns the address of a value's first byte.
func addrOf(value []byte) uint64 { return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(value)))) }

func headerAddr(h *uint64) uint64 { return uint64(uintptr(unsafe.Pointer(h))) }
