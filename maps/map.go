package maps

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/errno"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/internal/rt"
)

// store is what a map type does. Keys have the map's key size; values have the size the operation needs: value size on
// the program's side, fullValueSize on Go's. Results are error numbers as the kernel gives them, 0 for success.
type store interface {
	// The program's side, called by helpers. lookup returns the address of the value for a CPU slot, 0 if there is
	// none.
	lookup(key []byte, cpu int) uintptr
	update(key, value []byte, flags uint64, cpu int) errno.Errno
	delete(key []byte) errno.Errno
	// Go's side: values of per-CPU maps hold all CPUs, each rounded up to 8 bytes.
	read(key, value []byte) errno.Errno
	write(key, value []byte, flags uint64) errno.Errno
	take(key, value []byte) errno.Errno
	nextKey(key, next []byte) errno.Errno
	// ranges is the memory that programs may reach through lookups.
	ranges() []rt.Region
	free() error
}

// Map is a BPF map. All methods may be called by many goroutines at a time; after Close they return an error that wraps
// ErrClosed.
type Map struct {
	name                           string
	typ                            ebpf.MapType
	keySize, valueSize, maxEntries uint32
	flags                          uint32
	fullValueSize                  int
	spec                           *ebpf.MapSpec

	id     uint32
	header *uint64
	named  atomic.Bool // FD was asked for

	frozen   atomic.Bool
	freezeMu sync.RWMutex // writers from Go hold it for reading; Freeze for writing

	usersMu sync.Mutex
	users   int         // Closes to come from Go: one, and one for each clone
	closed  atomic.Bool // there are none
	refs    atomic.Int64
	store   store
	opts    Options
	special *special    // nil: values have no special fields
	regions []rt.Region // does not change
}

// PossibleCPUs returns the number of values an element of a per-CPU map has: one for each program that can run at a
// time. It stands in for ebpf.PossibleCPU and does not change while the process lives.
func PossibleCPUs() int { return rt.CPUs() }

// Options change how New makes a map.
type Options struct {
	// MaxBytes bounds the address space of the map; 0 means DefaultMaxBytes.
	MaxBytes uint64
	// Types are those of the object that the spec comes from: lists and trees in values name in them what they hold. nil: there are none.
	Types *btf.Spec
	// Kernel gives the types of the kernel: pointers to their structures are not the program's. nil means the host's.
	Kernel func() *btf.Spec
	// Seed gives the seed of a map that hashes with one (hash maps, Bloom filters), and with that the order of its elements; nil means a
	// random one.
	Seed func() uint64
}

// New makes a map, puts spec.Contents into it, and freezes it if it is a section of constants (.rodata*, .kconfig), all as
// ebpf.NewMap does. The spec is not kept or changed.
//
// The error wraps the error number the kernel would give (unix.EINVAL, unix.E2BIG) and tells the reason.
func New(spec *ebpf.MapSpec) (*Map, error) { return NewWithOptions(spec, Options{}) }

// NewWithOptions is New with options.
func NewWithOptions(spec *ebpf.MapSpec, opts Options) (*Map, error) {
	if spec == nil {
		return nil, errors.New("map create: spec is nil")
	}
	if spec.Pinning != ebpf.PinNone {
		return nil, fmt.Errorf("map create: pinning: %w", ebpf.ErrNotSupported)
	}
	if opts.Kernel == nil {
		opts.Kernel = program.HostTypes
	}
	s, err := checkSpec(spec)
	if err != nil {
		return nil, err
	}
	limit := opts.MaxBytes
	if limit == 0 {
		limit = DefaultMaxBytes
	}
	limit = min(limit, maxBytes)
	m := &Map{
		name: s.Name, typ: s.Type, keySize: s.KeySize, valueSize: s.ValueSize, maxEntries: s.MaxEntries, flags: s.Flags,
		fullValueSize: int(s.ValueSize), spec: s, opts: opts,
	}
	if m.perCPU() {
		m.fullValueSize = round8(int(s.ValueSize)) * rt.CPUs()
	}
	if m.special, err = specialOf(s, &opts); err != nil {
		return nil, err
	}
	seed := opts.Seed
	if seed == nil {
		seed = rand.Uint64
	}
	if m.store, err = newStore(s, m.special, limit, seed); err != nil {
		return nil, fmt.Errorf("map create: %w", err)
	}
	m.regions = m.store.ranges()
	for i := range m.regions {
		m.regions[i].Name = "map " + m.name
		m.regions[i].ReadOnly = m.flags&FlagReadOnlyProg != 0 || isOuter(m.typ)
	}
	m.refs.Store(1)
	m.users = 1
	if err := register(m); err != nil {
		_ = m.store.free()
		return nil, fmt.Errorf("map create: %w", err)
	}
	if r, ok := m.store.(*ringBuf); ok {
		r.m.u64(ringOwner).Store(uint64(m.id))
	}
	if err := m.fill(s); err != nil {
		_ = m.Close()
		return nil, err
	}
	return m, nil
}

