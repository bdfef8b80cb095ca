package rt

import (
	"sync"
	"testing"
)

func TestRegistry(t *testing.T) {
	var hs []Handle
	seen := map[Handle]bool{}
	for i := range 1000 { // more than the table starts with
		h := Register(func(*Run, *[12]uint64) uint64 { return uint64(i) })
		if h < 16 || seen[h] {
			t.Fatalf("handle %d", h)
		}
		seen[h] = true
		hs = append(hs, h)
	}
	for i, h := range hs {
		if got := Lookup(h)(nil, nil); got != uint64(i) {
			t.Errorf("handle %d: function %d, want %d", h, got, i)
		}
	}
	for _, h := range hs {
		Unregister(h)
		Unregister(h) // twice does no harm
		if Lookup(h) != nil {
			t.Error("still there")
		}
	}
	a, b := Register(func(*Run, *[12]uint64) uint64 { return 1 }), Register(func(*Run, *[12]uint64) uint64 { return 2 })
	if a == b || Lookup(a)(nil, nil) != 1 || Lookup(b)(nil, nil) != 2 {
		t.Error("handles given out twice")
	}
	Unregister(a)
	Unregister(b)
	if Lookup(0) != nil || Lookup(15) != nil || Lookup(1<<31) != nil {
		t.Error("functions where there are none")
	}
}

// TestSlots: more goroutines than slots; each slot serves one at a time.
func TestSlots(t *testing.T) {
	users := make([]int, CPUs())
	var wg sync.WaitGroup
	for range 4 * CPUs() {
		wg.Go(func() {
			for range 2000 {
				r := Acquire()
				users[r.CPU]++ // the race detector sees it if two hold the slot
				n := r.Nested()
				if n.CPU != r.CPU || n.Depth() != 1 || n.Nested().Depth() != 2 {
					t.Error("nested run")
				}
				r.Release()
			}
		})
	}
	wg.Wait()
	sum := 0
	for _, n := range users {
		sum += n
	}
	if sum != 4*CPUs()*2000 {
		t.Errorf("%d runs", sum)
	}
}

func TestRegionContains(t *testing.T) {
	g := Region{Base: 100, Size: 10}
	for _, c := range []struct {
		a, n uint64
		want bool
	}{{100, 10, true}, {100, 11, false}, {99, 1, false}, {109, 1, true}, {110, 0, true}, {110, 1, false}, {105, ^uint64(0), false}, {^uint64(0), 2, false}} {
		if got := g.Contains(c.a, c.n); got != c.want {
			t.Errorf("[%d, +%d): %v", c.a, c.n, got)
		}
	}
}
