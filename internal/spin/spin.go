// Package spin has the bpf_spin_lock of map values and of programs' objects: 0 is free, 1 is taken. Who waits gives the processor to others
// from time to time, since who holds the lock may be a goroutine that does not run.
package spin

import (
	"runtime"

	"github.com/skep-bpf/skep/internal/rt"
)

// tries is how often a lock is tried before the processor is given to others.
const tries = 64

// Take takes the lock at addr for Go. No run that holds it may wait for the caller.
func Take(addr uint64) {
	w := word(addr)
	for i := 1; !w.CompareAndSwap(0, 1); i++ {
		if i%tries == 0 {
			runtime.Gosched()
		}
	}
}

// Drop gives a lock back.
func Drop(addr uint64) { word(addr).Store(0) }

// Lock takes the lock at addr for a program's run. It gives up, and the run with it, when the run must end.
func Lock(r *rt.Run, addr uint64) {
	w := word(addr)
	for i := 1; !w.CompareAndSwap(0, 1); i++ {
		if i%tries != 0 {
			continue
		}
		if r.Cancel != nil && r.Cancel.Err() != nil {
			r.Err = r.Cancel.Err()
			return
		}
		runtime.Gosched()
	}
	r.Hold(rt.Held{Addr: addr, Kind: rt.HeldLock})
}

func init() { rt.OnDrop(rt.HeldLock, Drop) }

// Unlock gives it back.
func Unlock(r *rt.Run, addr uint64) {
	r.GiveBack(addr)
	Drop(addr)
}
