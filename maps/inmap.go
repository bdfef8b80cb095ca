package maps

import (
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/errno"
	"github.com/skep-bpf/skep/internal/offheap"
	"github.com/skep-bpf/skep/internal/rt"
	"github.com/skep-bpf/skep/internal/sysenc"
)

// Maps of maps: an element is a map, for programs its handle, in memory of eight bytes that is stored at once. Only Go changes them; all
// maps in one are of the kind of its template, since that is what programs are proven with (kernel/bpf/map_in_map.c).
//
// Whatever is in a map of maps is held by it. A map that is taken out is given back after all runs that are under way now: they may have
// found it just before.

// outer is a map of maps.
type outer interface {
	store
	// check looks at key and flags before the map is looked at.
	check(key []byte, flags uint64) errno.Errno
	// put stores a map that the caller holds; the outer one takes the hold over if it succeeds.
	put(key []byte, inner *Map, flags uint64) errno.Errno
	// inner returns the map at a key, which stays there until the function is done.
	inner(key []byte, use func(*Map)) errno.Errno
}

func isOuter(t ebpf.MapType) bool { return t == ebpf.ArrayOfMaps || t == ebpf.HashOfMaps }

// checkOuter applies the rules of fd_array_map_alloc_check, fd_htab_map_alloc_check and bpf_map_meta_alloc.
func checkOuter(s *ebpf.MapSpec) error {
	if s.InnerMap == nil {
		return refuse(errno.EINVAL, "type %s requires InnerMap", s.Type)
	}
	template, err := checkSpec(s.InnerMap)
	if err != nil {
		return fmt.Errorf("inner map: %w", err)
	}
	s.InnerMap = template
	if s.ValueSize == 0 {
		s.ValueSize = 4
	}
	if s.ValueSize != 4 {
		return refuse(errno.EINVAL, "ValueSize is %d, type %s needs 4", s.ValueSize, s.Type)
	}
	if s.Type == ebpf.HashOfMaps {
		err = checkHash(s)
	} else if err = checkSizes(s, 4); err == nil {
		err = checkFlags(s, FlagNUMANode|FlagReadOnly|FlagWriteOnly)
	}
	switch {
	case err != nil:
		return err
	case isOuter(template.Type):
		return refuse(errno.EINVAL, "maps in maps in maps (%s)", template.Type)
	case template.Type == ebpf.ProgramArray:
		return refuse(errno.ENOTSUPP, "type %s in a map", template.Type)
	}
	return nil
}

// fits reports how a map differs from the template of the maps it is to stand among (bpf_map_meta_equal and its kin). A per-CPU array
// may not be shorter either, which the kernel allows: programs are proven to find elements that the template has.
func fits(template *ebpf.MapSpec, m *Map, opts *Options) error {
	entries := m.maxEntries == template.MaxEntries
	switch {
	case template.Type == ebpf.PerCPUArray:
		entries = m.maxEntries >= template.MaxEntries
	case template.Type != ebpf.Array && template.Type != ebpf.XSKMap || template.Flags&FlagInnerMap != 0:
		entries = true
	}
	fields, err := fieldsOf(template, opts.Types, opts.Kernel)
	if m.typ == template.Type && m.keySize == template.KeySize && m.valueSize == template.ValueSize && m.flags == template.Flags && entries &&
		err == nil && m.special.same(fields) {
		return nil
	}
	return fmt.Errorf("map %s is not of the kind of InnerMap (%s): %w", m, template, errno.EINVAL)
}

// giveBack ends the hold on a map that programs may still be using.
func giveBack(m *Map) { rt.AfterRuns(func() { _ = m.unhold() }) }

// updateInner is Update of a map of maps.
func (m *Map) updateInner(o outer, key, value any, flags uint64) error {
	inner, err := innerOf(value)
	if err != nil {
		return fmt.Errorf("marshal value: %w", err)
	}
	var kb sysenc.Buffer
	k, err := m.marshalKey(key, &kb)
	if err != nil {
		return fmt.Errorf("marshal key: %w", err)
	}
	if e := o.check(k, flags); e != 0 {
		return opError("update", e)
	}
	if err := inner.hold(); err != nil {
		return fmt.Errorf("update: %w", err)
	}
	if err := fits(m.spec.InnerMap, inner, &m.opts); err != nil {
		_ = inner.unhold()
		return fmt.Errorf("update: %w", err)
	}
	if e := o.put(k, inner, flags); e != 0 {
		_ = inner.unhold()
		return opError("update", e)
	}
	return nil
}

