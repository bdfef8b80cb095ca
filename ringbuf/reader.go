// Package ringbuf reads what programs put into ring buffers (BPF_MAP_TYPE_RINGBUF), and puts records into those from which programs
// take them (BPF_MAP_TYPE_USER_RINGBUF). Its Reader has the methods and the errors of cilium/ebpf's package of the same name.
package ringbuf

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"

	"github.com/skep-bpf/skep/maps"
)

// Errors of readers, those of cilium/ebpf.
var (
	ErrClosed  = ringbuf.ErrClosed  // Close was called
	ErrFlushed = ringbuf.ErrFlushed // everything that was there when Flush was called is read
)

// Record is what a program submitted: its bytes, and how many bytes at least are left in the ring buffer behind it.
type Record = ringbuf.Record

// Reader reads the records of a ring buffer in the order in which programs reserved them. Its methods may be called by many
// goroutines; each record goes to one of them. A ring buffer should have one reader: two of them would take each other's records.
type Reader struct {
	m    *maps.Map
	ring maps.Ring

	mu       sync.Mutex // of who reads
	closed   bool       // the memory may be gone
	haveData bool
	deadline time.Time
	pending  error
	wake     chan struct{}

	quit    chan struct{} // a message ends a wait
	signals struct {
		sync.Mutex
		closed, flushed bool
	}
}

// NewReader makes a reader of a ring buffer. The map's memory stays until the reader is closed.
func NewReader(m *maps.Map) (*Reader, error) {
	if m == nil || m.Type() != ebpf.RingBuf {
		return nil, fmt.Errorf("invalid Map type: %v", typeOf(m))
	}
	side := maps.SideOf(m)
	if err := side.Hold(); err != nil {
		return nil, fmt.Errorf("ringbuffer: %w", err)
	}
	return &Reader{m: m, ring: side.Ring(), wake: make(chan struct{}, 1), quit: make(chan struct{}, 1)}, nil
}

func typeOf(m *maps.Map) ebpf.MapType {
	if m == nil {
		return ebpf.UnspecifiedMap
	}
	return m.Type()
}

// Close ends the reader. It interrupts Read. Closing twice does nothing.
func (r *Reader) Close() error {
	if !r.signal(&r.signals.closed) {
		return nil
	}
	r.mu.Lock() // no Read is under way any more
	defer r.mu.Unlock()
	r.closed = true
	return maps.SideOf(r.m).Unhold()
}

// Flush makes Read return what is in the ring buffer now, and ErrFlushed behind it.
func (r *Reader) Flush() error {
	r.signal(&r.signals.flushed)
	return nil
}

// signal sets a flag and interrupts a wait; false if the flag was set already.
func (r *Reader) signal(flag *bool) bool {
	r.signals.Lock()
	defer r.signals.Unlock()
	if *flag {
		return false
	}
	*flag = true
	select {
	case r.quit <- struct{}{}:
	default:
	}
	return true
}

// interrupted says why a wait was: closing counts for good, flushing once.
func (r *Reader) interrupted() error {
	r.signals.Lock()
	defer r.signals.Unlock()
	switch {
	case r.signals.closed:
		return fmt.Errorf("ringbuffer: %w", ErrClosed)
	case r.signals.flushed:
		r.signals.flushed = false
		return ErrFlushed
	}
	return nil
}

// SetDeadline bounds how long Read and ReadInto wait; the zero time takes the bound away.
func (r *Reader) SetDeadline(t time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deadline = t
}

// Read returns the next record. It waits for one until the deadline, and then returns os.ErrDeadlineExceeded; Close makes it return
// ErrClosed.
func (r *Reader) Read() (Record, error) {
	var rec Record
	err := r.ReadInto(&rec)
	return rec, err
}

// ReadInto is Read that uses rec's memory again.
func (r *Reader) ReadInto(rec *Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return fmt.Errorf("ringbuffer: %w", ErrClosed)
	}
	for {
		if !r.haveData {
			if err := r.pending; err != nil {
				r.pending = nil
				return err
			}
			if err := r.wait(); err != nil {
				return err
			}
			r.haveData = true
		}
		sample, remaining, state := r.ring.Next(rec.RawSample)
		if state == maps.RingReady {
			rec.RawSample, rec.Remaining = sample, remaining
			return nil
		}
		r.haveData = false // a record that a program holds is waited for as well
	}
}

// wait waits until there may be a record. A deadline and a flush are for later: what was submitted without waking anybody comes first.
func (r *Reader) wait() error {
	for {
		if err := r.interrupted(); errors.Is(err, ErrFlushed) {
			r.pending = err
			return nil
		} else if err != nil {
			return err
		}
		switch r.ring.Wait(r.wake, r.deadline, r.quit) {
		case maps.RingNews:
			return nil
		case maps.RingLate:
			r.pending = os.ErrDeadlineExceeded
			return nil
		}
	}
}

// BufferSize returns the size of the ring buffer in bytes.
func (r *Reader) BufferSize() int { return r.ring.Size() }

// AvailableBytes returns how many bytes are in the ring buffer that were not read; none once map and reader are closed.
func (r *Reader) AvailableBytes() int {
	const available = 0                 // BPF_RB_AVAIL_DATA
	if !maps.SideOf(r.m).HoldMemory() { // no lock: a Read that waits has that of readers
		return 0
	}
	defer maps.SideOf(r.m).Unhold()
	return int(r.ring.Query(available))
}
