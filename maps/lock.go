package maps

import (
	"runtime"

	"github.com/skep-bpf/skep/internal/rt"
)

// A bpf_spin_lock: 0 is free, 1 is taken. Who waits gives the processor to others from time to time, since who holds the lock may be a
// goroutine that does not run.

// spins is how often a lock is tried before the processor is given to others.
const spins = 64

// takeLock takes a lock for Go.
func takeLock(w lockWord) {
	for i := 1; !w.CompareAndSwap(0, 1); i++ {
		if i%spins == 0 {
			runtime.Gosched()
		}
	}
}

// SpinLock takes the bpf_spin_lock at addr for a program's run. It gives up, and the run with it, when the run must end.
func SpinLock(r *rt.Run, addr uint64) {
	w := lockAtAddr(addr)
	for i := 1; !w.CompareAndSwap(0, 1); i++ {
		if i%spins != 0 {
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

// SpinUnlock gives it back.
func SpinUnlock(r *rt.Run, addr uint64) {
	r.GiveBack(addr)
	dropLock(addr)
}

func init() { rt.OnDrop(rt.HeldLock, dropLock) }

func dropLock(addr uint64) { lockAtAddr(addr).Store(0) }
