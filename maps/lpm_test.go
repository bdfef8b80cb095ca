package maps

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/errno"
	"github.com/skep-bpf/skep/internal/rt"
)

// lpmKey makes a key of so many bits; bits beyond them are noise of rng.
func lpmKey(rng *rand.Rand, length uint32, data []byte) []byte {
	k := append(binary.NativeEndian.AppendUint32(nil, length), data...)
	for i := int(length); i < 8*len(data); i++ {
		if rng.IntN(2) == 0 {
			k[4+i/8] ^= 1 << (7 - i%8)
		}
	}
	return k
}

// randomLPMKey makes a key whose data has few different prefixes, so that keys are often prefixes of one another.
func randomLPMKey(rng *rand.Rand, size int) []byte {
	data := make([]byte, size)
	for i := range data {
		data[i] = []byte{0, 0, 0, 0xff, 0x80}[rng.IntN(5)]
	}
	length := rng.Uint32N(uint32(8*size) + 1)
	if rng.IntN(3) == 0 {
		length = min(length, 10)
	}
	return lpmKey(rng, length, data)
}

// prefixID is what makes a key the same as another: its length and that many bits.
func prefixID(key []byte) string {
	n := key32(key)
	s := fmt.Sprintf("%d:", n)
	for i := range n {
		s += string('0' + byte(keyBit(key, i)))
	}
	return s
}

// lpmModel is the simplest LPM map there can be.
type lpmModel map[string][2][]byte // by prefixID: key, value

func (m lpmModel) lookup(key []byte) []byte {
	var best []byte
	longest := -1
	for _, kv := range m {
		n := key32(kv[0])
		if n > key32(key) || int(n) <= longest {
			continue
		}
		same := true
		for i := uint32(0); i < n && same; i++ {
			same = keyBit(kv[0], i) == keyBit(key, i)
		}
		if same {
			longest, best = int(n), kv[1]
		}
	}
	return best
}

// TestLPMAgainstModel compares every result of random operations, from the program's side, with a list that is searched from end to
// end, for keys of all kinds of sizes.
func TestLPMAgainstModel(t *testing.T) {
	for _, size := range []int{1, 2, 3, 4, 7, 8, 9, 16, 17, 256} {
		const max = 60
		m := mustNew(t, &ebpf.MapSpec{Type: ebpf.LPMTrie, KeySize: uint32(4 + size), ValueSize: 4, MaxEntries: max, Flags: FlagNoPrealloc})
		rng, model := rand.New(rand.NewPCG(3, uint64(size))), lpmModel{}
		for i := range 6000 / (1 + size/100) {
			key, val := randomLPMKey(rng, size), binary.NativeEndian.AppendUint32(nil, uint32(i))
			id := prefixID(key)
			_, exists := model[id]
			switch rng.IntN(5) {
			case 0, 1:
				flags := rng.Uint64N(3)
				var want errno.Errno
				switch {
				case exists && flags == updateNoExist:
					want = errno.EEXIST
				case !exists && flags == updateExist:
					want = errno.ENOENT
				case !exists && len(model) == max:
					want = errno.ENOSPC
				default:
					model[id] = [2][]byte{key, val}
				}
				if e := SideOf(m).UpdateElem(key, val, flags, 0); e != want {
					t.Fatalf("size %d, step %d: update: %v, want %v", size, i, e, want)
				}
			case 2:
				if e := SideOf(m).DeleteElem(key); (e == 0) != exists {
					t.Fatalf("size %d, step %d: delete: %v, exists %v", size, i, e, exists)
				}
				delete(model, id)
			default:
				addr, want := SideOf(m).LookupElem(key, 0), model.lookup(key)
				if (addr != 0) != (want != nil) || addr != 0 && string(rt.Mem(uint64(addr), 4)) != string(want) {
					t.Fatalf("size %d, step %d: lookup of %s: %#x, want %x", size, i, id, addr, want)
				}
			}
			if i%1000 == 0 {
				checkLPMKeys(t, m, model)
			}
		}
	}
}

// checkLPMKeys walks all keys: each once, with the bytes it was last written with, and none in front of one it is a prefix of.
func checkLPMKeys(t *testing.T, m *Map, model lpmModel) {
	t.Helper()
	var before [][]byte
	for k, err := m.NextKeyBytes(nil); k != nil; k, err = m.NextKeyBytes(k) {
		if err != nil {
			t.Fatal(err)
		}
		if kv, ok := model[prefixID(k)]; !ok || string(kv[0]) != string(k) {
			t.Fatalf("key %x, want %x", k, kv[0])
		}
		for _, b := range before {
			if key32(b) < key32(k) && (lpmModel{"": {b, b}}).lookup(k) != nil {
				t.Fatalf("key %x comes after its prefix %x", k, b)
			}
		}
		before = append(before, k)
	}
	if len(before) != len(model) {
		t.Fatalf("walked %d keys, want %d", len(before), len(model))
	}
}

