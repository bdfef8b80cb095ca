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
