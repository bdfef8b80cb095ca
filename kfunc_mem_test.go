package skep_test

import (
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep"
)

// kfuncCall is a call of a kfunc with an unnamed prototype, as compilers write it.
func kfuncCall(name string, ret btf.Type, params ...btf.Type) asm.Instruction {
	proto := &btf.FuncProto{Return: ret}
	for _, p := range params {
		proto.Params = append(proto.Params, btf.FuncParam{Type: p})
	}
	call := asm.Instruction{OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(asm.Call), Src: asm.PseudoKfuncCall, Constant: -1}.WithReference(name)
	return btf.WithFuncMetadata(call, &btf.Func{Name: name, Type: proto, Linkage: btf.ExternFunc})
}

type pair struct {
	A, B uint32
	Sum  uint64
}

// TestKfuncMemory passes memory with its length, and a struct, to Go functions: what they write the program reads.
func TestKfuncMemory(t *testing.T) {
	u32 := &btf.Int{Name: "u32", Size: 4}
	u64 := &btf.Int{Name: "u64", Size: 8}
	cPair := &btf.Struct{Name: "pair", Size: 16, Members: []btf.Member{{Name: "a", Type: u32}, {Name: "b", Type: u32, Offset: 32}, {Name: "sum", Type: u64, Offset: 64}}}
	program := func(length int32) *ebpf.ProgramSpec {
		return &ebpf.ProgramSpec{Name: "mem", Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
			asm.StoreImm(asm.R10, -16, 5, asm.Word), asm.StoreImm(asm.R10, -12, 6, asm.Word), asm.Mov.Imm(asm.R3, 0), asm.StoreMem(asm.R10, -8, asm.R3, asm.DWord),
			asm.Mov.Reg(asm.R1, asm.R10), asm.Add.Imm(asm.R1, -16), asm.Mov.Imm(asm.R2, 1), kfuncCall("add", u64, &btf.Pointer{Target: cPair}, u32),
			asm.Mov.Reg(asm.R6, asm.R0), asm.LoadMem(asm.R1, asm.R10, -8, asm.DWord), asm.Mul.Imm(asm.R1, 100), asm.Add.Reg(asm.R6, asm.R1),
			asm.Mov.Reg(asm.R1, asm.R10), asm.Add.Imm(asm.R1, -16), asm.Mov.Imm(asm.R2, length), kfuncCall("count", u32, &btf.Pointer{Target: &btf.Void{}}, u32),
			asm.Add.Reg(asm.R0, asm.R6), asm.Return(),
		}}
	}
	var ks skep.Kfuncs
	if err := ks.Register("add", func(p *pair, k uint32) uint64 { p.Sum = uint64(p.A + p.B + k); return 1 }); err != nil {
		t.Fatal(err)
	}
	if err := ks.Register("count", func(b []byte) uint32 {
		n := uint32(0)
		for _, c := range b {
			if c != 0 {
				n++
			}
		}
		return n * 10000
	}); err != nil {
		t.Fatal(err)
	}
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		p, err := skep.NewProgramWithOptions(program(16), skep.Options{Engine: e, Kfuncs: &ks})
		if err != nil {
			t.Fatalf("%+v", err)
		}
		defer p.Close()
		if ret, _, err := p.Test(make([]byte, 64)); err != nil || ret != 30000+1200+1 {
			t.Errorf("%d, %v", ret, err)
		}
		if _, err := skep.NewProgramWithOptions(program(17), skep.Options{Engine: e, Kfuncs: &ks}); err == nil || !strings.Contains(err.Error(), "R1") {
			t.Errorf("17 bytes of 16 were passed: %v", err)
		}
	})
}

// TestKfuncObjects has one kfunc hand out an object that another takes back.
func TestKfuncObjects(t *testing.T) {
	u64 := &btf.Int{Name: "u64", Size: 8}
	u32 := &btf.Int{Name: "u32", Size: 4}
	cPair := &btf.Struct{Name: "pair", Size: 16, Members: []btf.Member{{Name: "a", Type: u32}, {Name: "b", Type: u32, Offset: 32}, {Name: "sum", Type: u64, Offset: 64}}}
	obj, err := skep.NewObject[pair]()
	if err != nil {
		t.Fatal(err)
	}
	defer obj.Free()
	obj.Value().B = 7
	var give bool
	var released *pair
	var ks skep.Kfuncs
	if err := ks.Register("get", func() *skep.Object[pair] {
		if give {
			return obj
		}
		return nil
	}, skep.KfuncAcquire, skep.KfuncRetNull); err != nil {
		t.Fatal(err)
	}
	if err := ks.Register("put", func(p *pair) { released = p }, skep.KfuncRelease); err != nil {
		t.Fatal(err)
	}
	ptr := &btf.Pointer{Target: cPair}
	insns := asm.Instructions{
		kfuncCall("get", ptr),
		asm.JEq.Imm(asm.R0, 0, "none"),
		asm.LoadMem(asm.R6, asm.R0, 4, asm.Word),
		asm.Mov.Reg(asm.R1, asm.R0),
		kfuncCall("put", &btf.Void{}, ptr),
		asm.Mov.Reg(asm.R0, asm.R6),
		asm.Return(),
		asm.Mov.Imm(asm.R0, 1).WithSymbol("none"),
		asm.Return(),
	}
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		p, err := skep.NewProgramWithOptions(&ebpf.ProgramSpec{Name: "objects", Type: ebpf.SchedCLS, License: "GPL", Instructions: insns}, skep.Options{Engine: e, Kfuncs: &ks})
		if err != nil {
			t.Fatalf("%+v", err)
		}
		defer p.Close()
		for _, give = range []bool{false, true} {
			released = nil
			ret, _, err := p.Test(make([]byte, 64))
			want := uint32(1)
			if give {
				want = 7
			}
			if err != nil || ret != want || give != (released == obj.Value()) {
				t.Errorf("%v: %d, %v, %p", give, ret, err, released)
			}
		}
		leak := append(asm.Instructions{}, insns...)
		leak[3], leak[4] = asm.Mov.Imm(asm.R1, 0), asm.Mov.Imm(asm.R1, 0)
		if _, err := skep.NewProgramWithOptions(&ebpf.ProgramSpec{Name: "leak", Type: ebpf.SchedCLS, License: "GPL", Instructions: leak}, skep.Options{Engine: e, Kfuncs: &ks}); err == nil || !strings.Contains(err.Error(), "nreleased reference") {
			t.Errorf("a reference was leaked: %v", err)
		}
	})
}
