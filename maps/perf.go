package maps

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"sync/atomic"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/errno"
	"github.com/skep-bpf/skep/internal/perfring"
	"github.com/skep-bpf/skep/internal/rt"
)

// perfArray is a perf event array: at index i the ring that programs in CPU slot i write to. Only a reader (package perf) puts rings
// there; other perf events do not exist here.
type perfArray struct {
	absent
	rings []atomic.Pointer[perfring.Ring]
}

func newPerfArray(maxEntries uint32) *perfArray {
	return &perfArray{absent: absent{max: maxEntries}, rings: make([]atomic.Pointer[perfring.Ring], maxEntries)}
}

// checkPerfArray fills in what cilium/ebpf does for these maps, and applies the rules of fd_array_map_alloc_check.
func checkPerfArray(s *ebpf.MapSpec) error {
	for _, size := range []*uint32{&s.KeySize, &s.ValueSize} {
		if *size == 0 {
			*size = 4
		}
	}
	if n := uint32(rt.CPUs()); s.MaxEntries == 0 || s.MaxEntries > n {
		s.MaxEntries = n
	}
	return checkAbsent(s, FlagNUMANode|FlagReadOnly|FlagWriteOnly|FlagPreserveElems)
}

func (p *perfArray) delete(key []byte) errno.Errno {
	i := key32(key)
	if i >= p.max {
		return errno.E2BIG
	}
	if p.rings[i].Swap(nil) == nil {
		return errno.ENOENT
	}
	return 0
}

// SetPerfRing puts a ring where programs of a CPU slot write to; it is for package perf.
func (m *Side) SetPerfRing(cpu int, r *perfring.Ring) error {
	p, ok := m.store.(*perfArray)
	if !ok {
		return fmt.Errorf("%s is no perf event array", m.typ)
	}
	p.rings[cpu].Store(r)
	return nil
}

// ClearPerfRing takes a ring out if it is still there.
func (m *Side) ClearPerfRing(cpu int, r *perfring.Ring) {
	if p, ok := m.store.(*perfArray); ok {
		p.rings[cpu].CompareAndSwap(r, nil)
	}
}

const (
	perfIndexMask  = 0xffffffff // BPF_F_INDEX_MASK; all bits: BPF_F_CURRENT_CPU
	perfCurrentCPU = perfIndexMask
)

// PerfOutput is bpf_perf_event_output from a CPU slot, of the parts as one sample (__bpf_perf_event_output).
func (m *Side) PerfOutput(flags uint64, cpu int, parts ...[]byte) errno.Errno {
	p, ok := m.store.(*perfArray)
	if !ok {
		return errno.EINVAL
	}
	i := flags & perfIndexMask
	if i == perfCurrentCPU {
		i = uint64(cpu)
	}
	if i >= uint64(p.max) {
		return errno.E2BIG
	}
	r := p.rings[i].Load()
	switch {
	case r == nil:
		return errno.ENOENT
	case i != uint64(cpu):
		return errno.EOPNOTSUPP
	case !r.Append(parts...):
		return errno.ENOSPC
	}
	return 0
}

// absent is an array of things that Go cannot put there, and that may not exist here at all: control groups, stacks, perf events. It is
// an empty array in which nothing is found.
type absent struct{ max uint32 }

func checkAbsent(s *ebpf.MapSpec, flags uint32) error {
	if err := checkSizes(s, 4); err != nil {
		return err
	}
	if s.ValueSize != 4 {
		return refuse(errno.EINVAL, "ValueSize is %d, type %s needs 4", s.ValueSize, s.Type)
	}
	if s.MaxEntries > maxProgs {
		return refuse(errno.E2BIG, "MaxEntries %d of type %s is above %d", s.MaxEntries, s.Type, maxProgs)
	}
	return checkFlags(s, flags)
}

func (a *absent) delete(key []byte) errno.Errno {
	if binary.NativeEndian.Uint32(key) >= a.max {
		return errno.E2BIG
	}
	return errno.ENOENT
}

func (*absent) lookup([]byte, int) uintptr                     { return 0 }
func (*absent) update([]byte, []byte, uint64, int) errno.Errno { return errno.EINVAL }
func (*absent) read([]byte, []byte) errno.Errno                { return errno.ENOTSUPP }
func (*absent) write(_, _ []byte, _ uint64) errno.Errno        { return errno.EOPNOTSUPP }
func (*absent) take([]byte, []byte) errno.Errno                { return errno.ENOTSUPP }
func (a *absent) nextKey(key, next []byte) errno.Errno         { return nextIndex(key, next, a.max) }
func (*absent) ranges() []rt.Region                            { return nil }
func (*absent) free() error                                    { return nil }

// stackTraces is a map of stack traces. There are no stacks of a kernel or of processes here, so it stays empty: bpf_get_stackid finds no
// stack. (kernel/bpf/stackmap.c)
type stackTraces struct{ absent }

const (
	stackBuildID  = 1 << 5 // BPF_F_STACK_BUILD_ID
	buildIDSize   = 32     // sizeof(struct bpf_stack_build_id)
	maxStackDepth = 127    // sysctl kernel.perf_event_max_stack
)

// checkStackTraces applies the rules of stack_map_alloc.
func checkStackTraces(s *ebpf.MapSpec) error {
	if err := checkFlags(s, FlagNUMANode|FlagReadOnly|FlagWriteOnly|stackBuildID); err != nil {
		return err
	}
	if err := checkSizes(s, 4); err != nil {
		return err
	}
	if s.MaxEntries > 1<<31 {
		return refuse(errno.E2BIG, "MaxEntries %d is above %d", s.MaxEntries, uint32(1<<31))
	}
	frame := uint32(8)
	if s.Flags&stackBuildID != 0 {
		frame = buildIDSize
	}
	if s.ValueSize < 8 || s.ValueSize%frame != 0 || s.ValueSize/frame > maxStackDepth {
		return refuse(errno.EINVAL, "ValueSize is %d, type %s needs multiples up to %d times %d", s.ValueSize, s.Type, maxStackDepth, frame)
	}
	return nil
}

// newStackTraces makes a map with as many entries as the kernel's, a power of two.
func newStackTraces(maxEntries uint32) *stackTraces {
	return &stackTraces{absent{uint32(1) << bits.Len32(maxEntries-1)}}
}

func (*stackTraces) read([]byte, []byte) errno.Errno         { return errno.ENOENT }
func (*stackTraces) write(_, _ []byte, _ uint64) errno.Errno { return errno.EINVAL }
func (*stackTraces) nextKey(_, _ []byte) errno.Errno         { return errno.ENOENT }
func (*stackTraces) take(_, _ []byte) errno.Errno            { return errno.ENOENT }
