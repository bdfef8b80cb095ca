package maps

import (
	"encoding/binary"
	"errors"

	"github.com/skep-bpf/skep/internal/errno"
	"github.com/skep-bpf/skep/internal/offheap"
	"github.com/skep-bpf/skep/internal/rt"
)

// Array and per-CPU array: all elements exist from the start, zeroed; value i of CPU c lies at
//
//	base + c*perCPU + i*stride,  stride = value size rounded up to 8
//
// Lookups and updates take no lock, as in the kernel: two writers of one value mix their bytes, a single aligned word is
// always whole.

// Flags of an update (linux/bpf.h).
const (
	updateNoExist = 1
	updateExist   = 2
	updateLock    = 4
)

type array struct {
	region     *offheap.Region
	m          mem
	valueSize  int
	stride     int
	perCPU     int // distance of one CPU's values from the next one's; 0: not per CPU
	maxEntries uint32
	keys       *arrayKeys
	special    *special
}

func newArray(valueSize, maxEntries uint32, perCPU bool, sp *special, limit uint64) (*array, error) {
	a := &array{valueSize: int(valueSize), stride: round8(int(valueSize)), maxEntries: maxEntries, keys: new(arrayKeys), special: sp}
	size, err := mulSize(limit, uint64(a.stride), uint64(maxEntries))
	if err != nil {
		return nil, err
	}
	total := size
	if perCPU {
		// Whole pages for each CPU: no two share a cache line, and unused slots stay uncommitted.
		size = uint64(offheap.RoundUp(int(size)))
		a.perCPU = int(size)
		if total, err = mulSize(limit, size, uint64(rt.CPUs())); err != nil {
			return nil, err
		}
	}
	if a.region, err = offheap.Alloc(int(total)); err != nil {
		return nil, err
	}
	a.m = memOf(a.region)
	return a, nil
}

// index decodes a key; ok is false if it is beyond the array.
func (a *array) index(key []byte) (i uint32, ok bool) {
	i = binary.NativeEndian.Uint32(key)
	return i, i < a.maxEntries
}

func (a *array) off(i uint32, cpu int) int { return cpu*a.perCPU + int(i)*a.stride }

func (a *array) lookup(key []byte, cpu int) uintptr {
	i, ok := a.index(key)
	if !ok {
		return 0
	}
	return a.m.addr(a.off(i, cpu))
}

// checkUpdate applies the rules of array_map_update_elem, in its order.
func (a *array) checkUpdate(key []byte, flags uint64) (uint32, errno.Errno) {
	if flags&^updateLock > updateExist {
		return 0, errno.EINVAL
	}
	i, ok := a.index(key)
	switch {
	case !ok:
		return 0, errno.E2BIG
	case flags&updateNoExist != 0:
		return 0, errno.EEXIST
	case flags&updateLock != 0 && !a.special.hasLock():
		return 0, errno.EINVAL
	}
	return i, 0
}

func (a *array) update(key, value []byte, flags uint64, cpu int) errno.Errno {
	i, e := a.checkUpdate(key, flags)
	if e == 0 {
		off := a.off(i, cpu)
		a.special.replace(a.m.bytes(off, a.valueSize), value, flags&updateLock != 0)
	}
	return e
}

func (a *array) delete([]byte) errno.Errno { return errno.EINVAL }

func (a *array) read(key, value []byte) errno.Errno { return a.copyOut(key, value, false) }

func (a *array) readLocked(key, value []byte) errno.Errno { return a.copyOut(key, value, true) }

func (a *array) takeLocked(key, value []byte) errno.Errno { return a.take(key, value) }

// copyOut copies an element's value, of all CPUs if there are several. locked: under its bpf_spin_lock.
func (a *array) copyOut(key, value []byte, locked bool) errno.Errno {
	i, ok := a.index(key)
	if !ok {
		return errno.ENOENT
	}
	if a.perCPU == 0 {
		a.special.get(value[:a.valueSize], a.m.bytes(a.off(i, 0), a.valueSize), locked)
		return 0
	}
	for c := range rt.CPUs() {
		a.special.get(value[c*a.stride:c*a.stride+a.valueSize], a.m.bytes(a.off(i, c), a.valueSize), false)
	}
	return 0
}

