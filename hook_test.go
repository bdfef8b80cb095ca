package skep_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep"
)

// peer and request are the structures of testdata/hooks/hook.c.
type peer struct {
	Addr   [16]byte
	Port   uint16 `bpf:"rw"`
	Family uint16
	Secret uint32 `bpf:"-"`
}

type request struct {
	Data    skep.PacketStart
	DataEnd skep.PacketEnd
	Size    uint64
	Peer    peer
	Method  uint32
	Score   int32  `bpf:"rw"`
	Seen    uint32 `bpf:"rw"`
	Tag     uint32
}

func requestSpec() skep.HookSpec {
	return skep.HookSpec{Section: "app/request", Context: request{}, Returns: &skep.ReturnRange{Min: -1, Max: 1}}
}

func newHook(t testing.TB, s skep.HookSpec) *skep.Hook {
	t.Helper()
	h, err := skep.NewHook(s)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestHook: programs of an application's hook are found by their sections, see its context and packet, call its kfunc of twelve
// arguments, and give back what they wrote.
func TestHook(t *testing.T) {
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		var judged [12]uint32
		var ks skep.Kfuncs
		if err := ks.Register("judge", func(a, b, c, d, e, f, g, h, i, j, k, l uint32) int32 {
			judged = [12]uint32{a, b, c, d, e, f, g, h, i, j, k, l}
			return int32(l)
		}); err != nil {
			t.Fatal(err)
		}
		c := load(t, "hooks/hook.o", skep.Options{Engine: e, Kfuncs: &ks, Hooks: []*skep.Hook{newHook(t, requestSpec())}})
		if len(c.Programs) != 2 {
			t.Fatalf("programs: %v, want those of the hook", c.Programs)
		}
		if got := c.Programs["admit"].String(); !strings.HasPrefix(got, "app/request(admit)#") {
			t.Error(got)
		}
		in := request{Size: 7, Peer: peer{Addr: [16]byte{15: 3}, Port: 80, Family: 2, Secret: 99}, Method: 6, Score: -5, Seen: 41}
		var out request
		data := make([]byte, 5)
		ret, err := c.Programs["admit"].Run(&ebpf.RunOptions{Context: &in, ContextOut: &out, Data: []byte{1, 2, 3, 4, 5}, DataOut: data})
		want := in
		want.Score, want.Seen = 10, 42
		if err != nil || ret != 1 || out != want {
			t.Errorf("%d, %v, %+v, want 1, %+v", ret, err, out, want)
		}
		if w := [12]uint32{80, 2, 6, 15, 5, 6, 7, 8, 9, 10, 11, 3}; judged != w {
			t.Errorf("the kfunc got %v, want %v", judged, w)
		}
		var n uint64
		if err := c.Maps["counts"].Lookup(uint32(2), &n); err != nil || n != 1 {
			t.Errorf("count %d, %v", n, err)
		}
		for size, want := range map[uint64]int32{100: 0, 101: -1} {
			if ret, err := c.Programs["deny"].Run(&ebpf.RunOptions{Context: request{Size: size}}); err != nil || int32(ret) != want {
				t.Errorf("size %d: %d, %v", size, int32(ret), err)
			}
		}
		_, err = c.Programs["deny"].Run(&ebpf.RunOptions{Context: request{DataEnd: 1}})
		wantError(t, err, "context: the field at offset 8 is a pointer and cannot be set")
		_, err = c.Programs["deny"].Run(&ebpf.RunOptions{Data: make([]byte, 1<<16+1)})
		wantError(t, err, "packet of 65537 bytes, programs of hook app/request take 65536")
	})
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want one with %q", err, want)
	}
}