// TestLPMGivesEverythingBack fills and empties a map many times over: nodes and values must suffice each time.
func TestLPMGivesEverythingBack(t *testing.T) {
	const max = 300
	m := mustNew(t, &ebpf.MapSpec{Type: ebpf.LPMTrie, KeySize: 8, ValueSize: 4, MaxEntries: max, Flags: FlagNoPrealloc})
	rng := rand.New(rand.NewPCG(4, 4))
	for range 20 {
		for n := 0; n < max; {
			if SideOf(m).UpdateElem(randomLPMKey(rng, 4), make([]byte, 4), updateNoExist, 0) == 0 {
				n++
			}
		}
		for k, _ := m.NextKeyBytes(nil); k != nil; k, _ = m.NextKeyBytes(nil) {
			if err := m.Delete(k); err != nil {
				t.Fatal(err)
			}
		}
	}
	l := m.store.(*lpm)
	if l.root.Load() != 0 || l.count != 0 || l.nodeFree.unused > 2*max-1 || l.valueFree.unused > max+1 {
		t.Errorf("root %d, count %d, %d nodes and %d values used", l.root.Load(), l.count, l.nodeFree.unused, l.valueFree.unused)
	}
}

// TestHammerLPM looks up what does not change while writers put in and take out keys all around it, deeper and shallower ones: the
// lookup must find the same value each time.
func TestHammerLPM(t *testing.T) {
	m := mustNew(t, &ebpf.MapSpec{Type: ebpf.LPMTrie, KeySize: 8, ValueSize: 8, MaxEntries: 1000, Flags: FlagNoPrealloc})
	key := func(n uint32, a, b, c, d byte) []byte {
		return append(binary.NativeEndian.AppendUint32(nil, n), a, b, c, d)
	}
	var fixed []uintptr
	for i := range byte(16) {
		SideOf(m).UpdateElem(key(20, 10, i, 0, 0), make([]byte, 8), 0, 0)
	}
	for i := range byte(16) {
		fixed = append(fixed, SideOf(m).LookupElem(key(32, 10, i, 15, 1), 0))
	}
	var wg sync.WaitGroup
	var stop atomic.Bool
	for g := range 2 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(5, uint64(g)))
			for !stop.Load() {
				// Never a prefix of 10.i.15.1 longer than 20 bits.
				n := []uint32{8, 12, 16, 18, 19, 21, 24, 28, 31, 32}[rng.IntN(10)]
				k := key(n, 10, byte(rng.IntN(16)), byte(rng.IntN(8)), byte(rng.Uint32()))
				if rng.IntN(2) == 0 {
					SideOf(m).UpdateElem(k, make([]byte, 8), 0, 0)
				} else {
					SideOf(m).DeleteElem(k)
				}
			}
		})
	}
	for i := range 300_000 {
		j := byte(i % 16)
		if got := SideOf(m).LookupElem(key(32, 10, j, 15, 1), 0); got != fixed[j] {
			t.Errorf("round %d: %#x, want %#x", i, got, fixed[j])
			break
		}
	}
	stop.Store(true)
	wg.Wait()
}

// BenchmarkLPM is about IPv4 routes, as many as a small table has.
func BenchmarkLPM(b *testing.B) {
	m := mustNew(b, &ebpf.MapSpec{Type: ebpf.LPMTrie, KeySize: 8, ValueSize: 8, MaxEntries: 1 << 14, Flags: FlagNoPrealloc})
	rng := rand.New(rand.NewPCG(6, 6))
	key, val := make([]byte, 8), make([]byte, 8)
	random := func(n uint32) {
		binary.NativeEndian.PutUint32(key, n)
		binary.NativeEndian.PutUint32(key[4:], rng.Uint32())
	}
	for range 10_000 {
		random(8 + rng.Uint32N(25))
		SideOf(m).UpdateElem(key, val, 0, 0)
	}
	b.Run("lookup", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			random(32)
			SideOf(m).LookupElem(key, 0)
		}
	})
	b.Run("update and delete", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			random(24)
			SideOf(m).UpdateElem(key, val, 0, 0)
			SideOf(m).DeleteElem(key)
		}
	})
}
