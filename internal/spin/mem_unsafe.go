package spin

import (
	"sync/atomic"
	"unsafe"
)

// word is the lock at addr, which the caller knows to be one: in memory off the Go heap that stays mapped meanwhile.
func word(addr uint64) *atomic.Uint32 {
	p := uintptr(addr)
	return *(**atomic.Uint32)(unsafe.Pointer(&p))
}
