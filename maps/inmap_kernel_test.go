//go:build linux

package maps

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cilium/ebpf"
)

// TestMapsInMapsAsKernel puts maps of several kinds into maps on both sides: errors, and which map is where.
func TestMapsInMapsAsKernel(t *testing.T) {
	kinds := []*ebpf.MapSpec{
		innerSpec(), innerSpec(),
		{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 3},
		{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 2, Flags: FlagReadOnlyProg},
		{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 2},
		{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 2, Flags: FlagInnerMap},
		{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 9, Flags: FlagInnerMap},
		{Type: ebpf.Hash, KeySize: 4, ValueSize: 8, MaxEntries: 2},
		{Type: ebpf.Hash, KeySize: 4, ValueSize: 8, MaxEntries: 5},
		{Type: ebpf.LRUHash, KeySize: 4, ValueSize: 8, MaxEntries: 5},
		{Type: ebpf.LPMTrie, KeySize: 8, ValueSize: 8, MaxEntries: 5, Flags: FlagNoPrealloc},
		{Type: ebpf.Queue, ValueSize: 8, MaxEntries: 5},
		{Type: ebpf.DevMap, KeySize: 4, ValueSize: 8, MaxEntries: 5},
		{Type: ebpf.XSKMap, KeySize: 4, ValueSize: 4, MaxEntries: 5},
		{Type: ebpf.XSKMap, KeySize: 4, ValueSize: 4, MaxEntries: 6},
		{Type: ebpf.PerCPUArray, KeySize: 4, ValueSize: 8, MaxEntries: 5},
	}
	var inner []both
	for _, k := range kinds {
		inner = append(inner, newBoth(t, k))
	}
	for _, typ := range outerTypes {
		for i, k := range kinds {
			spec := outerSpec(typ)
			spec.InnerMap = k
			t.Run(fmt.Sprintf("%s/%d", typ, i), func(t *testing.T) { compareOuter(t, newBoth(t, spec), inner, uint64(i)) })
		}
	}
}

func compareOuter(t *testing.T, b both, inner []both, seed uint64) {
	number := func(id uint32, of func(both) uint32) int {
		for i, in := range inner {
			if of(in) == id {
				return i
			}
		}
		return -1
	}
	rng := rand.New(rand.NewPCG(10, seed))
	for i := range 400 {
		key := rng.Uint32N(6)
		var ia, ib uint32
		var ea, eb error
		op := rng.IntN(6)
		switch op {
		case 0, 1:
			in, flags := inner[rng.IntN(len(inner))], ebpf.MapUpdateFlags(max(0, rng.IntN(6)-2))
			ea, eb = b.ours.Update(key, in.ours, flags), b.kernel.Update(key, in.kernel, flags)
		case 2:
			ea, eb = b.ours.Delete(key), b.kernel.Delete(key)
		case 3, 4:
			ea, eb = b.ours.Lookup(key, &ia), b.kernel.Lookup(key, &ib)
			na := number(ia, func(in both) uint32 { return in.ours.id })
			nb := number(ib, func(in both) uint32 { return kernelID(t, in.kernel) })
			if ea == nil && na != nb {
				t.Fatalf("step %d: map %d in the kernel, here %d", i, nb, na)
			}
		case 5:
			ea, eb = b.ours.LookupAndDelete(key, &ia), b.kernel.LookupAndDelete(key, &ib)
		}
		if class(ea) != class(eb) {
			t.Fatalf("step %d op %d key %d: kernel %v; here %v", i, op, key, eb, ea)
		}
	}
	if a, k := keySet(allKeys(t, b.ours)), keySet(allKeys(t, b.kernel)); a != k {
		t.Errorf("keys %s in the kernel, here %s", k, a)
	}
}

func keySet(keys []string) string {
	set := map[string]bool{}
	for _, k := range keys {
		set[k] = true
	}
	return fmt.Sprint(set)
}

func kernelID(t *testing.T, m *ebpf.Map) uint32 {
	t.Helper()
	info, err := m.Info()
	if err != nil {
		t.Fatal(err)
	}
	id, ok := info.ID()
	if !ok {
		t.Fatal("the kernel tells no number of a map")
	}
	return uint32(id)
}

// TestCreateMapsInMapsAsKernel tries templates and parameters that do not go.
func TestCreateMapsInMapsAsKernel(t *testing.T) {
	var specs []*ebpf.MapSpec
	for _, typ := range outerTypes {
		for _, in := range []*ebpf.MapSpec{
			innerSpec(), outerSpec(ebpf.ArrayOfMaps), outerSpec(ebpf.HashOfMaps), {Type: ebpf.ProgramArray, KeySize: 4, ValueSize: 4, MaxEntries: 1},
			{Type: ebpf.Hash, KeySize: 0, ValueSize: 4, MaxEntries: 1}, {Type: ebpf.BloomFilter, ValueSize: 4, MaxEntries: 1},
			{Type: ebpf.CPUMap, KeySize: 4, ValueSize: 4, MaxEntries: 1},
		} {
			s := outerSpec(typ)
			s.InnerMap = in
			specs = append(specs, s)
		}
		for _, f := range []uint32{1, 2, 4, 8, 16, 24, 64, 128, 256, 1024, 4096} {
			s := outerSpec(typ)
			s.Flags = f
			specs = append(specs, s)
		}
		for _, size := range [][3]uint32{{4, 0, 1}, {8, 4, 1}, {4, 4, 0}, {0, 4, 1}, {2, 4, 1}} {
			s := outerSpec(typ)
			s.KeySize, s.ValueSize, s.MaxEntries = size[0], size[1], size[2]
			specs = append(specs, s)
		}
	}
	for _, s := range specs {
		k, kerr := kernelMap(t, s)
		if kerr == nil {
			k.Close()
		}
		m, err := New(s)
		if err == nil {
			m.Close()
		}
		if class(err) != class(kerr) {
			t.Errorf("%v with %v: kernel %v, here %v", s, s.InnerMap, kerr, err)
		}
	}
}