// TestHookMoved: a program that was compiled against another version of the context finds the fields by their names (CO-RE), on a machine
// without a kernel's types as well.
func TestHookMoved(t *testing.T) {
	s := requestSpec()
	s.Section, s.Returns = "app/moved", nil
	empty, err := btf.NewBuilder([]btf.Type{&btf.Int{Name: "int", Size: 4}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := empty.Marshal(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	given, err := btf.LoadSpecFromReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	for name, kernel := range map[string]*btf.Spec{"host": nil, "given": given} {
		c := load(t, "hooks/hook.o", skep.Options{KernelBTF: kernel, Hooks: []*skep.Hook{newHook(t, s)}})
		if ret, err := c.Programs["moved"].Run(&ebpf.RunOptions{Context: request{Method: 40, Score: 2}}); err != nil || ret != 42 {
			t.Errorf("%s: %d, %v", name, ret, err)
		}
	}
}

// hookProgram is a program for a hook that is made in Go.
func hookProgram(h *skep.Hook, ks *skep.Kfuncs, insns asm.Instructions) (*skep.Program, error) {
	return skep.NewProgramWithOptions(&ebpf.ProgramSpec{Name: "p", SectionName: h.Section(), License: "GPL", Instructions: insns},
		skep.Options{Hooks: []*skep.Hook{h}, Kfuncs: ks})
}

// TestHookAccess: of every place of the context, each access is permitted exactly if it lies within fields of one kind, in their rights.
func TestHookAccess(t *testing.T) {
	h := newHook(t, requestSpec())
	// r: can be read, w: written as well, p: an address, -: neither; by bytes.
	rights := "pppppppp" + "pppppppp" + "rrrrrrrr" + "rrrrrrrrrrrrrrrr" + "ww" + "rr" + "----" + "rrrr" + "wwww" + "wwww" + "rrrr"
	for off := range len(rights) + 8 {
		for _, size := range []asm.Size{asm.Byte, asm.Half, asm.Word, asm.DWord} {
			n := size.Sizeof()
			kinds := ""
			if off+n <= len(rights) {
				kinds = rights[off : off+n]
			}
			same := kinds != "" && strings.Count(kinds, kinds[:1]) == n && off%n == 0
			read := same && (kinds[0] == 'r' || kinds[0] == 'w' || kinds[0] == 'p' && n == 8)
			_, err := hookProgram(h, nil, asm.Instructions{asm.LoadMem(asm.R2, asm.R1, int16(off), size), asm.Mov.Imm(asm.R0, 0), asm.Return()})
			if (err == nil) != read {
				t.Errorf("load of %d bytes at %d: %v", n, off, err)
			}
			_, err = hookProgram(h, nil, asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.StoreMem(asm.R1, int16(off), asm.R0, size), asm.Return()})
			if (err == nil) != (same && kinds[0] == 'w') {
				t.Errorf("store of %d bytes at %d: %v", n, off, err)
			}
		}
	}
}

// TestHookRules: what a hook does not permit the verifier refuses, and what it does permit it does not.
func TestHookRules(t *testing.T) {
	var ks skep.Kfuncs
	if err := ks.Register("probe", func(a uint32) uint32 { return a }); err != nil {
		t.Fatal(err)
	}
	if err := ks.Register("sleeps", func(a uint32) uint32 { return a }, skep.KfuncSleepable); err != nil {
		t.Fatal(err)
	}
	ret := func(v int32) asm.Instructions { return asm.Instructions{asm.Mov.Imm(asm.R0, v), asm.Return()} }
	call := func(f asm.BuiltinFunc) asm.Instructions {
		return asm.Instructions{f.Call(), asm.Mov.Imm(asm.R0, 0), asm.Return()}
	}
	kfunc := func(name string) asm.Instructions {
		u32 := &btf.Int{Name: "unsigned int", Size: 4}
		fn := &btf.Func{Name: name, Linkage: btf.ExternFunc, Type: &btf.FuncProto{Return: u32, Params: []btf.FuncParam{{Name: "a", Type: u32}}}}
		ins := asm.Instruction{OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(asm.Call), Src: asm.PseudoKfuncCall, Constant: -1}.WithReference(name)
		return asm.Instructions{asm.Mov.Imm(asm.R1, 1), btf.WithFuncMetadata(ins, fn), asm.Mov.Imm(asm.R0, 0), asm.Return()}
	}
	packet := func(ins asm.Instruction) asm.Instructions {
		return asm.Instructions{
			asm.LoadMem(asm.R2, asm.R1, 0, asm.DWord), asm.LoadMem(asm.R3, asm.R1, 8, asm.DWord), asm.Mov.Reg(asm.R4, asm.R2), asm.Add.Imm(asm.R4, 8),
			asm.JGT.Reg(asm.R4, asm.R3, "out"), ins, asm.Mov.Imm(asm.R0, 0).WithSymbol("out"), asm.Return(),
		}
	}
	s := requestSpec()
	none, some, writes := s, s, s
	none.Helpers, none.Kfuncs = []asm.BuiltinFunc{}, []string{}
	some.Helpers, some.Kfuncs, some.Sleepable = []asm.BuiltinFunc{asm.FnKtimeGetNs}, []string{"sleeps"}, true
	writes.WritePacket, writes.Returns = true, nil
	reads := s
	reads.Helpers = []asm.BuiltinFunc{asm.FnProbeReadKernel}
	for _, c := range []struct {
		name  string
		spec  skep.HookSpec
		insns asm.Instructions
		want  string // "": accepted
	}{
		{"result", s, ret(1), ""},
		{"negative result", s, ret(-1), ""},
		{"negative result of 32 bits", s, asm.Instructions{asm.Mov.Imm32(asm.R0, -1), asm.Return()}, ""},
		{"result too large", s, ret(2), "At program exit the register R0 has smin=2 smax=2 should have been in [-1, 1]"},
		{"any result", writes, ret(2), ""},
		{"helper", s, call(asm.FnKtimeGetNs), ""},
		{"helper in the list", some, call(asm.FnKtimeGetNs), ""},
		{"helper not in the list", some, call(asm.FnGetPrandomU32), "program of this type cannot use helper bpf_get_prandom_u32#7"},
		{"helper that reads any memory", s, asm.Instructions{asm.Mov.Reg(asm.R1, asm.R10), asm.Add.Imm(asm.R1, -8), asm.Mov.Imm(asm.R2, 8),
			asm.Mov.Imm(asm.R3, 0), asm.FnProbeReadKernel.Call(), asm.Mov.Imm(asm.R0, 0), asm.Return()}, "program of this type cannot use helper bpf_probe_read_kernel#113"},
		{"helper that reads any memory in the list", reads, asm.Instructions{asm.Mov.Reg(asm.R1, asm.R10), asm.Add.Imm(asm.R1, -8), asm.Mov.Imm(asm.R2, 8),
			asm.Mov.Imm(asm.R3, 0), asm.FnProbeReadKernel.Call(), asm.Mov.Imm(asm.R0, 0), asm.Return()}, ""},
		{"no helpers", none, call(asm.FnKtimeGetNs), "program of this type cannot use helper bpf_ktime_get_ns#5"},
		{"helper of other contexts", s, asm.Instructions{asm.Mov.Imm(asm.R2, 0), asm.FnSkbPullData.Call(), asm.Mov.Imm(asm.R0, 0), asm.Return()},
			"program of this type cannot use helper bpf_skb_pull_data#39"},
		{"kfunc", s, kfunc("probe"), ""},
		{"kfunc not in the list", some, kfunc("probe"), "calling kernel function probe is not allowed"},
		{"no kfuncs", none, kfunc("probe"), "calling kernel function probe is not allowed"},
		{"kfunc that sleeps", some, kfunc("sleeps"), ""},
		{"kfunc that sleeps where nobody may", s, kfunc("sleeps"), "sleepable"},
		{"packet", s, packet(asm.LoadMem(asm.R0, asm.R2, 0, asm.DWord)), ""},
		{"packet beyond", s, packet(asm.LoadMem(asm.R0, asm.R2, 1, asm.DWord)), "invalid access to packet"},
		{"packet written", s, packet(asm.StoreImm(asm.R2, 0, 1, asm.Word)), "cannot write into packet"},
		{"packet written where it may be", writes, packet(asm.StoreImm(asm.R2, 0, 1, asm.Word)), ""},
		{"legacy loads", s, asm.Instructions{asm.Mov.Reg(asm.R6, asm.R1), asm.LoadAbs(0, asm.Byte), asm.Mov.Imm(asm.R0, 0), asm.Return()}, "not allowed for this program type"},
	} {
		p, err := hookProgram(newHook(t, c.spec), &ks, c.insns)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(fmt.Sprintf("%+v", err), c.want)) {
			t.Errorf("%s: %+v, want %q", c.name, err, c.want)
		}
		if err == nil {
			if _, err := p.Run(&ebpf.RunOptions{Data: make([]byte, 8)}); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			p.Close()
		}
	}
}

// TestHookWritesPacket: the packet comes back as the program left it.
func TestHookWritesPacket(t *testing.T) {
	s := requestSpec()
	s.WritePacket = true
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		insns := asm.Instructions{
			asm.LoadMem(asm.R2, asm.R1, 0, asm.DWord), asm.LoadMem(asm.R3, asm.R1, 8, asm.DWord), asm.Mov.Reg(asm.R4, asm.R2), asm.Add.Imm(asm.R4, 2),
			asm.JGT.Reg(asm.R4, asm.R3, "out"), asm.StoreImm(asm.R2, 1, 7, asm.Byte), asm.Mov.Imm(asm.R0, 0).WithSymbol("out"), asm.Return(),
		}
		p, err := skep.NewProgramWithOptions(&ebpf.ProgramSpec{Name: "p", SectionName: "app/request", Instructions: insns},
			skep.Options{Hooks: []*skep.Hook{newHook(t, s)}, Engine: e})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		for in, want := range map[string]string{"": "", "a": "a", "ab": "a\a", "abc": "a\ac"} {
			_, out, err := p.Test([]byte(in))
			if err != nil || string(out) != want {
				t.Errorf("%q: %q, %v", in, out, err)
			}
		}
	})
}

