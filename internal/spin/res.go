package spin

import (
	"runtime"
	"sync/atomic"
	"time"

	"github.com/skep-bpf/skep/internal/errno"
	"github.com/skep-bpf/skep/internal/rt"
)

// A bpf_res_spin_lock: 0 is free, else it says which execution slot has it, so that a run that would wait for ever finds out. It does where
// it has the lock itself, where who has it waits for a lock that the run has, and where it takes too long.
//
// As resilient_spin_lock_slowpath and check_deadlock of Linux (kernel/bpf/rqspinlock.c, 6.18).

// timeout is how long a run waits (RES_DEF_TIMEOUT).
const timeout = 250 * time.Millisecond

// waits has for each execution slot the address of the lock that its run waits for, 0 if it waits for none. An address stays mapped as long
// as any run that was under way then is: it can be looked at.
var waits = make([]atomic.Uint64, rt.CPUs())

// owner is what a lock says that the run of a slot has.
func owner(cpu int) uint32 { return uint32(cpu) + 1 }

// TryLock takes a lock for a program's run. EDEADLK: it would wait for itself; ETIMEDOUT: it took too long. It gives up, and the run with it,
// when the run must end.
func TryLock(r *rt.Run, addr uint64) errno.Errno {
	w, self := word(addr), owner(r.CPU)
	if !w.CompareAndSwap(0, self) {
		waits[r.CPU].Store(addr)
		e := await(r, w, self)
		waits[r.CPU].Store(0)
		if e != 0 {
			return e
		}
	}
	r.Hold(rt.Held{Addr: addr, Kind: rt.HeldLock})
	return 0
}

// await tries until the lock is taken, or never will be.
func await(r *rt.Run, w *atomic.Uint32, self uint32) errno.Errno {
	var start time.Time
	for i := 0; ; i++ {
		o := w.Load()
		switch {
		case o == 0 && w.CompareAndSwap(0, self):
			return 0
		case o == self || o != 0 && waitsFor(o, self):
			return errno.EDEADLK
		}
		if i%tries != 0 {
			continue
		}
		switch {
		case r.Cancel != nil && r.Cancel.Err() != nil:
			r.Err = r.Cancel.Err()
			return errno.ETIMEDOUT
		case start.IsZero():
			start = time.Now()
		case time.Since(start) > timeout:
			return errno.ETIMEDOUT
		}
		runtime.Gosched()
	}
}

// waitsFor reports whether the run that has a lock waits for one that self has.
func waitsFor(o, self uint32) bool {
	if int(o) > len(waits) {
		return false // Go has it, for a short time
	}
	addr := waits[o-1].Load()
	return addr != 0 && word(addr).Load() == self
}
