package native

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Code is freed when no run can be in it. A run that was under way when the code was closed may be in it, or on its way
// through a program array; a run that starts later cannot. So closing notes which contexts are running, and the code is
// freed when each of them has ended that run. Runs note themselves with plain stores (enter), which cost nothing; the
// memory barrier that makes this right is put on all threads by the one who closes.

// retired is closed code and the runs that must end first.
type retired struct {
	addr uintptr
	size int
	runs []runID
}

type runID struct {
	b   *block
	seq uint64
}

var limbo struct {
	mu   sync.Mutex
	list []retired
}

// Commands of membarrier(2): MEMBARRIER_CMD_PRIVATE_EXPEDITED and its registration.
const (
	membarrierAll      = 1 << 3
	membarrierRegister = 1 << 4
)

var haveMembarrier bool

func registerMembarrier() {
	_, _, e := unix.Syscall(unix.SYS_MEMBARRIER, membarrierRegister, 0, 0)
	haveMembarrier = e == 0
}

// retire frees code now or later. Without a barrier it is kept for good: that costs memory only.
func retire(addr uintptr, size int) {
	if !haveMembarrier {
		return
	}
	if _, _, e := unix.Syscall(unix.SYS_MEMBARRIER, membarrierAll, 0, 0); e != 0 {
		return
	}
	r := retired{addr: addr, size: size}
	stacks.mu.Lock()
	for _, b := range stacks.all {
		seq := atomic.LoadUint64(&b.seq)
		if atomic.LoadUint64(&b.exit) != exitReturn {
			r.runs = append(r.runs, runID{b, seq})
		}
	}
	stacks.mu.Unlock()
	limbo.mu.Lock()
	limbo.list = append(limbo.list, r)
	limbo.mu.Unlock()
	reap()
}

// reap frees retired code that no run can be in any more.
func reap() {
	limbo.mu.Lock()
	defer limbo.mu.Unlock()
	keep := limbo.list[:0]
	for _, r := range limbo.list {
		if r.busy() {
			keep = append(keep, r)
		} else {
			text.remove(r.addr, r.size)
		}
	}
	limbo.list = keep
}

func (r *retired) busy() bool {
	for _, id := range r.runs {
		if atomic.LoadUint64(&id.b.seq) == id.seq && atomic.LoadUint64(&id.b.exit) != exitReturn {
			return true
		}
	}
	return false
}
