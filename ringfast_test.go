package skep_test

import (
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/internal/rt"
	"github.com/skep-bpf/skep/maps"
	"github.com/skep-bpf/skep/ringbuf"
)

// Records that are reserved and submitted without a call (internal/lower/ring.go).

// reserveRecord leaves the address of a record of n bytes in dst, or goes to full.
func reserveRecord(ring asm.FDer, dst asm.Register, n int32) asm.Instructions {
	return asm.Instructions{
		loadMap(asm.R1, ring), asm.Mov.Imm(asm.R2, n), asm.Mov.Imm(asm.R3, 0), asm.FnRingbufReserve.Call(),
		asm.JEq.Imm(asm.R0, 0, "full"), asm.Mov.Reg(dst, asm.R0),
	}
}

func endRecord(r asm.Register, flags int32, fn asm.BuiltinFunc) asm.Instructions {
	return asm.Instructions{asm.Mov.Reg(asm.R1, r), asm.Mov.Imm(asm.R2, flags), fn.Call()}
}

func storeWord(r asm.Register, off int16, v int32) asm.Instructions {
	return asm.Instructions{asm.Mov.Imm(asm.R8, v), asm.StoreMem(r, off, asm.R8, asm.DWord)}
}

func concat(parts ...asm.Instructions) (all asm.Instructions) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// ringProgram loads a program whose result is 1, or 0 where it goes to full.
func ringProgram(t *testing.T, o skep.Options, parts ...asm.Instructions) *skep.Program {
	t.Helper()
	insns := concat(append(parts, asm.Instructions{
		asm.Mov.Imm(asm.R0, 1), asm.Return(), asm.Mov.Imm(asm.R0, 0).WithSymbol("full"), asm.Return(),
	})...)
	p, err := skep.NewProgramWithOptions(&ebpf.ProgramSpec{Name: "ring", Type: ebpf.SocketFilter, License: "GPL", Instructions: insns}, o)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func newRing(t *testing.T, size uint32) *skep.Map {
	t.Helper()
	m, err := skep.NewMap(&ebpf.MapSpec{Name: "ring", Type: ebpf.RingBuf, MaxEntries: size})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// runOnce runs a program for its result alone.
func runOnce(t *testing.T, p *skep.Program) uint32 {
	t.Helper()
	ret, err := p.Run(&ebpf.RunOptions{Data: make([]byte, 64)})
	if err != nil {
		t.Error(err)
	}
	return ret
}

// TestRingWakes: a reader that sleeps is woken for what a program submits or discards, unless the flags say no.
func TestRingWakes(t *testing.T) {
	const noWakeup, forceWakeup = 1, 2
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		for flags, want := range map[int32]maps.RingWake{0: maps.RingNews, noWakeup: maps.RingLate, forceWakeup: maps.RingNews} {
			for _, fn := range []asm.BuiltinFunc{asm.FnRingbufSubmit, asm.FnRingbufDiscard} {
				m := newRing(t, 4096)
				p := ringProgram(t, skep.Options{Engine: e}, reserveRecord(m, asm.R6, 8), storeWord(asm.R6, 0, 5),
					endRecord(asm.R6, flags, fn))
				woken := make(chan maps.RingWake)
				wait := 20 * time.Second // as within
				if want == maps.RingLate {
					wait = 200 * time.Millisecond
				}
				go func() {
					woken <- maps.SideOf(m).Ring().Wait(make(chan struct{}, 1), time.Now().Add(wait), nil)
				}()
				for waiters := ringWord(m, rt.RingWaiters); waiters.Load() == 0; {
					time.Sleep(time.Microsecond)
				}
				if want == maps.RingLate {
					time.Sleep(50 * time.Millisecond) // it is counted, looks once more, and only then sleeps
				}
				if runOnce(t, p) != 1 {
					t.Fatal("no room")
				}
				if got := <-woken; got != want {
					t.Errorf("%v with flags %d: %v, want %v", fn, flags, got, want)
				}
			}
		}
	})
}

