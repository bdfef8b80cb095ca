package skep_test

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep"
)

// Tests of what a hostile object, or a careless caller, can hand in.

var (
	hostU32  = &btf.Int{Name: "u32", Size: 4}
	hostU64  = &btf.Int{Name: "u64", Size: 8}
	hostVoid = &btf.Void{}
)

// namedCall is a call of a kfunc whose parameters the program gives names of its choice.
func namedCall(name string, ret btf.Type, params ...btf.FuncParam) asm.Instruction {
	call := kfuncCall(name, ret)
	proto := &btf.FuncProto{Return: ret, Params: params}
	return btf.WithFuncMetadata(call, &btf.Func{Name: name, Type: proto, Linkage: btf.ExternFunc})
}

func hostile(insns ...asm.Instruction) *ebpf.ProgramSpec {
	return &ebpf.ProgramSpec{Name: "hostile", Type: ebpf.SchedCLS, License: "GPL", Instructions: insns}
}

// within fails the test if f takes longer than any honest input does.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s does not end", what)
	}
}

// TestKfuncNames: what a parameter's name means to the verifier is the host's to say. With the program's names taken at
// their word each of these would reach memory that it does not own.
func TestKfuncNames(t *testing.T) {
	ptr := func(t btf.Type) btf.Type { return &btf.Pointer{Target: t} }
	word, err := skep.NewObject[uint32]()
	if err != nil {
		t.Fatal(err)
	}
	defer word.Free()
	var ks skep.Kfuncs
	for name, fn := range map[string]any{
		"bytes":  func(b []byte) uint32 { return uint32(len(b)) },
		"number": func(p *uint64, n uint32) uint32 { return uint32(*p) },
		"pair":   func() *skep.Object[pair] { return nil },
		"object": func(n uint32) *skep.Object[uint32] { return word },
		"block":  func(p *struct{ A [512]uint8 }) uint32 { p.A[300] = 1; return 0 },
	} {
		if err := ks.Register(name, fn); err != nil {
			t.Fatal(err)
		}
	}
	cPair := &btf.Struct{Name: "pair", Size: 16, Members: []btf.Member{{Name: "a", Type: hostU32}, {Name: "b", Type: hostU32, Offset: 32}, {Name: "sum", Type: hostU64, Offset: 64}}}
	big := &btf.Array{Index: hostU32, Type: &btf.Int{Name: "u8", Size: 1}, Nelems: 512}
	for _, c := range []struct {
		name string
		spec *ebpf.ProgramSpec
		want string
	}{
		{"an ignored pointer before a length", hostile(
			asm.Mov.Imm(asm.R1, 4096), asm.Mov.Imm(asm.R2, 64),
			namedCall("bytes", hostU32, btf.FuncParam{Name: "mem__ign", Type: ptr(hostVoid)}, btf.FuncParam{Name: "len__sz", Type: hostU32}), asm.Return()), "R1 type=scalar"},
		{"NULL with any length", hostile(
			asm.Mov.Imm(asm.R1, 0), asm.Mov.Imm(asm.R2, 1<<20),
			namedCall("bytes", hostU32, btf.FuncParam{Name: "mem__opt", Type: ptr(hostVoid)}, btf.FuncParam{Name: "len__sz", Type: hostU32}), asm.Return()), "R1 type=scalar"},
		{"a number as the length of a structure", hostile(
			asm.Mov.Reg(asm.R1, asm.R10), asm.Add.Imm(asm.R1, -1), asm.Mov.Imm(asm.R2, 1),
			namedCall("number", hostU32, btf.FuncParam{Name: "p", Type: ptr(hostU64)}, btf.FuncParam{Name: "n__sz", Type: hostU32}), asm.Return()), "invalid read from stack R1"},
		{"an ignored pointer", hostile(
			asm.Mov.Imm(asm.R1, 4096), asm.Mov.Imm(asm.R2, 1),
			namedCall("number", hostU32, btf.FuncParam{Name: "p__ign", Type: ptr(hostU64)}, btf.FuncParam{Name: "n", Type: hostU32}), asm.Return()), "R1 type=scalar"},
		{"a number as the size of the result", hostile(
			asm.Mov.Imm(asm.R1, 1<<20), namedCall("object", ptr(hostU32), btf.FuncParam{Name: "rdwr_buf_size", Type: hostU32}),
			asm.StoreImm(asm.R0, 1<<14, 1, asm.Word), asm.Mov.Imm(asm.R0, 0), asm.Return()), "R0 cannot write into rdonly_mem"},
		{"an object as memory of any length", hostile(
			namedCall("pair", ptr(cPair)), asm.Mov.Reg(asm.R1, asm.R0), asm.Mov.Imm(asm.R2, 1<<20),
			namedCall("bytes", hostU32, btf.FuncParam{Name: "p", Type: ptr(cPair)}, btf.FuncParam{Name: "n__sz", Type: hostU32}), asm.Return()), "leads to invalid memory access"},
		{"the context as memory of any length", hostile(
			asm.Mov.Imm(asm.R2, 1<<20),
			namedCall("bytes", hostU32, btf.FuncParam{Name: "p", Type: ptr(&btf.Struct{Name: "__sk_buff", Size: 4, Members: []btf.Member{{Name: "a", Type: hostU32}}})}, btf.FuncParam{Name: "n__sz", Type: hostU32}),
			asm.Return()), "leads to invalid memory access"},
		{"a structure called as the context", hostile(
			namedCall("block", hostU32, btf.FuncParam{Name: "p", Type: ptr(&btf.Struct{Name: "__sk_buff", Size: 512, Members: []btf.Member{{Name: "a", Type: big}}})}),
			asm.Return()), "struct __sk_buff is a context of 192 bytes"},
	} {
		_, err := skep.NewProgramWithOptions(c.spec, skep.Options{Kfuncs: &ks})
		if err == nil {
			t.Errorf("%s: accepted", c.name)
		} else if !strings.Contains(fmt.Sprintf("%+v", err), c.want) {
			t.Errorf("%s: %+v, want %s", c.name, err, c.want)
		}
	}
}

