package skep_test

import (
	"sync/atomic"
	"unsafe"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/internal/rt"
)

// ringWord is a word in a ring buffer's own page (rt.Ring...). The map is open.
func ringWord(m *skep.Map, off uint64) *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Pointer(unsafe.SliceData(rt.Mem(m.Layout().Values+off, 4))))
}
