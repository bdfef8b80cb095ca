//go:build linux

package maps

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cilium/ebpf"
)

// TestQueuesAsKernel pushes, pops and peeks on both sides, and tries what maps without keys do not have.
func TestQueuesAsKernel(t *testing.T) {
	for _, typ := range []ebpf.MapType{ebpf.Queue, ebpf.Stack} {
		for _, max := range []uint32{1, 2, 7} {
			b := newBoth(t, &ebpf.MapSpec{Type: typ, ValueSize: 8, MaxEntries: max})
			rng := rand.New(rand.NewPCG(8, uint64(max)))
			for i := range 4000 {
				value := rng.Uint64()
				var va, vb uint64
				var ea, eb error
				op := rng.IntN(10)
				switch op {
				case 0, 1, 2, 3:
					flags := ebpf.MapUpdateFlags(rng.IntN(6))
					if rng.IntN(2) == 0 {
						flags = 0
					}
					ea, eb = b.ours.Update(nil, value, flags), b.kernel.Update(nil, value, flags)
				case 4, 5, 6:
					ea, eb = b.ours.LookupAndDelete(nil, &va), b.kernel.LookupAndDelete(nil, &vb)
				case 7, 8:
					ea, eb = b.ours.Lookup(nil, &va), b.kernel.Lookup(nil, &vb)
				case 9:
					ea, eb = keylessErrors(b.ours), keylessErrors(b.kernel)
				}
				if ea != nil && eb != nil && op == 9 {
					if ea.Error() != eb.Error() {
						t.Fatalf("%s: kernel %v, here %v", typ, eb, ea)
					}
					continue
				}
				if class(ea) != class(eb) || va != vb {
					t.Fatalf("%s of %d, step %d, op %d: kernel %d, %v; here %d, %v", typ, max, i, op, vb, eb, va, ea)
				}
			}
		}
	}
}

// keylessErrors does on a map what it cannot do and returns the classes of all errors in one.
func keylessErrors(m interface {
	Delete(any) error
	NextKey(any, any) error
	Update(any, any, ebpf.MapUpdateFlags) error
	Lookup(any, any) error
}) error {
	var k, v uint64
	return fmt.Errorf("%s, %s, %s, %s", class(m.Delete(nil)), class(m.NextKey(nil, &k)), class(m.Update(uint64(1), v, 0)), class(m.Lookup(uint64(1), &v)))
}

// TestBloomAsKernel: filters without a seed give the same answers to everything, wrong ones among them.
func TestBloomAsKernel(t *testing.T) {
	for _, hashes := range []uint64{0, 1, 2, 7, 15} {
		for _, size := range []uint32{1, 3, 4, 8, 12, 13, 16, 17, 24, 40} {
			b := newBoth(t, &ebpf.MapSpec{Type: ebpf.BloomFilter, ValueSize: size, MaxEntries: 50, MapExtra: hashes, Flags: FlagZeroSeed})
			rng := rand.New(rand.NewPCG(9, hashes))
			value := func() []byte {
				v := make([]byte, size)
				for i := range v {
					v[i] = byte(rng.Uint32())
				}
				return v
			}
			found := 0
			for i := range 2000 {
				v := value()
				if i%20 == 0 {
					flags := ebpf.MapUpdateFlags(rng.IntN(3))
					if ea, eb := b.ours.Update(nil, v, flags), b.kernel.Update(nil, v, flags); class(ea) != class(eb) {
						t.Fatalf("push: kernel %v, here %v", eb, ea)
					}
					continue
				}
				ea, eb := b.ours.Lookup(nil, v), b.kernel.Lookup(nil, v)
				if class(ea) != class(eb) {
					t.Fatalf("%d hashes, %x: kernel %v, here %v", hashes, v, eb, ea)
				}
				if ea == nil {
					found++
				}
			}
			if hashes == 1 && found == 0 {
				t.Error("no false positive was compared")
			}
			if ea, eb := keylessErrors(b.ours), keylessErrors(b.kernel); ea.Error() != eb.Error() {
				t.Errorf("kernel %v, here %v", eb, ea)
			}
		}
	}
}