// TestHookSpecs: what makes no hook is refused, and said.
func TestHookSpecs(t *testing.T) {
	u64 := &btf.Int{Name: "unsigned long long", Size: 8}
	for _, c := range []struct {
		name string
		spec func(*skep.HookSpec)
		want string
	}{
		{"no section", func(s *skep.HookSpec) { s.Section = "" }, `hook "": its section is no name of a section`},
		{"no context", func(s *skep.HookSpec) { s.Context = nil }, "context: there is none"},
		{"no structure", func(s *skep.HookSpec) { s.Context = 1 }, "context: int is neither a struct nor a *btf.Struct"},
		{"empty", func(s *skep.HookSpec) { s.Context = struct{}{} }, "the context has 0 bytes"},
		{"pointer", func(s *skep.HookSpec) { s.Context = struct{ A *int }{} }, "field A: *int cannot lie in a context"},
		{"slice", func(s *skep.HookSpec) { s.Context = struct{ A []byte }{} }, "field A: []uint8 cannot lie in a context"},
		{"int", func(s *skep.HookSpec) { s.Context = struct{ A int }{} }, "field A: int cannot lie in a context"},
		{"padding", func(s *skep.HookSpec) {
			s.Context = struct {
				A uint8
				B uint32
			}{}
		}, "has padding at offset 1: name it, _ [3]byte"},
		{"padding at the end", func(s *skep.HookSpec) {
			s.Context = struct {
				A uint32
				B uint16
			}{}
		}, "has padding at offset 6: name it, _ [2]byte"},
		{"tag", func(s *skep.HookSpec) {
			s.Context = struct {
				A uint32 `bpf:"w"`
			}{}
		}, `field A: tag bpf:"w": known are r, rw and -`},
		{"bool", func(s *skep.HookSpec) {
			s.Context = struct {
				A bool `bpf:"rw"`
			}{}
		}, "field a: a bool can be neither 0 nor 1"},
		{"packet without an end", func(s *skep.HookSpec) { s.Context = struct{ A skep.PacketStart }{} }, "one field for its start and one for its end"},
		{"end without a packet", func(s *skep.HookSpec) { s.Context = struct{ A skep.PacketEnd }{} }, "one field for its start and one for its end"},
		{"written packet", func(s *skep.HookSpec) {
			s.Context = struct {
				A skep.PacketStart `bpf:"rw"`
				B skep.PacketEnd
			}{}
		}, "is an address"},
		{"array of packets", func(s *skep.HookSpec) { s.Context = struct{ A [2]skep.PacketStart }{} }, "arrays are of integers"},
		{"range", func(s *skep.HookSpec) { s.Returns = &skep.ReturnRange{Min: 1, Max: 0} }, "the range [1, 0] is empty"},
		{"helper", func(s *skep.HookSpec) { s.Helpers = []asm.BuiltinFunc{asm.FnSkbPullData} }, "helpers: FnSkbPullData does not exist without a context"},
		{"kernel's name", func(s *skep.HookSpec) { s.Struct = "__sk_buff" }, "struct __sk_buff is a context of the kernel's"},
		{"no name", func(s *skep.HookSpec) {
			s.Context = &btf.Struct{Size: 8, Members: []btf.Member{{Name: "a", Type: u64}}}
		}, "the structure has no name"},
		{"bit field", func(s *skep.HookSpec) {
			s.Context = &btf.Struct{Name: "s", Size: 8, Members: []btf.Member{{Name: "a", Type: u64, BitfieldSize: 3}}}
		}, "field a is a bit field"},
		{"outside", func(s *skep.HookSpec) {
			s.Context = &btf.Struct{Name: "s", Size: 8, Members: []btf.Member{{Name: "a", Type: u64, Offset: 8}}}
		}, "the field at offset 1 of 8 bytes does not fit"},
		{"overlap", func(s *skep.HookSpec) {
			s.Context = &btf.Struct{Name: "s", Size: 16, Members: []btf.Member{{Name: "a", Type: u64}, {Name: "b", Type: u64, Offset: 32}}}
		}, "the field at offset 4 of 8 bytes does not fit"},
		{"no type", func(s *skep.HookSpec) {
			s.Context = &btf.Struct{Name: "s", Size: 8, Members: []btf.Member{{Name: "a"}}}
		}, "the structure lacks a type"},
		{"pointer in C", func(s *skep.HookSpec) {
			s.Context = &btf.Struct{Name: "s", Size: 8, Members: []btf.Member{{Name: "a", Type: &btf.Pointer{Target: u64}}}}
		}, "the only addresses in a context are those of a packet"},
	} {
		s := requestSpec()
		c.spec(&s)
		h, err := skep.NewHook(s)
		if h != nil {
			t.Errorf("%s: a hook", c.name)
		}
		t.Run(c.name, func(t *testing.T) { wantError(t, err, c.want) })
	}
}

