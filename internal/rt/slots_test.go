package rt

import (
	"context"
	"testing"
	"time"
)

// TestWakeOfOneSlot: who waits for one slot does not keep the news from who waits for another.
func TestWakeOfOneSlot(t *testing.T) {
	if CPUs() < 2 {
		t.Skip("needs two slots: GOMAXPROCS is 1")
	}
	held := make([]*Run, CPUs())
	for i := range held {
		r, err := AcquireCPU(t.Context(), i)
		if err != nil || r.CPU != i {
			t.Fatalf("slot %d: %v", i, err)
		}
		held[i] = r
	}
	first, second := make(chan *Run), make(chan *Run)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	wait := func(cpu int, got chan *Run) {
		before := slots.waiters.Load()
		go func() {
			r, _ := AcquireCPU(ctx, cpu)
			got <- r
		}()
		for slots.waiters.Load() == before {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(5 * time.Millisecond) // from the count to the wait
	}
	wait(0, first) // is woken first, and has no use for slot 1
	wait(1, second)
	held[1].Release()
	if held[1] = <-second; held[1] == nil || held[1].CPU != 1 {
		t.Fatal("slot 1 is free and was not given to who waits for it")
	}
	held[0].Release()
	if held[0] = <-first; held[0] == nil || held[0].CPU != 0 {
		t.Fatal("slot 0 is free and was not given to who waits for it")
	}
	for _, r := range held {
		r.Release()
	}
}
