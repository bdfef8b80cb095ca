package async

import (
	"sync/atomic"
	"unsafe"
)

// word is the first word of the field at addr, which the caller knows to be one: memory of a map that is held.
func word(addr uintptr) *atomic.Uint64 {
	return *(**atomic.Uint64)(unsafe.Pointer(&addr))
}
