package maps

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/rt"
)

func countKeys(t *testing.T, m *Map) int {
	t.Helper()
	n := 0
	for k, err := m.NextKeyBytes(nil); k != nil; k, err = m.NextKeyBytes(k) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

func key32Bytes(k uint32) []byte { return binary.NativeEndian.AppendUint32(nil, k) }

// TestLRUKeepsWhatIsUsed: elements that a program looks up survive as many new ones as the map has room for beside them.
func TestLRUKeepsWhatIsUsed(t *testing.T) {
	const max, hot = 1000, 50
	m := mustNew(t, &ebpf.MapSpec{Type: ebpf.LRUHash, KeySize: 4, ValueSize: 4, MaxEntries: max})
	for k := range uint32(hot) {
		if e := SideOf(m).UpdateElem(key32Bytes(k), key32Bytes(k), 0, 0); e != 0 {
			t.Fatal(e)
		}
	}
	for k := uint32(hot); k < 20*max; k++ {
		if SideOf(m).LookupElem(key32Bytes(k%hot), 0) == 0 {
			t.Fatalf("key %d, which is looked up all the time, is gone after %d new ones", k%hot, k)
		}
		if e := SideOf(m).UpdateElem(key32Bytes(k), key32Bytes(k), 0, 0); e != 0 {
			t.Fatal(e)
		}
		if SideOf(m).DeleteElem(key32Bytes(k-1)) == 0 && k%3 != 0 {
			SideOf(m).UpdateElem(key32Bytes(k-1), key32Bytes(k), updateNoExist, 0)
		}
	}
	if n := countKeys(t, m); n < max*9/10 || n > max {
		t.Errorf("%d elements", n)
	}
}

// TestLRUEvictsTheOldest: without lookups elements go in the order in which they came.
func TestLRUEvictsTheOldest(t *testing.T) {
	const max = 100
	m := mustNew(t, &ebpf.MapSpec{Type: ebpf.LRUHash, KeySize: 4, ValueSize: 4, MaxEntries: max})
	for k := range uint32(10 * max) {
		if err := m.Put(k, k); err != nil {
			t.Fatal(err)
		}
		var v uint32
		for old := range k + 1 {
			if err := m.Lookup(old, &v); (err == nil) != (old+max > k) {
				t.Fatalf("key %d after %d: %v", old, k, err)
			}
		}
	}
}

// TestLRUUpdateEvictsNothing: a full map replaces values without giving an element up.
func TestLRUUpdateEvictsNothing(t *testing.T) {
	for _, typ := range []ebpf.MapType{ebpf.LRUHash, ebpf.LRUCPUHash} {
		m := mustNew(t, &ebpf.MapSpec{Type: typ, KeySize: 4, ValueSize: 4, MaxEntries: 16})
		for i := range uint32(200) {
			if e := SideOf(m).UpdateElem(key32Bytes(i%16), key32Bytes(i), 0, 0); e != 0 {
				t.Fatal(e)
			}
		}
		if n := countKeys(t, m); n != 16 {
			t.Errorf("%s: %d elements", typ, n)
		}
	}
}

// TestLRUShares: with BPF_F_NO_COMMON_LRU a program only ever pushes out what came from its own CPU slot.
func TestLRUShares(t *testing.T) {
	n := uint32(rt.CPUs())
	m := mustNew(t, &ebpf.MapSpec{Type: ebpf.LRUHash, KeySize: 4, ValueSize: 4, MaxEntries: 10*n - (n - 1), Flags: FlagNoCommonLRU})
	if m.MaxEntries() != 10*n {
		t.Fatalf("%d entries for %d slots", m.MaxEntries(), n)
	}
	for cpu := range n {
		for k := range uint32(10) {
			SideOf(m).UpdateElem(key32Bytes(cpu*100+k), key32Bytes(0), 0, int(cpu))
		}
	}
	for k := range uint32(500) {
		SideOf(m).UpdateElem(key32Bytes(1_000_000+k), key32Bytes(0), 0, 0)
	}
	for cpu := range n {
		for k := range uint32(10) {
			if there := SideOf(m).LookupElem(key32Bytes(cpu*100+k), 0) != 0; there != (cpu != 0) {
				t.Errorf("key %d of slot %d: %v", k, cpu, there)
			}
		}
	}
	if got := countKeys(t, m); got != int(10*n) {
		t.Errorf("%d elements", got)
	}
}

// TestLRUTakesAnyOfManyRecent: a large map where every element is marked gives one up after a short search.
func TestLRUTakesAnyOfManyRecent(t *testing.T) {
	const max = 10 * clockScan
	m := mustNew(t, &ebpf.MapSpec{Type: ebpf.LRUHash, KeySize: 4, ValueSize: 4, MaxEntries: max})
	for k := range uint32(max) {
		SideOf(m).UpdateElem(key32Bytes(k), key32Bytes(0), 0, 0)
		SideOf(m).LookupElem(key32Bytes(k), 0)
	}
	if e := SideOf(m).UpdateElem(key32Bytes(max), key32Bytes(0), 0, 0); e != 0 {
		t.Fatal(e)
	}
	h, marked := m.store.(*hash), 0
	for link := uint32(1); link <= h.pools[0].unused.Load(); link++ {
		if h.use(link).Load() == useRecent {
			marked++
		}
	}
	if marked != max-clockScan-1 || countKeys(t, m) != max {
		t.Errorf("%d of %d are still marked, %d keys", marked, max, countKeys(t, m))
	}
}

func BenchmarkLRU(b *testing.B) {
	for _, full := range []bool{false, true} {
		m := mustNew(b, &ebpf.MapSpec{Type: ebpf.LRUHash, KeySize: 8, ValueSize: 8, MaxEntries: 1 << 14})
		key, val := make([]byte, 8), make([]byte, 8)
		mask, name := uint64(1<<13-1), "replace"
		if full {
			mask, name = 1<<20-1, "evict"
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				binary.NativeEndian.PutUint64(key, rand.Uint64()&mask)
				SideOf(m).UpdateElem(key, val, 0, 0)
			}
		})
	}
}