func (a *array) write(key, value []byte, flags uint64) errno.Errno {
	if a.perCPU == 0 {
		return a.update(key, value, flags, 0)
	}
	i, e := a.checkUpdate(key, flags)
	if e != 0 {
		return e
	}
	for c := range rt.CPUs() {
		a.special.replace(a.m.bytes(a.off(i, c), a.valueSize), value[c*a.stride:c*a.stride+a.valueSize], false)
	}
	return 0
}

func (a *array) take([]byte, []byte) errno.Errno { return errno.ENOTSUPP }

func (a *array) nextKey(key, next []byte) errno.Errno { return nextIndex(key, next, a.maxEntries) }

// nextIndex steps through the keys of anything array-like: an absent or unknown key is followed by 0.
func nextIndex(key, next []byte, maxEntries uint32) errno.Errno {
	i := uint32(0)
	if key != nil {
		if k := binary.NativeEndian.Uint32(key); k < maxEntries {
			i = k + 1
		}
	}
	if i >= maxEntries {
		return errno.ENOENT
	}
	binary.NativeEndian.PutUint32(next, i)
	return 0
}

func (a *array) ranges() []rt.Region {
	return []rt.Region{{Base: uint64(a.m.addr(0)), Size: uint64(a.region.Size())}}
}

func (a *array) free() error { return errors.Join(a.region.Free(), a.keys.free()) }

// slots is an array whose elements can be absent: devmap, cpumap, xskmap. A value is present if its first four bytes
// (interface, queue size, socket) are not zero.
type slots struct {
	array
	// zeroDeletes: writing a zero first word empties the slot (devmap with interface 0, cpumap with queue size 0).
	zeroDeletes bool
}

func (s *slots) lookup(key []byte, _ int) uintptr {
	i, ok := s.index(key)
	if !ok || s.m.u32(s.off(i, 0)).Load() == 0 {
		return 0
	}
	return s.m.addr(s.off(i, 0))
}

// Programs never write these maps: the verifier refuses it, as the kernel's does.
func (s *slots) update([]byte, []byte, uint64, int) errno.Errno { return errno.EOPNOTSUPP }

func (s *slots) delete(key []byte) errno.Errno {
	i, ok := s.index(key)
	if !ok {
		return errno.EINVAL
	}
	s.m.u32(s.off(i, 0)).Store(0)
	return 0
}

func (s *slots) read(key, value []byte) errno.Errno {
	if s.lookup(key, 0) == 0 {
		return errno.ENOENT
	}
	return s.array.read(key, value)
}

func (s *slots) write(key, value []byte, flags uint64) errno.Errno {
	i, ok := s.index(key)
	first := binary.NativeEndian.Uint32(value)
	switch {
	case flags > updateExist:
		return errno.EINVAL
	case !ok:
		return errno.E2BIG
	case flags == updateNoExist && !s.zeroDeletes: // xskmap looks at what is there
		if s.m.u32(s.off(i, 0)).Load() != 0 {
			return errno.EEXIST
		}
	case flags == updateNoExist:
		return errno.EEXIST
	case flags == updateExist && !s.zeroDeletes:
		if s.m.u32(s.off(i, 0)).Load() == 0 {
			return errno.ENOENT
		}
	}
	if first == 0 && !s.zeroDeletes {
		return errno.EINVAL
	}
	// The rest first: a reader that sees the slot filled sees all of it.
	if s.valueSize > 4 {
		copy(s.m.bytes(s.off(i, 0)+4, s.valueSize-4), value[4:])
	}
	s.m.u32(s.off(i, 0)).Store(first)
	return 0
}
