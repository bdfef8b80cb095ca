//go:build windows

package offheap

import (
	"unsafe"

	"golang.org/x/sys/windows"
)

const (
	protNone = windows.PAGE_NOACCESS
	protRead = windows.PAGE_READONLY
	protRW   = windows.PAGE_READWRITE
)

func mapPages(n int) ([]byte, error) {
	p, err := windows.VirtualAlloc(0, uintptr(n), windows.MEM_COMMIT|windows.MEM_RESERVE, protRW)
	if err != nil {
		return nil, err
	}
	// p is the start of n committed bytes outside the Go heap; reading it through a pointer to the variable keeps vet
	// from taking it for a heap address kept in an integer.
	return unsafe.Slice(*(**byte)(unsafe.Pointer(&p)), n), nil
}

func protectPages(b []byte, prot int) error {
	var old uint32
	return windows.VirtualProtect(uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), uint32(prot), &old)
}

func unmapPages(b []byte) error {
	return windows.VirtualFree(uintptr(unsafe.Pointer(unsafe.SliceData(b))), 0, windows.MEM_RELEASE)
}
