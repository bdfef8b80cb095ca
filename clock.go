package skep

import (
	"slices"
	"sync"
	"time"
)

// Clock is the time that programs see.
type Clock interface {
	// Now returns nanoseconds, of all clocks that programs can ask for.
	Now() uint64
	// At has f called once Now has reached at: on another goroutine or later on any, but not by At itself. stop takes that back and
	// reports whether f will not be called.
	At(at uint64, f func()) (stop func() bool)
}

// FakeClock is a clock that only moves when it is told to. What timers and work queues of programs do then happens on the goroutine
// that moves it, one after the other in the order of their times, so that tests are deterministic.
type FakeClock struct {
	step sync.Mutex // held while time moves

	mu    sync.Mutex
	now   uint64
	due   []*alarm // by time; those of the same time in the order in which they were set
	moves bool
}

type alarm struct {
	at uint64
	f  func()
}

// NewFakeClock returns a clock that stands at so many nanoseconds.
func NewFakeClock(now uint64) *FakeClock { return &FakeClock{now: now} }

// Now returns where the clock stands.
func (c *FakeClock) Now() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// At has f called by an Advance, the next one if the time has come. What is set for now or before while the clock moves is due a
// nanosecond later, so that a timer which starts itself again lets time go on.
func (c *FakeClock) At(at uint64, f func()) (stop func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.moves && at <= c.now {
		at = c.now + 1
	}
	a := &alarm{at, f}
	i, _ := slices.BinarySearchFunc(c.due, at, func(a *alarm, at uint64) int {
		if a.at <= at {
			return -1
		}
		return 1
	})
	c.due = slices.Insert(c.due, i, a)
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		i := slices.Index(c.due, a)
		if i >= 0 {
			c.due = slices.Delete(c.due, i, i+1)
		}
		return i >= 0
	}
}

// Advance moves the clock on by d and does what is due until then; the clock shows the time of each meanwhile. Advance(0) does what is
// due now: work of work queues, most often. It may not be called from a kfunc or from what it does itself.
func (c *FakeClock) Advance(d time.Duration) {
	c.step.Lock()
	defer c.step.Unlock()
	c.mu.Lock()
	end := c.now + uint64(max(d, 0))
	c.moves = true
	for len(c.due) > 0 && c.due[0].at <= end {
		a := c.due[0]
		c.due = slices.Delete(c.due, 0, 1)
		c.now = max(c.now, a.at)
		c.mu.Unlock()
		a.f()
		c.mu.Lock()
	}
	c.now, c.moves = end, false
	c.mu.Unlock()
}

// Pending returns how many calls are still to come: timers that are started, work that waits.
func (c *FakeClock) Pending() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.due)
}