// innerOf takes a map, or the number that its FD method gave.
func innerOf(value any) (*Map, error) {
	fd := 0
	switch v := value.(type) {
	case *Map:
		return v, v.made()
	case uint32:
		fd = int(v)
	case int32:
		fd = int(v)
	case int:
		fd = v
	default:
		return nil, fmt.Errorf("a map of maps holds maps, not %T", value)
	}
	if m, ok := FromFD(fd); ok {
		return m, nil
	}
	return nil, fmt.Errorf("%d is no map", fd)
}

// getInner puts a map of a map of maps into out. It is a clone, which wants a Close; the map may have been closed before.
func (m *Map) getInner(o outer, key any, out **Map) error {
	var kb sysenc.Buffer
	k, err := m.marshalKey(key, &kb)
	if err != nil {
		return fmt.Errorf("can't marshal key: %w", err)
	}
	if e := o.inner(k, func(inner *Map) { *out = inner.reopen() }); e != 0 {
		return opError("lookup", e)
	}
	return nil
}

// InnerRegion returns the memory of a map that could be found in this map of maps and holds n bytes at addr. It is for an engine that
// checks accesses: what a program has found may have been taken out since.
func (m *Side) InnerRegion(addr, n uint64) (rt.Region, bool) {
	template := m.spec.InnerMap
	if p := registry.table.Load(); p != nil && template != nil {
		for _, inner := range *p {
			if inner == nil || fits(template, inner, &m.opts) != nil {
				continue
			}
			for _, g := range inner.regions {
				if g.Contains(addr, n) {
					return g, true
				}
			}
		}
	}
	return headerRegion(addr, n)
}

// putID writes what a lookup in a map of maps gives as a number.
func putID(value []byte, inner *Map) { binary.NativeEndian.PutUint32(value, inner.id) }

// mapArray is an array of maps.
type mapArray struct {
	region *offheap.Region
	m      mem
	max    uint32
	mu     sync.Mutex
	used   uint32 // no map was ever put at this index or behind it
}

func newMapArray(maxEntries uint32, limit uint64) (*mapArray, error) {
	size, err := mulSize(limit, 8, uint64(maxEntries))
	if err != nil {
		return nil, err
	}
	r, err := offheap.Alloc(int(size))
	if err != nil {
		return nil, err
	}
	return &mapArray{region: r, m: memOf(r), max: maxEntries}, nil
}

func (a *mapArray) index(key []byte) (uint32, bool) {
	i := binary.NativeEndian.Uint32(key)
	return i, i < a.max
}

// lookup returns the handle of the map.
func (a *mapArray) lookup(key []byte, _ int) uintptr {
	i, ok := a.index(key)
	if !ok {
		return 0
	}
	return uintptr(a.m.u64(8 * int(i)).Load())
}

func (a *mapArray) check(key []byte, flags uint64) errno.Errno {
	_, ok := a.index(key)
	switch {
	case flags != 0:
		return errno.EINVAL
	case !ok:
		return errno.E2BIG
	}
	return 0
}

func (a *mapArray) put(key []byte, inner *Map, flags uint64) errno.Errno {
	i, ok := a.index(key)
	if !ok {
		return errno.E2BIG
	}
	a.mu.Lock()
	old := a.m.u64(8 * int(i)).Swap(inner.Handle())
	a.used = max(a.used, i+1)
	a.mu.Unlock()
	if old != 0 {
		giveBack(FromHandle(old))
	}
	return 0
}

func (a *mapArray) delete(key []byte) errno.Errno {
	i, ok := a.index(key)
	if !ok {
		return errno.E2BIG
	}
	a.mu.Lock()
	old := a.m.u64(8 * int(i)).Swap(0)
	a.mu.Unlock()
	if old == 0 {
		return errno.ENOENT
	}
	giveBack(FromHandle(old))
	return 0
}

