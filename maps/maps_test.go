package maps

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"

	"github.com/skep-bpf/skep/internal/errno"
	"github.com/skep-bpf/skep/internal/offheap"
	"github.com/skep-bpf/skep/internal/rt"
)

func mustNew(t testing.TB, spec *ebpf.MapSpec) *Map {
	t.Helper()
	m, err := New(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// TestHashAgainstGoMap does many operations with keys of several widths from the program's side and compares with a Go map. LRU maps
// are as large as never to be full.
func TestHashAgainstGoMap(t *testing.T) {
	for _, keySize := range []int{1, 3, 4, 8, 12, 20, 64} {
		for _, kind := range []struct {
			typ   ebpf.MapType
			flags uint32
			max   uint32
		}{
			{ebpf.Hash, 0, 300}, {ebpf.PerCPUHash, 0, 300}, {ebpf.LRUHash, 0, 400}, {ebpf.LRUCPUHash, 0, 400},
			{ebpf.LRUHash, FlagNoCommonLRU, 400 * uint32(rt.CPUs())}, {ebpf.LRUCPUHash, FlagNoCommonLRU, 400 * uint32(rt.CPUs())},
		} {
			max := int(kind.max)
			m := mustNew(t, &ebpf.MapSpec{Type: kind.typ, KeySize: uint32(keySize), ValueSize: 12, MaxEntries: kind.max, Flags: kind.flags})
			model := map[string]string{}
			seed := uint32(keySize)
			next := func() uint32 { seed = seed*1664525 + 1013904223; return seed >> 8 }
			cpu := rt.CPUs() - 1
			for range 20000 {
				key := make([]byte, keySize)
				k := next() % 400
				key[0] = byte(k)
				if keySize > 1 {
					key[keySize-1] = byte(k >> 8)
				}
				val := []byte(fmt.Sprintf("%012d", next()%1e9))
				old, exists := model[string(key)]
				switch next() % 4 {
				case 0, 1:
					flags := uint64(next() % 3)
					var want errno.Errno
					switch {
					case exists && flags == updateNoExist:
						want = errno.EEXIST
					case !exists && flags == updateExist:
						want = errno.ENOENT
					case !exists && len(model) == max:
						want = errno.E2BIG
					default:
						model[string(key)] = string(val)
					}
					if e := SideOf(m).UpdateElem(key, val, flags, cpu); e != want {
						t.Fatalf("update: %v, want %v", e, want)
					}
				case 2:
					e := SideOf(m).DeleteElem(key)
					if exists != (e == 0) {
						t.Fatalf("delete: %v, exists %v", e, exists)
					}
					delete(model, string(key))
				case 3:
					addr := SideOf(m).LookupElem(key, cpu)
					if exists != (addr != 0) {
						t.Fatalf("lookup %x: %#x, exists %v", key, addr, exists)
					}
					if exists && string(rt.Mem(uint64(addr), 12)) != old {
						t.Fatalf("lookup %x: %q, want %q", key, rt.Mem(uint64(addr), 12), old)
					}
				}
			}
			n := 0
			for k, err := m.NextKeyBytes(nil); k != nil; k, err = m.NextKeyBytes(k) {
				if err != nil {
					t.Fatal(err)
				}
				if _, ok := model[string(k)]; !ok {
					t.Fatalf("key %x is not in the model", k)
				}
				n++
			}
			if n != len(model) {
				t.Fatalf("walked %d keys, want %d", n, len(model))
			}
		}
	}
}

// TestHammerHash has programs and Go code insert, delete and read at the same time. Each value repeats its key, so that a
// lookup that returns another key's value, or half of one from Go, is seen.
func TestHammerHash(t *testing.T) {
	for _, spec := range []*ebpf.MapSpec{
		{Type: ebpf.Hash}, {Type: ebpf.LRUHash}, {Type: ebpf.LRUHash, Flags: FlagNoCommonLRU},
	} {
		spec.KeySize, spec.ValueSize, spec.MaxEntries = 8, 64, 64
		t.Run(fmt.Sprintf("%s/%d", spec.Type, spec.Flags), func(t *testing.T) { hammerHash(t, mustNew(t, spec)) })
	}
}

func hammerHash(t *testing.T, m *Map) {
	fill := func(v []byte, key uint64) {
		for i := 0; i < 64; i += 8 {
			binary.NativeEndian.PutUint64(v[i:], key)
		}
	}
	var wg sync.WaitGroup
	var stop atomic.Bool
	var hits atomic.Int64
	for g := range 4 * rt.CPUs() {
		wg.Go(func() {
			key, val := make([]byte, 8), make([]byte, 64)
			x := uint64(g + 1)
			for n := 0; n < 30000 && !stop.Load(); n++ {
				x = x*6364136223846793005 + 1442695040888963407
				k := x >> 33 % 100
				binary.NativeEndian.PutUint64(key, k)
				switch x >> 60 % 4 {
				case 0, 1:
					fill(val, k)
					if e := SideOf(m).UpdateElem(key, val, 0, g%rt.CPUs()); e != 0 && (e != errno.E2BIG || isLRU(m.Type())) {
						t.Errorf("update: %v", e)
						stop.Store(true)
					}
				case 2:
					SideOf(m).DeleteElem(key)
				case 3:
					SideOf(m).LookupElem(key, 0)
					err := m.Lookup(key, val)
					if errors.Is(err, ebpf.ErrKeyNotExist) {
						continue
					}
					hits.Add(1)
					for i := 0; i < 64; i += 8 {
						if got := binary.NativeEndian.Uint64(val[i:]); got != k {
							t.Errorf("value of key %d has %d at %d", k, got, i)
							stop.Store(true)
							break
						}
					}
				}
			}
		})
	}
	wg.Wait()
	if hits.Load() == 0 {
		t.Error("no lookup found anything")
	}
	// Nothing leaked: after deleting everything the map takes exactly 64 again.
	for k, _ := m.NextKeyBytes(nil); k != nil; k, _ = m.NextKeyBytes(nil) {
		if err := m.Delete(k); err != nil {
			t.Fatal(err)
		}
	}
	for i := range uint64(65) {
		err := m.Put(i, make([]byte, 64))
		if isLRU(m.Type()) {
			if n := countKeys(t, m); err != nil || n != min(int(i)+1, 64) {
				t.Fatalf("element %d: %v, %d keys", i, err, n)
			}
			continue
		}
		if (i < 64) != (err == nil) || i == 64 && !errors.Is(err, errno.E2BIG) {
			t.Fatalf("element %d: %v", i, err)
		}
	}
}

func TestPerCPU(t *testing.T) {
	for _, typ := range []ebpf.MapType{ebpf.PerCPUArray, ebpf.PerCPUHash} {
		m := mustNew(t, &ebpf.MapSpec{Type: typ, KeySize: 4, ValueSize: 4, MaxEntries: 3})
		want := make([]uint32, rt.CPUs())
		if typ == ebpf.PerCPUHash {
			if err := m.Put(uint32(1), []uint32{9}); err != nil {
				t.Fatal(err)
			}
		}
		key := []byte{1, 0, 0, 0}
		if binary.NativeEndian.Uint32(key) != 1 {
			key = []byte{0, 0, 0, 1}
		}
		for c := range want {
			want[c] = uint32(100 + c)
			b := binary.NativeEndian.AppendUint32(nil, want[c])
			if e := SideOf(m).UpdateElem(key, b, 0, c); e != 0 {
				t.Fatal(e)
			}
			if got := rt.Mem(uint64(SideOf(m).LookupElem(key, c)), 4); binary.NativeEndian.Uint32(got) != want[c] {
				t.Errorf("cpu %d reads %x", c, got)
			}
		}
		var got []uint32
		if err := m.Lookup(uint32(1), &got); err != nil || cmp.Diff(want, got) != "" {
			t.Errorf("%s: %v, %v", typ, got, err)
		}
		if err := m.Put(uint32(1), []uint32{7}); err != nil {
			t.Fatal(err)
		}
		clear(want)
		want[0] = 7
		if err := m.Lookup(uint32(1), got); err != nil || cmp.Diff(want, got) != "" {
			t.Errorf("%s: %v, %v", typ, got, err)
		}
		if err := m.Put(uint32(1), uint32(1)); err == nil {
			t.Error("a single value was taken for a per-CPU map")
		}
		if err := m.Put(uint32(1), make([]uint32, rt.CPUs()+1)); err == nil {
			t.Error("more values than CPUs were taken")
		}
	}
}

type pair struct {
	A uint32
	B uint16
	C [2]uint8
}

type custom struct{ s string }

func (c custom) MarshalBinary() ([]byte, error)  { return []byte(c.s), nil }
func (c *custom) UnmarshalBinary(b []byte) error { c.s = string(b); return nil }

func TestMarshal(t *testing.T) {
	m := mustNew(t, &ebpf.MapSpec{Type: ebpf.Hash, KeySize: 8, ValueSize: 8, MaxEntries: 10})
	for _, key := range []any{uint64(1), pair{A: 2}, &pair{A: 3}, []byte("abcdefgh"), "ABCDEFGH", custom{"12345678"}, [2]uint32{4, 5}, []uint16{1, 2, 3, 4}} {
		if err := m.Put(key, key); err != nil {
			t.Errorf("%T: %v", key, err)
		}
	}
	var p pair
	var s string
	var b []byte
	var c custom
	if err := m.Lookup(pair{A: 2}, &p); err != nil || p != (pair{A: 2}) {
		t.Error(p, err)
	}
	if err := m.Lookup("ABCDEFGH", &s); err != nil || s != "ABCDEFGH" {
		t.Error(s, err)
	}
	if err := m.Lookup("ABCDEFGH", &b); err != nil || string(b) != "ABCDEFGH" {
		t.Error(b, err)
	}
	if err := m.Lookup("12345678", &c); err != nil || c.s != "12345678" {
		t.Error(c, err)
	}
	for _, key := range []any{nil, uint32(1), "short", 1, struct{ X any }{}, (*pair)(nil), m} {
		if err := m.Put(key, uint64(1)); err == nil {
			t.Errorf("key %T was taken", key)
		}
		if err := m.Put(uint64(9), key); err == nil {
			t.Errorf("value %T was taken", key)
		}
	}
	for _, out := range []any{nil, new(uint32), uint64(1), (*uint64)(nil), new(*Map)} {
		if err := m.Lookup(uint64(1), out); err == nil {
			t.Errorf("result %T was taken", out)
		}
	}
}

func TestBatch(t *testing.T) {
	m := mustNew(t, &ebpf.MapSpec{Type: ebpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: 10})
	keys, values := []uint32{1, 2, 3, 4, 5}, []uint32{10, 20, 30, 40, 50}
	if n, err := m.BatchUpdate(keys, values, nil); n != 5 || err != nil {
		t.Fatal(n, err)
	}
	for _, del := range []bool{false, true} {
		var cur MapBatchCursor
		got := map[uint32]uint32{}
		for done := false; !done; {
			k, v := make([]uint32, 2), make([]uint32, 2)
			f := m.BatchLookup
			if del {
				f = m.BatchLookupAndDelete
			}
			n, err := f(&cur, k, v, nil)
			if done = errors.Is(err, ebpf.ErrKeyNotExist); err != nil && !done {
				t.Fatal(err)
			}
			for i := range n {
				got[k[i]] = v[i]
			}
		}
		if d := cmp.Diff(map[uint32]uint32{1: 10, 2: 20, 3: 30, 4: 40, 5: 50}, got); d != "" {
			t.Error(d)
		}
	}
	if k, err := m.NextKeyBytes(nil); k != nil || err != nil {
		t.Error("map is not empty", k, err)
	}
	if n, err := m.BatchDelete(keys, nil); n != 0 || !errors.Is(err, ebpf.ErrKeyNotExist) {
		t.Error(n, err)
	}
}

func TestCloseFreesWhenProgramsAreGone(t *testing.T) {
	mustNew(t, &ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1}) // header block
	n0, _ := offheap.Stats()
	m := mustNew(t, &ebpf.MapSpec{Type: ebpf.Hash, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	h := m.Handle()
	if FromHandle(h) != m {
		t.Fatal("handle does not lead back")
	}
	if err := SideOf(m).Hold(); err != nil {
		t.Fatal(err)
	}
	m.Close()
	m.Close()
	if err := m.Put(uint32(1), uint64(1)); !errors.Is(err, ErrClosed) {
		t.Errorf("Put after Close: %v", err)
	}
	if FromHandle(h) != m || SideOf(m).UpdateElem(make([]byte, 4), make([]byte, 8), 0, 0) != 0 {
		t.Error("a program that holds the map lost it")
	}
	if err := SideOf(m).Unhold(); err != nil {
		t.Fatal(err)
	}
	if n, _ := offheap.Stats(); n != n0 {
		t.Errorf("%d regions leaked", n-n0)
	}
}

func TestConstants(t *testing.T) {
	m := mustNew(t, &ebpf.MapSpec{
		Name: ".rodata", Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1, Flags: FlagReadOnlyProg,
		Contents: []ebpf.MapKV{{Key: uint32(0), Value: []byte{1, 2, 3, 4}}},
	})
	if d := cmp.Diff([]byte{1, 2, 3, 4}, m.Contents()); d != "" {
		t.Error(d)
	}
	if err := m.Put(uint32(0), uint32(1)); !errors.Is(err, errno.EPERM) {
		t.Errorf("frozen map was written: %v", err)
	}
}

func TestSpecialFieldsAreRefusedByName(t *testing.T) {
	work := &btf.Struct{Name: "bpf_task_work", Size: 8}
	val := &btf.Struct{Name: "v", Size: 8, Members: []btf.Member{{Name: "l", Type: &btf.Typedef{Name: "work_t", Type: work}}}}
	_, err := New(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 4, ValueSize: 8, MaxEntries: 1, Value: val})
	if !errors.Is(err, ebpf.ErrNotSupported) || err.Error() != "map create: value.l is struct bpf_task_work: not supported" {
		t.Error(err)
	}
}

func TestSizeLimit(t *testing.T) {
	_, err := New(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 1 << 30, MaxEntries: 1 << 31})
	if !errors.Is(err, errno.E2BIG) {
		t.Error(err)
	}
	// A million entries cost address space, not memory.
	mustNew(t, &ebpf.MapSpec{Type: ebpf.Hash, KeySize: 16, ValueSize: 1024, MaxEntries: 1 << 20})
}

func BenchmarkHash(b *testing.B) {
	m := mustNew(b, &ebpf.MapSpec{Type: ebpf.Hash, KeySize: 8, ValueSize: 8, MaxEntries: 1 << 14})
	key, val := make([]byte, 8), make([]byte, 8)
	for i := range uint64(1 << 13) {
		binary.NativeEndian.PutUint64(key, i)
		SideOf(m).UpdateElem(key, val, 0, 0)
	}
	b.Run("lookup", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			binary.NativeEndian.PutUint64(key, uint64(i)&(1<<13-1))
			if SideOf(m).LookupElem(key, 0) == 0 {
				b.Fatal(i)
			}
		}
	})
	b.Run("update", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			binary.NativeEndian.PutUint64(key, uint64(i)&(1<<13-1))
			SideOf(m).UpdateElem(key, val, 0, 0)
		}
	})
}