// TestKfuncNullBytes: a pointer that may be NULL passes for memory of any length, as in the kernel; the Go function gets an
// empty slice, not one that starts at address 0.
func TestKfuncNullBytes(t *testing.T) {
	var ks skep.Kfuncs
	if err := ks.Register("bytes", func(b []byte) uint32 { return uint32(len(b)) }); err != nil {
		t.Fatal(err)
	}
	if err := ks.Register("many", func(a, b, c, d uint64, e []byte, f, g, h, i []byte) uint32 { return uint32(len(e)) }); err == nil {
		t.Fatal("fourteen parameters") // only as a reminder that reflection has its own way, below
	}
	if err := ks.Register("reflected", func(a, b, c, d, e, f, g, h uint64, m []byte) uint32 { return uint32(len(m)) }); err != nil {
		t.Fatal(err)
	}
	m, err := skep.NewMap(&ebpf.MapSpec{Name: "h", Type: ebpf.Hash, KeySize: 4, ValueSize: 64, MaxEntries: 4})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	lookup := func() asm.Instruction {
		ins := asm.LoadMapPtr(asm.R1, 0)
		if err := ins.AssociateMap(m); err != nil {
			t.Fatal(err)
		}
		return ins
	}
	program := hostile(asm.StoreImm(asm.R10, -4, 7, asm.Word), asm.Mov.Reg(asm.R2, asm.R10), asm.Add.Imm(asm.R2, -4), lookup(), asm.FnMapLookupElem.Call(),
		asm.Mov.Reg(asm.R1, asm.R0), asm.Mov.Imm(asm.R2, 64), kfuncCall("bytes", hostU32, &btf.Pointer{Target: hostVoid}, hostU32), asm.Return())
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		p, err := skep.NewProgramWithOptions(program, skep.Options{Engine: e, Kfuncs: &ks})
		if err != nil {
			t.Fatalf("%+v", err)
		}
		defer p.Close()
		for _, want := range []uint32{0, 64} {
			if ret, _, err := p.Test(make([]byte, 64)); err != nil || ret != want {
				t.Errorf("%d bytes, %v, want %d", ret, err, want)
			}
			if err := m.Put(uint32(7), make([]byte, 64)); err != nil {
				t.Fatal(err)
			}
		}
		if err := m.Delete(uint32(7)); err != nil {
			t.Fatal(err)
		}
	})
}

