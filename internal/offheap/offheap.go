// Package offheap hands out memory that lies outside the Go heap: maps, packets, contexts and stacks live there, because
// programs hold real addresses and the garbage collector must neither move nor scan what they point to.
//
// It knows nothing of what is stored. Executable memory is not here (internal/native has it).
package offheap

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
)

// Region is one mapping. Its memory is zeroed, page-aligned, readable and writable, and committed by the operating
// system page by page as it is touched.
type Region struct {
	mu    sync.Mutex
	whole []byte // with guard pages; nil after Free
	b     []byte
	guard int
}

// Option changes how Alloc makes a region.
type Option func(*config)

type config struct{ guard bool }

// WithGuard puts an inaccessible page in front of the region and one behind it: running over either end faults.
func WithGuard() Option { return func(c *config) { c.guard = true } }

var (
	pageSize = os.Getpagesize()
	inUse    atomic.Int64
	regions  atomic.Int64
)

// ErrSize is wrapped by Alloc's error for sizes that are not positive or cannot be mapped.
var ErrSize = errors.New("invalid region size")

// MaxSize is the largest region, in bytes.
const MaxSize = 1 << 40

// PageSize returns the size of a page in bytes.
func PageSize() int { return pageSize }

// RoundUp returns n rounded up to whole pages.
func RoundUp(n int) int { return (n + pageSize - 1) &^ (pageSize - 1) }

// Alloc maps a region of n bytes, rounded up to whole pages. The error tells the size that was asked for.
func Alloc(n int, opts ...Option) (*Region, error) {
	var c config
	for _, o := range opts {
		o(&c)
	}
	if n <= 0 || uint64(n) > MaxSize {
		return nil, fmt.Errorf("offheap: %d bytes: %w", n, ErrSize)
	}
	size := RoundUp(n)
	g := 0
	if c.guard {
		g = pageSize
	}
	whole, err := mapPages(size + 2*g)
	if err != nil {
		return nil, fmt.Errorf("offheap: map %d bytes: %w", n, err)
	}
	r := &Region{whole: whole, b: whole[g : g+size : g+size], guard: g}
	if g != 0 {
		for _, p := range [][]byte{whole[:g], whole[g+size:]} {
			if err := protectPages(p, protNone); err != nil {
				_ = unmapPages(whole)
				return nil, fmt.Errorf("offheap: guard page: %w", err)
			}
		}
	}
	inUse.Add(int64(size))
	regions.Add(1)
	return r, nil
}

// Bytes returns the region's memory. It may not be used after Free.
func (r *Region) Bytes() []byte { return r.b }

// Size returns the region's size in bytes, a multiple of the page size.
func (r *Region) Size() int { return len(r.b) }

// SetReadOnly makes the region read-only (or writable again): a write then faults.
func (r *Region) SetReadOnly(ro bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.whole == nil {
		return errors.New("offheap: region is freed")
	}
	p := protRW
	if ro {
		p = protRead
	}
	if err := protectPages(r.b, p); err != nil {
		return fmt.Errorf("offheap: protect %d bytes: %w", len(r.b), err)
	}
	return nil
}

// Free unmaps the region. The caller must know that no program and no Go code uses its addresses any more. Freeing
// twice does nothing.
func (r *Region) Free() error {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.whole == nil {
		return nil
	}
	w := r.whole
	inUse.Add(-int64(len(r.b)))
	regions.Add(-1)
	r.whole, r.b = nil, nil
	if err := unmapPages(w); err != nil {
		return fmt.Errorf("offheap: unmap %d bytes: %w", len(w), err)
	}
	return nil
}

// Stats returns the number of regions and bytes that are mapped now (address space, not committed memory).
func Stats() (n int, bytes int64) { return int(regions.Load()), inUse.Load() }