// TestBloomCreateAsKernel compares what becomes of map_extra.
func TestBloomCreateAsKernel(t *testing.T) {
	for _, typ := range []ebpf.MapType{ebpf.BloomFilter, ebpf.Hash, ebpf.Queue} {
		for _, extra := range []uint64{0, 1, 15, 16, 1 << 40} {
			spec := &ebpf.MapSpec{Type: typ, KeySize: 4, ValueSize: 4, MaxEntries: 1 << 10, MapExtra: extra}
			if typ != ebpf.Hash {
				spec.KeySize = 0
			}
			k, kerr := kernelMap(t, spec)
			if kerr == nil {
				k.Close()
			}
			m, err := New(spec)
			if err == nil {
				m.Close()
			}
			if class(err) != class(kerr) {
				t.Errorf("%v: kernel %v, here %v", spec, kerr, err)
			}
		}
	}
}

// TestBatchAsKernel tries the batch operations on every type with keys, on a map of a few elements.
func TestBatchAsKernel(t *testing.T) {
	for _, spec := range []*ebpf.MapSpec{
		{Type: ebpf.Array}, {Type: ebpf.Hash}, {Type: ebpf.LRUHash}, {Type: ebpf.LPMTrie, Flags: FlagNoPrealloc},
		{Type: ebpf.DevMap}, {Type: ebpf.DevMapHash},
	} {
		spec.KeySize, spec.ValueSize, spec.MaxEntries = 4, 8, 100
		if spec.Type == ebpf.LPMTrie {
			spec.KeySize = 8
		}
		b := newBoth(t, spec)
		if spec.KeySize == 4 {
			compareBatch(t, b, []uint32{1, 2, 3, 4, 5, 6})
		} else {
			compareBatch(t, b, []uint64{1, 2, 3, 4, 5, 6})
		}
	}
}

func compareBatch[K uint32 | uint64](t *testing.T, b both, keys []K) {
	t.Helper()
	check := func(op string, n, kn int, err, kerr error) {
		t.Helper()
		if n != kn && !errors.Is(kerr, ebpf.ErrNotSupported) || class(err) != class(kerr) {
			t.Errorf("%s, %s: kernel %d, %v; here %d, %v", b.ours, op, kn, kerr, n, err)
		}
	}
	n, err := b.ours.BatchUpdate(keys, make([]uint64, len(keys)), nil)
	kn, kerr := b.kernel.BatchUpdate(keys, make([]uint64, len(keys)), nil)
	check("update", n, kn, err, kerr)
	var cur MapBatchCursor
	var kcur ebpf.MapBatchCursor
	n, err = b.ours.BatchLookup(&cur, make([]K, 200), make([]uint64, 200), nil)
	kn, kerr = b.kernel.BatchLookup(&kcur, make([]K, 200), make([]uint64, 200), nil)
	check("lookup", n, kn, err, kerr)
	n, err = b.ours.BatchDelete(keys[:2], nil)
	kn, kerr = b.kernel.BatchDelete(keys[:2], nil)
	check("delete", n, kn, err, kerr)
	cur, kcur = MapBatchCursor{}, ebpf.MapBatchCursor{}
	n, err = b.ours.BatchLookupAndDelete(&cur, make([]K, 200), make([]uint64, 200), nil)
	kn, kerr = b.kernel.BatchLookupAndDelete(&kcur, make([]K, 200), make([]uint64, 200), nil)
	check("lookup and delete", n, kn, err, kerr)
	n, err = b.ours.BatchDelete(keys[:2], nil)
	kn, kerr = b.kernel.BatchDelete(keys[:2], nil)
	check("delete what is gone", n, kn, err, kerr)
}
