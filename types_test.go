package skep_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/internal/program"
)

// verifiedOnly are the program types that have no runtime, each with an access that its context permits and the attach
// type that it needs.
var verifiedOnly = []struct {
	typ    ebpf.ProgramType
	attach ebpf.AttachType
	off    int16
	size   asm.Size
}{
	{ebpf.CGroupSockopt, ebpf.AttachCGroupGetsockopt, 36, asm.Word},
	{ebpf.SkSKB, 0, 76, asm.Word},
	{ebpf.SkMsg, 0, 0, asm.DWord},
	{ebpf.SkReuseport, 0, 40, asm.DWord},
}

// TestVerifiedOnly: a program of a type without a runtime is proven, and not made, by whatever way one asks for it: its
// context would not be what the code reads.
func TestVerifiedOnly(t *testing.T) {
	for _, c := range verifiedOnly {
		t.Run(c.typ.String(), func(t *testing.T) {
			spec := &ebpf.ProgramSpec{Name: "prog", Type: c.typ, AttachType: c.attach, License: "GPL", Instructions: asm.Instructions{
				asm.LoadMem(asm.R2, asm.R1, c.off, c.size), asm.Mov.Imm(asm.R0, 1), asm.Return(),
			}}
			coll := &ebpf.CollectionSpec{Programs: map[string]*ebpf.ProgramSpec{"prog": spec}}
			if _, err := skep.Verify(coll, "prog", skep.Options{Arch: "amd64"}); err != nil {
				t.Fatalf("verify: %v", err)
			}
			refused := func(what string, err error) {
				t.Helper()
				if !errors.Is(err, ebpf.ErrNotSupported) || !strings.Contains(err.Error(), "program type "+c.typ.String()+": known to the verifier, but without a runtime yet") {
					t.Errorf("%s: %v", what, err)
				}
			}
			for name, opts := range map[string]skep.Options{
				"compiler": {Engine: skep.EngineJIT}, "interpreter": {Engine: skep.EngineInterpreter}, "unverified": skep.Options{}.Unverified(),
			} {
				_, err := skep.NewProgramWithOptions(spec, opts)
				refused(name, err)
			}
			_, err := skep.NewCollection(coll)
			refused("collection", err)
			var objs struct {
				Prog *skep.Program `ebpf:"prog"`
			}
			refused("assign", skep.LoadAndAssign(coll, &objs))
		})
	}
}

// TestXDPSockets: what a lookup in a map of XDP sockets finds is no value of that map, and nothing here has such a socket.
func TestXDPSockets(t *testing.T) {
	m, err := skep.NewMap(&ebpf.MapSpec{Name: "xsks", Type: ebpf.XSKMap, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Put(uint32(0), uint32(7)); err != nil {
		t.Fatal(err)
	}
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		p, err := skep.NewProgramWithOptions(&ebpf.ProgramSpec{Name: "queue", Type: ebpf.XDP, License: "GPL", Instructions: asm.Instructions{
			asm.StoreImm(asm.R10, -8, 0, asm.Word), asm.Mov.Reg(asm.R2, asm.R10), asm.Add.Imm(asm.R2, -8), loadMap(asm.R1, m),
			asm.FnMapLookupElem.Call(), asm.JEq.Imm(asm.R0, 0, "out"), asm.LoadMem(asm.R0, asm.R0, 0, asm.Word), asm.Return(),
			asm.Mov.Imm(asm.R0, 2).WithSymbol("out"), asm.Return(),
		}}, skep.Options{Engine: e})
		if err != nil {
			t.Fatalf("%+v", err)
		}
		defer p.Close()
		if ret, _, err := p.Test(make([]byte, 64)); err != nil || ret != 2 {
			t.Errorf("%d, %v", ret, err)
		}
	})
}

// TestKernelStructures: a program that reads the kernel's structures verifies where they are known, and does not run.
func TestKernelStructures(t *testing.T) {
	if program.HostTypes() == nil {
		t.Skip("the running kernel has no BTF")
	}
	spec := &ebpf.CollectionSpec{
		Maps: map[string]*ebpf.MapSpec{"m": {Name: "m", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1}},
		Programs: map[string]*ebpf.ProgramSpec{"prog": {Name: "prog", Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
			asm.LoadMapPtr(asm.R1, 0).WithReference("m"), asm.LoadMem(asm.R0, asm.R1, 0, asm.Word), asm.Return(),
		}}},
	}
	if _, err := skep.Verify(spec, "prog", skep.Options{}); err != nil {
		t.Fatalf("not verified: %+v", err)
	}
	_, err := skep.NewCollection(spec)
	if !errors.Is(err, ebpf.ErrNotSupported) || !strings.Contains(err.Error(), "known to the verifier") {
		t.Errorf("%v", err)
	}
}

// TestVerifiedHelpers: helpers and maps without a runtime verify, and are refused by name when they are to be run.
func TestVerifiedHelpers(t *testing.T) {
	exit := asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}
	arena := &ebpf.MapSpec{Name: "pages", Type: ebpf.Arena, MaxEntries: 1, Flags: 1 << 10} // BPF_F_MMAPABLE
	names := asm.Instructions{asm.LoadMapPtr(asm.R1, 0).WithReference("pages")}
	for _, c := range []struct {
		name, words string
		insns       asm.Instructions
		maps        map[string]*ebpf.MapSpec
	}{
		{"helper", "helper bpf_send_signal#109", asm.Instructions{asm.Mov.Imm(asm.R1, 9), asm.FnSendSignal.Call()}, nil},
		{"map", "Arena", names, map[string]*ebpf.MapSpec{"pages": arena}},
	} {
		t.Run(c.name, func(t *testing.T) {
			spec := &ebpf.CollectionSpec{Maps: c.maps, Programs: map[string]*ebpf.ProgramSpec{"prog": {
				Name: "prog", Type: ebpf.SchedCLS, License: "GPL", Instructions: append(c.insns, exit...),
			}}}
			if _, err := skep.Verify(spec, "prog", skep.Options{}); err != nil {
				t.Fatalf("not verified: %+v", err)
			}
			_, err := skep.NewCollection(spec)
			if !errors.Is(err, ebpf.ErrNotSupported) || !strings.Contains(err.Error(), c.words) {
				t.Errorf("%v, want %q", err, c.words)
			}
		})
	}
}
