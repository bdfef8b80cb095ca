package helpers

import (
	"sync"

	"github.com/skep-bpf/skep/internal/rt"
)

// Kfunc is a kfunc of the kernel that is here for every program.
type Kfunc struct {
	Args int // how many arguments it takes
	fn   rt.Func

	once   sync.Once
	handle rt.Handle
}

// KfuncHandle finds such a kfunc by name: its handle and how many arguments it takes (lower.Env.Kfunc).
func KfuncHandle(name string) (h rt.Handle, args int, ok bool) {
	k := kfuncs[name]
	if k == nil {
		return 0, 0, false
	}
	k.once.Do(func() { k.handle = rt.Register(k.fn) })
	return k.handle, k.Args, true
}
