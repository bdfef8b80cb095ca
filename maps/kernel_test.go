//go:build linux

package maps

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sort"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"
)

// both is a map here and the same map in the kernel.
type both struct {
	ours   *Map
	kernel *ebpf.Map
}

// kernelMap makes the spec in the kernel, or skips the test where that is not allowed.
func kernelMap(t *testing.T, spec *ebpf.MapSpec) (*ebpf.Map, error) {
	t.Helper()
	probe, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		t.Skipf("the kernel's maps are the oracle of this test, and it refuses them: %v", err)
	}
	probe.Close()
	return ebpf.NewMap(spec)
}

func newBoth(t *testing.T, spec *ebpf.MapSpec) both {
	t.Helper()
	k, err := kernelMap(t, spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	m, err := New(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return both{m, k}
}

// class reduces an error to what both sides must agree on.
func class(err error) string {
	if err == nil {
		return "ok"
	}
	s := ""
	for _, e := range []error{ebpf.ErrKeyNotExist, ebpf.ErrKeyExist, ebpf.ErrNotSupported} {
		if errors.Is(err, e) {
			s += e.Error() + "; "
		}
	}
	for _, e := range []syscall.Errno{syscall.EPERM, syscall.EINVAL, syscall.E2BIG, syscall.EBUSY, syscall.ENOMEM, syscall.ENOSPC, syscall.EOPNOTSUPP, syscall.EFAULT} {
		if errors.Is(err, e) {
			s += e.Error() + "; "
		}
	}
	if s == "" {
		s = "other" // marshalling
	}
	return s
}

// TestCreateAsKernel makes maps with every odd parameter on both sides: same verdict, same error number.
func TestCreateAsKernel(t *testing.T) {
	types := []ebpf.MapType{ebpf.Array, ebpf.PerCPUArray, ebpf.Hash, ebpf.PerCPUHash, ebpf.ProgramArray, ebpf.DevMap, ebpf.DevMapHash, ebpf.XSKMap,
		ebpf.LRUHash, ebpf.LRUCPUHash, ebpf.LPMTrie, ebpf.Queue, ebpf.Stack, ebpf.BloomFilter, ebpf.CGroupArray, ebpf.StackTrace,
		ebpf.SockMap, ebpf.SockHash, ebpf.ReusePortSockArray, ebpf.CGroupStorage, ebpf.PerCPUCGroupStorage}
	sizes := []uint32{0, 1, 2, 4, 7, 8, 16, 512, 127 * 8, 128 * 8, 32 << 10, 32<<10 + 1, 4 << 20}
	flags := []uint32{0, 1, 2, 4, 8, 16, 24, 64, 128, 256, 384, 1024, 2048, 4096, 1 << 20}
	n := 0
	for _, typ := range types {
		for _, key := range []uint32{0, 1, 4, 5, 8, 260, 261, 600, 1 << 22} {
			for _, value := range sizes {
				for _, max := range []uint32{0, 1, 3} {
					for _, f := range flags {
						spec := &ebpf.MapSpec{Type: typ, KeySize: key, ValueSize: value, MaxEntries: max, Flags: f}
						if f != 0 && (n%7 != 0 && key != 4) {
							n++
							continue
						}
						n++
						k, kerr := kernelMap(t, spec)
						if kerr == nil {
							k.Close()
						}
						m, err := New(spec)
						if err == nil {
							m.Close()
						}
						if typ == ebpf.ProgramArray && value == 0 {
							continue // cilium/ebpf's ELF reader leaves it 0; filled in here
						}
						if class(err) != class(kerr) {
							t.Fatalf("%v: kernel %v, here %v", spec, kerr, err)
						}
					}
				}
			}
		}
	}
}

// locked is a map whose values have a lock, where its type can have one.
func locked(typ ebpf.MapType, flags uint32) *ebpf.MapSpec {
	u32 := &btf.Int{Name: "u32", Size: 4}
	lock := &btf.Struct{Name: "bpf_spin_lock", Size: 4, Members: []btf.Member{{Name: "val", Type: u32}}}
	return &ebpf.MapSpec{Name: "locked", Type: typ, KeySize: 4, ValueSize: 8, MaxEntries: 200, Flags: flags, Key: u32,
		Value: &btf.Struct{Name: "v", Size: 8, Members: []btf.Member{{Name: "n", Type: u32}, {Name: "l", Type: lock, Offset: 32}}}}
}

// TestCreateFieldsAsKernel: which types of maps, with which flags, can have a lock in their values.
func TestCreateFieldsAsKernel(t *testing.T) {
	made := 0
	for _, typ := range []ebpf.MapType{ebpf.Array, ebpf.PerCPUArray, ebpf.Hash, ebpf.PerCPUHash, ebpf.LRUHash, ebpf.LRUCPUHash, ebpf.LPMTrie,
		ebpf.Queue, ebpf.Stack, ebpf.BloomFilter, ebpf.DevMap, ebpf.CPUMap, ebpf.StackTrace, ebpf.DevMapHash} {
		for _, flags := range []uint32{0, FlagNoPrealloc, FlagReadOnly, FlagReadOnlyProg, FlagWriteOnlyProg, FlagMmapable} {
			spec := locked(typ, flags)
			k, kerr := kernelMap(t, spec)
			if kerr == nil {
				k.Close()
				made++
			}
			m, err := New(spec)
			if err == nil {
				m.Close()
			}
			if class(err) != class(kerr) || errors.Is(err, syscall.EACCES) != errors.Is(kerr, syscall.EACCES) {
				t.Errorf("%v: kernel %v, here %v", spec, kerr, err)
			}
		}
	}
	if made == 0 {
		t.Error("none was made")
	}
}

// TestOperationsAsKernel does the same random operations on both sides and compares every result.
func TestOperationsAsKernel(t *testing.T) {
	for _, spec := range []*ebpf.MapSpec{
		{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 5},
		{Type: ebpf.Hash, KeySize: 4, ValueSize: 8, MaxEntries: 7},
		{Type: ebpf.Hash, KeySize: 4, ValueSize: 8, MaxEntries: 7, Flags: FlagNoPrealloc},
		{Type: ebpf.LRUHash, KeySize: 4, ValueSize: 8, MaxEntries: 200}, // never full: what goes when it is is not exact
		{Type: ebpf.LRUHash, KeySize: 4, ValueSize: 8, MaxEntries: 200, Flags: FlagNoCommonLRU},
		{Type: ebpf.StackTrace, KeySize: 4, ValueSize: 8, MaxEntries: 3},
		{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 3, Flags: FlagReadOnlyProg},
		{Type: ebpf.DevMapHash, KeySize: 4, ValueSize: 8, MaxEntries: 3},
		{Type: ebpf.DevMap, KeySize: 4, ValueSize: 8, MaxEntries: 9},
		{Type: ebpf.SockMap, KeySize: 4, ValueSize: 8, MaxEntries: 9},
		{Type: ebpf.SockHash, KeySize: 4, ValueSize: 8, MaxEntries: 9}, {Type: ebpf.ReusePortSockArray, KeySize: 4, ValueSize: 8, MaxEntries: 9},
		locked(ebpf.Array, 0), locked(ebpf.Hash, 0), locked(ebpf.Hash, FlagNoPrealloc),
	} {
		t.Run(fmt.Sprintf("%s/%d/%t", spec.Type, spec.Flags, spec.Value != nil), func(t *testing.T) {
			b := newBoth(t, spec)
			rng := rand.New(rand.NewPCG(1, uint64(spec.Type)))
			for i := range 5000 {
				key := uint32(rng.IntN(12))
				value := rng.Uint64()
				if spec.Type == ebpf.DevMapHash || spec.Type == ebpf.DevMap {
					value = uint64(rng.IntN(2)) // 0: no interface, 1: lo
				}
				flags := ebpf.MapUpdateFlags(rng.IntN(8))
				var va, vb uint64
				var ea, eb error
				op := rng.IntN(8)
				if ofSockets := spec.Type == ebpf.SockMap || spec.Type == ebpf.SockHash || spec.Type == ebpf.ReusePortSockArray; ofSockets && op < 3 {
					continue // nothing here is a socket
				}
				switch op {
				case 0, 1, 2:
					ea, eb = b.ours.Update(key, value, flags), b.kernel.Update(key, value, flags)
				case 3:
					ea, eb = b.ours.Delete(key), b.kernel.Delete(key)
				case 4, 5:
					how := ebpf.MapLookupFlags(flags &^ 3) // BPF_F_LOCK or nothing
					ea, eb = b.ours.LookupWithFlags(key, &va, how), b.kernel.LookupWithFlags(key, &vb, how)
				case 6:
					how := ebpf.MapLookupFlags(flags &^ 3)
					ea, eb = b.ours.LookupAndDeleteWithFlags(key, &va, how), b.kernel.LookupAndDeleteWithFlags(key, &vb, how)
				case 7:
					if a, bb := dump(t, b.ours.Iterate()), dump(t, b.kernel.Iterate()); cmp.Diff(a, bb) != "" {
						t.Fatalf("step %d: contents differ: %s", i, cmp.Diff(bb, a))
					}
				}
				if class(ea) != class(eb) || va != vb {
					t.Fatalf("step %d op %d key %d flags %d: kernel %d, %v; here %d, %v", i, op, key, flags, vb, eb, va, ea)
				}
			}
		})
	}
}

type iterator interface {
	Next(k, v any) bool
	Err() error
}

func dump(t *testing.T, it iterator) (out [][2]uint64) {
	t.Helper()
	var k uint32
	var v uint64
	for it.Next(&k, &v) {
		out = append(out, [2]uint64{uint64(k), v})
	}
	if it.Err() != nil {
		t.Fatal(it.Err())
	}
	sort.Slice(out, func(i, j int) bool { return out[i][0] < out[j][0] })
	return out
}

// TestAccessFlagsAsKernel compares what BPF_F_RDONLY, BPF_F_WRONLY and Freeze forbid, of each type.
func TestAccessFlagsAsKernel(t *testing.T) {
	for _, spec := range []*ebpf.MapSpec{
		{Type: ebpf.Hash, KeySize: 4}, {Type: ebpf.LRUHash, KeySize: 4}, {Type: ebpf.Array, KeySize: 4}, {Type: ebpf.LPMTrie, KeySize: 8, Flags: FlagNoPrealloc},
		{Type: ebpf.Queue}, {Type: ebpf.Stack}, {Type: ebpf.BloomFilter}, {Type: ebpf.ArrayOfMaps, KeySize: 4, InnerMap: innerSpec()},
		{Type: ebpf.HashOfMaps, KeySize: 4, InnerMap: innerSpec()}, {Type: ebpf.StackTrace, KeySize: 4},
	} {
		for _, flags := range []uint32{0, FlagReadOnly, FlagWriteOnly, FlagReadOnly | FlagWriteOnly, FlagReadOnlyProg, FlagWriteOnlyProg} {
			s := *spec
			s.Flags |= flags
			s.MaxEntries, s.ValueSize = 2, 4
			if s.Type == ebpf.StackTrace {
				s.ValueSize = 8
			}
			k, kerr := kernelMap(t, &s)
			m, err := New(&s)
			if class(err) != class(kerr) {
				t.Errorf("%v: kernel %v, here %v", &s, kerr, err)
			}
			if err == nil && kerr == nil {
				compareAccess(t, both{m, k})
			}
			if err == nil {
				m.Close()
			}
			if kerr == nil {
				k.Close()
			}
		}
	}
}

// compareAccess does every operation twice, with a freeze in between.
func compareAccess(t *testing.T, b both) {
	t.Helper()
	check := func(op string, ours, kernel error) {
		t.Helper()
		if class(ours) != class(kernel) {
			t.Errorf("%s, flags %#x, %s: kernel %v, here %v", b.ours, b.ours.Flags(), op, kernel, ours)
		}
	}
	var key any
	if n := b.ours.KeySize(); n > 0 {
		key = append([]byte{1}, make([]byte, n-1)...)
	}
	var ourValue, kernelValue any = make([]byte, b.ours.ValueSize()), make([]byte, b.ours.ValueSize())
	if isOuter(b.ours.Type()) {
		in := newBoth(t, innerSpec())
		ourValue, kernelValue = in.ours, in.kernel
	}
	next, out := make([]byte, b.ours.KeySize()), make([]byte, b.ours.ValueSize())
	for range 2 {
		check("update", b.ours.Put(key, ourValue), b.kernel.Put(key, kernelValue))
		check("lookup", b.ours.Lookup(key, out), b.kernel.Lookup(key, out))
		if key != nil {
			check("next", b.ours.NextKey(nil, next), b.kernel.NextKey(nil, next))
		}
		check("lookup and delete", b.ours.LookupAndDelete(key, out), b.kernel.LookupAndDelete(key, out))
		check("update again", b.ours.Put(key, ourValue), b.kernel.Put(key, kernelValue))
		check("delete", b.ours.Delete(key), b.kernel.Delete(key))
		check("freeze", b.ours.Freeze(), b.kernel.Freeze())
	}
}

// TestLRUAsKernel overfills LRU maps on both sides. Which elements go is not exact, so what must always hold is compared: an update
// succeeds, what was just written is there with its value, and the map is neither too large nor much too empty.
func TestLRUAsKernel(t *testing.T) {
	for _, flags := range []uint32{0, FlagNoCommonLRU} {
		const max = 2000
		b := newBoth(t, &ebpf.MapSpec{Type: ebpf.LRUHash, KeySize: 4, ValueSize: 8, MaxEntries: max, Flags: flags})
		rng := rand.New(rand.NewPCG(2, uint64(flags)))
		for i := range 20 * max {
			key, value, update := rng.Uint32N(4*max), rng.Uint64(), ebpf.MapUpdateFlags(rng.IntN(6))
			var va, vb uint64
			ea, eb := b.ours.Lookup(key, &va), b.kernel.Lookup(key, &vb)
			ea, eb = expected(ea, update), expected(eb, update)
			if got := b.ours.Update(key, value, update); class(got) != class(ea) {
				t.Fatalf("step %d here: %v, want %v", i, got, ea)
			}
			switch got := b.kernel.Update(key, value, update); {
			case class(got) == class(eb):
			case errors.Is(eb, ebpf.ErrKeyExist) && got == nil, eb == nil && update == ebpf.UpdateExist && errors.Is(got, ebpf.ErrKeyNotExist):
				eb = got // the kernel makes room first, and may take this very element
			default:
				t.Fatalf("step %d in the kernel: %v, want %v", i, got, eb)
			}
			for side, at := range map[string]func(k, v any) error{"here": b.ours.Lookup, "in the kernel": b.kernel.Lookup} {
				var v uint64
				wrote := side == "here" && ea == nil || side != "here" && eb == nil
				if err := at(key, &v); wrote && (err != nil || v != value) {
					t.Fatalf("step %d %s: %v, %d", i, side, err, v)
				}
			}
		}
		for side, n := range map[string]int{"here": len(dump(t, b.ours.Iterate())), "in the kernel": len(dump(t, b.kernel.Iterate()))} {
			if n > max+8 || flags == 0 && n < max*3/4 || n < max/8 {
				t.Errorf("flags %d: %d elements %s", flags, n, side)
			}
		}
	}
}

// expected is what an update with flags gives after a lookup with this result.
func expected(lookup error, flags ebpf.MapUpdateFlags) error {
	switch {
	case flags > ebpf.UpdateExist:
		return syscall.EINVAL
	case flags == ebpf.UpdateNoExist && lookup == nil:
		return ebpf.ErrKeyExist
	case flags == ebpf.UpdateExist && lookup != nil:
		return ebpf.ErrKeyNotExist
	}
	return nil
}

// TestLPMAsKernel does random operations on tries of both sides: results, errors, and every key that follows another, known or not.
func TestLPMAsKernel(t *testing.T) {
	for _, size := range []int{1, 3, 4, 8, 13, 16, 256} {
		b := newBoth(t, &ebpf.MapSpec{Type: ebpf.LPMTrie, KeySize: uint32(4 + size), ValueSize: 8, MaxEntries: 40, Flags: FlagNoPrealloc})
		rng := rand.New(rand.NewPCG(7, uint64(size)))
		for i := range 4000 {
			key, value := randomLPMKey(rng, size), rng.Uint64()
			if rng.IntN(20) == 0 {
				key = lpmKey(rng, uint32(8*size), make([]byte, size))
				key32Set(key, uint32(8*size)+1) // longer than there are bits
			}
			var va, vb uint64
			var ea, eb error
			op := rng.IntN(9)
			switch op {
			case 0, 1, 2:
				flags := ebpf.MapUpdateFlags(rng.IntN(5))
				ea, eb = b.ours.Update(key, value, flags), b.kernel.Update(key, value, flags)
			case 3, 4:
				ea, eb = b.ours.Delete(key), b.kernel.Delete(key)
			case 5, 6:
				ea, eb = b.ours.Lookup(key, &va), b.kernel.Lookup(key, &vb)
			case 7:
				ka, kb := make([]byte, 4+size), make([]byte, 4+size)
				ea, eb = b.ours.NextKey(key, ka), b.kernel.NextKey(key, kb)
				if ea == nil && eb == nil && string(ka) != string(kb) {
					t.Fatalf("size %d, step %d: the kernel's next key is %x, ours %x", size, i, kb, ka)
				}
			case 8:
				if a, k := allKeys(t, b.ours), allKeys(t, b.kernel); cmp.Diff(k, a) != "" {
					t.Fatalf("size %d, step %d: keys in order: %s", size, i, cmp.Diff(k, a))
				}
				ea, eb = b.ours.LookupAndDelete(key, &va), b.kernel.LookupAndDelete(key, &vb)
			}
			if class(ea) != class(eb) || va != vb {
				t.Fatalf("size %d, step %d, op %d: kernel %d, %v; here %d, %v", size, i, op, vb, eb, va, ea)
			}
		}
	}
}

func key32Set(key []byte, v uint32) { binary.NativeEndian.PutUint32(key, v) }

// allKeys walks a map's keys in its order.
func allKeys(t *testing.T, m interface{ NextKeyBytes(any) ([]byte, error) }) (keys []string) {
	t.Helper()
	k, err := m.NextKeyBytes(nil)
	for ; k != nil && err == nil; k, err = m.NextKeyBytes(k) {
		keys = append(keys, fmt.Sprintf("%x", k))
	}
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// TestLPMLimitsAsKernel tries the largest keys and values.
func TestLPMLimitsAsKernel(t *testing.T) {
	for _, key := range []uint32{4, 5, 6, 20, 259, 260, 261} {
		for _, value := range []uint32{1, 1 << 20, 4<<20 - 400, 4<<20 - 320, 4<<20 - 304, 4<<20 - 296, 4<<20 - 288, 4<<20 - 281, 4<<20 - 280, 4<<20 - 279,
			4<<20 - 256, 4<<20 - 5, 4 << 20} {
			spec := &ebpf.MapSpec{Type: ebpf.LPMTrie, KeySize: key, ValueSize: value, MaxEntries: 1, Flags: FlagNoPrealloc}
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
