package ringbuf

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/maps"
)

// ErrNoRoom is returned by Write if the user ring buffer is full.
var ErrNoRoom = errors.New("user ring buffer is full")

// ErrTooLong is returned for records that are longer than the user ring buffer, or than 16 MiB: no program could drain them.
var ErrTooLong = errors.New("record is longer than the user ring buffer, or than a dynptr")

// Writer puts records into a user ring buffer (BPF_MAP_TYPE_USER_RINGBUF), from which programs take them with
// bpf_user_ringbuf_drain. Its methods may be called by many goroutines, and a user ring buffer may have several writers.
type Writer struct {
	mu   sync.Mutex
	m    *maps.Map
	ring maps.Ring
	wake chan struct{}

	close sync.Once
	quit  chan struct{} // closed by Close
}

// NewWriter makes a writer of a user ring buffer. The map's memory stays until the writer is closed.
func NewWriter(m *maps.Map) (*Writer, error) {
	if m == nil || m.Type() != ebpf.UserRingbuf {
		return nil, fmt.Errorf("invalid Map type: %v", typeOf(m))
	}
	side := maps.SideOf(m)
	if err := side.Hold(); err != nil {
		return nil, fmt.Errorf("user ringbuffer: %w", err)
	}
	return &Writer{m: m, ring: side.Ring(), wake: make(chan struct{}, 1), quit: make(chan struct{})}, nil
}

// Write adds a record, or returns ErrNoRoom.
func (w *Writer) Write(p []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.write(p)
}

func (w *Writer) write(p []byte) error {
	switch {
	case w.closed():
		return fmt.Errorf("user ringbuffer: %w", ErrClosed)
	case !w.ring.Fits(len(p)):
		return fmt.Errorf("user ringbuffer: record of %d bytes: %w", len(p), ErrTooLong)
	case !w.ring.Put(p):
		return ErrNoRoom
	}
	return nil
}

// WriteContext is Write that waits until there is room; ctx ends the wait. A program that drains the ring with BPF_RB_NO_WAKEUP wakes
// nobody. Other writes wait behind this one.
func (w *Writer) WriteContext(ctx context.Context, p []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		err := w.write(p)
		if err != ErrNoRoom {
			return err
		}
		if !w.ring.WaitRoom(w.wake, len(p), ctx.Done(), w.quit) && !w.closed() {
			return fmt.Errorf("user ringbuffer: %w", context.Cause(ctx))
		}
	}
}

// closed reports whether Close was called.
func (w *Writer) closed() bool {
	select {
	case <-w.quit:
		return true
	default:
		return false
	}
}

// Close gives the writer up. It interrupts WriteContext. Closing twice does nothing.
func (w *Writer) Close() (err error) {
	w.close.Do(func() {
		close(w.quit)
		w.mu.Lock() // no write is under way any more
		defer w.mu.Unlock()
		err = maps.SideOf(w.m).Unhold()
	})
	return err
}
