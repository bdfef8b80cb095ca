//go:build linux

package skep_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"

	"github.com/skep-bpf/skep"
)

// TestPackageObjects runs XDP objects that nobody here wrote, those of Debian's xdp-tools and libxdp1, on packets: kernel,
// where there is one to ask, compiler and interpreter must give the same return values, packets and map contents. SKEP_OBJECTS names
// the directory that they were unpacked to.
func TestPackageObjects(t *testing.T) {
	dir := os.Getenv("SKEP_OBJECTS")
	if dir == "" {
		t.Skip("SKEP_OBJECTS does not name a directory with objects of the packages xdp-tools and libxdp1")
	}
	ran := 0
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(file, ".o") || !strings.Contains(file, "xdp") {
			return err
		}
		spec, err := skep.LoadCollectionSpec(file)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			return nil
		}
		for name, p := range spec.Programs {
			if p.Type == ebpf.XDP {
				t.Run(filepath.Base(file)+"/"+name, func(t *testing.T) { ran += runEverywhere(t, spec, name) })
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d programs gave the same results on compiler and interpreter, and in the kernel unless: %v", ran, kernelMissing())
	if ran == 0 {
		t.Errorf("no program in %s could be run", dir)
	}
}

// anyMap is a map here or in the kernel.
type anyMap interface {
	Put(key, value any) error
	LookupBytes(key any) ([]byte, error)
	NextKeyBytes(key any) ([]byte, error)
	Type() ebpf.MapType
	KeySize() uint32
	ValueSize() uint32
}

// place is a loaded program somewhere, with its maps.
type place struct {
	name string
	run  func(*ebpf.RunOptions) (uint32, error)
	maps map[string]anyMap
	cpus int
}

func runEverywhere(t *testing.T, spec *ebpf.CollectionSpec, name string) int {
	for _, m := range spec.Maps {
		m.Pinning = ebpf.PinNone
		if m.MaxEntries == 0 && m.Type != ebpf.PerfEventArray && m.Type != ebpf.CPUMap {
			m.MaxEntries = uint32(skep.PossibleCPUs()) // the tools set it to the number of processors
		}
	}
	if _, err := skep.Verify(spec, name, skep.Options{}); err != nil {
		t.Skipf("refused with a reason: %v", err)
	}
	var places []place
	if kernelMissing() == nil {
		places = append(places, inKernel(t, spec, name))
	}
	for _, e := range engines() {
		c, err := skep.NewCollectionWithOptions(spec, skep.Options{Engine: e, Programs: []string{name}})
		if errors.Is(err, ebpf.ErrNotSupported) {
			t.Skipf("refused with a reason: %v", err)
		}
		if err != nil {
			t.Fatalf("%+v", err)
		}
		defer c.Close()
		pl := place{name: c.Programs[name].Engine().String(), run: c.Programs[name].Run, maps: map[string]anyMap{}, cpus: skep.PossibleCPUs()}
		for n, m := range c.Maps {
			pl.maps[n] = m
		}
		places = append(places, pl)
	}
	packets := trafficPackets()
	fillMaps(t, places, packets)
	before := make([]map[string][]byte, len(places))
	for i := range places {
		before[i] = contents(t, &places[i])
	}
	for i, pkt := range packets {
		comparePacket(t, places, fmt.Sprintf("packet %d", i), pkt)
	}
	want := changes(before[0], contents(t, &places[0]))
	for i := range places[1:] {
		if d := cmp.Diff(want, changes(before[i+1], contents(t, &places[i+1]))); d != "" {
			t.Errorf("maps, %s and %s: %s", places[0].name, places[i+1].name, d)
		}
	}
	return 1
}

// inKernel loads a program of a spec into the kernel.
func inKernel(t *testing.T, spec *ebpf.CollectionSpec, name string) place {
	ks := spec.Copy()
	for n := range ks.Programs {
		if n != name {
			delete(ks.Programs, n)
		}
	}
	for n, m := range ks.Maps {
		if m.Type == ebpf.ProgramArray {
			m.Contents = nil
		}
		used := false
		for _, ins := range ks.Programs[name].Instructions {
			used = used || ins.Reference() == n
		}
		if !used {
			delete(ks.Maps, n)
		}
	}
	ks.Variables = nil
	kc, err := ebpf.NewCollection(ks)
	if err != nil {
		t.Skipf("the kernel does not load it: %v", err)
	}
	t.Cleanup(kc.Close)
	k := place{name: "kernel", run: kc.Programs[name].Run, maps: map[string]anyMap{}, cpus: ebpf.MustPossibleCPU()}
	for n, m := range kc.Maps {
		k.maps[n] = m
	}
	return k
}

func comparePacket(t *testing.T, places []place, what string, pkt []byte) {
	t.Helper()
	var want uint32
	var wantOut []byte
	for i := range places {
		o := &ebpf.RunOptions{Data: pkt, DataOut: make([]byte, len(pkt)+512)}
		ret, err := places[i].run(o)
		if i == 0 && err != nil {
			for _, p := range places[1:] {
				if _, here := p.run(o); class(here) != class(err) {
					t.Errorf("%s: %s %v, %s %v", what, places[0].name, err, p.name, here)
				}
			}
			return
		}
		if err != nil {
			t.Fatalf("%s, %s: %v", what, places[i].name, err)
		}
		if i == 0 {
			want, wantOut = ret, o.DataOut
			continue
		}
		if ret != want || !bytes.Equal(o.DataOut, wantOut) {
			t.Errorf("%s: %s returns %d, %s %d; packets: %s", what, places[0].name, want, places[i].name, ret, firstDiff(wantOut, o.DataOut))
		}
	}
}

// fillMaps puts entries that packets will match, and some that they will not, into all maps alike.
func fillMaps(t *testing.T, places []place, packets [][]byte) {
	t.Helper()
	rng := rand.New(rand.NewPCG(5, 6))
	for _, name := range slices.Sorted(maps.Keys(places[0].maps)) { // the same entries in every run
		km := places[0].maps[name]
		if strings.HasPrefix(name, ".") {
			continue
		}
		for range 40 {
			key := make([]byte, km.KeySize())
			switch km.Type() {
			case ebpf.Hash, ebpf.PerCPUHash:
				pkt := packets[rng.IntN(len(packets))]
				copy(key, pkt[rng.IntN(len(pkt)):])
				if at := []int{0, 6, 26, 30, 22, 38}[rng.IntN(6)]; rng.IntN(2) == 0 && at < len(pkt) { // addresses are what filters look for
					copy(key, pkt[at:])
				}
			case ebpf.Array, ebpf.PerCPUArray:
				binary.NativeEndian.PutUint32(key, uint32([]int{0, 1, 2, 53, 80, 443, 1234}[rng.IntN(7)]))
			default:
				continue
			}
			value := make([]byte, km.ValueSize())
			for i := range value {
				value[i] = byte(rng.IntN(4))
			}
			for i := range places {
				m := places[i].maps[name]
				var v any = value
				if m.Type() == ebpf.PerCPUHash || m.Type() == ebpf.PerCPUArray {
					all := make([][]byte, places[i].cpus) // programs run on any of them
					for c := range all {
						all[c] = value
					}
					v = all
				}
				_ = m.Put(key, v) // full, frozen or out of range: on all sides alike, which contents shows
			}
		}
	}
}

// contents lists all entries of all maps; values of all CPUs are added up, since programs ran on different ones.
func contents(t *testing.T, p *place) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for name, m := range p.maps {
		switch m.Type() {
		case ebpf.Hash, ebpf.PerCPUHash, ebpf.Array, ebpf.PerCPUArray:
		default:
			continue
		}
		var key any
		for {
			k, err := m.NextKeyBytes(key)
			if err != nil {
				t.Fatal(err)
			}
			if k == nil {
				break
			}
			key = k
			v, err := m.LookupBytes(k)
			if err != nil {
				t.Fatal(err)
			}
			if m.Type() == ebpf.PerCPUHash || m.Type() == ebpf.PerCPUArray {
				v = addCPUs(v, (int(m.ValueSize())+7)&^7)
			}
			out[fmt.Sprintf("%s[%x]", name, k)] = v
		}
	}
	return out
}