// TestHookMismatch: a program whose structure is not the hook's is refused, before it reads what it takes for something else.
func TestHookMismatch(t *testing.T) {
	u32, u64 := &btf.Int{Name: "unsigned int", Size: 4}, &btf.Int{Name: "unsigned long long", Size: 8}
	try := func(s btf.Type) error {
		fn := &btf.Func{Name: "p", Type: &btf.FuncProto{Return: u32, Params: []btf.FuncParam{{Name: "r", Type: s}}}, Linkage: btf.GlobalFunc}
		first := btf.WithFuncMetadata(asm.Mov.Imm(asm.R0, 0).WithSymbol("p"), fn)
		_, err := hookProgram(newHook(t, requestSpec()), nil, asm.Instructions{first, asm.Return()})
		return err
	}
	ptr := func(name string, members ...btf.Member) btf.Type {
		return &btf.Pointer{Target: &btf.Struct{Name: name, Size: 80, Members: members}}
	}
	if err := try(ptr("request", btf.Member{Name: "size", Type: u64, Offset: 16 * 8})); err != nil {
		t.Error(err)
	}
	wantError(t, try(ptr("request", btf.Member{Name: "size", Type: u64, Offset: 8 * 8})), "field size of its struct request has 8 bytes at offset 8, that of hook app/request 8 bytes at offset 16")
	wantError(t, try(ptr("request", btf.Member{Name: "size", Type: u32, Offset: 16 * 8})), "has 4 bytes at offset 16")
	wantError(t, try(ptr("request", btf.Member{Name: "color", Type: u32})), "field color of its struct request is not in that of hook app/request")
	wantError(t, try(ptr("response")), "its parameter is struct response *, that of hook app/request is struct request *")
	wantError(t, try(u64), "its parameter is unsigned long long, that of hook app/request is struct request *")
	wantError(t, try(&btf.Pointer{Target: u64}), "its parameter is unsigned long long *")
}

