package ringbuf_test

import (
	"encoding/binary"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/rt"
	"github.com/skep-bpf/skep/maps"
	"github.com/skep-bpf/skep/ringbuf"
)

func newRing(t testing.TB, size uint32) (*maps.Map, maps.Ring, *ringbuf.Reader) {
	t.Helper()
	m, err := maps.New(&ebpf.MapSpec{Name: "ring", Type: ebpf.RingBuf, MaxEntries: size})
	if err != nil {
		t.Fatal(err)
	}
	r, err := ringbuf.NewReader(m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); m.Close() })
	return m, maps.SideOf(m).Ring(), r
}

func put(ring maps.Ring, v uint64, flags uint64) bool {
	a := ring.Reserve(8)
	if a == 0 {
		return false
	}
	binary.NativeEndian.PutUint64(rt.Mem(a, 8), v)
	ring.Submit(a, flags)
	return true
}

// within fails the test if f takes longer than anybody waits.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal(what, "does not end")
	}
}

// TestHammer: many producers, one reader; every record comes out once, those of one producer in their order, with and without being
// discarded in between.
func TestHammer(t *testing.T) {
	_, ring, r := newRing(t, 4096)
	const producers, each = 8, 4_000
	var wg sync.WaitGroup
	for p := range uint64(producers) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := uint64(0); i < each; {
				if i%5 == 0 {
					if a := ring.Reserve(i % 50); a != 0 {
						ring.Discard(a, 0)
					}
				}
				if put(ring, p<<32|i, 0) {
					i++
				} else {
					time.Sleep(time.Microsecond)
				}
			}
		}()
	}
	within(t, "the reader", func() {
		var next [producers]uint64
		var rec ringbuf.Record
		for range producers * each {
			if err := r.ReadInto(&rec); err != nil {
				t.Error(err)
				return
			}
			v := binary.NativeEndian.Uint64(rec.RawSample)
			if p := v >> 32; v&0xffffffff != next[p] {
				t.Errorf("producer %d: record %d, want %d", p, v&0xffffffff, next[p])
				return
			} else {
				next[p]++
			}
		}
	})
	wg.Wait()
	if n := r.AvailableBytes(); n < 0 || n > r.BufferSize() {
		t.Errorf("%d bytes available of %d", n, r.BufferSize())
	}
}

func TestDeadline(t *testing.T) {
	_, ring, r := newRing(t, 4096)
	put(ring, 1, maps.RingNoWakeup)
	r.SetDeadline(time.Now().Add(-time.Second))
	if _, err := r.Read(); err != nil {
		t.Errorf("what is there comes in front of the deadline: %v", err)
	}
	if _, err := r.Read(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v, want the deadline", err)
	}
	r.SetDeadline(time.Now().Add(30 * time.Millisecond))
	within(t, "a read with a deadline", func() {
		if _, err := r.Read(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%v, want the deadline", err)
		}
	})
}

// TestWakeup: a submit wakes the reader that waits for the record, unless it is told not to; FORCE wakes it always.
func TestWakeup(t *testing.T) {
	_, ring, r := newRing(t, 4096)
	got := make(chan uint64)
	go func() {
		for {
			rec, err := r.Read()
			if err != nil {
				close(got)
				return
			}
			got <- binary.NativeEndian.Uint64(rec.RawSample)
		}
	}()
	time.Sleep(10 * time.Millisecond)
	put(ring, 1, maps.RingNoWakeup)
	select {
	case v := <-got:
		t.Errorf("record %d woke the reader", v)
	case <-time.After(20 * time.Millisecond):
	}
	put(ring, 2, maps.RingForceWakeup)
	within(t, "waiting for two records", func() {
		if a, b := <-got, <-got; a != 1 || b != 2 {
			t.Errorf("records %d, %d", a, b)
		}
	})
	put(ring, 3, 0)
	within(t, "waiting for a record", func() {
		if v := <-got; v != 3 {
			t.Errorf("record %d", v)
		}
	})
	r.Close()
	within(t, "the end", func() { <-got })
}

// TestHeldRecord: a reader waits for a record that is held, without using up a processor, and finds it whatever it was submitted with.
func TestHeldRecord(t *testing.T) {
	_, ring, r := newRing(t, 4096)
	a := ring.Reserve(8)
	time.AfterFunc(20*time.Millisecond, func() { ring.Submit(a, maps.RingNoWakeup) })
	within(t, "waiting for the record", func() {
		if rec, err := r.Read(); err != nil || len(rec.RawSample) != 8 {
			t.Errorf("%x, %v", rec.RawSample, err)
		}
	})
	b := ring.Reserve(8)
	r.SetDeadline(time.Now().Add(5 * time.Millisecond))
	within(t, "a read with a deadline", func() {
		if _, err := r.Read(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%v, want the deadline", err)
		}
	})
	ring.Discard(b, 0)
}

func TestFlush(t *testing.T) {
	_, ring, r := newRing(t, 4096)
	put(ring, 1, 0)
	r.Flush()
	if _, err := r.Read(); err != nil {
		t.Error(err)
	}
	if _, err := r.Read(); !errors.Is(err, ringbuf.ErrFlushed) {
		t.Errorf("%v, want %v", err, ringbuf.ErrFlushed)
	}
	time.AfterFunc(10*time.Millisecond, func() { r.Flush() })
	within(t, "a read that is flushed", func() {
		if _, err := r.Read(); !errors.Is(err, ringbuf.ErrFlushed) {
			t.Errorf("%v, want %v", err, ringbuf.ErrFlushed)
		}
	})
	put(ring, 2, 0)
	if _, err := r.Read(); err != nil {
		t.Errorf("after a flush: %v", err)
	}
}

// TestClose: Close ends every Read, and the ring's memory stays until then.
func TestClose(t *testing.T) {
	m, _, r := newRing(t, 4096)
	var wg sync.WaitGroup
	for range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if _, err := r.Read(); !errors.Is(err, ringbuf.ErrClosed) {
				t.Errorf("%v, want %v", err, ringbuf.ErrClosed)
			}
		}()
	}
	time.Sleep(5 * time.Millisecond)
	m.Close() // the reader holds the memory
	within(t, "Close", func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
	})
	if err := r.Close(); err != nil {
		t.Errorf("the second Close: %v", err)
	}
	if _, err := r.Read(); !errors.Is(err, ringbuf.ErrClosed) {
		t.Errorf("%v, want %v", err, ringbuf.ErrClosed)
	}
	if _, err := ringbuf.NewReader(m); err == nil {
		t.Error("a reader of a closed map")
	}
}

func TestNewReader(t *testing.T) {
	m, err := maps.New(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if _, err := ringbuf.NewReader(m); err == nil {
		t.Error("a reader of an array")
	}
	if _, err := ringbuf.NewReader(nil); err == nil {
		t.Error("a reader of no map")
	}
}
