package interp

import (
	"sync/atomic"
	"unsafe"

	"github.com/skep-bpf/skep/internal/rt"
)

// The functions here touch program memory at machine addresses. Precondition of each: the caller has checked that
// [a, a+width) lies in memory that the run owns, which is off the Go heap and stays mapped. Addresses need not be
// aligned, except for the atomic ones: the caller has checked that too.

func ptr(a uint64) unsafe.Pointer {
	p := uintptr(a)
	return *(*unsafe.Pointer)(unsafe.Pointer(&p))
}

// heldAt is the list at an address.
func heldAt(a uint64) *rt.HeldList { return (*rt.HeldList)(ptr(a)) }

func load(a uint64, w uint8) uint64 {
	switch w {
	case 1:
		return uint64(*(*uint8)(ptr(a)))
	case 2:
		return uint64(*(*uint16)(ptr(a)))
	case 4:
		return uint64(*(*uint32)(ptr(a)))
	}
	return *(*uint64)(ptr(a))
}

func loadSigned(a uint64, w uint8) uint64 {
	switch w {
	case 1:
		return uint64(*(*int8)(ptr(a)))
	case 2:
		return uint64(*(*int16)(ptr(a)))
	}
	return uint64(*(*int32)(ptr(a)))
}

func store(a uint64, w uint8, v uint64) {
	switch w {
	case 1:
		*(*uint8)(ptr(a)) = uint8(v)
	case 2:
		*(*uint16)(ptr(a)) = uint16(v)
	case 4:
		*(*uint32)(ptr(a)) = uint32(v)
	default:
		*(*uint64)(ptr(a)) = v
	}
}

func atomicLoad(a uint64, w uint8) uint64 {
	if w == 4 {
		return uint64(atomic.LoadUint32((*uint32)(ptr(a))))
	}
	return atomic.LoadUint64((*uint64)(ptr(a)))
}

func atomicStore(a uint64, w uint8, v uint64) {
	if w == 4 {
		atomic.StoreUint32((*uint32)(ptr(a)), uint32(v))
		return
	}
	atomic.StoreUint64((*uint64)(ptr(a)), v)
}

// swapIf stores v at a if the word there is old, and reports whether it did.
func swapIf(a uint64, w uint8, old, v uint64) bool {
	if w == 4 {
		return atomic.CompareAndSwapUint32((*uint32)(ptr(a)), uint32(old), uint32(v))
	}
	return atomic.CompareAndSwapUint64((*uint64)(ptr(a)), old, v)
}
