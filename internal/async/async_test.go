package async

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/skep-bpf/skep/internal/errno"
)

// hand is a clock that calls what is due when it is told to, whatever the time.
type hand struct {
	mu  sync.Mutex
	now uint64
	due []func()
}

func (h *hand) Now() uint64 { return h.now }

func (h *hand) At(_ uint64, f func()) func() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := len(h.due)
	h.due = append(h.due, f)
	return func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		was := h.due[n] != nil
		h.due[n] = nil
		return was
	}
}

// ring calls what was set.
func (h *hand) ring() {
	h.mu.Lock()
	due := h.due
	h.due = make([]func(), len(due)) // numbers stay
	h.mu.Unlock()
	for _, f := range due {
		if f != nil {
			f()
		}
	}
}

// fake is a program with one callback.
type fake struct {
	holds atomic.Int64
	gone  bool
	runs  atomic.Int64
	body  func(f *Field)
}

func (c *fake) Hold() bool {
	if c.gone {
		return false
	}
	c.holds.Add(1)
	return true
}

func (c *fake) Unhold() { c.holds.Add(-1) }

func (c *fake) Run(f *Field, begin func() ([3]uint64, bool)) {
	if args, ok := begin(); ok && args == [3]uint64{1, 2, 3} {
		c.runs.Add(1)
		if c.body != nil {
			c.body(f)
		}
	}
}

// place is a field in memory of its own.
func place(t *testing.T, s *Set, h *hand) *Field {
	t.Helper()
	words := new([2]uint64)
	kept = append(kept, words)
	addr := uintptr(unsafe.Pointer(words))
	if e := s.Init(addr, [3]uint64{1, 2, 3}, h); e != 0 {
		t.Fatal(e)
	}
	return At(addr)
}

// kept is what fields lie in: the collector does not see their addresses.
var kept []*[2]uint64

func TestLife(t *testing.T) {
	var s Set
	h, c := &hand{}, &fake{}
	f := place(t, &s, h)
	if e := s.Init(f.addr, [3]uint64{}, h); e != errno.EBUSY {
		t.Errorf("initialised twice: %v", e)
	}
	if e := f.Start(0, true); e != errno.EINVAL {
		t.Errorf("started without a callback: %v", e)
	}
	if e := f.SetCallback(&fake{gone: true}); e != errno.ENOENT {
		t.Errorf("a program that is gone: %v", e)
	}
	for range 2 { // the second takes the place of the first
		if e := f.SetCallback(c); e != 0 || c.holds.Load() != 1 {
			t.Errorf("%v, held %d times", e, c.holds.Load())
		}
	}
	f.Start(0, true)
	f.Start(0, true)
	h.ring()
	if c.runs.Load() != 1 {
		t.Errorf("started twice, it ran %d times", c.runs.Load())
	}
	f.Start(0, false)
	f.Start(0, false)
	h.ring()
	if c.runs.Load() != 2 {
		t.Errorf("queued twice, it ran %d times", c.runs.Load()-1)
	}
	if other := new([2]uint64); true { // a number in another field's place
		kept = append(kept, other)
		other[0] = f.id
		at := uintptr(unsafe.Pointer(other))
		if Free(at); At(at) != nil || At(f.addr) != f {
			t.Error("found by a number that was copied")
		}
	}
	f.Start(0, true)
	s.Close()
	h.ring()
	if c.runs.Load() != 2 || c.holds.Load() != 0 || At(f.addr) != nil {
		t.Errorf("after Close: %d runs, %d holds", c.runs.Load(), c.holds.Load())
	}
	if e := s.Init(f.addr, [3]uint64{}, h); e != errno.EPERM {
		t.Errorf("initialised in a closed set: %v", e)
	}
	if e := f.SetCallback(c); e != errno.EPERM {
		t.Errorf("callback in a closed set: %v", e)
	}
	s.Reopen()
	if e := s.Init(f.addr, [3]uint64{}, h); e != 0 {
		t.Errorf("after Reopen: %v", e)
	}
}

func TestCancel(t *testing.T) {
	var s Set
	h, c := &hand{}, &fake{}
	f := place(t, &s, h)
	f.SetCallback(c)
	f.Start(0, true)
	if was, e := f.Cancel(nil); was != 1 || e != 0 || c.holds.Load() != 0 {
		t.Errorf("%d, %v, %d holds", was, e, c.holds.Load())
	}
	if was, e := f.Cancel(nil); was != 0 || e != 0 {
		t.Errorf("%d, %v", was, e)
	}
	h.ring()
	if c.runs.Load() != 0 {
		t.Error("it ran all the same")
	}
	var self errno.Errno
	c.body = func(f *Field) { _, self = f.Cancel(f) }
	f.SetCallback(c)
	f.Start(0, true)
	h.ring()
	if self != errno.EDEADLK {
		t.Errorf("cancels itself: %v", self)
	}
}

// TestCancelWaits: who cancels a callback that runs goes on when it has ended, and two that cancel each other do not wait for ever.
func TestCancelWaits(t *testing.T) {
	var s Set
	ha, hb := &hand{}, &hand{}
	a, b := place(t, &s, ha), place(t, &s, hb)
	entered, leave := make(chan bool), make(chan bool)
	var ended atomic.Bool
	ca := &fake{body: func(*Field) { entered <- true; <-leave; time.Sleep(time.Millisecond); ended.Store(true) }}
	a.SetCallback(ca)
	a.Start(0, true)
	go ha.ring()
	<-entered
	go func() { leave <- true }()
	if was, e := a.Cancel(nil); was != 0 || e != 0 || !ended.Load() {
		t.Errorf("%d, %v, ended: %t", was, e, ended.Load())
	}
	var errs [2]errno.Errno
	var both sync.WaitGroup
	both.Add(2)
	cross := func(i int, other *Field) *fake {
		return &fake{body: func(f *Field) {
			both.Done()
			both.Wait()
			_, errs[i] = other.Cancel(f)
		}}
	}
	a.SetCallback(cross(0, b))
	b.SetCallback(cross(1, a))
	a.Start(0, true)
	b.Start(0, true)
	var wg sync.WaitGroup
	wg.Go(ha.ring)
	wg.Go(hb.ring)
	wg.Wait()
	if errs[0] != errno.EDEADLK && errs[1] != errno.EDEADLK {
		t.Errorf("both waited: %v", errs)
	}
}

// TestFreeWhileItRuns: an element that goes away under its timer's callback takes no harm and is not waited for.
func TestFreeWhileItRuns(t *testing.T) {
	var s Set
	h := &hand{}
	f := place(t, &s, h)
	c := &fake{body: func(f *Field) { Free(f.addr); f.Start(0, true) }}
	f.SetCallback(c)
	f.Start(0, true)
	h.ring()
	h.ring()
	if c.runs.Load() != 1 || c.holds.Load() != 0 || At(f.addr) != nil {
		t.Errorf("%d runs, %d holds", c.runs.Load(), c.holds.Load())
	}
}
