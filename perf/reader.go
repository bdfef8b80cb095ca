// Package perf reads what programs write to perf event arrays (bpf_perf_event_output). It is the counterpart of
// github.com/cilium/ebpf/perf for maps of skep, with the same types, methods and errors; it has no need of the kernel's perf events.
package perf

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/perfring"
	"github.com/skep-bpf/skep/maps"
)

// The errors of Read, as cilium/ebpf names them.
var (
	ErrClosed  = os.ErrClosed
	ErrFlushed = errors.New("perf ringbuffer was flushed")
)

var errMustBePaused = errors.New("perf ringbuffer: must have been paused before reading overwritable buffer")

// Record contains either a sample or a counter of the number of lost samples.
type Record struct {
	// CPU is the slot of the run that wrote the record, see maps.PossibleCPUs.
	CPU int
	// RawSample is the data that was given to bpf_perf_event_output, without anything behind it.
	RawSample []byte
	// LostSamples is the number of samples that did not fit into the ring.
	LostSamples uint64
	// Remaining is the number of bytes that were left in the ring after this record, negative for overwritable rings.
	Remaining int
}

// ReaderOptions control when a Reader is woken, and what happens when a ring is full.
type ReaderOptions struct {
	// WakeupEvents is the number of events in any ring before Read looks at the rings. It excludes Watermark.
	WakeupEvents int
	// Watermark is the number of bytes in any ring before Read looks at the rings; by default it looks at once.
	Watermark int
	// Overwritable: a full ring loses its oldest event, and the newest is read first. Read wants the reader to be paused.
	Overwritable bool
}

// Reader reads samples from a perf event array. Its methods may be called by several goroutines.
type Reader struct {
	array *maps.Map
	opts  ReaderOptions
	size  int

	wake, flush chan struct{}
	closed      chan struct{}

	mu       sync.Mutex // one Read at a time
	deadline time.Time
	look     []int // rings that the last wake-up is to look at
	pending  error // to be returned once they are empty

	state  sync.Mutex
	rings  []*perfring.Ring // nil after Close
	paused bool
}

// NewReader makes a reader with default options. array must be a PerfEventArray. perCPUBuffer is the size of each CPU slot's ring in bytes;
// it is rounded up to pages, a power of two of them.
func NewReader(array *maps.Map, perCPUBuffer int) (*Reader, error) {
	return NewReaderWithOptions(array, perCPUBuffer, ReaderOptions{})
}

// maxBuffer bounds a ring.
const maxBuffer = 1 << 30

// NewReaderWithOptions is NewReader with options.
func NewReaderWithOptions(array *maps.Map, perCPUBuffer int, opts ReaderOptions) (*Reader, error) {
	switch {
	case array == nil || array.Type() != ebpf.PerfEventArray:
		return nil, fmt.Errorf("perf ringbuffer: %v is no perf event array", array)
	case perCPUBuffer < 1:
		return nil, errors.New("perCPUBuffer must be larger than 0")
	case perCPUBuffer > maxBuffer:
		return nil, fmt.Errorf("perCPUBuffer of %d bytes is above %d", perCPUBuffer, maxBuffer)
	case opts.WakeupEvents > 0 && opts.Watermark > 0:
		return nil, errors.New("WakeupEvents and Watermark cannot both be non-zero")
	}
	array, err := array.Clone()
	if err != nil {
		return nil, err
	}
	r := &Reader{
		array: array, opts: opts, size: perfring.Size(perCPUBuffer),
		wake: make(chan struct{}, 1), flush: make(chan struct{}, 1), closed: make(chan struct{}),
	}
	for range array.MaxEntries() {
		r.rings = append(r.rings, perfring.New(r.size, perfring.Options(opts), func() { signal(r.wake) }))
	}
	if err := r.Resume(); err != nil {
		_ = r.Close()
		return nil, err
	}
	return r, nil
}

// signal leaves word in a channel with room for one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Close gives the rings up and interrupts Read. bpf_perf_event_output finds nothing after it.
func (r *Reader) Close() error {
	r.state.Lock()
	defer r.state.Unlock()
	if r.rings == nil {
		return nil
	}
	r.detach()
	r.rings = nil
	close(r.closed)
	return r.array.Close()
}

