package skep_test

import (
	"sync/atomic"
	"unsafe"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/internal/rt"
)

// ringWaiters is where a ring buffer says how many readers sleep. The map is open.
func ringWaiters(m *skep.Map) *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Pointer(unsafe.SliceData(rt.Mem(m.Layout().Values+rt.RingWaiters, 4))))
}
