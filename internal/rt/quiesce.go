package rt

import (
	"sync"
	"sync/atomic"
	"time"
)

// What programs use (maps, handles) is given back when no run can still be using it. Whoever frees first makes the thing
// unreachable for new runs (a flag that is read after Acquire, an emptied array slot), then calls AfterRuns. Both sides
// are sequentially consistent atomics: a run takes its slot and then looks, the other makes it unreachable and then looks
// at the slots, so one of the two sees the other.

var waiting struct {
	mu      sync.Mutex
	list    []pending
	polling bool
	passes  atomic.Int64 // of list, those that wait for passes only
}

// pending is a function and the runs it waits for, or the passes that they are in.
type pending struct {
	f      func()
	runs   []busyRun
	passes bool
}

type busyRun struct {
	r         *Run
	seq, pass uint64
}

// AfterRuns calls f once every run that is under way now has ended: at once if there is none, else later on a goroutine of
// its own. It does not wait, so that a helper or kfunc can call it.
func AfterRuns(f func()) { after(pending{f: f}) }

// AfterPasses is AfterRuns for what only programs have the address of: a run that executes a program several times need not end, only the
// execution that is under way.
func AfterPasses(f func()) { after(pending{f: f, passes: true}) }

// NextPass says that a run begins with the next execution of its program. A run inside of another one keeps what that one has.
func (r *Run) NextPass() {
	if r.depth == 0 && waiting.passes.Load() != 0 {
		r.pass.Add(1)
	}
}

func after(p pending) {
	slots.once.Do(initSlots)
	for i, r := range slots.runs {
		seq, pass := r.seq.Load(), r.pass.Load()
		if slots.free[i/64].Load()&(1<<(i%64)) == 0 {
			p.runs = append(p.runs, busyRun{r, seq, pass})
		}
	}
	if len(p.runs) == 0 {
		p.f()
		return
	}
	waiting.mu.Lock()
	defer waiting.mu.Unlock()
	waiting.list = append(waiting.list, p)
	if p.passes {
		waiting.passes.Add(1)
	}
	if !waiting.polling {
		waiting.polling = true
		go pollRuns()
	}
}

// pollRuns lives as long as something waits.
func pollRuns() {
	for wait := 100 * time.Microsecond; ; wait = min(2*wait, 20*time.Millisecond) {
		time.Sleep(wait)
		var ready []func()
		waiting.mu.Lock()
		keep := waiting.list[:0]
		for _, p := range waiting.list {
			if p.busy() {
				keep = append(keep, p)
			} else {
				ready = append(ready, p.f)
				if p.passes {
					waiting.passes.Add(-1)
				}
			}
		}
		clear(waiting.list[len(keep):])
		waiting.list = keep
		done := len(keep) == 0
		if done {
			waiting.polling = false
		}
		waiting.mu.Unlock()
		for _, f := range ready {
			f()
		}
		if done {
			return
		}
		if len(ready) > 0 {
			wait = 50 * time.Microsecond // and twice that next
		}
	}
}

// busy reports whether one of the runs, or of the passes, is still under way.
func (p *pending) busy() bool {
	for _, b := range p.runs {
		if b.r.seq.Load() == b.seq && (!p.passes || b.r.pass.Load() == b.pass) {
			return true
		}
	}
	return false
}
