package rt

import (
	"sync"
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
}

// pending is a function and the runs it waits for.
type pending struct {
	f    func()
	runs []busyRun
}

type busyRun struct {
	r   *Run
	seq uint64
}

// AfterRuns calls f once every run that is under way now has ended: at once if there is none, else later on a goroutine of
// its own. It does not wait, so that a helper or kfunc can call it.
func AfterRuns(f func()) {
	p := pending{f: f}
	slots.once.Do(initSlots)
	for i, r := range slots.runs {
		seq := r.seq.Load()
		if slots.free[i/64].Load()&(1<<(i%64)) == 0 {
			p.runs = append(p.runs, busyRun{r, seq})
		}
	}
	if len(p.runs) == 0 {
		f()
		return
	}
	waiting.mu.Lock()
	defer waiting.mu.Unlock()
	waiting.list = append(waiting.list, p)
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
	}
}

// busy reports whether one of the runs is still under way.
func (p *pending) busy() bool {
	for _, b := range p.runs {
		if b.r.seq.Load() == b.seq {
			return true
		}
	}
	return false
}
