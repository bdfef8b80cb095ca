// Package async has what stands behind a bpf_timer or bpf_wq in the value of a map: a callback of a program, and when it runs. The
// field itself, which programs never touch, holds a number that the Go side is found by.
//
// Its rules are those of kernel/bpf/helpers.c (bpf_timer_init and its kin, 6.18).
package async

import (
	"sync"
	"sync/atomic"

	"github.com/skep-bpf/skep/internal/errno"
	"github.com/skep-bpf/skep/internal/rt"
)

// Callback is a function of a program that runs on its own.
type Callback interface {
	// Hold keeps the program until Unhold; it fails where the program is gone.
	Hold() bool
	Unhold()
	// Run waits for an execution slot, then asks begin for the arguments, and calls the function if begin says so. f is what
	// rt.Run.Async is for the run.
	Run(f *Field, begin func() (args [3]uint64, ok bool))
}

// Field is an initialised timer or work queue.
type Field struct {
	id    uint64
	set   *Set
	addr  uintptr
	args  [3]uint64
	clock rt.Clock

	mu      sync.Mutex
	idle    sync.Cond // running went down
	cb      Callback  // nil: none
	stop    func() bool
	armed   uint64 // number of the last start; what was started before does not run
	running bool
	dead    bool
	// cancelling counts who waits for this callback's end from a callback of their own.
	cancelling atomic.Int32
}

// fields finds fields by their number. A number is never used again, so that a stale one finds nothing.
var (
	fields sync.Map // uint64 -> *Field
	last   atomic.Uint64
)

// Set is the fields of one map. The zero value is an empty set.
type Set struct {
	mu     sync.Mutex
	closed bool // nobody but programs uses the map
	all    map[*Field]struct{}
}

// Init initialises the field at addr. args are the callback's: map, key, value, in memory that lives as long as the field; clock says
// when it is time. EBUSY: it is initialised; EPERM: the set is closed.
func (s *Set) Init(addr uintptr, args [3]uint64, clock rt.Clock) errno.Errno {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case word(addr).Load() != 0:
		return errno.EBUSY
	case s.closed:
		return errno.EPERM
	}
	f := &Field{id: last.Add(1), set: s, addr: addr, args: args, clock: clock}
	f.idle.L = &f.mu
	fields.Store(f.id, f)
	if !word(addr).CompareAndSwap(0, f.id) {
		fields.Delete(f.id)
		return errno.EBUSY
	}
	if s.all == nil {
		s.all = map[*Field]struct{}{}
	}
	s.all[f] = struct{}{}
	return 0
}

// Close frees all fields and permits no new ones until Reopen.
func (s *Set) Close() {
	s.mu.Lock()
	s.closed = true
	all := s.all
	s.all = nil
	s.mu.Unlock()
	for f := range all {
		Free(f.addr)
	}
}

// Reopen undoes Close, for new fields.
func (s *Set) Reopen() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = false
}

// At returns the field at addr, nil if it is not initialised. A number that stands in another field's place finds nothing.
func At(addr uintptr) *Field {
	if v, ok := fields.Load(word(addr).Load()); ok && v.(*Field).addr == addr {
		return v.(*Field)
	}
	return nil
}

// Free makes the field at addr one that is not initialised: what was to run does not any more. It does not wait for a callback that
// runs now.
func Free(addr uintptr) {
	f := At(addr)
	if f == nil || !word(addr).CompareAndSwap(f.id, 0) {
		return
	}
	fields.Delete(f.id)
	f.set.mu.Lock()
	delete(f.set.all, f)
	f.set.mu.Unlock()
	f.mu.Lock()
	f.dead = true
	f.disarm()
	cb := f.cb
	f.cb = nil
	f.mu.Unlock()
	if cb != nil {
		cb.Unhold()
	}
}

// Clock returns the clock that Init was given.
func (f *Field) Clock() rt.Clock { return f.clock }

// SetCallback says what runs. EPERM: the set is closed; ENOENT: the program is gone.
func (f *Field) SetCallback(cb Callback) errno.Errno {
	f.set.mu.Lock()
	closed := f.set.closed
	f.set.mu.Unlock()
	if closed {
		return errno.EPERM
	}
	if !cb.Hold() {
		return errno.ENOENT
	}
	f.mu.Lock()
	old := f.cb
	if f.dead {
		old = cb // and is not kept
	} else {
		f.cb = cb
	}
	f.mu.Unlock()
	if old != nil {
		old.Unhold()
	}
	return 0
}

// Start has the callback run when the clock reaches at, in place of a start before that is still to come; again: unless one is.
// EINVAL: there is no callback.
func (f *Field) Start(at uint64, again bool) errno.Errno {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cb == nil {
		return errno.EINVAL
	}
	if f.stop != nil && !again {
		return 0
	}
	f.disarm()
	n := f.armed
	f.stop = f.clock.At(at, func() { f.fire(n) })
	return 0
}

// disarm takes a start back and reports whether there was one. The caller holds f.mu.
func (f *Field) disarm() bool {
	f.armed++
	if f.stop == nil {
		return false
	}
	f.stop()
	f.stop = nil
	return true
}

// fire runs the callback for start n.
func (f *Field) fire(n uint64) {
	f.mu.Lock()
	if f.armed != n || f.cb == nil || !f.cb.Hold() {
		f.mu.Unlock()
		return
	}
	cb := f.cb
	f.stop = nil
	f.mu.Unlock()
	begun := false
	cb.Run(f, func() ([3]uint64, bool) {
		begun = f.begin(cb)
		return f.args, begun
	})
	if begun {
		f.mu.Lock()
		f.running = false
		f.idle.Broadcast()
		f.mu.Unlock()
	}
	cb.Unhold()
}

// begin reports whether the callback may still run. The run that asks is one that whoever frees memory waits for by now. A callback
// runs once at a time.
func (f *Field) begin(cb Callback) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.running {
		f.idle.Wait()
	}
	if f.dead || f.cb != cb {
		return false
	}
	f.running = true
	return true
}

// Cancel takes a start back, forgets the callback, and waits until it has ended if it runs. self is the field whose callback asks, nil
// if none. The result is 1 if there was a start to take back, else 0; EDEADLK if the wait could be for the caller itself.
func (f *Field) Cancel(self *Field) (was int, err errno.Errno) {
	switch {
	case self == f:
		return 0, errno.EDEADLK
	case self != nil:
		f.cancelling.Add(1)
		defer f.cancelling.Add(-1)
		if self.cancelling.Load() != 0 { // somebody waits for the caller, perhaps f's callback
			return 0, errno.EDEADLK
		}
	}
	f.mu.Lock()
	cb := f.cb
	f.cb = nil
	if f.disarm() {
		was = 1
	}
	for f.running {
		f.idle.Wait()
	}
	f.mu.Unlock()
	if cb != nil {
		cb.Unhold()
	}
	return was, 0
}