func (a *mapArray) inner(key []byte, use func(*Map)) errno.Errno {
	a.mu.Lock()
	defer a.mu.Unlock()
	h := a.lookup(key, 0)
	if h == 0 {
		return errno.ENOENT
	}
	use(FromHandle(uint64(h)))
	return 0
}

func (a *mapArray) read(key, value []byte) errno.Errno {
	return a.inner(key, func(m *Map) { putID(value, m) })
}

func (a *mapArray) update([]byte, []byte, uint64, int) errno.Errno { return errno.EOPNOTSUPP }
func (a *mapArray) write([]byte, []byte, uint64) errno.Errno       { return errno.EINVAL }
func (a *mapArray) take([]byte, []byte) errno.Errno                { return errno.ENOTSUPP }
func (a *mapArray) nextKey(key, next []byte) errno.Errno           { return nextIndex(key, next, a.max) }

// ranges are the handles: code that looks a map up loads them.
func (a *mapArray) ranges() []rt.Region {
	return []rt.Region{{Base: uint64(a.m.addr(0)), Size: uint64(a.region.Size())}}
}

// free gives all maps back. No program uses the array any more, so none uses what it found there.
func (a *mapArray) free() error {
	for i := range int(a.used) {
		if h := a.m.u64(8 * i).Load(); h != 0 {
			_ = FromHandle(h).unhold()
		}
	}
	return a.region.Free()
}

// mapHash is a hash of maps. The mutex keeps writers and Go's readers apart; a program's lookup takes none.
type mapHash struct {
	*hash
	mu sync.Mutex
}

func newMapHash(s *ebpf.MapSpec, limit uint64, seed func() uint64) (*mapHash, error) {
	h, err := newHash(s.KeySize, 8, s.MaxEntries, hashKindOf(s, nil, seed), limit)
	if err != nil {
		return nil, err
	}
	return &mapHash{hash: h}, nil
}

// handle returns the handle that an element holds, 0 if the link is.
func (h *mapHash) handle(link uint32) uint64 {
	if link == 0 {
		return 0
	}
	return h.vm.u64(h.valueOff(link, 0)).Load()
}

func (h *mapHash) lookup(key []byte, _ int) uintptr {
	return uintptr(h.handle(h.find(key, h.hashOf(key))))
}

func (h *mapHash) check([]byte, uint64) errno.Errno { return 0 }

func (h *mapHash) put(key []byte, inner *Map, flags uint64) errno.Errno {
	h.mu.Lock()
	old := uint64(h.lookup(key, 0))
	e := h.hash.put(key, flags, anyCPU, func(link uint32) { h.vm.u64(h.valueOff(link, 0)).Store(inner.Handle()) }, nil)
	h.mu.Unlock()
	if e == 0 && old != 0 {
		giveBack(FromHandle(old))
	}
	return e
}

func (h *mapHash) delete(key []byte) errno.Errno { return h.take(key, nil) }

// take deletes an element after writing its map's number to value, if that is not nil.
func (h *mapHash) take(key, value []byte) errno.Errno {
	h.mu.Lock()
	old := uint64(h.lookup(key, 0))
	if old != 0 && value != nil {
		putID(value, FromHandle(old))
	}
	e := h.hash.delete(key)
	h.mu.Unlock()
	if old != 0 {
		giveBack(FromHandle(old))
	}
	return e
}

func (h *mapHash) inner(key []byte, use func(*Map)) errno.Errno {
	h.mu.Lock()
	defer h.mu.Unlock()
	old := uint64(h.lookup(key, 0))
	if old == 0 {
		return errno.ENOENT
	}
	use(FromHandle(old))
	return 0
}

func (h *mapHash) read(key, value []byte) errno.Errno {
	return h.inner(key, func(m *Map) { putID(value, m) })
}

func (h *mapHash) update([]byte, []byte, uint64, int) errno.Errno { return errno.EOPNOTSUPP }
func (h *mapHash) write([]byte, []byte, uint64) errno.Errno       { return errno.EINVAL }
func (h *mapHash) ranges() []rt.Region                            { return nil }

// free gives all maps back, as that of an array.
func (h *mapHash) free() error {
	for at := uint64(0); ; {
		next, _, value := h.next(at, 0)
		if value == 0 {
			return h.hash.free()
		}
		_ = FromHandle(h.handle(uint32(next))).unhold()
		at = next
	}
}