// TestHookKfuncContext: a kfunc of the application gets the context itself, unless it could move the packet.
func TestHookKfuncContext(t *testing.T) {
	type small struct {
		A uint32 `bpf:"rw"`
		B uint32
	}
	type larger struct{ A, B, C uint32 }
	u32 := &btf.Int{Name: "unsigned int", Size: 4}
	member := func(names ...string) (s *btf.Struct) {
		s = &btf.Struct{Name: "small", Size: uint32(4 * len(names))}
		for i, n := range names {
			s.Members = append(s.Members, btf.Member{Name: n, Type: u32, Offset: btf.Bits(32 * i)})
		}
		return s
	}
	prog := func(h *skep.Hook, s *btf.Struct, fn any) (*skep.Program, error) {
		var ks skep.Kfuncs
		if err := ks.Register("see", fn); err != nil {
			t.Fatal(err)
		}
		proto := &btf.Func{Name: "see", Linkage: btf.ExternFunc, Type: &btf.FuncProto{Return: u32, Params: []btf.FuncParam{{Name: "c", Type: &btf.Pointer{Target: s}}}}}
		ins := asm.Instruction{OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(asm.Call), Src: asm.PseudoKfuncCall, Constant: -1}.WithReference("see")
		return hookProgram(h, &ks, asm.Instructions{btf.WithFuncMetadata(ins, proto), asm.Return()})
	}
	h := newHook(t, skep.HookSpec{Section: "app/small", Context: small{}})
	p, err := prog(h, member("a", "b"), func(c *small) uint32 { c.A++; return c.B })
	if err != nil {
		t.Fatalf("%+v", err)
	}
	defer p.Close()
	var out small
	if ret, err := p.Run(&ebpf.RunOptions{Context: small{1, 2}, ContextOut: &out}); err != nil || ret != 2 || out != (small{2, 2}) {
		t.Error(ret, err, out)
	}
	_, err = prog(h, member("a", "b", "c"), func(c *larger) uint32 { return c.C })
	wantError(t, err, "kfunc see: struct small is a context of 8 bytes, Go's skep_test.larger has 12")

	type shows struct {
		A skep.PacketStart
		B skep.PacketEnd
	}
	s := skep.HookSpec{Section: "app/small", Context: shows{}, Struct: "small"}
	_, err = prog(newHook(t, s), member("a", "b"), func(c *small) uint32 { return 0 })
	wantError(t, err, "kfunc see: a context that shows a packet cannot be passed to kfuncs")
}