// TestUnverifiedCalls: without a proof nothing says that an address given to a helper or kfunc is the program's.
func TestUnverifiedCalls(t *testing.T) {
	var ks skep.Kfuncs
	if err := ks.Register("number", func(p *uint64) uint32 { return uint32(*p) }); err != nil {
		t.Fatal(err)
	}
	if err := ks.Register("scalar", func(n uint64) uint32 { return uint32(n) + 1 }); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		call asm.Instruction
		want string
	}{
		{asm.FnMapLookupElem.Call(), "helper map_lookup_elem takes an address"},
		{asm.FnGetCurrentComm.Call(), "helper get_current_comm takes an address"},
		{kfuncCall("number", hostU32, &btf.Pointer{Target: hostU64}), "kfunc number takes an address"},
		{kfuncCall("bpf_dynptr_size", hostU32, &btf.Pointer{Target: &btf.Struct{Name: "bpf_dynptr", Size: 16}}), "kfunc bpf_dynptr_size takes an address"},
		{asm.FnRingbufSubmit.Call(), "helper ringbuf_submit takes an address"},
		{asm.FnDynptrData.Call(), "helper dynptr_data takes an address"},
		{kfuncCall("scalar", hostU32, hostU64), ""},
		{asm.FnKtimeGetNs.Call(), ""},
	} {
		spec := hostile(asm.Mov.Imm(asm.R1, 1<<20), asm.Mov.Imm(asm.R2, 16), c.call, asm.Mov.Imm(asm.R9, 1), asm.LoadMem(asm.R9, asm.R9, 0, asm.Byte), asm.Return())
		p, err := skep.NewProgramWithOptions(spec, skep.Options{Kfuncs: &ks}.Unverified())
		if c.want != "" {
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %s", err, c.want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%+v", err)
			continue
		}
		var fault *skep.Fault
		if _, _, err := p.Test(make([]byte, 64)); !errors.As(err, &fault) {
			t.Error(err)
		}
		p.Close()
	}
}

// TestNoObject: a kfunc that did not say that it may return nothing, and does.
func TestNoObject(t *testing.T) {
	var ks skep.Kfuncs
	if err := ks.Register("big", func() *skep.Object[[8 << 20]uint8] { return nil }); err != nil {
		t.Fatal(err)
	}
	big := &btf.Pointer{Target: &btf.Array{Index: hostU32, Type: &btf.Int{Name: "u8", Size: 1}, Nelems: 8 << 20}}
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		p, err := skep.NewProgramWithOptions(hostile(kfuncCall("big", big), asm.Add.Imm(asm.R0, 0x401000), asm.LoadMem(asm.R0, asm.R0, 0, asm.Word), asm.Return()),
			skep.Options{Engine: e, Kfuncs: &ks})
		if err != nil {
			t.Fatalf("%+v", err)
		}
		defer p.Close()
		if ret, _, err := p.Test(make([]byte, 64)); err == nil || !strings.Contains(err.Error(), "returned no object") {
			t.Errorf("%#x, %v", ret, err)
		}
	})
}

// oddContext marshals to bytes, but nobody can say how many before it has.
type oddContext struct {
	Text string
	n    int
}

func (o oddContext) MarshalBinary() ([]byte, error) { return make([]byte, o.n), nil }