func newStore(s *ebpf.MapSpec, sp *special, limit uint64, seed func() uint64) (store, error) {
	switch s.Type {
	case ebpf.Array, ebpf.PerCPUArray:
		return newArray(s.ValueSize, s.MaxEntries, s.Type == ebpf.PerCPUArray, sp, limit)
	case ebpf.Hash, ebpf.PerCPUHash, ebpf.LRUHash, ebpf.LRUCPUHash:
		return newHash(s.KeySize, s.ValueSize, s.MaxEntries, hashKindOf(s, sp, seed), limit)
	case ebpf.LPMTrie:
		return newLPM(s.KeySize, s.ValueSize, s.MaxEntries, limit)
	case ebpf.Queue, ebpf.Stack:
		return newRing(s.ValueSize, s.MaxEntries, s.Type == ebpf.Stack, limit)
	case ebpf.BloomFilter:
		return newBloom(s, limit, seed)
	case ebpf.ArrayOfMaps:
		return newMapArray(s.MaxEntries, limit)
	case ebpf.HashOfMaps:
		return newMapHash(s, limit, seed)
	case ebpf.PerfEventArray:
		return newPerfArray(s.MaxEntries), nil
	case ebpf.CGroupArray:
		return &absent{s.MaxEntries}, nil
	case ebpf.StackTrace:
		return newStackTraces(s.MaxEntries), nil
	case ebpf.SockMap, ebpf.SockHash, ebpf.ReusePortSockArray:
		return newSockets(s), nil
	case ebpf.CGroupStorage, ebpf.PerCPUCGroupStorage:
		return newCgroupStorage(s, sp, limit, seed)
	case ebpf.ProgramArray:
		return newProgArray(s.MaxEntries, limit)
	case ebpf.RingBuf, ebpf.UserRingbuf:
		return newRingBuf(s.MaxEntries, limit)
	case ebpf.DevMapHash:
		h, err := newHash(s.KeySize, s.ValueSize, s.MaxEntries, hashKind{seed: seed}, limit)
		return devHash{h}, err
	}
	a, err := newArray(s.ValueSize, s.MaxEntries, false, nil, limit)
	if err != nil {
		return nil, err
	}
	return &slots{array: *a, zeroDeletes: s.Type != ebpf.XSKMap}, nil
}

// fill puts the initial contents in and freezes sections of constants.
func (m *Map) fill(s *ebpf.MapSpec) error {
	for _, kv := range s.Contents {
		if err := m.update(kv.Key, kv.Value, 0, true); err != nil {
			return fmt.Errorf("putting value: key %v: %w", kv.Key, err)
		}
	}
	if strings.HasPrefix(s.Name, ".rodata") || s.Name == ".kconfig" {
		return m.Freeze()
	}
	return nil
}

// maxBytes bounds a map's memory where addresses have 32 bits, so that offsets are no larger than an int; something is left for rounding
// up to pages, and for what lies in front of a ring buffer's data.
const maxBytes = math.MaxInt - 1<<20

// mulSize multiplies two sizes and refuses what is above limit, as the kernel refuses what it cannot allocate.
func mulSize(limit, a, b uint64) (uint64, error) {
	if a != 0 && b > limit/a {
		return 0, fmt.Errorf("%d times %d bytes is above the limit of %d bytes for a map: %w", b, a, limit, errno.E2BIG)
	}
	return a * b, nil
}

func (m *Map) perCPU() bool {
	return m.typ == ebpf.PerCPUArray || m.typ == ebpf.PerCPUHash || m.typ == ebpf.LRUCPUHash || m.typ == ebpf.PerCPUCGroupStorage
}

// String describes the map: type, name.
func (m *Map) String() string {
	if m == nil {
		return "Map(nil)"
	}
	if m.name != "" {
		return fmt.Sprintf("%s(%s)#%d", m.typ, m.name, m.id)
	}
	return fmt.Sprintf("%s#%d", m.typ, m.id)
}

// Name returns the name the map was made with.
func (m *Map) Name() string { return m.name }

// Type returns the map's type.
func (m *Map) Type() ebpf.MapType { return m.typ }

// KeySize returns the size of a key in bytes.
func (m *Map) KeySize() uint32 { return m.keySize }

// ValueSize returns the size of a value in bytes; of one CPU's value in per-CPU maps.
func (m *Map) ValueSize() uint32 { return m.valueSize }

// MaxEntries returns how many elements the map can hold.
func (m *Map) MaxEntries() uint32 { return m.maxEntries }

// Flags returns the creation flags (BPF_F_*).
func (m *Map) Flags() uint32 { return m.flags }

