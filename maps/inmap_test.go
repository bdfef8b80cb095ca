package maps

import (
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/errno"
	"github.com/skep-bpf/skep/internal/offheap"
	"github.com/skep-bpf/skep/internal/rt"
)

func innerSpec() *ebpf.MapSpec {
	return &ebpf.MapSpec{Name: "inner", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 2}
}

func outerSpec(t ebpf.MapType) *ebpf.MapSpec {
	return &ebpf.MapSpec{Type: t, KeySize: 4, ValueSize: 4, MaxEntries: 4, InnerMap: innerSpec()}
}

var outerTypes = []ebpf.MapType{ebpf.ArrayOfMaps, ebpf.HashOfMaps}

// TestInnerMapLivesAsLongAsItIsUsed: an inner map that was closed, and then replaced while a run is under way, is there until that run
// ends, and gone after it.
func TestInnerMapLivesAsLongAsItIsUsed(t *testing.T) {
	for _, typ := range outerTypes {
		m := mustNew(t, outerSpec(typ))
		a, b := mustNew(t, innerSpec()), mustNew(t, innerSpec())
		if err := m.Put(uint32(1), a); err != nil {
			t.Fatal(err)
		}
		n0, _ := offheap.Stats()
		a.Close()
		if n, _ := offheap.Stats(); n != n0 {
			t.Fatalf("%s: Close freed a map that another holds", typ)
		}
		r := rt.Acquire()
		h := SideOf(m).LookupElem(key32Bytes(1), 0)
		if h == 0 || FromHandle(uint64(h)) != a {
			t.Fatalf("%s: handle %#x", typ, h)
		}
		if err := m.Put(uint32(1), b); err != nil {
			t.Fatal(err)
		}
		if addr := SideOf(FromHandle(uint64(h))).LookupElem(key32Bytes(0), 0); addr == 0 || rt.Mem(uint64(addr), 8)[0] != 0 {
			t.Fatalf("%s: a run lost the map it had found", typ)
		}
		if n, _ := offheap.Stats(); n != n0 {
			t.Fatalf("%s: freed while a run is under way", typ)
		}
		r.Release()
		waitRegions(t, n0-1)
	}
}

// waitRegions waits until so many regions are mapped: what is given back after runs is given back by another goroutine.
func waitRegions(t *testing.T, want int) {
	t.Helper()
	n := 0
	for range 2000 {
		if n, _ = offheap.Stats(); n == want {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Errorf("%d regions, want %d", n, want)
}

// TestInnerMapsAreGivenBack: deleting, replacing and closing leave nothing mapped.
func TestInnerMapsAreGivenBack(t *testing.T) {
	mustNew(t, innerSpec()).Close() // the block of headers
	n0, _ := offheap.Stats()
	for _, typ := range outerTypes {
		m := mustNew(t, outerSpec(typ))
		for i := range uint32(12) {
			in := mustNew(t, innerSpec())
			if err := m.Put(i%4, in); err != nil {
				t.Fatal(err)
			}
			in.Close()
		}
		if err := m.Delete(uint32(0)); err != nil {
			t.Fatal(err)
		}
		if err := m.Delete(uint32(0)); !errors.Is(err, ebpf.ErrKeyNotExist) {
			t.Error(err)
		}
		m.Close()
	}
	waitRegions(t, n0)
}

// TestInnerMapFromGo: a lookup gives the map itself, open again if it was closed, or its number.
func TestInnerMapFromGo(t *testing.T) {
	for _, typ := range outerTypes {
		m := mustNew(t, outerSpec(typ))
		a := mustNew(t, innerSpec())
		if err := m.Put(uint32(2), a); err != nil {
			t.Fatal(err)
		}
		if err := a.Put(uint32(0), uint64(77)); err != nil {
			t.Fatal(err)
		}
		a.Close()
		var in *Map
		var id uint32
		var v uint64
		if err := m.Lookup(uint32(2), &in); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(m.Lookup(uint32(2), &id), in.Lookup(uint32(0), &v)); err != nil || id != in.id || v != 77 {
			t.Errorf("%s: %v, number %d, want %d, value %d", typ, err, id, in.id, v)
		}
		in.Close()
		if err := in.Put(uint32(0), uint64(1)); !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v", typ, err)
		}
		if err := m.Lookup(uint32(3), &in); !errors.Is(err, ebpf.ErrKeyNotExist) {
			t.Errorf("%s: %v", typ, err)
		}
		b := mustNew(t, innerSpec())
		if err := m.Put(uint32(3), uint32(b.FD())); err != nil {
			t.Errorf("%s: by number: %v", typ, err)
		}
		b.Close()
		for _, wrong := range []any{nil, b, (*Map)(nil), uint32(5), "inner", uint64(1)} {
			if err := m.Put(uint32(1), wrong); err == nil {
				t.Errorf("%s: %T was taken", typ, wrong)
			}
		}
	}
}

// TestShortPerCPUArrayIsRefused: a program is proven to find the template's elements, so there must be as many.
func TestShortPerCPUArrayIsRefused(t *testing.T) {
	spec := outerSpec(ebpf.ArrayOfMaps)
	spec.InnerMap.Type = ebpf.PerCPUArray
	m := mustNew(t, spec)
	for entries, ok := range map[uint32]bool{1: false, 2: true, 3: true} {
		in := innerSpec()
		in.Type, in.MaxEntries = ebpf.PerCPUArray, entries
		if err := m.Put(uint32(0), mustNew(t, in)); (err == nil) != ok || err != nil && !errors.Is(err, errno.EINVAL) {
			t.Errorf("%d entries: %v", entries, err)
		}
	}
}

// TestHammerMapsInMaps has runs look up inner maps and read them while Go replaces, closes and deletes them: each holds its own number in
// its value, so that memory that was given back, or is another's, is seen.
func TestHammerMapsInMaps(t *testing.T) {
	for _, typ := range outerTypes {
		m := mustNew(t, outerSpec(typ))
		var stop atomic.Bool
		var wg sync.WaitGroup
		var hits atomic.Int64
		const magic = 0x5eed << 32
		for range rt.CPUs() {
			wg.Go(func() {
				for i := uint32(0); !stop.Load(); i++ {
					r := rt.Acquire()
					if h := SideOf(m).LookupElem(key32Bytes(i%4), r.CPU); h != 0 {
						in := FromHandle(uint64(h))
						addr := SideOf(in).LookupElem(key32Bytes(1), r.CPU)
						if got := binary.NativeEndian.Uint64(rt.Mem(uint64(addr), 8)); got>>32 != magic>>32 {
							t.Errorf("%s: value %#x", typ, got)
							stop.Store(true)
						}
						hits.Add(1)
					}
					r.Release()
				}
			})
		}
		for i := range uint64(3000) {
			in, err := New(innerSpec())
			if err != nil {
				t.Error(err)
				break
			}
			err = errors.Join(in.Put(uint32(1), magic|i), m.Put(uint32(i%4), in), in.Close())
			if err != nil {
				t.Error(err)
				break
			}
			if i%7 == 0 {
				_ = m.Delete(uint32(i % 4))
			}
		}
		stop.Store(true)
		wg.Wait()
		if hits.Load() == 0 {
			t.Errorf("%s: no run found a map", typ)
		}
	}
}