// TestOddContexts: contexts that encode to other sizes than they seem to have.
func TestOddContexts(t *testing.T) {
	p, err := skep.NewProgram(&ebpf.ProgramSpec{Name: "sys", Type: ebpf.Syscall, Flags: 1 << 4, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	defer p.Close()
	type large struct {
		_ bool
		B [100_000]bool
	}
	for _, o := range []*ebpf.RunOptions{
		{Context: oddContext{n: 8}, ContextOut: &oddContext{}},
		{Context: oddContext{n: 8}, ContextOut: &large{}},
		{Context: &large{}, ContextOut: &large{}},
		{Context: oddContext{n: 70_000}},
		{ContextOut: &oddContext{}},
	} {
		_, err := p.Run(o)
		t.Log(err) // no panic is all that is asked
	}
	out := make([]byte, 8)
	if _, err := p.Run(&ebpf.RunOptions{Context: oddContext{n: 8}, ContextOut: out}); err != nil {
		t.Error(err)
	}
}

// TestStaleContext: a program that another tail-calls may look further into the context than the first does, where earlier
// runs left their bytes.
func TestStaleContext(t *testing.T) {
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		load := func(name string, insns ...asm.Instruction) *skep.Program {
			p, err := skep.NewProgramWithOptions(&ebpf.ProgramSpec{Name: name, Type: ebpf.RawTracepoint, License: "GPL", Instructions: insns}, skep.Options{Engine: e})
			if err != nil {
				t.Fatalf("%+v", err)
			}
			t.Cleanup(func() { p.Close() })
			return p
		}
		arr, err := skep.NewMap(&ebpf.MapSpec{Name: "progs", Type: ebpf.ProgramArray, KeySize: 4, ValueSize: 4, MaxEntries: 1})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { arr.Close() })
		look := load("look", asm.LoadMem(asm.R0, asm.R1, 88, asm.Word), asm.Return())
		progs := asm.LoadMapPtr(asm.R2, 0)
		if err := progs.AssociateMap(arr); err != nil {
			t.Fatal(err)
		}
		first := load("first", progs, asm.Mov.Imm(asm.R3, 0), asm.FnTailCall.Call(), asm.Mov.Imm(asm.R0, 1), asm.Return())
		if err := arr.Put(uint32(0), look); err != nil {
			t.Fatal(err)
		}
		secret := make([]byte, 96)
		for i := range secret {
			secret[i] = 0xee
		}
		for range 2 * skep.PossibleCPUs() {
			if ret, err := look.Run(&ebpf.RunOptions{Context: secret}); err != nil || ret != 0xeeeeeeee {
				t.Fatal(ret, err)
			}
			var fault *skep.Fault
			if ret, err := first.Run(&ebpf.RunOptions{Context: make([]byte, 8)}); ret != 0 || err != nil && !errors.As(err, &fault) {
				t.Fatalf("%#x, %v", ret, err)
			}
		}
	})
}

