package skep_test

import (
	"encoding/binary"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/internal/offheap"
	"github.com/skep-bpf/skep/internal/program"
)

// timers is testdata/timers.c with a clock that the test steps.
type timers struct {
	t     *testing.T
	c     *skep.Collection
	clock *skep.FakeClock
}

func loadTimers(t *testing.T, e skep.Engine, programs ...string) *timers {
	t.Helper()
	clock := skep.NewFakeClock(5000)
	env := skep.Env{Clock: clock, Errors: func(err error) { t.Error(err) }}
	return &timers{t, load(t, "timers.o", skep.Options{Engine: e, Env: env}, programs...), clock}
}

// run runs a program with a mark and a priority and checks what it returns.
func (m *timers) run(name string, mark, priority uint32, want int32) {
	m.t.Helper()
	skb := make([]byte, 192)
	binary.LittleEndian.PutUint32(skb[8:], mark)
	binary.LittleEndian.PutUint32(skb[32:], priority)
	ret, err := m.c.Programs[name].Run(&ebpf.RunOptions{Data: make([]byte, 64), Context: skb})
	if err != nil || int32(ret) != want {
		m.t.Fatalf("%s: %d, %v; want %d", name, int32(ret), err, want)
	}
}

// variable checks a global variable.
func (m *timers) variable(name string, want uint64) {
	m.t.Helper()
	var got uint64
	if err := m.c.Variables[name].Get(&got); err != nil || got != want {
		m.t.Errorf("%s is %d, %v; want %d", name, got, err, want)
	}
}

// elem is struct elem, work is struct work, locked is struct locked.
type (
	elem struct {
		Before uint64
		Timer  [2]uint64
		Count  uint64
	}
	work struct {
		Count uint64
		Work  [2]uint64
	}
	locked struct {
		Before      uint64
		Lock, Count uint32
		Same        uint64
	}
)

// TestTimerCallsTenArguments: a timer's callback calls a function of ten arguments, starts itself again, and sees its element; each at its
// time.
func TestTimerCallsTenArguments(t *testing.T) {
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		m := loadTimers(t, e, "start")
		m.run("start", 2, 0, 0)
		m.clock.Advance(999)
		m.variable("fired", 0)
		for i := range uint64(5) {
			m.clock.Advance(1000)
			m.variable("fired", i+1)
			m.variable("result", 285+10*i)
			m.variable("last_key", 2)
			m.variable("last_time", 6000+1000*i)
		}
		m.clock.Advance(time.Hour)
		m.variable("fired", 5)
		var v elem
		if err := m.c.Maps["array"].Lookup(uint32(2), &v); err != nil || v != (elem{Count: 5}) {
			t.Errorf("%+v, %v: a timer reads as zeros", v, err)
		}
		// An update frees the timer and leaves the field alone.
		m.run("start", 2, 0, -2) // is initialised
		if err := m.c.Maps["array"].Put(uint32(2), elem{Before: 1, Timer: [2]uint64{3, 4}, Count: 9}); err != nil {
			t.Fatal(err)
		}
		m.run("start", 2, 0, 0)
		m.clock.Advance(time.Hour)
		m.variable("fired", 6)
	})
}

func TestTimerErrors(t *testing.T) {
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		m := loadTimers(t, e, "errors", "cancel")
		m.run("errors", 0, 0, 111111111)
		m.run("cancel", 0, 0, 101)
		m.clock.Advance(time.Hour)
		m.variable("fired", 0)
		if n := m.clock.Pending(); n != 0 {
			t.Errorf("%d timers are left", n)
		}
	})
}

// TestTimerOfElementThatGoes: a timer lives as long as its element, and as somebody uses the map.
func TestTimerOfElementThatGoes(t *testing.T) {
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		m := loadTimers(t, e, "start_hash")
		hash := m.c.Maps["hash"]
		for key := range uint32(4) {
			m.run("start_hash", key, 6000+key, 0)
		}
		for _, err := range []error{hash.Delete(uint32(0)), hash.Put(uint32(1), elem{})} {
			if err != nil {
				t.Fatal(err)
			}
		}
		if n := m.clock.Pending(); n != 2 {
			t.Errorf("%d timers are left, want 2", n)
		}
		m.clock.Advance(1002)
		m.variable("fired", 1)
		m.variable("last_key", 2)
		m.variable("last_time", 6002)
		// A program that is closed stays as long as a timer calls it, and the map's last user takes the timers along.
		p := m.c.Programs["start_hash"]
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		m.clock.Advance(1)
		m.variable("fired", 2)
		m.variable("last_key", 3)
		if err := hash.Close(); err != nil {
			t.Fatal(err)
		}
		if n := m.clock.Pending(); n != 0 {
			t.Errorf("%d timers are left of a closed map", n)
		}
	})
}

