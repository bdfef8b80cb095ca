package maps

import (
	"encoding/binary"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/rt"
)

func newTestRing(t testing.TB, size uint32) (*Map, Ring) {
	t.Helper()
	m, err := New(&ebpf.MapSpec{Name: "ring", Type: ebpf.RingBuf, MaxEntries: size})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m, SideOf(m).Ring()
}

// TestRingPlaces: records of every length at every place of the ring come out as they went in, those that go over the end too, and
// stay where they are while they are held.
func TestRingPlaces(t *testing.T) {
	_, r := newTestRing(t, 4096)
	var buf []byte
	for n := uint64(0); n <= 200; n++ {
		for range 30 {
			a := r.Reserve(n)
			b := r.Reserve(n + 1)
			if a == 0 || b == 0 {
				t.Fatalf("no room for two records of %d bytes", n)
			}
			for i := range rt.Mem(a, int(n)) {
				rt.Mem(a, int(n))[i] = byte(i)
			}
			for i := range rt.Mem(b, int(n+1)) {
				rt.Mem(b, int(n+1))[i] = byte(i + 1)
			}
			if RingOf(a) != r || RingOf(b) != r {
				t.Fatal("a record is of another ring")
			}
			r.Submit(b, 0)
			if _, _, s := r.Next(buf); s != RingHeld {
				t.Fatalf("the second record was read before the first: %d", s)
			}
			r.Submit(a, 0)
			for k := range 2 {
				sample, _, s := r.Next(buf)
				if s != RingReady || len(sample) != int(n)+k {
					t.Fatalf("%d: record %d of %d bytes, state %d", n, k, len(sample), s)
				}
				for i, v := range sample {
					if v != byte(i+k) {
						t.Fatalf("%d: record %d: byte %d is %d", n, k, i, v)
					}
				}
			}
		}
	}
}

// TestRingPositions: positions, lengths and marks lie where Linux has them.
func TestRingPositions(t *testing.T) {
	m, r := newTestRing(t, 4096)
	mem := m.store.(*ringBuf).region.Bytes()
	u64 := func(off int) uint64 { return binary.NativeEndian.Uint64(mem[off:]) }
	u32 := func(off int) uint32 { return binary.NativeEndian.Uint32(mem[off:]) }
	a := r.Reserve(20)
	if u64(8192) != 32 || u64(4096) != 0 || u32(12288) != 20|1<<31 || u32(12292) != 3 {
		t.Errorf("after reserve: producer %d, consumer %d, header %#x %d", u64(8192), u64(4096), u32(12288), u32(12292))
	}
	r.Submit(a, 0)
	b := r.Reserve(1)
	r.Discard(b, 0)
	if u32(12288) != 20 || u32(12288+32) != 1|1<<30 || u64(8192) != 48 {
		t.Errorf("after submit and discard: headers %#x %#x, producer %d", u32(12288), u32(12288+32), u64(8192))
	}
	if _, left, s := r.Next(nil); s != RingReady || left != 16 || u64(4096) != 32 {
		t.Errorf("read: %d left, state %d, consumer %d", left, s, u64(4096))
	}
	if _, _, s := r.Next(nil); s != RingEmpty || u64(4096) != 48 {
		t.Errorf("a discarded record was not skipped: state %d, consumer %d", s, u64(4096))
	}
}

// TestRingRoom: a record that is held keeps those behind it from coming round to it, however far the reader is.
func TestRingRoom(t *testing.T) {
	_, r := newTestRing(t, 4096)
	held := r.Reserve(8)
	n := 0
	for a := r.Reserve(1000); a != 0; a = r.Reserve(1000) {
		r.Submit(a, 0)
		n++
	}
	if n != 4 {
		t.Errorf("%d records of 1000 bytes behind one that is held, want 4", n)
	}
	if r.Reserve(4096-8+1) != 0 || r.Reserve(1<<40) != 0 || r.Reserve(1<<64-1) != 0 {
		t.Error("a record larger than the ring")
	}
	r.Discard(held, 0)
}

func BenchmarkRing(b *testing.B) {
	_, r := newTestRing(b, 1<<20)
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		if a := r.Reserve(64); a != 0 {
			r.Submit(a, 0)
		} else {
			for s := RingReady; s == RingReady; {
				buf, _, s = r.Next(buf)
			}
		}
	}
}
