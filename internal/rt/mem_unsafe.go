package rt

import "unsafe"

// Mem views n bytes of program memory at addr. The caller must know, from the verifier's proof or from a check of its
// own, that [addr, addr+n) is mapped memory off the Go heap that stays mapped while the slice is used.
func Mem(addr uint64, n int) []byte {
	if n == 0 {
		return nil
	}
	p := uintptr(addr)
	return unsafe.Slice(*(**byte)(unsafe.Pointer(&p)), n)
}