// TestTimerCallbacks: which of two functions runs is up to the run; a callback cannot cancel its own timer.
func TestTimerCallbacks(t *testing.T) {
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		m := loadTimers(t, e, "either")
		m.run("either", 0, 0, 0)
		m.clock.Advance(0)
		m.variable("fired", 100)
		m.run("either", 1, 0, 0)
		m.clock.Advance(0)
		m.variable("fired", 101)
		m.variable("cancelled", 1<<64-35) // -EDEADLK
	})
}

// TestTimerByTheHostsClock: without a clock of the test's time goes by itself.
func TestTimerByTheHostsClock(t *testing.T) {
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		c := load(t, "timers.o", skep.Options{Engine: e}, "start")
		m := &timers{t: t, c: c}
		m.run("start", 0, 0, 0)
		within(t, "five rounds", func() {
			for n := uint64(0); n < 5; time.Sleep(time.Millisecond) {
				if err := c.Variables["fired"].Get(&n); err != nil {
					t.Error(err)
					return
				}
			}
		})
	})
}

// TestWorkqueue: work that is started twice before it runs runs once; with the clock's next step if the test has one.
func TestWorkqueue(t *testing.T) {
	if program.HostTypes() == nil {
		t.Skip("the types of the kernel say what its functions take, and this host has none")
	}
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		m := loadTimers(t, e, "start_work")
		m.run("start_work", 0, 0, -22) // of flags
		m.variable("started", 0)
		m.variable("fired", 0)
		m.clock.Advance(0)
		m.variable("fired", 1)
		m.run("start_work", 1, 0, -22)
		m.clock.Advance(0)
		m.clock.Advance(0)
		m.variable("fired", 2)
		var v work
		if err := m.c.Maps["queue"].Lookup(uint32(1), &v); err != nil || v != (work{Count: 4}) {
			t.Errorf("%+v, %v", v, err)
		}
	})
}

// TestSpinLock: programs and Go change a value under its lock, all at once; nobody sees it half changed.
func TestSpinLock(t *testing.T) {
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		m := loadTimers(t, e, "count", "update")
		locks := m.c.Maps["locks"]
		if err := locks.Put(uint32(0), locked{Before: 7, Lock: 9, Count: 1, Same: 1}); err != nil {
			t.Fatal(err)
		}
		const rounds = 2000
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				for range rounds {
					m.run("count", 0, 0, 0)
				}
			})
		}
		wg.Go(func() {
			for n := range uint32(rounds) {
				m.run("update", n, 0, 0)
			}
		})
		wg.Go(func() {
			var v locked
			for n := range uint32(rounds) {
				if err := locks.LookupWithFlags(uint32(0), &v, ebpf.LookupLock); err != nil || uint64(v.Count) != v.Same || v.Lock != 0 {
					t.Errorf("%+v, %v", v, err)
				}
				if err := locks.Update(uint32(0), locked{Lock: 5, Count: n, Same: uint64(n)}, ebpf.UpdateLock); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Wait()
		for _, c := range []struct {
			flags ebpf.MapUpdateFlags
			key   uint32
			want  error
		}{{ebpf.UpdateLock | ebpf.UpdateNoExist, 0, ebpf.ErrKeyExist}, {ebpf.UpdateLock | ebpf.UpdateExist, 5, ebpf.ErrKeyNotExist}} {
			if err := locks.Update(c.key, locked{}, c.flags); !errors.Is(err, c.want) {
				t.Errorf("flags %d: %v, want %v", c.flags, err, c.want)
			}
		}
	})
}

// TestTimerCycles: whoever closes a collection whose timers are still to fire, and those that fire just then, gets all memory back.
func TestTimerCycles(t *testing.T) {
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		spec := loadSpec(t, "timers.o")
		cycle := func() {
			c, err := skep.NewCollectionWithOptions(spec, skep.Options{Engine: e, Programs: []string{"start"}})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			for key := range uint32(4) {
				(&timers{t: t, c: c}).run("start", key, 0, 0)
			}
		}
		cycle()
		before, _ := offheap.Stats()
		before += 3 * skep.PossibleCPUs() // a slot that nobody used yet makes its context, packet and stack
		for range 100 {
			cycle()
		}
		after := 0
		for range 1000 { // what waits for callbacks that run
			if after, _ = offheap.Stats(); after <= before {
				return
			}
			time.Sleep(time.Millisecond)
		}
		t.Errorf("%d regions of memory, %d before", after, before)
	})
}

// TestLockAmongVariables: the variables beside a lock are there, and the lock is not one of them.
func TestLockAmongVariables(t *testing.T) {
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		m := loadTimers(t, e, "count_variables")
		for range 3 {
			m.run("count_variables", 0, 0, 0)
		}
		m.variable("left", 3)
		m.variable("right", 3)
		if v, ok := m.c.Variables["guard"]; ok {
			t.Errorf("the lock is a variable: %v", v)
		}
		var objs struct {
			Guard *skep.Variable `ebpf:"guard"`
		}
		if err := skep.LoadAndAssign(loadSpec(t, "timers.o"), &objs, skep.Options{Engine: e}); !errors.Is(err, ebpf.ErrNotSupported) {
			t.Errorf("assigned: %v", err)
		}
	})
}
