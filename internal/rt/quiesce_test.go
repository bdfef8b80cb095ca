package rt

import (
	"sync/atomic"
	"testing"
	"time"
)

func TestAfterRunsWaitsForRunsUnderWay(t *testing.T) {
	r := Acquire()
	var done atomic.Bool
	AfterRuns(func() { done.Store(true) })
	time.Sleep(5 * time.Millisecond)
	if done.Load() {
		t.Fatal("called while a run was under way")
	}
	r.Release()
	// The slot is taken again at once: that is another run, which is not waited for.
	again := Acquire()
	defer again.Release()
	for range 1000 {
		if done.Load() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Error("not called after the run")
}

func TestAfterRunsAtOnce(t *testing.T) {
	called := false
	AfterRuns(func() { called = true })
	if !called {
		t.Error("not called though nothing runs")
	}
}

// TestAfterPasses: what waits for passes goes on with the next execution of a run, not before; what waits for runs does not.
func TestAfterPasses(t *testing.T) {
	r := Acquire()
	var passed, ended atomic.Bool
	AfterPasses(func() { passed.Store(true) })
	AfterRuns(func() { ended.Store(true) })
	time.Sleep(5 * time.Millisecond)
	if passed.Load() {
		t.Fatal("called while a pass was under way")
	}
	r.Nested().NextPass() // its run is inside of the first one
	time.Sleep(30 * time.Millisecond)
	if passed.Load() {
		t.Fatal("called after a pass of a nested run")
	}
	r.NextPass()
	for n := 0; !passed.Load(); n++ {
		if n == 1000 {
			t.Fatal("not called after the pass")
		}
		time.Sleep(time.Millisecond)
	}
	if ended.Load() {
		t.Error("a run has ended that has not")
	}
	r.Release()
}
