package kernel_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/kernel"
	"github.com/skep-bpf/skep/internal/program"
)

func needKernel(t *testing.T) {
	t.Helper()
	if err := kernel.Available(); err != nil {
		t.Skip(err)
	}
}

func insn(op uint8, dst, src isa.Reg, off int16, imm int32) isa.Insn {
	return isa.Insn{Op: op, Dst: dst, Src: src, Off: off, Imm: imm}
}

var exit = insn(isa.ClassJMP|isa.JmpEXIT, 0, 0, 0, 0)

func movImm(dst isa.Reg, imm int32) isa.Insn { return insn(isa.ClassALU64|isa.AluMOV, dst, 0, 0, imm) }
func movReg(dst, src isa.Reg) isa.Insn {
	return insn(isa.ClassALU64|isa.AluMOV|isa.SrcX, dst, src, 0, 0)
}

func TestVerify(t *testing.T) {
	needKernel(t)
	for _, tt := range []struct {
		name  string
		insns []isa.Insn
		ok    bool
		log   string
	}{
		{"accepted", []isa.Insn{movImm(0, 0), exit}, true, "(b7) r0 = 0"},
		{"uninitialised", []isa.Insn{exit}, false, "R0 !read_ok"},
		{"early check", []isa.Insn{movImm(0, 0), insn(0x0f, 0, 0, 1, 0), exit}, false, "uses reserved fields"},
		{"jump out", []isa.Insn{insn(isa.ClassJMP|isa.JmpJA, 0, 0, 9, 0), exit}, false, "jump out of range"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, level := range []uint32{0, 1, 2} {
				p := &program.Program{Name: "t", Type: ebpf.SocketFilter, License: "GPL", Insns: tt.insns}
				ok, log, err := kernel.Verify(p, level)
				if err != nil {
					t.Fatal(err)
				}
				if ok != tt.ok {
					t.Errorf("level %d: accepted %t, want %t\n%s", level, ok, tt.ok, log)
				}
				if (!ok || level == 2) && !strings.Contains(log, tt.log) {
					t.Errorf("level %d: no %q in\n%s", level, tt.log, log)
				}
			}
		})
	}
}

// TestLongLog needs a log larger than the first buffer.
func TestLongLog(t *testing.T) {
	needKernel(t)
	var insns []isa.Insn
	for i := range 4000 {
		insns = append(insns, movImm(isa.R0, int32(i)))
	}
	p := &program.Program{Name: "long", Type: ebpf.SocketFilter, License: "GPL", Insns: append(insns, exit)}
	ok, log, err := kernel.Verify(p, 2)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	if n := strings.Count(log, "; R0="); n != 4000 {
		t.Errorf("%d lines of 4000", n)
	}
}

func TestNoVerdict(t *testing.T) {
	needKernel(t)
	for name, p := range map[string]*program.Program{
		"stack argument": {Type: ebpf.SocketFilter, License: "GPL", Insns: []isa.Insn{
			insn(isa.ClassST|isa.ModeMEM|isa.SizeDW, isa.RParams, 0, -8, 1), movImm(0, 0), exit}},
		"unknown kfunc": {Type: ebpf.SocketFilter, License: "GPL", Kfuncs: []program.Kfunc{{Name: "skep_no_such_kfunc"}}, Insns: []isa.Insn{
			insn(isa.ClassJMP|isa.JmpCALL, 0, isa.PseudoKfuncCall, 0, 0), movImm(0, 0), exit}},
		"impossible map": {Type: ebpf.SocketFilter, License: "GPL", Maps: []program.Map{{Name: "m", Type: ebpf.Array, KeySize: 3, ValueSize: 4, MaxEntries: 1}},
			Insns: []isa.Insn{movImm(0, 0), exit}},
	} {
		if ok, _, err := kernel.Verify(p, 1); ok || !errors.Is(err, kernel.ErrNoVerdict) {
			t.Errorf("%s: %t, %v", name, ok, err)
		}
		if k, err := kernel.Load(p); err == nil {
			k.Close()
			t.Errorf("%s: loaded", name)
		}
	}
}

