package program_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"

	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/program"
)

var long = &btf.Int{Name: "long", Size: 8, Encoding: btf.Signed}

func proto(name string, n int, linkage btf.FuncLinkage) *btf.Func {
	p := &btf.FuncProto{Return: long}
	for range n {
		p.Params = append(p.Params, btf.FuncParam{Name: "x", Type: long})
	}
	return &btf.Func{Name: name, Type: p, Linkage: linkage}
}

func text(p *program.Program) string {
	var b strings.Builder
	for pc := 0; pc < len(p.Insns); pc += p.Insns[pc].Slots() {
		b.Write(isa.AppendText(nil, p.Insns, pc, p.Names()))
		b.WriteByte('\n')
	}
	return b.String()
}

// TestFromGo builds a program made of asm.Instructions: functions with prototypes, jumps and calls by name, a function
// pointer, maps of a collection and of the caller, a kfunc, and instructions whose offset cilium's encoder drops.
func TestFromGo(t *testing.T) {
	kfunc := proto("twelve", 12, btf.ExternFunc)
	call := asm.Instruction{OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(asm.Call), Src: asm.PseudoKfuncCall, Constant: -1}
	insns := asm.Instructions{
		btf.WithFuncMetadata(asm.Mov.Imm(asm.R0, 0), proto("main", 1, btf.GlobalFunc)).WithSymbol("main").WithSource(asm.Comment("first line")),
		asm.LoadMapPtr(asm.R1, 0).WithReference("table"),
		asm.LoadMapValue(asm.R2, 0, 8).WithReference("table"),
		asm.LoadMapPtr(asm.R3, 77),
		asm.JEq.Imm(asm.R0, 1, "out"),
		asm.Instruction{OpCode: asm.StoreMemOp(asm.DWord), Dst: 11, Src: asm.R0, Offset: -8},
		asm.Instruction{OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(asm.Call), Src: asm.PseudoCall, Constant: -1}.WithReference("sub"),
		asm.Instruction{OpCode: asm.LoadImmOp(asm.DWord), Dst: asm.R4, Src: asm.PseudoFunc, Constant: -1}.WithReference("sub"),
		btf.WithFuncMetadata(call, kfunc).WithReference("twelve"),
		asm.Instruction{OpCode: asm.Mov.Op(asm.RegSource), Dst: asm.R5, Src: asm.R6, Offset: 1, Constant: 1},
		asm.SDiv.Reg(asm.R1, asm.R2),
		asm.StoreXAdd(asm.R1, asm.R2, asm.DWord),
		asm.FnMapLookupElem.Call(),
		asm.Ja.Label("out"),
		asm.Mov.Imm(asm.R0, 7),
		asm.Return().WithSymbol("out"),
		btf.WithFuncMetadata(asm.Instruction{OpCode: asm.LoadMemOp(asm.DWord), Dst: asm.R0, Src: 11, Offset: 8}, proto("sub", 6, btf.StaticFunc)).WithSymbol("sub"),
		asm.Return(),
	}
	cs := &ebpf.CollectionSpec{
		Programs: map[string]*ebpf.ProgramSpec{"main": {Name: "main", Type: ebpf.SchedCLS, License: "GPL", Instructions: insns}},
		Maps:     map[string]*ebpf.MapSpec{"table": {Name: "table", Type: ebpf.Array, KeySize: 4, ValueSize: 16, MaxEntries: 1}},
	}
	mine := new(int)
	p, err := program.FromSpec(cs, "main", program.Options{
		Map: func(ins *asm.Instruction) (program.Map, bool) {
			return program.Map{Name: "mine", Type: ebpf.Hash, Source: mine}, int32(ins.Constant) == 77
		},
		Kfuncs: func(name string) (program.KfuncFlags, bool) { return program.KfuncRetNull, name == "twelve" },
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `(b7) r0 = 0
(18) r1 = map[table]
(18) r2 = map[table][0]+8
(18) r3 = map[mine]
(15) if r0 == 0x1 goto pc+11
(7b) *(u64 *)(r11 -8) = r0
(85) call pc+10
(18) r4 = 0x9
(85) call twelve#0
(bf) r5 = addr_space_cast(r6, 0, 1)
(3f) r1 s/= r2
(db) lock *(u64 *)(r1 +0) += r2
(85) call bpf_map_lookup_elem#1
(05) goto pc+1
(b7) r0 = 7
(95) exit
(79) r0 = *(u64 *)(r11 +8)
(95) exit
`
	if diff := cmp.Diff(want, text(p)); diff != "" {
		t.Error(diff)
	}
	if len(p.Funcs) != 2 || p.Funcs[0].Name != "main" || !p.Funcs[0].Global || p.Funcs[1].Name != "sub" || p.Funcs[1].Global || p.Funcs[1].Params() != 6 {
		t.Errorf("functions: %+v", p.Funcs)
	}
	if len(p.Maps) != 2 || p.Maps[0].ValueSize != 16 || p.Maps[1].Source != mine {
		t.Errorf("maps: %+v", p.Maps)
	}
	if len(p.Kfuncs) != 1 || p.Kfuncs[0].Type != kfunc || !p.Kfuncs[0].Resolved || p.Kfuncs[0].Flags != program.KfuncRetNull {
		t.Errorf("kfuncs: %+v", p.Kfuncs)
	}
	if len(p.Lines) != 1 || p.Lines[0].Text != "first line" {
		t.Errorf("lines: %+v", p.Lines)
	}
	if insns[6].Constant != -1 || insns[4].Offset != -1 {
		t.Error("the spec was changed")
	}
}

// TestEncodeLikeCilium: where cilium's encoder loses nothing, ours gives the same bytes.
func TestEncodeLikeCilium(t *testing.T) {
	compared := 0
	for op := range 256 {
		for _, imm := range []uint32{0, 5, 1, 0x40, 0x41, 0xe1, 0xf1, 16} {
			for _, off := range []int16{0, 1, 8, 16, 32} {
				raw := isa.Encode([]isa.Insn{{Op: uint8(op), Dst: 3, Src: 4, Off: off, Imm: int32(imm)}, {Imm: 9}}, binary.LittleEndian)
				var ins asm.Instruction
				if ins.Unmarshal(bytes.NewReader(raw), binary.LittleEndian, "linux") != nil {
					continue
				}
				p, err := program.FromProgramSpec(&ebpf.ProgramSpec{Name: "x", Instructions: asm.Instructions{ins}}, program.Options{
					Map: func(*asm.Instruction) (program.Map, bool) { return program.Map{Name: "m"}, true },
				})
				if err != nil {
					t.Errorf("%02x: %v", op, err)
					continue
				}
				if got := isa.Encode(p.Insns, binary.LittleEndian); !bytes.Equal(got, raw[:len(got)]) {
					t.Errorf("% x became % x", raw, got)
				}
				compared++
			}
		}
	}
	if compared < 5000 {
		t.Errorf("only %d compared", compared)
	}
}

func TestBuildErrors(t *testing.T) {
	call := asm.Instruction{OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(asm.Call), Src: asm.PseudoKfuncCall, Constant: -1}
	for _, c := range []struct {
		insns asm.Instructions
		want  string
	}{
		{nil, "program p: no instructions"},
		{asm.Instructions{asm.Return(), asm.Ja.Label("nowhere")}, "program p: insn 1: symbol nowhere is not defined"},
		{asm.Instructions{asm.LoadMapPtr(asm.R1, 5)}, "program p: insn 0: fd 5 is not pointing to valid bpf_map"},
		{asm.Instructions{asm.LoadMapPtr(asm.R1, 0).WithReference("m")}, "program p: insn 0: map m is not defined"},
		{asm.Instructions{call.WithReference("k")}, "program p: insn 0: kfunc k is not registered"},
		{asm.Instructions{call}, "program p: insn 0: kfunc call without a name: a BTF id of some kernel has no meaning here"},
		{asm.Instructions{{OpCode: asm.InvalidOpCode}}, "program p: insn 0: invalid opcode 0xffff"},
		{asm.Instructions{asm.Mov.Imm(16, 0)}, "program p: insn 0: register number above 15: dst 16, src 0"},
		{asm.Instructions{{OpCode: asm.Mov.Op(asm.ImmSource), Constant: 1 << 40}}, "program p: insn 0: immediate 1099511627776 does not fit into 32 bits"},
		{asm.Instructions{asm.Return().WithSymbol("a"), asm.Return().WithSymbol("a")}, "program p: insn 1: symbol a stands twice"},
		{asm.Instructions{{OpCode: asm.StoreMemOp(asm.Word), Dst: 12, Offset: -8}}, "program p: insn 0: stack arg write must be 8 bytes, got 4"},
	} {
		_, err := program.FromProgramSpec(&ebpf.ProgramSpec{Name: "p", Instructions: c.insns},
			program.Options{Kfuncs: func(string) (program.KfuncFlags, bool) { return 0, false }})
		if err == nil || err.Error() != c.want {
			t.Errorf("error %v, want %s", err, c.want)
		}
	}
	if _, err := program.FromSpec(nil, "x", program.Options{}); err == nil {
		t.Error("no collection, no error")
	}
	if _, err := program.FromProgramSpec(&ebpf.ProgramSpec{Name: "p", ByteOrder: binary.BigEndian, Instructions: asm.Instructions{asm.Return()}}, program.Options{}); err == nil || !strings.Contains(err.Error(), "other byte order") {
		t.Errorf("big endian: %v", err)
	}
}

// TestCiliumNotes pins what is read from cilium/ebpf's unexported notes, with objects that its own reader loaded: an
// upgrade that moves them must fail here.
func TestCiliumNotes(t *testing.T) {
	spec, err := ebpf.LoadCollectionSpec("../../testdata/twelve.o")
	if err != nil {
		t.Fatal(err)
	}
	p, err := program.FromSpec(spec, "call_kfunc", program.Options{Kfuncs: func(string) (program.KfuncFlags, bool) { return 0, false }})
	if err != nil {
		t.Fatal("the weak binding of a kfunc was not found: ", err)
	}
	if len(p.Kfuncs) != 1 || !p.Kfuncs[0].Weak || p.Kfuncs[0].Type == nil {
		t.Errorf("kfuncs: %+v", p.Kfuncs)
	}
	ins := findLoad(spec.Programs["call_kfunc"].Instructions)
	if _, isKconfig := program.KconfigOffset(ins); isKconfig {
		t.Error("the address of a kfunc is taken for a kconfig variable")
	}
}

// TestLibbpfOrder: functions of a linked program stand in the order of first reference, depth first.
func TestLibbpfOrder(t *testing.T) {
	call := func(name string) asm.Instruction {
		return asm.Instruction{OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(asm.Call), Src: asm.PseudoCall, Constant: -1}.WithReference(name)
	}
	ps := &ebpf.ProgramSpec{Name: "main", SectionName: "tc", Instructions: asm.Instructions{ // as cilium links: by name
		call("z").WithSymbol("main"), call("a"), asm.Return(),
		call("c").WithSymbol("a"), asm.Return(),
		asm.Return().WithSymbol("b"),
		call("b").WithSymbol("z"), call("a"), asm.Return(),
		asm.Return().WithSymbol("c"),
	}}
	p, err := program.FromProgramSpec(ps, program.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range p.Funcs {
		names = append(names, f.Name)
	}
	if diff := cmp.Diff([]string{"main", "z", "b", "a", "c"}, names); diff != "" {
		t.Error(diff)
	}
	want := "(85) call pc+2\n(85) call pc+5\n(95) exit\n(85) call pc+2\n(85) call pc+2\n(95) exit\n(95) exit\n(85) call pc+1\n(95) exit\n(95) exit\n"
	if diff := cmp.Diff(want, text(p)); diff != "" {
		t.Error(diff)
	}
}

func findLoad(insns asm.Instructions) *asm.Instruction {
	for i := range insns {
		if insns[i].OpCode.IsDWordLoad() {
			return &insns[i]
		}
	}
	return nil
}
