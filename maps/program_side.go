package maps

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/errno"
	"github.com/skep-bpf/skep/internal/rt"
)

// What helpers and lowering use. Precondition everywhere: the calling program holds the map.

// Side is a map as programs, helpers and the loader see it, with what would harm in other hands: keys and values are not
// checked, and memory may be gone where the caller does not hold the map.
type Side Map

// SideOf returns the inner side of a map.
func SideOf(m *Map) *Side { return (*Side)(m) }

// Hold keeps the map's memory until Unhold; it fails after Close.
func (m *Side) Hold() error { return (*Map)(m).hold() }

// HoldMemory is Hold that also succeeds after Close as long as somebody else, a program say, holds the map.
func (m *Side) HoldMemory() bool { return (*Map)(m).holdMemory() }

// Unhold undoes Hold. The caller knows that no program that runs now still uses the map.
func (m *Side) Unhold() error { return (*Map)(m).unhold() }

// Handle returns the value that a program's map load gives: an address that is stable, never 0, and no other map's.
func (m *Map) Handle() uint64 { return headerAddr(m.header) }

// LookupElem returns the address of the key's value for a CPU slot, 0 if there is none. key is KeySize bytes.
func (m *Side) LookupElem(key []byte, cpu int) uintptr { return m.store.lookup(key, cpu) }

// UpdateElem is bpf_map_update_elem: value is ValueSize bytes, of per-CPU maps for the slot cpu.
func (m *Side) UpdateElem(key, value []byte, flags uint64, cpu int) errno.Errno {
	return m.store.update(key, value, flags, cpu)
}

// DeleteElem is bpf_map_delete_elem.
func (m *Side) DeleteElem(key []byte) errno.Errno { return m.store.delete(key) }

// PushElem is bpf_map_push_elem on a map without keys.
func (m *Side) PushElem(value []byte, flags uint64) errno.Errno {
	if q, ok := m.store.(queue); ok {
		return q.push(value, flags)
	}
	return errno.EOPNOTSUPP
}

// PopElem is bpf_map_pop_elem: where there is nothing, value is cleared.
func (m *Side) PopElem(value []byte) errno.Errno {
	q, ok := m.store.(queue)
	if !ok {
		return errno.EOPNOTSUPP
	}
	return cleared(q.pop(value), value)
}

// PeekElem is bpf_map_peek_elem: where there is nothing, value is cleared. In a Bloom filter it looks for value.
func (m *Side) PeekElem(value []byte) errno.Errno {
	switch q := m.store.(type) {
	case *bloom:
		return q.peek(value)
	case queue:
		return cleared(q.peek(value), value)
	}
	return errno.EOPNOTSUPP
}

// cleared clears a value that a program takes for written though there was none.
func cleared(e errno.Errno, value []byte) errno.Errno {
	if e != 0 {
		clear(value)
	}
	return e
}

// Regions returns the memory that a program can reach through the map, for engines that check accesses.
func (m *Map) Regions() []rt.Region {
	return slices.Clone(m.regions)
}

// Layout is where a map keeps its values, for code that looks them up without a call.
type Layout struct {
	Kind       LayoutKind
	Values     uint64 // address of value 0 of CPU slot 0
	Stride     uint64 // distance of one value from the next
	PerCPU     uint64 // distance of one CPU slot's values from the next one's
	MaxEntries uint32
	ProgArray  *rt.ProgArray // of a program array
}

// LayoutKind says how a key finds its value.
type LayoutKind uint8

// The layouts.
const (
	LayoutOther LayoutKind = iota // call the helper
	LayoutArray
	LayoutPerCPUArray
	LayoutProgArray
	LayoutArrayOfMaps // values are handles
	LayoutRing        // Values is where the ring begins (rt.Ring...), MaxEntries how many bytes of data it has
)

// Layout returns the map's layout. It does not change while the map is held.
func (m *Map) Layout() Layout {
	switch s := m.store.(type) {
	case *array:
		l := Layout{
			Kind: LayoutArray, Values: uint64(s.m.addr(0)), Stride: uint64(s.stride), PerCPU: uint64(s.perCPU),
			MaxEntries: s.maxEntries,
		}
		if m.typ == ebpf.PerCPUArray {
			l.Kind = LayoutPerCPUArray
		}
		return l
	case *mapArray:
		return Layout{Kind: LayoutArrayOfMaps, Values: uint64(s.m.addr(0)), Stride: 8, MaxEntries: s.max}
	case *ringBuf:
		if m.typ == ebpf.RingBuf {
			return Layout{Kind: LayoutRing, Values: uint64(s.m.addr(0)), MaxEntries: m.maxEntries}
		}
	case *progArray:
		return Layout{Kind: LayoutProgArray, Values: uint64(memOf(s.region).addr(0)), Stride: 8, MaxEntries: s.max, ProgArray: s.arr}
	}
	return Layout{MaxEntries: m.maxEntries}
}

// Contents returns a copy of value 0 of a frozen array that programs cannot write either: constants, as far as the
// verifier is concerned. It is nil for any other map.
func (m *Map) Contents() []byte {
	s, ok := m.store.(*array)
	if !ok || m.typ != ebpf.Array || !m.frozen.Load() || m.flags&FlagReadOnlyProg == 0 || !m.holdMemory() {
		return nil
	}
	defer m.unhold()
	return append([]byte(nil), s.m.bytes(0, s.valueSize)...)
}

// BindTailCaller checks, for a program array, that programs of this kind may tail-call through it; the first caller
// decides the kind. Other maps accept anything.
func (m *Map) BindTailCaller(kind string) bool {
	p, ok := m.store.(*progArray)
	return !ok || p.bind(kind)
}

// RedirectTarget returns the first word of a redirect map's entry (interface, queue size), and whether it exists.
func (m *Side) RedirectTarget(key uint64) (first uint32, ok bool) {
	var k [4]byte
	if key != uint64(uint32(key)) {
		return 0, false
	}
	binary.NativeEndian.PutUint32(k[:], uint32(key))
	addr := m.store.lookup(k[:], 0)
	if addr == 0 {
		return 0, false
	}
	return binary.NativeEndian.Uint32(rt.Mem(uint64(addr), 4)), true
}

// CopyAt copies up to n bytes at addr out of whichever map's values hold it; nil if none does. It looks at all maps of the
// process and is meant for rare uses. A map that is freed at the same time counts as none.
func CopyAt(addr uint64, n int) []byte {
	p := registry.table.Load()
	if p == nil {
		return nil
	}
	for _, m := range *p {
		if m == nil {
			continue
		}
		for _, g := range m.regions {
			if !g.Contains(addr, 1) || !m.holdMemory() {
				continue
			}
			b := bytes.Clone(rt.Mem(addr, int(min(uint64(n), g.Base+g.Size-addr))))
			_ = m.unhold()
			return b
		}
	}
	return nil
}

// Bytes is direct access to an array's elements, for global variables: offset off into value 0, n bytes. ok is false if
// the map is no array, or the range is outside of it or touches a special field. The memory is shared with running programs.
func (m *Side) Bytes(off, n uint32) (b []byte, ok bool) {
	s, isArray := m.store.(*array)
	if !isArray || m.typ != ebpf.Array || uint64(off)+uint64(n) > uint64(s.valueSize) || m.HasField(off, n) {
		return nil, false
	}
	return s.m.bytes(int(off), int(n)), true
}

// HasField reports whether n bytes of a value from off on are in part those of a special field.
func (m *Side) HasField(off, n uint32) bool { return m.special.overlaps(uint64(off), uint64(n)) }