// TestHookTailCalls: programs of one hook go on in each other, those of two hooks do not, even of one name.
func TestHookTailCalls(t *testing.T) {
	array, err := skep.NewMap(&ebpf.MapSpec{Name: "next", Type: ebpf.ProgramArray, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer array.Close()
	h := newHook(t, requestSpec())
	next, err := hookProgram(h, nil, asm.Instructions{asm.LoadMem(asm.R0, asm.R1, 16, asm.DWord), asm.And.Imm(asm.R0, 1), asm.Return()})
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	first, err := hookProgram(h, nil, asm.Instructions{
		loadMap(asm.R2, array), asm.Mov.Imm(asm.R3, 0), asm.FnTailCall.Call(), asm.Mov.Imm(asm.R0, -1), asm.Return(),
	})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	defer first.Close()
	if err := array.Put(uint32(0), next); err != nil {
		t.Fatal(err)
	}
	if ret, err := first.Run(&ebpf.RunOptions{Context: request{Size: 1}}); err != nil || ret != 1 {
		t.Error(ret, err)
	}
	other, err := hookProgram(newHook(t, requestSpec()), nil, asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := array.Put(uint32(0), other); !errors.Is(err, ebpf.ErrNotSupported) && err == nil {
		t.Errorf("a program of another hook in the array: %v", err)
	}
}

// TestHookHeader: the header for authors of programs declares the structure that the hook compares theirs with.
func TestHookHeader(t *testing.T) {
	var b strings.Builder
	if err := newHook(t, requestSpec()).WriteHeader(&b); err != nil {
		t.Fatal(err)
	}
	want := `/* Written by skep: the context of a hook. */
#pragma once

struct peer {
	unsigned char addr[16];
	unsigned short port;
	unsigned short family;
	unsigned int secret;
};
struct request {
	void *data;
	void *data_end;
	unsigned long long size;
	struct peer peer;
	unsigned int method;
	int score;
	unsigned int seen;
	unsigned int tag;
};
`
	if b.String() != want {
		t.Errorf("%s", b.String())
	}
	clang, err := exec.LookPath("clang-22")
	if err != nil {
		t.Skip("clang-22 is not installed")
	}
	dir := t.TempDir()
	src := b.String() + `__attribute__((section("app/request"), used)) int p(struct request *r) { r->seen++; return r->peer.port & 1; }` + "\n"
	if err := os.WriteFile(filepath.Join(dir, "p.c"), []byte(src), 0o644); err != nil {
		t.Fatal(err)
	}
	obj := filepath.Join(dir, "p.o")
	if out, err := exec.Command(clang, "-target", "bpf", "-O2", "-g", "-c", filepath.Join(dir, "p.c"), "-o", obj).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	c, err := skep.LoadCollectionWithOptions(obj, skep.Options{Hooks: []*skep.Hook{newHook(t, requestSpec())}})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	defer c.Close()
	if ret, err := c.Programs["p"].Run(&ebpf.RunOptions{Context: request{Peer: peer{Port: 3}}}); err != nil || ret != 1 {
		t.Error(ret, err)
	}
}
