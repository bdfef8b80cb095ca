//go:build linux

package maps

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
)

// resident returns the memory of the process that is committed, in bytes.
func resident(tb testing.TB) int {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		tb.Skip(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(b))[1])
	if err != nil {
		tb.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// BenchmarkMemory reports how much memory an element takes, with keys of 4 bytes and values of 8, in a map that is half full: what the
// operating system has committed, tables and unused links included.
func BenchmarkMemory(b *testing.B) {
	const max = 1 << 20
	for _, typ := range []ebpf.MapType{ebpf.Array, ebpf.Hash, ebpf.LRUHash, ebpf.LPMTrie, ebpf.Queue} {
		b.Run(typ.String(), func(b *testing.B) {
			perEntry := 0.0
			for b.Loop() {
				spec := &ebpf.MapSpec{Type: typ, KeySize: 4, ValueSize: 8, MaxEntries: max}
				switch typ {
				case ebpf.LPMTrie:
					spec.KeySize, spec.Flags = 8, FlagNoPrealloc
				case ebpf.Queue:
					spec.KeySize = 0
				}
				m, err := New(spec)
				if err != nil {
					b.Fatal(err)
				}
				before := resident(b)
				fillRandom(b, m, max/2)
				perEntry = float64(resident(b)-before) / (max / 2)
				m.Close()
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(perEntry, "bytes/entry")
		})
	}
}

func fillRandom(b *testing.B, m *Map, n int) {
	rng := rand.New(rand.NewPCG(11, 11))
	key, val := make([]byte, m.KeySize()), make([]byte, 8)
	for i := 0; i < n; i++ {
		switch len(key) {
		case 8:
			binary.NativeEndian.PutUint32(key[4:], uint32(i)*0x9e3779b1)
			binary.NativeEndian.PutUint32(key, 32)
		case 4:
			binary.NativeEndian.PutUint32(key, rng.Uint32())
		}
		if m.Type() == ebpf.Array {
			binary.NativeEndian.PutUint32(key, uint32(i))
		}
		if err := m.store.write(key, val, 0); err != 0 {
			b.Fatal(err)
		}
	}
}