// TestNilProgram stores nil pointers of every kind in a program array.
func TestNilProgram(t *testing.T) {
	arr, err := skep.NewMap(&ebpf.MapSpec{Name: "progs", Type: ebpf.ProgramArray, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer arr.Close()
	for _, v := range []any{nil, (*skep.Program)(nil), (*skep.Map)(nil), (*uint32)(nil)} {
		if arr.Put(uint32(0), v) == nil {
			t.Errorf("%T was stored", v)
		}
	}
	if _, err := skep.NewMap(&ebpf.MapSpec{Name: "progs", Type: ebpf.ProgramArray, KeySize: 4, ValueSize: 4, MaxEntries: 1<<32 - 1}); err == nil {
		t.Error("an array whose Go half would take 32 GiB")
	}
}

// TestHostileTypes: BTF whose types contain themselves, or each other a hundred times over eight levels.
func TestHostileTypes(t *testing.T) {
	self := &btf.Struct{Name: "self", Size: 8}
	for range 200 {
		self.Members = append(self.Members, btf.Member{Name: "m", Type: self})
	}
	var deep btf.Type = hostU32
	for i := range 12 {
		s := &btf.Struct{Name: fmt.Sprint("s", i), Size: 4}
		for range 100 {
			s.Members = append(s.Members, btf.Member{Name: "m", Type: deep})
		}
		deep = s
	}
	def := &btf.Typedef{Name: "def"}
	def.Type = def
	tag := &btf.TypeTag{Value: "x"}
	tag.Type = tag
	circle := &btf.Pointer{}
	circle.Target = circle
	types := []btf.Type{self, deep, def, &btf.Const{Type: def}, &btf.Pointer{Target: tag}, circle, &btf.Array{Index: hostU32, Type: deep, Nelems: 3},
		nil, &btf.Pointer{}, &btf.Const{}, &btf.Typedef{}, &btf.Array{}, &btf.Struct{Members: []btf.Member{{}}},
		&btf.Pointer{Target: self}, &btf.Pointer{Target: deep}, &btf.Pointer{Target: def}, &btf.Pointer{Target: &btf.Const{Type: def}}}
	var ks skep.Kfuncs
	for name, fn := range map[string]any{"f": func(*uint32) {}, "g": func(uint32) {}, "h": func(uintptr) {}} {
		if err := ks.Register(name, fn); err != nil {
			t.Fatal(err)
		}
	}
	for i, typ := range types {
		within(t, fmt.Sprintf("type %d", i), func() {
			if m, err := skep.NewMap(&ebpf.MapSpec{Name: "m", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1, Value: typ}); err == nil {
				ld := asm.LoadMapPtr(asm.R1, 0)
				if err := ld.AssociateMap(m); err != nil {
					t.Error(err)
				}
				if p, err := skep.NewProgram(hostile(ld, asm.Mov.Imm(asm.R0, 0), asm.Return())); err == nil {
					p.Close()
				}
				m.Close()
			}
			for _, name := range []string{"f", "g", "h"} {
				if p, err := skep.NewProgramWithOptions(hostile(asm.Mov.Reg(asm.R1, asm.R10), asm.Add.Imm(asm.R1, -8), kfuncCall(name, hostVoid, typ), asm.Mov.Imm(asm.R0, 0), asm.Return()),
					skep.Options{Kfuncs: &ks}); err == nil {
					p.Close()
				}
			}
			fn := &btf.Func{Name: "sub", Type: &btf.FuncProto{Return: hostU32, Params: []btf.FuncParam{{Name: "a", Type: typ}}}, Linkage: btf.GlobalFunc}
			main := asm.Instructions{asm.Mov.Imm(asm.R1, 0), asm.Call.Label("sub"), asm.Return()}
			sub := asm.Instructions{asm.Mov.Imm(asm.R0, 0).WithSymbol("sub"), asm.Return()}
			sub[0] = btf.WithFuncMetadata(sub[0], fn)
			if p, err := skep.NewProgram(hostile(append(main, sub...)...)); err == nil {
				p.Close()
			}
		})
	}
}

// TestBackwardChain: a program whose blocks stand in reverse order.
func TestBackwardChain(t *testing.T) {
	const n = 400_000
	insns := make(asm.Instructions, 0, n+2)
	jump := func(off int16) asm.Instruction {
		return asm.Instruction{OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(asm.Ja), Offset: off}
	}
	long := asm.Instruction{OpCode: asm.OpCode(asm.Jump32Class).SetJumpOp(asm.Ja), Constant: n}
	insns = append(insns, asm.Mov.Imm(asm.R0, 0), long, asm.Return())
	for range n {
		insns = append(insns, jump(-2))
	}
	within(t, "loading", func() {
		p, err := skep.NewProgram(hostile(insns...))
		if err != nil {
			t.Log(err)
			return
		}
		p.Close()
	})
}

// TestCancelNested: a run that a kfunc started ends with the run that called the kfunc.
func TestCancelNested(t *testing.T) {
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		loop := asm.Instructions{
			asm.Mov.Imm(asm.R0, 0).WithSymbol("again"),
			{OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(0xe0), Offset: 1},
			asm.Ja.Label("again"), asm.Return(),
		}
		// eight million rounds of eight million rounds
		outer := asm.Instructions{
			asm.Call.Label("inner").WithSymbol("more"),
			{OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(0xe0), Offset: 1},
			asm.Ja.Label("more"), asm.Mov.Imm(asm.R0, 0), asm.Return(),
			asm.Mov.Imm(asm.R0, 0).WithSymbol("inner"),
		}
		insns := append(append(asm.Instructions{}, outer...), loop...)
		long, err := skep.NewProgramWithOptions(hostile(insns...), skep.Options{Engine: e})
		if err != nil {
			t.Fatalf("%+v", err)
		}
		defer long.Close()
		var ks skep.Kfuncs
		var inner error
		if err := ks.Register("nested", func(c skep.Caller) uint32 {
			_, inner = c.Run(long, &ebpf.RunOptions{Data: make([]byte, 64)})
			return 0
		}); err != nil {
			t.Fatal(err)
		}
		p, err := skep.NewProgramWithOptions(hostile(kfuncCall("nested", hostU32), asm.Return()), skep.Options{Engine: e, Kfuncs: &ks})
		if err != nil {
			t.Fatalf("%+v", err)
		}
		defer p.Close()
		within(t, "the run", func() {
			ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
			defer cancel()
			_, err := p.RunContext(ctx, &ebpf.RunOptions{Data: make([]byte, 64)})
			if !errors.Is(inner, context.DeadlineExceeded) {
				t.Errorf("nested run: %v, run: %v", inner, err)
			}
		})
		// a program that never looks, again and again
		straight, err := skep.NewProgramWithOptions(hostile(asm.Mov.Imm(asm.R0, 0), asm.Return()), skep.Options{Engine: e})
		if err != nil {
			t.Fatalf("%+v", err)
		}
		defer straight.Close()
		within(t, "repeating", func() {
			ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
			defer cancel()
			if _, err := straight.RunContext(ctx, &ebpf.RunOptions{Data: make([]byte, 64), Repeat: 1<<32 - 1}); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		})
		// all slots are taken: waiting for one ends, too
		within(t, "waiting", func() {
			ctx, cancel := context.WithCancel(context.Background())
			var wg sync.WaitGroup
			for range skep.PossibleCPUs() {
				wg.Go(func() { _, _ = long.RunContext(ctx, &ebpf.RunOptions{Data: make([]byte, 64)}) })
			}
			time.Sleep(50 * time.Millisecond)
			short, stop := context.WithTimeout(context.Background(), 50*time.Millisecond)
			defer stop()
			if _, err := long.RunContext(short, &ebpf.RunOptions{Data: make([]byte, 64)}); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			cancel()
			wg.Wait()
		})
	})
}

