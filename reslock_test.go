package skep_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/skep-bpf/skep"
)

// resLockSteps are steps of res_lock of testdata/reslock.c, with what they return.
var resLockSteps = []struct {
	step
	want int32
}{
	{step{"res_lock", 0, 0}, 1},
	{step{"res_lock", 1, 0}, 2},
	{step{"res_lock", 2, 0}, -35}, // EDEADLK: its own lock
	{step{"res_lock", 3, 0}, 100},
	{step{"res_lock", 3, 1}, 100},
	{step{"res_lock", 2, 1}, -35},
	{step{"res_lock", 0, 0}, 3},
	{step{"res_lock", 0, 1}, 1},
}

func TestResLocks(t *testing.T) {
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		c := load(t, "reslock.o", skep.Options{Engine: e})
		for _, s := range resLockSteps {
			if got := runStep(t, c, s.step); got != s.want {
				t.Errorf("%+v: %d", s, got)
			}
		}
	})
}

// pairing is a run of the program pair on a goroutine of its own.
func pairing(ctx context.Context, c *skep.Collection, mark uint32) func() (int32, error) {
	var ret int32
	var err error
	var wg sync.WaitGroup
	wg.Go(func() {
		var res skep.RunResult
		res, err = c.Programs["pair"].RunContext(ctx, step{"pair", mark, 0}.options())
		ret = int32(res.Return)
	})
	return func() (int32, error) {
		wg.Wait()
		return ret, err
	}
}

// setStep sets the variable step.
func setStep(t *testing.T, c *skep.Collection, v [2]uint64) {
	t.Helper()
	if err := c.Variables["step"].Set(v); err != nil {
		t.Fatal(err)
	}
}

// awaitStep waits until a run has its lock.
func awaitStep(t *testing.T, c *skep.Collection, i int) {
	t.Helper()
	for range 5000 {
		var v [2]uint64
		if err := c.Variables["step"].Get(&v); err != nil {
			t.Fatal(err)
		}
		if v[i] == 1 {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("the run does not begin")
}

// TestResLockCircle: of two runs that wait for each other at least one finds out, long before it would have waited too long.
func TestResLockCircle(t *testing.T) {
	if skep.PossibleCPUs() < 2 {
		t.Skip("there is one slot")
	}
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		c := load(t, "reslock.o", skep.Options{Engine: e})
		for range 20 {
			setStep(t, c, [2]uint64{})
			start := time.Now()
			first, second := pairing(t.Context(), c, 0), pairing(t.Context(), c, 1)
			a, err := first()
			b, err2 := second()
			if err := errors.Join(err, err2); err != nil {
				t.Fatal(err)
			}
			got := []int32{min(a, b), max(a, b)}
			if !slices.Equal(got, []int32{-35, 0}) && !slices.Equal(got, []int32{-35, -35}) {
				t.Errorf("%d and %d after %v", a, b, time.Since(start))
			}
		}
	})
}

// TestResLockTooLong: a run that waits too long gives up, and so does one that is stopped; a run that is stopped gives its lock back.
func TestResLockTooLong(t *testing.T) {
	if skep.PossibleCPUs() < 2 {
		t.Skip("there is one slot")
	}
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		c := load(t, "reslock.o", skep.Options{Engine: e})
		setStep(t, c, [2]uint64{})
		ctx, stop := context.WithCancel(t.Context())
		holder := pairing(ctx, c, 2)
		awaitStep(t, c, 0)
		start := time.Now()
		if got := runStep(t, c, step{"res_lock", 0, 0}); got != -110 || time.Since(start) < 200*time.Millisecond {
			t.Errorf("%d after %v", got, time.Since(start))
		}
		short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if _, err := c.Programs["res_lock"].RunContext(short, step{"res_lock", 0, 0}.options()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("stopped while it waits: %v", err)
		}
		stop()
		if _, err := holder(); !errors.Is(err, context.Canceled) {
			t.Errorf("the holder: %v", err)
		}
		if got := runStep(t, c, step{"res_lock", 0, 0}); got != 1 {
			t.Errorf("after that: %d", got)
		}
	})
}
