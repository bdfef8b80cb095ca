package skep_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/internal/progtype"
)

// onEngines loads a program on every engine and calls f with it.
func onEngines(t *testing.T, spec *ebpf.ProgramSpec, f func(t *testing.T, p *skep.Program)) {
	t.Helper()
	spec.License = "GPL"
	for _, e := range engines() {
		t.Run(e.String(), func(t *testing.T) {
			p, err := skep.NewProgramWithOptions(spec, skep.Options{Engine: e})
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			f(t, p)
		})
	}
}

// TestStructContext: a context can be a Go struct, and what the program writes comes back in one.
func TestStructContext(t *testing.T) {
	type sysctl struct{ Write, FilePos uint32 } // struct bpf_sysctl
	onEngines(t, &ebpf.ProgramSpec{Type: ebpf.CGroupSysctl, Instructions: asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, 4, asm.Word), asm.Add.Imm(asm.R2, 1), asm.StoreMem(asm.R1, 4, asm.R2, asm.Word),
		asm.LoadMem(asm.R0, asm.R1, 0, asm.Word), asm.And.Imm(asm.R0, 1), asm.Return(),
	}}, func(t *testing.T, p *skep.Program) {
		var out sysctl
		o := &ebpf.RunOptions{Context: sysctl{1, 41}, ContextOut: &out, Repeat: 3}
		if ret, err := p.Run(o); err != nil || ret != 1 || out != (sysctl{1, 44}) {
			t.Errorf("returned %d, %+v, %v", ret, out, err)
		}
		if ret, err := p.Run(nil); err != nil || ret != 0 {
			t.Errorf("no context: returned %d, %v", ret, err)
		}
		if ret, err := p.Run(&ebpf.RunOptions{Context: []byte{1}}); err != nil || ret != 1 {
			t.Errorf("short context: returned %d, %v", ret, err)
		}
		for what, o := range map[string]*ebpf.RunOptions{
			"invalid argument":       {Data: make([]byte, 64)},
			"argument list too long": {Context: []byte{8: 1}},
			"no space left":          {ContextOut: make([]byte, 7)},
		} {
			if _, err := p.Run(o); err == nil || !strings.Contains(err.Error(), what) {
				t.Errorf("%v, want %s", err, what)
			}
		}
	})
}

// TestTracepointRecord: a record is as long as the event's, at least as long as the program reads.
func TestTracepointRecord(t *testing.T) {
	onEngines(t, &ebpf.ProgramSpec{Type: ebpf.TracePoint, Instructions: asm.Instructions{
		asm.LoadMem(asm.R0, asm.R1, 60, asm.Word), asm.Return(),
	}}, func(t *testing.T, p *skep.Program) {
		for n, want := range map[int]string{0: "invalid", 63: "invalid", 64: "", 8192: "", 8193: "invalid"} {
			record := make([]byte, n)
			if n > 60 {
				record[60] = 7
			}
			out := make([]byte, n)
			ret, err := p.Run(&ebpf.RunOptions{Context: record, ContextOut: out, Repeat: 2})
			if want == "" && (err != nil || ret != 7 || !bytes.Equal(out, record)) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("record of %d bytes: %d, %v", n, ret, err)
			}
		}
	})
}

// TestTracepointTailCall: a program that a tail call goes to may read on behind the record that the first one was given. It
// sees zeros there, whatever an earlier run left.
func TestTracepointTailCall(t *testing.T) {
	for _, e := range engines() {
		far := &ebpf.ProgramSpec{Name: "far", Type: ebpf.TracePoint, License: "GPL", Instructions: asm.Instructions{
			asm.LoadMem(asm.R0, asm.R1, 8188, asm.Word), asm.Return(),
		}}
		start := &ebpf.ProgramSpec{Name: "start", Type: ebpf.TracePoint, License: "GPL", Instructions: asm.Instructions{
			asm.LoadMapPtr(asm.R2, 0).WithReference("next"), asm.Mov.Imm(asm.R3, 0), asm.FnTailCall.Call(), asm.Mov.Imm(asm.R0, -1), asm.Return(),
		}}
		c, err := skep.NewCollectionWithOptions(&ebpf.CollectionSpec{
			Maps:     map[string]*ebpf.MapSpec{"next": {Name: "next", Type: ebpf.ProgramArray, KeySize: 4, ValueSize: 4, MaxEntries: 1}},
			Programs: map[string]*ebpf.ProgramSpec{"far": far, "start": start},
		}, skep.Options{Engine: e})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.Maps["next"].Put(uint32(0), c.Programs["far"]); err != nil {
			t.Fatal(err)
		}
		full := bytes.Repeat([]byte{1}, 8192)
		if ret, err := c.Programs["far"].Run(&ebpf.RunOptions{Context: full}); err != nil || ret != 0x01010101 {
			t.Errorf("%v: %#x, %v", e, ret, err)
		}
		if ret, err := c.Programs["start"].Run(&ebpf.RunOptions{Context: full[:16]}); err != nil || ret != 0 {
			t.Errorf("%v: behind the record: %#x, %v", e, ret, err)
		}
	}
}

