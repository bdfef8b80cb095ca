// Package spin has the locks of map values and of programs' objects: bpf_spin_lock, which is 0 where it is free, and bpf_res_spin_lock
// (res.go). Who waits gives the processor to others from time to time, since who holds the lock may be a goroutine that does not run.
package spin

import (
	"runtime"

	"github.com/skep-bpf/skep/internal/rt"
)

// tries is how often a lock is tried before the processor is given to others.
const tries = 64

// byGo is what a lock says that Go has: no execution slot's number.
const byGo = 1<<32 - 1

// Take takes the lock at addr, of either kind, for Go. No run that holds it may wait for the caller.
func Take(addr uint64) {
	w := word(addr)
	for i := 1; !w.CompareAndSwap(0, byGo); i++ {
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
