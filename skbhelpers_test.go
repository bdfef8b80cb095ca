//go:build linux

package skep_test

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep"
)

// outcome is what a run of a program of testdata/helpers/skbhelpers.o left: its result, the packet, the context and the fields of its map.
type outcome struct {
	ret       uint32
	data, ctx []byte
	out       [64]uint64
}

// helperRun runs a program once and reads the map of its results.
func helperRun(t *testing.T, typ ebpf.ProgramType, packet []byte, run func(*ebpf.RunOptions) (uint32, error), out interface{ Lookup(k, v any) error }) (o outcome) {
	t.Helper()
	opts := ebpf.RunOptions{Data: packet, DataOut: make([]byte, len(packet)+512)}
	if typ == ebpf.XDP {
		opts.Context, opts.ContextOut = make([]byte, 24), make([]byte, 24)
		binary.NativeEndian.PutUint32(opts.Context.([]byte)[4:], uint32(len(packet)))
	} else {
		opts.Context, opts.ContextOut = make([]byte, 192), make([]byte, 192)
	}
	var err error
	if o.ret, err = run(&opts); err != nil {
		t.Fatal(err)
	}
	o.data, o.ctx = opts.DataOut, opts.ContextOut.([]byte)
	if err := out.Lookup(uint32(0), &o.out); err != nil {
		t.Fatal(err)
	}
	return o
}

// helperPackets are packets of several protocols.
func helperPackets() map[string][]byte {
	v4 := append([]byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 1, 0, 86, 0, 1, 0, 0, 64, 17, 0x66, 0x94, 10, 0, 0, 1, 10, 0, 0, 2, 0x12, 0x34, 0, 53, 0, 66, 0, 0}, make([]byte, 58)...)
	v6 := append([]byte{0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 2, 0x86, 0xdd, 0x60, 0x20, 0, 0, 0, 40, 17, 64,
		0xfd, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0xfd, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31}, make([]byte, 40)...)
	ce := append([]byte(nil), v4...)
	ce[15] |= 3
	noECN := append([]byte(nil), v4...)
	noECN[15] &^= 3
	arp := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 2, 8, 6}, make([]byte, 46)...)
	return map[string][]byte{"IPv4": v4, "IPv6": v6, "IPv4 with CE": ce, "IPv4 without ECN": noECN, "ARP": arp}
}

// compareHelpers runs every program of an object in the kernel, if there is one, and on both engines.
func compareHelpers(t *testing.T, file string, inKernel bool) {
	spec := loadSpec(t, file)
	for name, ps := range spec.Programs {
		if ps.Type == ebpf.UnspecifiedProgram {
			continue
		}
		for label, packet := range helperPackets() {
			t.Run(name+"/"+label, func(t *testing.T) {
				var want *outcome
				check := func(who string, got outcome) {
					if want == nil {
						want = &got
						return
					}
					if d := want.diff(&got); d != "" {
						t.Errorf("%s: %s", who, d)
					}
				}
				if inKernel {
					one := spec.Copy()
					for other := range one.Programs {
						if other != name {
							delete(one.Programs, other)
						}
					}
					k, err := ebpf.NewCollection(one)
					if err != nil {
						t.Fatalf("%+v", err)
					}
					defer k.Close()
					check("kernel", helperRun(t, ps.Type, packet, k.Programs[name].Run, k.Maps["out"]))
				}
				for _, e := range engines() {
					c := load(t, file, skep.Options{Engine: e}, name)
					check(e.String(), helperRun(t, ps.Type, packet, c.Programs[name].Run, c.Maps["out"]))
				}
			})
		}
	}
}

func (o *outcome) diff(p *outcome) string {
	switch {
	case o.ret != p.ret:
		return fmt.Sprintf("returned %d, want %d", int32(p.ret), int32(o.ret))
	case string(o.data) != string(p.data):
		return "packet: " + firstDiff(o.data, p.data)
	case string(o.ctx) != string(p.ctx):
		return "context: " + firstDiff(o.ctx, p.ctx)
	}
	s := ""
	for i := range o.out {
		if o.out[i] != p.out[i] {
			s += fmt.Sprintf("v[%d] is %#x, want %#x; ", i, p.out[i], o.out[i])
		}
	}
	return s
}

// TestSkbHelpersAsKernel: helpers beside the packet's bytes do what the kernel's do.
func TestSkbHelpersAsKernel(t *testing.T) {
	needKernel(t)
	compareHelpers(t, "helpers/skbhelpers.o", true)
}

// TestSkbHelpersOnEngines: the engines agree, where there is no kernel to ask.
func TestSkbHelpersOnEngines(t *testing.T) { compareHelpers(t, "helpers/skbhelpers.o", false) }

// TestSectionsAsKernel: iterators over bits and sections do what the kernel's do.
func TestSectionsAsKernel(t *testing.T) {
	needKernel(t)
	compareHelpers(t, "helpers/sections.o", true)
}
