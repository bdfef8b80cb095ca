//go:build linux && (amd64 || arm64)

package native

import (
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// outsideText maps machine code where a native library would be: not in the range of compiled programs.
func outsideText(t *testing.T, code []byte) uintptr {
	m, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	copy(m, code)
	if err := unix.Mprotect(m, unix.PROT_READ|unix.PROT_EXEC); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(m) })
	return uintptr(unsafe.Pointer(unsafe.SliceData(m)))
}
