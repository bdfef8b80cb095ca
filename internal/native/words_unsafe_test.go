//go:build linux && (amd64 || arm64)

package native

import (
	"unsafe"

	"github.com/skep-bpf/skep/internal/offheap"
)

// wordsOf views a region as n words.
func wordsOf(m *offheap.Region, n int) []uint64 {
	return unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(m.Bytes()))), n)
}
