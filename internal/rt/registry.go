package rt

import (
	"sync"
	"sync/atomic"

	"github.com/skep-bpf/skep/internal/abi"
)

// Handle names a registered Func. Machine code leaves to Go with a handle as its exit code; it is never 0. Handles are
// process-wide, because a tail call changes the program that runs.
type Handle uint32

var registry struct {
	mu    sync.Mutex
	funcs atomic.Pointer[[]atomic.Pointer[Func]]
	free  []Handle
	used  int // slots of funcs handed out at least once
}

// Register makes f callable by programs and returns its handle.
func Register(f Func) Handle {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	var h Handle
	if n := len(registry.free); n > 0 {
		h, registry.free = registry.free[n-1], registry.free[:n-1]
	} else {
		h = Handle(abi.ExitFirstHandle + registry.used)
		registry.used++
	}
	i := int(h) - abi.ExitFirstHandle
	old := registry.funcs.Load()
	if old == nil || i >= len(*old) {
		grown := make([]atomic.Pointer[Func], max(64, 2*i))
		if old != nil {
			for k := range *old {
				grown[k].Store((*old)[k].Load())
			}
		}
		old = &grown
		registry.funcs.Store(old)
	}
	(*old)[i].Store(&f)
	return h
}

// Unregister frees a handle. No code that holds it may run any more.
func Unregister(h Handle) {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	i := int(h) - abi.ExitFirstHandle
	t := registry.funcs.Load()
	if t == nil || i < 0 || i >= len(*t) || (*t)[i].Load() == nil {
		return
	}
	(*t)[i].Store(nil)
	registry.free = append(registry.free, h)
}

// Lookup returns the function that h names, nil if there is none.
func Lookup(h Handle) Func {
	t := registry.funcs.Load()
	i := uint(h) - abi.ExitFirstHandle
	if t == nil || i >= uint(len(*t)) {
		return nil
	}
	f := (*t)[i].Load()
	if f == nil {
		return nil
	}
	return *f
}