// TestKfunc calls a kfunc of the running kernel.
func TestKfunc(t *testing.T) {
	needKernel(t)
	p := &program.Program{Name: "kfunc", Type: ebpf.SchedCLS, License: "GPL",
		Kfuncs: []program.Kfunc{{Name: "bpf_rcu_read_lock"}, {Name: "bpf_rcu_read_unlock"}},
		Insns: []isa.Insn{
			insn(isa.ClassJMP|isa.JmpCALL, 0, isa.PseudoKfuncCall, 0, 0), insn(isa.ClassJMP|isa.JmpCALL, 0, isa.PseudoKfuncCall, 0, 1), movImm(0, 7), exit}}
	k, err := kernel.Load(p)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	out, err := k.Run(kernel.RunInput{Data: make([]byte, 64)})
	if err != nil || out.Ret != 7 {
		t.Fatal(out.Ret, err)
	}
}

func arrayMap(t ebpf.MapType) program.Map {
	return program.Map{Name: "values", Type: t, KeySize: 4, ValueSize: 8, MaxEntries: 4}
}

// TestRun counts in a map, changes the packet and returns a number.
func TestRun(t *testing.T) {
	needKernel(t)
	for _, typ := range []ebpf.MapType{ebpf.Array, ebpf.PerCPUArray} {
		p := &program.Program{Name: "run", Type: ebpf.XDP, License: "GPL", Maps: []program.Map{arrayMap(typ)}, Insns: []isa.Insn{
			movReg(isa.R6, isa.R1),
			insn(isa.ClassST|isa.ModeMEM|isa.SizeW, isa.R10, 0, -4, 2),
			movReg(isa.R2, isa.R10), insn(isa.ClassALU64|isa.AluADD, isa.R2, 0, 0, -4),
			insn(0x18, isa.R1, isa.PseudoMapFD, 0, 0), insn(0, 0, 0, 0, 0),
			insn(isa.ClassJMP|isa.JmpCALL, 0, 0, 0, 1),
			insn(isa.ClassJMP|isa.JmpJEQ, 0, 0, 2, 0),
			movImm(isa.R1, 5), insn(isa.ClassSTX|isa.ModeATOMIC|isa.SizeDW, isa.R0, isa.R1, 0, isa.AtomicADD),
			insn(isa.ClassLDX|isa.ModeMEM|isa.SizeW, isa.R1, isa.R6, 0, 0),
			insn(isa.ClassLDX|isa.ModeMEM|isa.SizeW, isa.R2, isa.R6, 4, 0),
			movReg(isa.R3, isa.R1), insn(isa.ClassALU64|isa.AluADD, isa.R3, 0, 0, 14),
			insn(isa.ClassJMP|isa.JmpJGT|isa.SrcX, isa.R3, isa.R2, 1, 0),
			insn(isa.ClassST|isa.ModeMEM|isa.SizeB, isa.R1, 0, 3, 0x5a),
			movImm(isa.R0, 2), exit,
		}}
		k, err := kernel.Load(p)
		if err != nil {
			t.Fatal(err)
		}
		defer k.Close()
		in := bytes.Repeat([]byte{1}, 64)
		out, err := k.Run(kernel.RunInput{Data: in, Repeat: 3})
		if err != nil {
			t.Fatal(err)
		}
		want := bytes.Clone(in)
		want[3] = 0x5a
		if out.Ret != 2 || !bytes.Equal(out.Data, want) {
			t.Errorf("%s: ret %d, packet %x", typ, out.Ret, out.Data)
		}
		v, err := k.Map(0).Lookup([]byte{2, 0, 0, 0})
		if err != nil {
			t.Fatal(err)
		}
		var sum uint64
		for ; len(v) >= 8; v = v[8:] {
			sum += binary.NativeEndian.Uint64(v)
		}
		if sum != 15 {
			t.Errorf("%s: counted %d, want 15", typ, sum)
		}
		if n, err := k.JITLen(); err != nil || n == 0 {
			t.Errorf("machine code of %d bytes: %v", n, err)
		}
	}
}

