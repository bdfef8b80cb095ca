package helpers

import (
	"unsafe"

	"github.com/skep-bpf/skep/internal/rt"
)

// dynptrAt returns the dynptr at addr. The caller knows by the verifier's proof that it is one: 16 bytes of the program's stack, or of
// a host function's, aligned to eight.
func dynptrAt(addr uint64) *dynptr {
	return (*dynptr)(unsafe.Pointer(unsafe.SliceData(rt.Mem(addr, 16))))
}
