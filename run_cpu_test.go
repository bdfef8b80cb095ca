package skep

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/skep-bpf/skep/internal/errno"
)

// callOf is a program that returns what a helper without arguments does.
func callOf(t *testing.T, helper asm.BuiltinFunc, opts Options) *Program {
	t.Helper()
	p, err := NewProgramWithOptions(&ebpf.ProgramSpec{
		Name: "call", Type: ebpf.XDP, Instructions: asm.Instructions{helper.Call(), asm.Return()}, License: "GPL",
	}, opts)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// TestRunOnCPU: a run gets the slot that it asks for, however many do at a time.
func TestRunOnCPU(t *testing.T) {
	p := callOf(t, asm.FnGetSmpProcessorId, Options{})
	const onCPU = 1 // unix.BPF_F_TEST_RUN_ON_CPU, which other systems lack
	var wg sync.WaitGroup
	for i := range 8 * PossibleCPUs() {
		cpu := uint32(i % PossibleCPUs())
		wg.Go(func() {
			for range 300 {
				got, err := p.Run(&ebpf.RunOptions{Data: make([]byte, 14), CPU: cpu, Flags: onCPU})
				if err != nil || got != cpu {
					t.Errorf("on CPU %d: %d, %v", cpu, got, err)
					return
				}
				if _, err := p.Run(&ebpf.RunOptions{Data: make([]byte, 14)}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	for _, c := range []struct {
		opts ebpf.RunOptions
		want error
	}{
		{ebpf.RunOptions{CPU: uint32(PossibleCPUs()), Flags: onCPU}, errno.ENXIO},
		{ebpf.RunOptions{CPU: 1}, errno.EINVAL},
		{ebpf.RunOptions{Flags: 2}, errno.EINVAL},
		{ebpf.RunOptions{Flags: onCPU, BatchSize: 1}, errno.EINVAL},
	} {
		c.opts.Data = make([]byte, 14)
		if _, err := p.Run(&c.opts); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v, want %v", c.opts, err, c.want)
		}
	}
}

// TestWaitForCPU: whoever waits for a slot that is taken gives up when his time is over.
func TestWaitForCPU(t *testing.T) {
	var kfuncs Kfuncs
	in, out := make(chan int), make(chan int)
	err := kfuncs.Register("kfunc12", func(c Caller, _, _, _, _, _, _, _, _, _, _, _, _ int64) int64 {
		in <- c.CPU()
		<-out
		return 0
	})
	if err != nil {
		t.Fatal(err)
	}
	spec, err := LoadCollectionSpec("testdata/twelve.o")
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewCollectionWithOptions(spec, Options{Kfuncs: &kfuncs, Programs: []string{"call_kfunc"}})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(c.Close)
	done := make(chan error)
	go func() { _, _, err := c.Programs["call_kfunc"].Test(make([]byte, 64)); done <- err }()
	cpu := <-in
	p := callOf(t, asm.FnGetSmpProcessorId, Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = p.RunContext(ctx, &ebpf.RunOptions{Data: make([]byte, 14), CPU: uint32(cpu), Flags: 1})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	close(out)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestRandom: programs get the caller's random numbers.
func TestRandom(t *testing.T) {
	n := uint32(40)
	p := callOf(t, asm.FnGetPrandomU32, Options{Env: Env{Random: func() uint32 { n++; return n }}})
	for want := uint32(41); want < 43; want++ {
		if got, _, err := p.Test(make([]byte, 14)); err != nil || got != want {
			t.Errorf("%d, %v; want %d", got, err, want)
		}
	}
}

// TestMapSeeds: the order of a hash map's elements is that of its seed.
func TestMapSeeds(t *testing.T) {
	order := func(seed uint32) string {
		spec := &ebpf.CollectionSpec{Maps: map[string]*ebpf.MapSpec{"m": {Type: ebpf.Hash, KeySize: 1, ValueSize: 1, MaxEntries: 64}}}
		c, err := NewCollectionWithOptions(spec, Options{Env: Env{Random: func() uint32 { seed = seed*1664525 + 1013904223; return seed }}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for i := range byte(64) {
			if err := c.Maps["m"].Put(i, i); err != nil {
				t.Fatal(err)
			}
		}
		var keys []byte
		var k, v byte
		for it := c.Maps["m"].Iterate(); it.Next(&k, &v); {
			keys = append(keys, k)
		}
		return string(keys)
	}
	if a, b := order(1), order(1); a != b {
		t.Errorf("the same seed, two orders:\n% x\n% x", a, b)
	}
	if a, b := order(1), order(2); a == b {
		t.Errorf("two seeds, one order: % x", a)
	}
}
