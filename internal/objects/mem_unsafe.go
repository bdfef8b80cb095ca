package objects

import (
	"sync/atomic"
	"unsafe"
)

// The functions here touch the memory of objects, and of the fields of map values that own them. Precondition of each: the caller knows,
// from the verifier's proof or because it found the address where only such proofs put one, that the words are mapped memory off the Go
// heap, aligned, and stay mapped meanwhile.

func ptr(addr uint64) unsafe.Pointer {
	p := uintptr(addr)
	return *(*unsafe.Pointer)(unsafe.Pointer(&p))
}

func load(addr uint64) uint64           { return *(*uint64)(ptr(addr)) }
func store(addr, v uint64)              { *(*uint64)(ptr(addr)) = v }
func u64At(addr uint64) *atomic.Uint64  { return (*atomic.Uint64)(ptr(addr)) }
func u32At(addr uint64) *atomic.Uint32  { return (*atomic.Uint32)(ptr(addr)) }
func bytesAt(addr uint64, n int) []byte { return unsafe.Slice((*byte)(ptr(addr)), n) }

// stateAt returns the state word of an object's slot.
func stateAt(obj uint64) *atomic.Uint64 { return u64At(obj - slotHeader) }