// TestMapNumbers: a number in an instruction reaches a map only after somebody was told the number, and never from a file.
func TestMapNumbers(t *testing.T) {
	m, err := skep.NewMap(&ebpf.MapSpec{Name: "secret", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	tryAll := func() (reached int) {
		for fd := 1 << 30; fd < 1<<30+4096; fd++ {
			spec := &ebpf.ProgramSpec{Type: ebpf.SocketFilter, License: "GPL", Instructions: asm.Instructions{
				asm.LoadMapPtr(asm.R1, fd), asm.Mov.Imm(asm.R0, 0), asm.Return(),
			}}
			if p, err := skep.NewProgram(spec); err == nil {
				p.Close()
				reached++
			} else if !strings.Contains(err.Error(), "is not pointing to valid bpf_map") {
				t.Fatal(err)
			}
		}
		return reached
	}
	before := tryAll()
	fd := m.FD()
	if after := tryAll(); after != before+1 {
		t.Errorf("numbers that reach a map: %d, then %d", before, after)
	}
	_, err = skep.NewCollection(objectWithMapNumber(t, int32(fd)))
	if want := fmt.Sprintf("fd %d is not pointing to valid bpf_map", fd); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("an object reached map %d: %v", fd, err)
	}
}

// objectWithMapNumber is testdata/globals.o with the number in its first instruction, whose relocation goes elsewhere.
func objectWithMapNumber(t *testing.T, fd int32) *ebpf.CollectionSpec {
	t.Helper()
	b, err := os.ReadFile("testdata/globals.o")
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	code, rel := f.Section("socket").Offset, f.Section(".relsocket").Offset
	if b[code] != 0x18 || binary.LittleEndian.Uint64(b[rel:]) != 0 {
		t.Fatal("another first instruction or relocation than this test knows")
	}
	binary.LittleEndian.PutUint64(b[rel:], 3*8)
	b[code+1] |= 1 << 4 // BPF_PSEUDO_MAP_FD
	binary.LittleEndian.PutUint32(b[code+4:], uint32(fd))
	spec, err := skep.LoadCollectionSpecFromReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return spec
}
