package ringbuf_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/rt"
	"github.com/skep-bpf/skep/maps"
	"github.com/skep-bpf/skep/ringbuf"
)

// TestReadAfterClose: a reader that has seen records and is closed does not look at the map's memory any more, which may be gone.
func TestReadAfterClose(t *testing.T) {
	m, ring, r := newRing(t, 4096)
	put(ring, 1, 0)
	put(ring, 2, 0)
	if _, err := r.Read(); err != nil { // one record is left
		t.Fatal(err)
	}
	m.Close()
	r.Close()
	if rec, err := r.Read(); !errors.Is(err, ringbuf.ErrClosed) {
		t.Errorf("read after close: %v, %v", rec, err)
	}
	if n := r.AvailableBytes(); n != 0 {
		t.Errorf("%d bytes after close", n)
	}
	if n := r.BufferSize(); n != 4096 {
		t.Errorf("size after close is %d", n)
	}
}

// TestTwoReaders: of two readers each gets whole records, and both together get each once. All bytes of the records look like
// headers of records that are longer than the ring.
func TestTwoReaders(t *testing.T) {
	m, ring, first := newRing(t, 4096)
	second, err := ringbuf.NewReader(m)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	const records = 50_000
	var got atomic.Int64
	var wg sync.WaitGroup
	for _, r := range []*ringbuf.Reader{first, second} {
		wg.Go(func() {
			for {
				rec, err := r.Read()
				if err != nil {
					return
				}
				if n := len(rec.RawSample); n > 200 {
					t.Errorf("record of %d bytes", n)
					return
				}
				got.Add(1)
			}
		})
	}
	for i := range uint64(records) {
		n := i % 25 * 8
		a := ring.Reserve(n)
		for ; a == 0; a = ring.Reserve(n) {
			time.Sleep(time.Microsecond)
		}
		for j := range rt.Mem(a, int(n)) {
			rt.Mem(a, int(n))[j] = 0x3f
		}
		ring.Submit(a, 0)
	}
	within(t, "reading", func() {
		for got.Load() < records && !t.Failed() {
			time.Sleep(time.Millisecond)
		}
		first.Close()
		second.Close()
		wg.Wait()
	})
	if n := got.Load(); n != records {
		t.Errorf("%d records, want %d", n, records)
	}
}

func newWriter(t *testing.T, m *maps.Map) *ringbuf.Writer {
	t.Helper()
	w, err := ringbuf.NewWriter(m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

// TestTwoWriters: records of several writers do not get into each other's way.
func TestTwoWriters(t *testing.T) {
	m, err := maps.New(&ebpf.MapSpec{Name: "ring", Type: ebpf.UserRingbuf, MaxEntries: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	const writers, each = 4, 10_000
	for n := range writers {
		w := newWriter(t, m)
		go func() {
			rec := make([]byte, 800*n+1)
			for i := range rec {
				rec[i] = byte(n)
			}
			for range each {
				if err := w.WriteContext(t.Context(), rec); err != nil {
					return
				}
			}
		}()
	}
	ring := maps.SideOf(m).Ring()
	within(t, "draining", func() {
		for left := writers * each; left > 0 && !t.Failed(); {
			if e := ring.BeginDrain(maps.RingForceWakeup); e != 0 {
				t.Fatal(e)
			}
			for {
				addr, n, ok, e := ring.NextRecord(1 << 20)
				if e != 0 {
					t.Errorf("no record: %v", e)
				}
				if !ok {
					break
				}
				for _, b := range rt.Mem(addr, int(n)) {
					if n%800 != 1 || uint64(b) != n/800 {
						t.Fatalf("record of %d bytes with a byte %d", n, b)
					}
				}
			}
			left -= ring.EndDrain()
		}
	})
}

// TestWriterClose: Close ends a write that waits for room.
func TestWriterClose(t *testing.T) {
	m, err := maps.New(&ebpf.MapSpec{Name: "ring", Type: ebpf.UserRingbuf, MaxEntries: 4096})
	if err != nil {
		t.Fatal(err)
	}
	w := newWriter(t, m)
	for w.Write(make([]byte, 1000)) == nil {
	}
	m.Close()
	ended := make(chan error, 1)
	go func() { ended <- w.WriteContext(context.Background(), make([]byte, 1000)) }()
	time.Sleep(10 * time.Millisecond)
	within(t, "Close", func() { w.Close() })
	within(t, "the write", func() {
		if err := <-ended; !errors.Is(err, ringbuf.ErrClosed) {
			t.Errorf("write that was interrupted: %v", err)
		}
	})
	if err := w.Write(nil); !errors.Is(err, ringbuf.ErrClosed) {
		t.Errorf("write after close: %v", err)
	}
}

// TestUndrainable: what no program could take out of the ring does not get in.
func TestUndrainable(t *testing.T) {
	m, err := maps.New(&ebpf.MapSpec{Name: "ring", Type: ebpf.UserRingbuf, MaxEntries: 1 << 25})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	w := newWriter(t, m)
	const longest = 1<<24 - 1
	if err := w.Write(make([]byte, longest+1)); !errors.Is(err, ringbuf.ErrTooLong) {
		t.Errorf("a record that is too long: %v", err)
	}
	if err := w.Write(make([]byte, longest)); err != nil {
		t.Errorf("the longest record: %v", err)
	}
	ring := maps.SideOf(m).Ring()
	if e := ring.BeginDrain(0); e != 0 {
		t.Fatal(e)
	}
	if _, n, ok, e := ring.NextRecord(longest); n != longest || !ok || e != 0 {
		t.Errorf("drained %d bytes, %v, %v", n, ok, e)
	}
	ring.EndDrain()
}