// changes says what is new and by how much each word of the rest changed: sums over CPUs begin at different values where
// their numbers differ.
func changes(before, after map[string][]byte) map[string]string {
	out := map[string]string{}
	for k, v := range after {
		v = bytes.Clone(v)
		old, ok := before[k]
		for i := 0; ok && i+8 <= len(v); i += 8 {
			binary.NativeEndian.PutUint64(v[i:], binary.NativeEndian.Uint64(v[i:])-binary.NativeEndian.Uint64(old[i:]))
		}
		if !ok || len(bytes.Trim(v, "\x00")) > 0 {
			out[k] = fmt.Sprintf("%x", v)
		}
	}
	for k := range before {
		if after[k] == nil {
			out[k] = "deleted"
		}
	}
	return out
}

// addCPUs adds the values of all CPUs word by word.
func addCPUs(v []byte, size int) []byte {
	sum := make([]byte, size)
	for ; len(v) >= size; v = v[size:] {
		for i := 0; i < size; i += 8 {
			binary.NativeEndian.PutUint64(sum[i:], binary.NativeEndian.Uint64(sum[i:])+binary.NativeEndian.Uint64(v[i:]))
		}
	}
	return sum
}

// trafficPackets are frames of the common kinds, whole and cut, and random ones.
func trafficPackets() [][]byte {
	eth := func(proto uint16, payload []byte) []byte {
		b := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, byte(proto >> 8), byte(proto)}
		return append(b, payload...)
	}
	l4 := func(sport, dport uint16, n int) []byte {
		b := make([]byte, n)
		binary.BigEndian.PutUint16(b, sport)
		binary.BigEndian.PutUint16(b[2:], dport)
		return b
	}
	ip4 := func(proto byte, payload []byte) []byte {
		b := []byte{0x45, 0, 0, byte(20 + len(payload)), 0, 1, 0, 0, 64, proto, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2}
		return append(b, payload...)
	}
	ip6 := func(proto byte, payload []byte) []byte {
		b := append([]byte{0x60, 0, 0, 0, 0, byte(len(payload)), proto, 64}, bytes.Repeat([]byte{0xfd}, 16)...)
		return append(append(b, bytes.Repeat([]byte{0xfe}, 16)...), payload...)
	}
	var out [][]byte
	for _, proto := range []byte{1, 6, 17, 58, 47} {
		for _, port := range []uint16{53, 80, 443, 1234, 60000} {
			p4, p6 := ip4(proto, l4(port, 9, 24)), ip6(proto, l4(9, port, 24))
			out = append(out, eth(0x0800, p4), eth(0x86dd, p6), eth(0x8100, append([]byte{0, 5, 8, 0}, p4...)))
			out = append(out, eth(0x88a8, append([]byte{0, 5, 0x81, 0, 0, 6, 0x86, 0xdd}, p6...)))
		}
	}
	for n := 14; n < 60; n += 3 {
		out = append(out, out[5][:n], out[4][:n])
	}
	rng := rand.New(rand.NewPCG(7, 8))
	for range 60 {
		b := make([]byte, 14+rng.IntN(200))
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		copy(b[12:], [][]byte{{8, 0}, {0x86, 0xdd}, {8, 6}, {0x81, 0}}[rng.IntN(4)])
		if len(b) > 14 {
			b[14] = []byte{0x45, 0x46, 0x60, 0x4f}[rng.IntN(4)]
		}
		out = append(out, b)
	}
	return out
}