// TestRingReaderSleeps: a reader that is asleep gets each record, though the programs make no call as long as it is awake.
func TestRingReaderSleeps(t *testing.T) {
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		m := newRing(t, 4096)
		p := ringProgram(t, skep.Options{Engine: e}, reserveRecord(m, asm.R6, 8), storeWord(asm.R6, 0, 5),
			endRecord(asm.R6, 0, asm.FnRingbufSubmit))
		r, err := ringbuf.NewReader(m)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		const records = 2000
		got := make(chan struct{})
		go func() {
			defer close(got)
			for range records {
				if rec, err := r.Read(); err != nil || rec.RawSample[0] != 5 {
					t.Error(rec, err)
					return
				}
			}
		}()
		for i := range records {
			for runOnce(t, p) == 0 {
				time.Sleep(time.Microsecond)
			}
			if i%50 == 0 {
				time.Sleep(100 * time.Microsecond) // the reader falls asleep
			}
		}
		within(t, "reading", func() { <-got })
	})
}

// TestRingProducers: programs on many threads, and Go, fill a ring that is full most of the time, while a reader empties it. Each record
// comes out whole, each once, and what was reserved first by one producer comes first.
func TestRingProducers(t *testing.T) {
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		m := newRing(t, 4096)
		counter, err := skep.NewMap(&ebpf.MapSpec{Name: "sent", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer counter.Close()
		r, err := ringbuf.NewReader(m)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		// Two records, of which the second is submitted first, and one that is discarded.
		fill := func(r asm.Register, n int) (w asm.Instructions) {
			for i := 0; i < n; i += 8 {
				w = append(w, storeWord(r, int16(i), int32(n))...)
			}
			return w
		}
		both := ringProgram(t, skep.Options{Engine: e}, reserveRecord(m, asm.R6, 8), fill(asm.R6, 8),
			asm.Instructions{loadMap(asm.R1, m), asm.Mov.Imm(asm.R2, 24), asm.Mov.Imm(asm.R3, 0), asm.FnRingbufReserve.Call(), asm.JEq.Imm(asm.R0, 0, "one"), asm.Mov.Reg(asm.R7, asm.R0)},
			fill(asm.R7, 24), endRecord(asm.R6, 0, asm.FnRingbufSubmit), endRecord(asm.R7, 0, asm.FnRingbufSubmit),
			reserveRecord(m, asm.R6, 40), endRecord(asm.R6, 0, asm.FnRingbufDiscard), asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()},
			asm.Instructions{asm.Mov.Reg(asm.R1, asm.R6).WithSymbol("one"), asm.Mov.Imm(asm.R2, 0), asm.FnRingbufSubmit.Call()})
		large := ringProgram(t, skep.Options{Engine: e}, reserveRecord(m, asm.R6, 1000), fill(asm.R6, 1000), endRecord(asm.R6, 0, asm.FnRingbufSubmit))
		var sent, stopped atomic.Int64
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				for range 4000 {
					runOnce(t, both)
					sent.Add(int64(runOnce(t, large)))
				}
			})
		}
		wg.Go(func() {
			ring := maps.SideOf(m).Ring()
			for range 4000 {
				if a := ring.Reserve(16); a != 0 {
					binary.NativeEndian.PutUint64(rt.Mem(a, 8), 16)
					binary.NativeEndian.PutUint64(rt.Mem(a+8, 8), 16)
					ring.Submit(a, 0)
				}
			}
		})
		go func() {
			wg.Wait()
			stopped.Store(1)
			r.Flush()
		}()
		got := int64(0)
		within(t, "reading", func() {
			for {
				rec, err := r.Read()
				if errors.Is(err, ringbuf.ErrFlushed) && stopped.Load() == 1 {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				n := len(rec.RawSample)
				for i := 0; i < n; i += 8 {
					if v := binary.NativeEndian.Uint64(rec.RawSample[i:]); v != uint64(n) {
						t.Errorf("record of %d bytes with %#x at %d", n, v, i)
						return
					}
				}
				if n == 1000 {
					got++
				}
			}
		})
		if got != sent.Load() || got == 0 {
			t.Errorf("%d large records, %d were sent", got, sent.Load())
		}
	})
}