// Info describes the map in cilium/ebpf's form.
func (m *Map) Info() (*ebpf.MapInfo, error) {
	if err := m.made(); err != nil {
		return nil, err
	}
	return &ebpf.MapInfo{
		Type: m.typ, KeySize: m.keySize, ValueSize: m.valueSize, MaxEntries: m.maxEntries, Flags: m.flags, Name: m.name,
	}, nil
}

// IsPinned reports false: maps here live in the process.
func (m *Map) IsPinned() bool { return false }

// Spec returns the spec that the map was made with, its open fields filled in. It may not be changed.
func (m *Map) Spec() *ebpf.MapSpec { return m.spec }

// fdBase is added to a map's number in FD: no file descriptor is that large.
const fdBase = 1 << 30

// FD returns a number that stands for the map where instructions made in Go want a file descriptor
// (asm.Instruction.AssociateMap, asm.LoadMapPtr). It is no file descriptor of the operating system. Before the first call
// no instruction can name the map so, and programs in object files never can.
func (m *Map) FD() int {
	m.named.Store(true)
	return fdBase + int(m.id)
}

// FromFD returns the map whose FD is fd, if somebody was told so.
func FromFD(fd int) (*Map, bool) {
	p := registry.table.Load()
	if i := fd - fdBase; p != nil && i > 0 && i < len(*p) && (*p)[i] != nil && (*p)[i].named.Load() {
		return (*p)[i], true
	}
	return nil, false
}

// Clone returns the map with one use more, which wants a Close of its own. Unlike cilium/ebpf's, the clone is the same *Map:
// the last Close closes it.
func (m *Map) Clone() (*Map, error) {
	if m == nil {
		return nil, nil
	}
	m.usersMu.Lock()
	defer m.usersMu.Unlock()
	if m.users == 0 {
		return nil, fmt.Errorf("clone map: %w", ErrClosed)
	}
	m.users++
	return m, nil
}

// reopen is Clone of a map that may be closed, whose memory the caller holds.
func (m *Map) reopen() *Map {
	m.usersMu.Lock()
	defer m.usersMu.Unlock()
	if m.users == 0 {
		m.refs.Add(1)
		m.closed.Store(false)
		if m.special != nil {
			m.special.timers.Reopen()
		}
	}
	m.users++
	return m
}

// endUse counts one use less and reports whether it was the last.
func (m *Map) endUse() bool {
	m.usersMu.Lock()
	defer m.usersMu.Unlock()
	if m.users == 0 {
		return false
	}
	m.users--
	m.closed.Store(m.users == 0)
	return m.users == 0
}

// Frozen reports whether Freeze was called: Go can no longer change the map.
func (m *Map) Frozen() bool { return m.frozen.Load() }

// Freeze makes the map read-only for Go; programs are not affected. Updates that run at the same time end before it
// returns.
func (m *Map) Freeze() error {
	if err := m.hold(); err != nil {
		return fmt.Errorf("can't freeze map: %w", err)
	}
	defer m.unhold()
	m.freezeMu.Lock()
	defer m.freezeMu.Unlock()
	if err := m.writable(); err != nil {
		return fmt.Errorf("can't freeze map: %w", err)
	}
	m.frozen.Store(true)
	if a, ok := m.store.(*array); ok && m.flags&FlagReadOnlyProg != 0 {
		// Nobody may write it any more: should the proof of a program be wrong, the write faults.
		return a.region.SetReadOnly(true)
	}
	return nil
}

// Close gives the map up. Its memory stays until the last program that uses it is closed. A program array is emptied, and timers and
// work queues of its values are cancelled. Closing twice does nothing.
func (m *Map) Close() error {
	if m == nil || !m.endUse() {
		return nil
	}
	if p, ok := m.store.(*progArray); ok {
		p.clear()
	}
	if m.special.hasTimers() { // whose callbacks may run now
		m.special.timers.Close()
		giveBack(m)
		return nil
	}
	return m.unhold()
}

// made refuses what New did not make: most often the value of a Go map for a name that is not there.
func (m *Map) made() error {
	if m == nil || m.store == nil {
		return errors.New("map is nil: there is none of that name")
	}
	return nil
}

// hold keeps the memory of an open map until unhold.
func (m *Map) hold() error {
	if err := m.made(); err != nil {
		return err
	}
	if m.closed.Load() {
		return fmt.Errorf("map %s: %w", m.name, ErrClosed)
	}
	if !m.holdMemory() {
		return fmt.Errorf("map %s: %w", m.name, ErrClosed)
	}
	return nil
}

// holdMemory is hold that also succeeds after Close as long as somebody else, a program say, holds the map.
func (m *Map) holdMemory() bool {
	for {
		n := m.refs.Load()
		if n <= 0 {
			return false
		}
		if m.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (m *Map) unhold() error {
	if m.refs.Add(-1) != 0 {
		return nil
	}
	unregister(m)
	m.special.freeAll(m.store)
	if err := m.store.free(); err != nil {
		return fmt.Errorf("map %s: %w", m.name, err)
	}
	return nil
}
