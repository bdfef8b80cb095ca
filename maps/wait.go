package maps

import (
	"sync"
	"sync/atomic"
	"time"
)

// waitQueue is where readers of a ring buffer sleep. Whoever has news calls wake, which is a load where nobody sleeps.
//
// A sleeper counts itself in, looks once more whether there is something, and only then sleeps; who has news makes it visible first
// and looks for sleepers then. Both are sequentially consistent, so that one of the two sees the other.
type waitQueue struct {
	n      *atomic.Uint32 // how many are asleep, where machine code sees it
	mu     sync.Mutex
	asleep map[chan struct{}]bool
}

// join makes c a channel that wake sends to, until leave. It has room for one message.
func (q *waitQueue) join(c chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.asleep == nil {
		q.asleep = map[chan struct{}]bool{}
	}
	q.asleep[c] = true
	q.n.Add(1)
}

func (q *waitQueue) leave(c chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.asleep, c)
	q.n.Add(^uint32(0))
}

// wake wakes all sleepers.
func (q *waitQueue) wake() {
	if q.n.Load() == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for c := range q.asleep {
		select {
		case c <- struct{}{}:
		default: // there is a message already
		}
	}
}

// until returns a channel that fires at t, nil for the zero time, and what stops it.
func until(t time.Time) (<-chan time.Time, func()) {
	if t.IsZero() {
		return nil, func() {}
	}
	timer := time.NewTimer(time.Until(t))
	return timer.C, func() { timer.Stop() }
}
