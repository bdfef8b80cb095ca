package timercache_test

import (
	"testing"
	"time"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/examples/timercache"
)

// TestExpiry: no test here waits for anything.
func TestExpiry(t *testing.T) {
	clock := skep.NewFakeClock(0)
	c, err := timercache.New(clock)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	defer c.Close()
	check := func(key, want uint64, there bool) {
		t.Helper()
		if v, ok, err := c.Get(key); err != nil || ok != there || v != want {
			t.Errorf("%s: key %d: %d, %t, %v; want %d, %t", time.Duration(clock.Now()), key, v, ok, err, want, there)
		}
	}
	put := func(key, value uint64, ttl time.Duration) {
		t.Helper()
		if err := c.Put(key, value, ttl); err != nil {
			t.Fatal(err)
		}
	}
	put(1, 10, time.Second)
	put(2, 20, time.Minute)
	check(1, 10, true)
	clock.Advance(999 * time.Millisecond)
	check(1, 10, true)
	clock.Advance(time.Millisecond)
	check(1, 0, false)
	check(2, 20, true)
	// Put again, an entry lives from then on.
	clock.Advance(30 * time.Second)
	put(2, 21, time.Minute)
	clock.Advance(40 * time.Second)
	check(2, 21, true)
	clock.Advance(time.Hour)
	check(2, 0, false)
	if n, err := c.Expired(); err != nil || n != 2 {
		t.Errorf("%d entries expired, %v; want 2", n, err)
	}
}

// TestFull: a full cache says so, and has room again when something expired.
func TestFull(t *testing.T) {
	clock := skep.NewFakeClock(0)
	c, err := timercache.New(clock)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	defer c.Close()
	n := uint64(0)
	for ; c.Put(n, n, time.Second+time.Duration(n)) == nil; n++ {
		if n > 1<<20 {
			t.Fatal("never full")
		}
	}
	if n != 1024 || clock.Pending() != 1024 {
		t.Errorf("%d entries, %d timers", n, clock.Pending())
	}
	clock.Advance(time.Second)
	if err := c.Put(n, n, time.Second); err != nil {
		t.Error(err)
	}
}
