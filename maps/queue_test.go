package maps

import (
	"encoding/binary"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/errno"
)

// TestHammerQueue: programs and Go push and pop at the same time; every value comes out once.
func TestHammerQueue(t *testing.T) {
	for _, typ := range []ebpf.MapType{ebpf.Queue, ebpf.Stack} {
		m := mustNew(t, &ebpf.MapSpec{Type: typ, ValueSize: 24, MaxEntries: 10})
		const writers, each = 4, 5000
		seen := make([]atomic.Uint32, writers*each)
		var wg sync.WaitGroup
		for g := range writers {
			wg.Go(func() {
				v := make([]byte, 24)
				for i := 0; i < each; {
					for j := range 3 {
						binary.NativeEndian.PutUint64(v[8*j:], uint64(g*each+i))
					}
					if SideOf(m).PushElem(v, 0) != 0 {
						runtime.Gosched() // full
						continue
					}
					i++
				}
			})
		}
		var got atomic.Int64
		for g := range writers {
			wg.Go(func() {
				var v [3]uint64
				b := make([]byte, 24)
				for got.Load() < writers*each {
					if g%2 == 0 && m.LookupAndDelete(nil, &v) != nil || g%2 != 0 && SideOf(m).PopElem(b) != 0 {
						runtime.Gosched() // empty
						continue
					}
					for j := range v {
						if g%2 != 0 {
							v[j] = binary.NativeEndian.Uint64(b[8*j:])
						}
					}
					got.Add(1)
					if v[0] != v[1] || v[1] != v[2] || seen[v[0]].Add(1) != 1 {
						t.Errorf("%s: value %v", typ, v)
					}
				}
			})
		}
		wg.Wait()
	}
}

// TestQueueLeavesNothingUnwritten: a program takes the value for written even if there was none.
func TestQueueLeavesNothingUnwritten(t *testing.T) {
	m := mustNew(t, &ebpf.MapSpec{Type: ebpf.Queue, ValueSize: 4, MaxEntries: 1})
	for _, f := range []func([]byte) errno.Errno{SideOf(m).PopElem, SideOf(m).PeekElem} {
		v := []byte{1, 2, 3, 4}
		if e := f(v); e != errno.ENOENT || [4]byte(v) != [4]byte{} {
			t.Error(e, v)
		}
	}
}

// TestBloomFindsAll: no false negative, and not many false positives.
func TestBloomFindsAll(t *testing.T) {
	m := mustNew(t, &ebpf.MapSpec{Type: ebpf.BloomFilter, ValueSize: 8, MaxEntries: 1000, MapExtra: 3})
	v := make([]byte, 8)
	for i := range uint64(1000) {
		binary.NativeEndian.PutUint64(v, i)
		if e := SideOf(m).PushElem(v, 0); e != 0 {
			t.Fatal(e)
		}
	}
	wrong := 0
	for i := range uint64(11_000) {
		binary.NativeEndian.PutUint64(v, i)
		switch e := SideOf(m).PeekElem(v); {
		case i < 1000 && e != 0:
			t.Fatalf("%d is not found: %v", i, e)
		case i >= 1000 && e == 0:
			wrong++
		}
	}
	if wrong > 2000 {
		t.Errorf("%d of 10000 values are found that were not pushed", wrong)
	}
}
