package rt

import (
	"context"
	"math/bits"
	"runtime"
	"sync"
	"sync/atomic"
)

// Execution slots stand for CPUs: per-CPU values have one copy a slot, and a slot serves one Run (and the runs nested
// in it) at a time. Their number is fixed when it is first asked for.
var slots struct {
	once    sync.Once
	runs    []*Run
	free    []atomic.Uint64 // bit set: slot is free
	waiters atomic.Int64
	choosy  atomic.Int64 // of the waiters: those who want one slot and no other
	mu      sync.Mutex
	cond    *sync.Cond
}

// CPUs returns the number of execution slots: the greater of the machine's processors and GOMAXPROCS, at process start.
func CPUs() int {
	slots.once.Do(initSlots)
	return len(slots.runs)
}

func initSlots() {
	n := max(runtime.NumCPU(), runtime.GOMAXPROCS(0))
	slots.cond = sync.NewCond(&slots.mu)
	slots.runs = make([]*Run, n)
	slots.free = make([]atomic.Uint64, (n+63)/64)
	for i := range slots.runs {
		slots.runs[i] = &Run{CPU: i}
		slots.free[i/64].Or(1 << (i % 64))
	}
}

// Acquire takes a free slot and returns its Run, empty but for CPU. It waits while all slots are taken. Whoever runs a
// program from inside a helper or kfunc uses Nested instead: waiting there could wait for itself.
func Acquire() *Run {
	r, _ := AcquireContext(context.Background())
	return r
}

// AcquireContext is Acquire that gives up with ctx's error when ctx ends before a slot is free.
func AcquireContext(ctx context.Context) (*Run, error) { return acquire(ctx, tryAcquire) }

// AcquireCPU is AcquireContext for slot number cpu and no other.
func AcquireCPU(ctx context.Context, cpu int) (*Run, error) {
	slots.choosy.Add(1) // before the first look, so that a Release which that look misses wakes all
	defer slots.choosy.Add(-1)
	return acquire(ctx, func() *Run { return tryAcquireCPU(cpu) })
}

// acquire waits until try finds a slot.
func acquire(ctx context.Context, try func() *Run) (*Run, error) {
	slots.once.Do(initSlots)
	if r := try(); r != nil {
		return r, nil
	}
	slots.waiters.Add(1)
	defer slots.waiters.Add(-1)
	stop := context.AfterFunc(ctx, func() {
		slots.mu.Lock()
		defer slots.mu.Unlock()
		slots.cond.Broadcast()
	})
	defer stop()
	slots.mu.Lock()
	defer slots.mu.Unlock()
	for {
		if r := try(); r != nil {
			return r, nil
		}
		if err := ctx.Err(); err != nil {
			wake() // the wake-up may have been for a slot, which is another's now
			return nil, err
		}
		slots.cond.Wait()
	}
}

func tryAcquire() *Run {
	for w := range slots.free {
		for {
			m := slots.free[w].Load()
			if m == 0 {
				break
			}
			if slots.free[w].CompareAndSwap(m, m&(m-1)) {
				return slots.runs[w*64+bits.TrailingZeros64(m)]
			}
		}
	}
	return nil
}

// tryAcquireCPU takes slot number cpu if it is free.
func tryAcquireCPU(cpu int) *Run {
	free, bit := &slots.free[cpu/64], uint64(1)<<(cpu%64)
	for {
		m := free.Load()
		if m&bit == 0 {
			return nil
		}
		if free.CompareAndSwap(m, m&^bit) {
			return slots.runs[cpu]
		}
	}
}

// wake has somebody look again who can use a slot that is free: one of the waiters, or all if some want a slot of their own. The caller
// holds the lock.
func wake() {
	if slots.choosy.Load() != 0 {
		slots.cond.Broadcast()
	} else {
		slots.cond.Signal()
	}
}

// Release gives the slot back. A nested Run needs no release, but may get one.
func (r *Run) Release() {
	r.clear()
	if r.depth != 0 {
		return
	}
	r.seq.Add(1)
	slots.free[r.CPU/64].Or(1 << (r.CPU % 64))
	if slots.waiters.Load() != 0 {
		slots.mu.Lock()
		wake()
		slots.mu.Unlock()
	}
}

// Nested returns the Run for a program that is run from inside a host function of r. It has r's slot and the next
// depth; it is valid until the host function returns and is reused after that.
func (r *Run) Nested() *Run {
	if r.child == nil {
		r.child = &Run{CPU: r.CPU, depth: r.depth + 1}
	}
	return r.child
}

// Depth returns how many runs this one is nested in.
func (r *Run) Depth() int { return r.depth }

func (r *Run) clear() {
	if r.held != nil && r.held.used != 0 {
		r.dropHeld()
	}
	r.Ctx, r.CtxLen, r.Packet, r.Env, r.Err, r.Cancel, r.Async = 0, 0, nil, nil, nil, nil, nil
	r.Redirect = Redirect{}
	r.ResetMem()
}
