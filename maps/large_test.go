package maps

import (
	"testing"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/rt"
)

// TestLargeMaps: maps of more bytes than a 32-bit number counts are refused where an int has no more (GOARCH=386 go test), and whole
// elsewhere.
func TestLargeMaps(t *testing.T) {
	const value, entries = 1 << 16, 1<<16 + 1 // the last value begins at 2^32
	m, err := New(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: value, MaxEntries: entries})
	if err == nil {
		defer m.Close()
		for _, i := range []uint32{entries / 2, entries - 1} {
			if err := m.Put(i, make([]byte, value)); err != nil {
				t.Errorf("element %d: %v", i, err)
			}
		}
	}
	r, err := New(&ebpf.MapSpec{Type: ebpf.RingBuf, MaxEntries: 1 << 31}) // the data is there twice
	if err == nil {
		defer r.Close()
		a := SideOf(r).Ring().Reserve(maxRecord)
		rt.Mem(a, maxRecord)[maxRecord-1] = 1
		dropRecord(a)
	}
}
