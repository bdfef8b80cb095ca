package parallel

import (
	"runtime"
	"sync/atomic"
	"testing"
)

// TestEach: results come in order, each once, also when the first piece of work is the slowest.
func TestEach(t *testing.T) {
	const n = 1000
	var at, most atomic.Int32
	next := 0
	Each(n, func(i int) int {
		now := at.Add(1)
		for {
			m := most.Load()
			if now <= m || most.CompareAndSwap(m, now) {
				break
			}
		}
		for range (n - i) * 10 {
			runtime.Gosched()
		}
		at.Add(-1)
		return i * i
	}, func(i, r int) {
		if i != next || r != i*i {
			t.Fatalf("result %d of %d where %d was due", r, i, next)
		}
		next++
	})
	if next != n {
		t.Errorf("%d results", next)
	}
	if m := int(most.Load()); m > runtime.GOMAXPROCS(0) {
		t.Errorf("%d at a time", m)
	}
	Each(0, func(int) int { return 0 }, func(int, int) { t.Error("a result of nothing") })
}
