package maps

import (
	"math"
	"sync"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/errno"
	"github.com/skep-bpf/skep/internal/offheap"
	"github.com/skep-bpf/skep/internal/rt"
)

// queue is a map without keys: programs push, pop and peek. From Go an update pushes, a lookup peeks and LookupAndDelete pops, all with
// a nil key.
type queue interface {
	push(value []byte, flags uint64) errno.Errno
	pop(value []byte) errno.Errno
	peek(value []byte) errno.Errno
}

// ring is a queue or a stack: n values from first on, round the end of the memory (kernel/bpf/queue_stack_maps.c has the rules). Values
// are copied in and out under the lock; no program has an address here.
type ring struct {
	keyless
	region    *offheap.Region
	m         mem
	valueSize int
	size      uint64
	stack     bool

	mu       sync.Mutex
	first, n uint64
}

// checkQueue applies the rules of queue_stack_map_alloc_check.
func checkQueue(s *ebpf.MapSpec) error {
	if err := checkKeyless(s); err != nil {
		return err
	}
	if err := checkFlags(s, FlagNUMANode|accessFlags); err != nil {
		return err
	}
	if s.ValueSize > maxKmalloc || s.MaxEntries >= math.MaxUint32/s.ValueSize {
		return refuse(errno.E2BIG, "%d values of %d bytes are too many", s.MaxEntries, s.ValueSize)
	}
	return nil
}

func checkKeyless(s *ebpf.MapSpec) error {
	switch {
	case s.MaxEntries == 0:
		return refuse(errno.EINVAL, "MaxEntries is zero")
	case s.KeySize != 0:
		return refuse(errno.EINVAL, "KeySize is %d, type %s has no keys", s.KeySize, s.Type)
	case s.ValueSize == 0:
		return refuse(errno.EINVAL, "ValueSize is zero")
	}
	return nil
}

func newRing(valueSize, maxEntries uint32, stack bool, limit uint64) (*ring, error) {
	size, err := mulSize(limit, uint64(valueSize), uint64(maxEntries))
	if err != nil {
		return nil, err
	}
	r, err := offheap.Alloc(int(size))
	if err != nil {
		return nil, err
	}
	return &ring{keyless: keyless{errno.EINVAL}, region: r, m: memOf(r), valueSize: int(valueSize), size: uint64(maxEntries), stack: stack}, nil
}

// at returns the memory of value i, counted from the oldest.
func (r *ring) at(i uint64) []byte {
	return r.m.bytes(int((r.first+i)%r.size)*r.valueSize, r.valueSize)
}

// push adds a value. With BPF_EXIST a full map loses its oldest one, a stack as well.
func (r *ring) push(value []byte, flags uint64) errno.Errno {
	if flags != 0 && flags != updateExist {
		return errno.EINVAL
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.n == r.size {
		if flags != updateExist {
			return errno.E2BIG
		}
		r.drop()
	}
	copy(r.at(r.n), value)
	r.n++
	return 0
}

// drop forgets the oldest value.
func (r *ring) drop() {
	r.first = (r.first + 1) % r.size
	r.n--
}

func (r *ring) pop(value []byte) errno.Errno  { return r.get(value, true) }
func (r *ring) peek(value []byte) errno.Errno { return r.get(value, false) }

func (r *ring) get(value []byte, remove bool) errno.Errno {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.n == 0:
		return errno.ENOENT
	case r.stack:
		copy(value, r.at(r.n-1))
		if remove {
			r.n--
		}
	default:
		copy(value, r.at(0))
		if remove {
			r.drop()
		}
	}
	return 0
}

func (r *ring) read(_, value []byte) errno.Errno                { return r.peek(value) }
func (r *ring) take(_, value []byte) errno.Errno                { return r.pop(value) }
func (r *ring) write(_, value []byte, flags uint64) errno.Errno { return r.push(value, flags) }
func (r *ring) free() error                                     { return r.region.Free() }

// keyless is what maps without keys have of the operations on keys: an error number.
type keyless struct{ no errno.Errno }

func (keyless) lookup([]byte, int) uintptr                       { return 0 }
func (k keyless) update([]byte, []byte, uint64, int) errno.Errno { return errno.EINVAL }
func (k keyless) delete([]byte) errno.Errno                      { return k.no }
func (k keyless) nextKey([]byte, []byte) errno.Errno             { return k.no }
func (keyless) ranges() []rt.Region                              { return nil }