// TestRingLock: as long as somebody else changes the ring's positions a program that reserves a record waits.
func TestRingLock(t *testing.T) {
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		m := newRing(t, 4096)
		p := ringProgram(t, skep.Options{Engine: e}, reserveRecord(m, asm.R6, 8), endRecord(asm.R6, 0, asm.FnRingbufDiscard))
		lock := ringWord(m, rt.RingLock)
		lock.Store(1)
		ran := make(chan struct{})
		go func() {
			defer close(ran)
			runOnce(t, p)
		}()
		select {
		case <-ran:
			t.Error("the lock is no matter")
		case <-time.After(20 * time.Millisecond):
		}
		lock.Store(0)
		within(t, "the run", func() { <-ran })
		if lock.Load() != 0 {
			t.Error("the lock is taken still")
		}
		if n := maps.SideOf(m).Ring().Query(3); n != 16 {
			t.Errorf("the producer is at %d", n)
		}
	})
}

// TestRingPanic: a run that ends by a panic of a kfunc gives up the record that it holds, and not the one that it got before and submitted
// already.
func TestRingPanic(t *testing.T) {
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		m := newRing(t, 4096)
		var ks skep.Kfuncs
		if err := ks.Register("fails", func() uint32 { panic("no") }); err != nil {
			t.Fatal(err)
		}
		p := ringProgram(t, skep.Options{Engine: e, Kfuncs: &ks}, reserveRecord(m, asm.R6, 8), storeWord(asm.R6, 0, 1),
			asm.Instructions{loadMap(asm.R1, m), asm.Mov.Imm(asm.R2, 8), asm.Mov.Imm(asm.R3, 0), asm.FnRingbufReserve.Call(), asm.JEq.Imm(asm.R0, 0, "one"), asm.Mov.Reg(asm.R7, asm.R0)},
			endRecord(asm.R6, 0, asm.FnRingbufSubmit), asm.Instructions{kfuncCall("fails", hostU32)}, endRecord(asm.R7, 0, asm.FnRingbufSubmit),
			asm.Instructions{asm.Ja.Label("full"), asm.Mov.Reg(asm.R1, asm.R6).WithSymbol("one"), asm.Mov.Imm(asm.R2, 0), asm.FnRingbufSubmit.Call()})
		for range 3 {
			if _, err := p.Run(&ebpf.RunOptions{Data: make([]byte, 64)}); err == nil || !strings.Contains(err.Error(), "panicked") {
				t.Fatal(err)
			}
		}
		ring, n := maps.SideOf(m).Ring(), 0
		for _, _, s := ring.Next(nil); s == maps.RingReady; _, _, s = ring.Next(nil) {
			n++
		}
		if left := ring.Query(0); n != 3 || left != 0 {
			t.Errorf("%d records, want 3; %d bytes are left", n, left)
		}
	})
}

// TestRingBudget: wherever the interpreter's budget ends a run, the ring goes on.
func TestRingBudget(t *testing.T) {
	m := newRing(t, 4096)
	ring := maps.SideOf(m).Ring()
	ended := 0
	for budget := int64(1); budget < 100; budget++ {
		p := ringProgram(t, skep.Options{Engine: skep.EngineInterpreter, Limits: skep.Limits{InterpInsns: budget}},
			reserveRecord(m, asm.R6, 8), endRecord(asm.R6, 0, asm.FnRingbufSubmit))
		if _, err := p.Run(&ebpf.RunOptions{Data: make([]byte, 64)}); err != nil {
			ended++
		}
		within(t, "reserving", func() {
			for a := ring.Reserve(8); a != 0; a = 0 {
				ring.Submit(a, 0)
			}
		})
		r, err := ringbuf.NewReader(m)
		if err != nil {
			t.Fatal(err)
		}
		r.SetDeadline(time.Now())
		for err == nil {
			_, err = r.Read()
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || ring.Query(0) != 0 {
			t.Fatalf("budget %d: %v, %d bytes are left", budget, err, ring.Query(0))
		}
		r.Close()
	}
	if ended == 0 {
		t.Error("no run was ended")
	}
}