func TestMapElements(t *testing.T) {
	needKernel(t)
	p := &program.Program{Name: "elems", Type: ebpf.SocketFilter, License: "GPL", Insns: []isa.Insn{
		insn(0x18, isa.R1, isa.PseudoMapFD, 0, 0), insn(0, 0, 0, 0, 0), movImm(0, 0), exit},
		Maps: []program.Map{{Name: "h", Type: ebpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: 8}}}
	k, err := kernel.Load(p)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	m := k.Map(0)
	if err := m.Update([]byte("keya"), []byte("vala"), 0); err != nil {
		t.Fatal(err)
	}
	if err := m.Update([]byte("keya"), []byte("valb"), 1); !errors.Is(err, ebpf.ErrKeyExist) {
		t.Error(err)
	}
	if key, err := m.NextKey(nil); err != nil || string(key) != "keya" {
		t.Error(key, err)
	}
	if err := m.Delete([]byte("keya")); err != nil {
		t.Error(err)
	}
	if _, err := m.Lookup([]byte("keya")); !errors.Is(err, ebpf.ErrKeyNotExist) {
		t.Error(err)
	}
	if _, err := m.NextKey(nil); !errors.Is(err, ebpf.ErrKeyNotExist) {
		t.Error(err)
	}
}

// TestTypes loads two functions with BTF and line records: the log shows the lines and the global function's name.
func TestTypes(t *testing.T) {
	needKernel(t)
	u32 := &btf.Int{Name: "unsigned int", Size: 4}
	proto := &btf.FuncProto{Return: u32, Params: []btf.FuncParam{{Name: "a", Type: u32}}}
	p := &program.Program{Name: "types", Type: ebpf.SocketFilter, License: "GPL",
		Insns: []isa.Insn{
			movImm(isa.R1, 1), insn(isa.ClassJMP|isa.JmpCALL, 0, isa.PseudoCall, 0, 1), exit,
			movReg(isa.R0, isa.R1), exit,
		},
		Funcs: []program.Func{
			{Name: "main", Start: 0, End: 3, Type: &btf.Func{Name: "main", Linkage: btf.GlobalFunc, Type: &btf.FuncProto{Return: u32,
				Params: []btf.FuncParam{{Name: "ctx", Type: &btf.Pointer{Target: &btf.Struct{Name: "__sk_buff", Size: 4,
					Members: []btf.Member{{Name: "len", Type: u32}}}}}}}}},
			{Name: "callee", Start: 3, End: 5, Global: true, Type: &btf.Func{Name: "callee", Linkage: btf.GlobalFunc, Type: proto}},
		},
		Lines: []program.Line{{Insn: 0, File: "a.c", Text: "return callee(1);", Number: 7, Column: 2}, {Insn: 3, File: "a.c", Text: "return a;", Number: 3}},
	}
	ok, log, err := kernel.Verify(p, 2)
	if err != nil || !ok {
		t.Fatalf("%t %v\n%s", ok, err, log)
	}
	for _, want := range []string{"; return callee(1); @ a.c:7", "; return a; @ a.c:3", "Func#1 ('callee') is global"} {
		if !strings.Contains(log, want) {
			t.Errorf("no %q in\n%s", want, log)
		}
	}
}

// TestFrozen has a program read a constant from a frozen map: the verifier must know it.
func TestFrozen(t *testing.T) {
	needKernel(t)
	m := arrayMap(ebpf.Array)
	m.MaxEntries, m.Flags, m.Frozen, m.Contents = 1, 1<<7, true, []byte{42, 0, 0, 0, 0, 0, 0, 0}
	p := &program.Program{Name: "frozen", Type: ebpf.SocketFilter, License: "GPL", Maps: []program.Map{m}, Insns: []isa.Insn{
		insn(0x18, isa.R1, isa.PseudoMapValue, 0, 0), insn(0, 0, 0, 0, 0),
		insn(isa.ClassLDX|isa.ModeMEM|isa.SizeW, isa.R0, isa.R1, 0, 0), exit}}
	ok, log, err := kernel.Verify(p, 2)
	if err != nil || !ok || !strings.Contains(log, "R0=42") {
		t.Fatalf("%t %v\n%s", ok, err, log)
	}
}