// TestContextPointers: pointers to the kernel's objects are NULL where a program has to expect that, and cannot be loaded
// where it has not; a caller gives none.
func TestContextPointers(t *testing.T) {
	load := func(off int16, size asm.Size) asm.Instructions {
		return asm.Instructions{asm.LoadMem(asm.R2, asm.R1, off, size), asm.Mov.Imm(asm.R0, 1), asm.Return()}
	}
	for _, c := range []struct {
		typ    ebpf.ProgramType
		attach ebpf.AttachType
		off    int16
		words  string
	}{
		{ebpf.CGroupSockAddr, ebpf.AttachCGroupInet4Connect, 64, "pointer in the context at offset 64: known to the verifier"},
		{ebpf.RawTracepointWritable, 0, 0, "pointer in the context at offset 0: known to the verifier"},
	} {
		for _, e := range engines() {
			_, err := skep.NewProgramWithOptions(&ebpf.ProgramSpec{
				Type: c.typ, AttachType: c.attach, License: "GPL", Instructions: load(c.off, asm.DWord),
			}, skep.Options{Engine: e})
			if !errors.Is(err, ebpf.ErrNotSupported) || !strings.Contains(err.Error(), c.words) {
				t.Errorf("%v: %v", c.typ, err)
			}
		}
	}
	for off, typ := range map[int]ebpf.ProgramType{184: ebpf.SockOps, 192: ebpf.SockOps, 207: ebpf.SockOps, 64: ebpf.CGroupSockAddr, 71: ebpf.CGroupSockAddr} {
		spec := &ebpf.ProgramSpec{Type: typ, Instructions: load(0, asm.Word)}
		if typ == ebpf.CGroupSockAddr {
			spec.AttachType = ebpf.AttachCGroupInet4Connect
		}
		onEngines(t, spec, func(t *testing.T, p *skep.Program) {
			b := make([]byte, progtype.Of(typ, spec.AttachType, "").Size())
			b[off] = 1
			if _, err := p.Run(&ebpf.RunOptions{Context: b}); err == nil || !strings.Contains(err.Error(), "is a pointer and cannot be set: invalid argument") {
				t.Errorf("%v, byte %d: %v", typ, off, err)
			}
		})
	}
}

// TestSockOpsPacket: there is no packet, which a program finds out by the comparison that it has to make.
func TestSockOpsPacket(t *testing.T) {
	onEngines(t, &ebpf.ProgramSpec{Type: ebpf.SockOps, Instructions: asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, 192, asm.DWord), asm.LoadMem(asm.R3, asm.R1, 200, asm.DWord), asm.Mov.Imm(asm.R0, 0),
		asm.Mov.Reg(asm.R4, asm.R2), asm.Add.Imm(asm.R4, 1), asm.JGT.Reg(asm.R4, asm.R3, "out"),
		asm.LoadMem(asm.R0, asm.R2, 0, asm.Byte), asm.Mov.Imm(asm.R0, 1), asm.Return().WithSymbol("out"),
	}}, func(t *testing.T, p *skep.Program) {
		if ret, err := p.Run(nil); err != nil || ret != 0 {
			t.Errorf("returned %d, %v", ret, err)
		}
	})
}

// TestFlowDissectorRepeat: every run starts with keys of its own.
func TestFlowDissectorRepeat(t *testing.T) {
	onEngines(t, &ebpf.ProgramSpec{Type: ebpf.FlowDissector, Instructions: asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, 144, asm.DWord), asm.LoadMem(asm.R0, asm.R2, 52, asm.Word), asm.Add.Imm(asm.R0, 1),
		asm.StoreMem(asm.R2, 52, asm.R0, asm.Word), asm.Return(),
	}}, func(t *testing.T, p *skep.Program) {
		o := &ebpf.RunOptions{Data: make([]byte, 64), DataOut: make([]byte, 56), Repeat: 3}
		ret, err := p.Run(o)
		if err != nil || ret != 1 || len(o.DataOut) != 56 || binary.NativeEndian.Uint32(o.DataOut[52:]) != 1 {
			t.Errorf("returned %d, keys %x, %v", ret, o.DataOut, err)
		}
	})
}

// TestTailCallsOfOneMachine: a program that is proven for the registers of one machine cannot be called by one with fewer.
func TestTailCallsOfOneMachine(t *testing.T) {
	arr, err := skep.NewMap(&ebpf.MapSpec{Name: "next", Type: ebpf.ProgramArray, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer arr.Close()
	load := func(arch string, insns asm.Instructions) *skep.Program {
		p, err := skep.NewProgramWithOptions(&ebpf.ProgramSpec{Type: ebpf.Kprobe, License: "GPL", Instructions: insns}, skep.Options{Arch: arch})
		if err != nil {
			t.Fatalf("%s: %v", arch, err)
		}
		t.Cleanup(func() { p.Close() })
		return p
	}
	next := asm.LoadMapPtr(asm.R2, 0)
	if err := next.AssociateMap(arr); err != nil {
		t.Fatal(err)
	}
	load("amd64", asm.Instructions{next, asm.Mov.Imm(asm.R3, 0), asm.FnTailCall.Call(), asm.Mov.Imm(asm.R0, 0), asm.Return()})
	last := asm.Instructions{asm.LoadMem(asm.R0, asm.R1, 264, asm.DWord), asm.Return()}
	if err := arr.Put(uint32(0), load("arm64", last)); err == nil {
		t.Error("a program of arm64 can be called by one of amd64")
	}
	if err := arr.Put(uint32(0), load("amd64", asm.Instructions{asm.LoadMem(asm.R0, asm.R1, 160, asm.DWord), asm.Return()})); err != nil {
		t.Error(err)
	}
}