// detach takes the rings out of the array.
func (r *Reader) detach() {
	for i, ring := range r.rings {
		maps.SideOf(r.array).ClearPerfRing(i, ring)
	}
}

// Pause stops programs from writing: bpf_perf_event_output returns -ENOENT until Resume.
func (r *Reader) Pause() error {
	r.state.Lock()
	defer r.state.Unlock()
	if r.rings == nil {
		return fmt.Errorf("%w", ErrClosed)
	}
	r.detach()
	r.paused = true
	return nil
}

// Resume lets programs write again.
func (r *Reader) Resume() error {
	r.state.Lock()
	defer r.state.Unlock()
	if r.rings == nil {
		return fmt.Errorf("%w", ErrClosed)
	}
	for i, ring := range r.rings {
		if err := maps.SideOf(r.array).SetPerfRing(i, ring); err != nil {
			return fmt.Errorf("couldn't put ring of CPU %d: %w", i, err)
		}
	}
	r.paused = false
	return nil
}

// BufferSize is the size in bytes of each CPU slot's ring.
func (r *Reader) BufferSize() int { return r.size }

// Flush unblocks Read, which then returns what is in the rings, followed by ErrFlushed.
func (r *Reader) Flush() error {
	r.state.Lock()
	defer r.state.Unlock()
	if r.rings == nil {
		return fmt.Errorf("%w", ErrClosed)
	}
	signal(r.flush)
	return nil
}

// SetDeadline says how long Read may wait; the zero time means for ever, one in the past not at all. It waits for a Read that is under way.
func (r *Reader) SetDeadline(t time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deadline = t
}

// Read returns the next record. It waits until a ring has WakeupEvents events or Watermark bytes.
//
// The error wraps os.ErrClosed after Close, ErrFlushed after Flush once the rings are empty, and os.ErrDeadlineExceeded after the deadline.
func (r *Reader) Read() (Record, error) {
	var rec Record
	return rec, r.ReadInto(&rec)
}

// ReadInto is Read into a Record whose memory is used again.
func (r *Reader) ReadInto(rec *Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		if err := r.readable(); err != nil {
			return err
		}
		if r.next(rec) {
			return nil
		}
		if err := r.pending; err != nil {
			r.pending = nil
			return err
		}
		if err := r.wait(); err != nil && !errors.Is(err, ErrFlushed) && !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		} else if err != nil {
			r.pending = err // once what is there has been read
		}
		for i := range int(r.array.MaxEntries()) {
			r.look = append(r.look, i)
		}
	}
}

// readable reports why nothing can be read now.
func (r *Reader) readable() error {
	r.state.Lock()
	defer r.state.Unlock()
	switch {
	case r.rings == nil:
		return fmt.Errorf("perf ringbuffer: %w", ErrClosed)
	case r.opts.Overwritable && !r.paused:
		return errMustBePaused
	}
	return nil
}

// next reads a record of the rings to look at.
func (r *Reader) next(rec *Record) bool {
	r.state.Lock()
	rings := r.rings
	r.state.Unlock()
	for rings != nil && len(r.look) > 0 {
		cpu := r.look[len(r.look)-1]
		got, ok := rings[cpu].Read(rec.RawSample)
		rec.RawSample = got.Data
		if !ok {
			r.look = r.look[:len(r.look)-1]
			continue
		}
		rec.CPU, rec.LostSamples, rec.Remaining = cpu, got.Lost, got.Remaining
		if r.opts.Overwritable {
			rec.Remaining = -1
		}
		return true
	}
	return false
}

// wait waits for word from a ring, from Flush or Close, or for the deadline.
func (r *Reader) wait() error {
	var timer <-chan time.Time
	if !r.deadline.IsZero() {
		t := time.NewTimer(time.Until(r.deadline))
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-r.closed:
		return fmt.Errorf("perf ringbuffer: %w", ErrClosed)
	case <-r.wake:
		return nil
	case <-r.flush:
		return ErrFlushed
	case <-timer:
		return fmt.Errorf("perf ringbuffer: %w", os.ErrDeadlineExceeded)
	}
}
