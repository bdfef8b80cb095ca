package lower_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-bpf/skep/internal/asmtext"
	"github.com/skep-bpf/skep/internal/interp"
	"github.com/skep-bpf/skep/internal/ir"
	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/lower"
	"github.com/skep-bpf/skep/internal/offheap"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/internal/progtype"
	"github.com/skep-bpf/skep/internal/rt"
	"github.com/skep-bpf/skep/verifier"
)

func parse(t *testing.T, src string) *program.Program {
	t.Helper()
	p, err := asmtext.Program(src, asmtext.ProgramOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// handles are what the tests' helpers and Go kfuncs are bound to; nothing runs through them.
const (
	helperHandle = 1000
	kfuncHandle  = 2000
	kfuncAddr    = 0x1234000
	mapHandle    = 0x100000
	mapValues    = 0x200000
)

// env binds every map to an address of its own and every helper to its number.
func env(p *program.Program) *lower.Env {
	e := &lower.Env{Helper: func(id int32) (rt.Handle, bool) { return helperHandle + rt.Handle(id), id < 500 }}
	for i, m := range p.Maps {
		b := lower.MapBinding{Handle: mapHandle + uint64(i), MaxEntries: m.MaxEntries, ValueSize: m.ValueSize, Stride: (m.ValueSize + 7) &^ 7}
		switch m.Type.String() {
		case "Array":
			b.Kind, b.Values = ir.MapArray, mapValues+uint64(i)<<16
		case "PerCPUArray":
			b.Kind, b.Values = ir.MapPerCPUArray, mapValues+uint64(i)<<16
		case "ProgramArray":
			b.Kind, b.Values = ir.MapProgArray, mapValues+uint64(i)<<16
		}
		e.Maps = append(e.Maps, b)
	}
	for i := range p.Kfuncs {
		e.Kfuncs = append(e.Kfuncs, lower.KfuncBinding{Handle: kfuncHandle + rt.Handle(i)})
	}
	return e
}

// proof makes the facts of a program of which every instruction is live.
func proof(p *program.Program) *verifier.Result {
	r := &verifier.Result{Insns: make([]verifier.InsnFact, len(p.Insns)), Funcs: make([]verifier.FuncFact, len(p.Funcs))}
	for i := range r.Insns {
		r.Insns[i] = verifier.InsnFact{Seen: true, Ptr: verifier.PtrMem, Map: -1, TailCallIndex: -1}
	}
	return r
}

// show prints a lowered program, an instruction a line, in a short form.
func show(p *ir.Program) string {
	var b strings.Builder
	for i, f := range p.Funcs {
		fmt.Fprintf(&b, "func %d stack=%d in=%d out=%d\n", i, f.Stack, f.InArgs, f.OutArgs)
		for k := f.Start; k < f.End; k++ {
			in := p.Insns[k]
			fmt.Fprintf(&b, "%d: %s\n", k, short(in))
		}
	}
	return b.String()
}

func short(in ir.Insn) string {
	v := fmt.Sprintf("r%d", in.Src)
	if in.UseImm() {
		v = fmt.Sprintf("%#x", in.Imm)
	}
	switch in.Op {
	case ir.Load, ir.LoadAcquire:
		return fmt.Sprintf("r%d = %v%d [r%d%+d] signed=%v", in.Dst, in.Op, in.W*8, in.Src, in.Off, in.Signed())
	case ir.Store, ir.StoreRelease:
		return fmt.Sprintf("%v%d [r%d%+d] = %s", in.Op, in.W*8, in.Dst, in.Off, v)
	case ir.SetThrown:
		return fmt.Sprintf("%v %d", in.Op, in.Imm)
	case ir.Jmp, ir.MayGoto, ir.IfThrown:
		return fmt.Sprintf("%v %d", in.Op, in.Off)
	case ir.Jcc:
		return fmt.Sprintf("if%d r%d cond%d %s jmp %d", in.W*8, in.Dst, in.Sub, v, in.Off)
	case ir.Call:
		return fmt.Sprintf("call %d", in.Off)
	case ir.CallHost, ir.CallNative:
		return fmt.Sprintf("%v %#x args=%d", in.Op, in.Imm, in.Sub)
	case ir.ArgLoad:
		return fmt.Sprintf("r%d = arg%d", in.Dst, in.Sub)
	case ir.ArgStore:
		return fmt.Sprintf("arg%d = %s", in.Sub, v)
	case ir.ArgExt:
		return fmt.Sprintf("arg%d ext%d signed=%v", in.Sub, in.W*8, in.Signed())
	case ir.Zext, ir.Sext:
		return fmt.Sprintf("r%d = %v%d r%d", in.Dst, in.Op, in.Sub*8, in.Src)
	case ir.ArrayLookup, ir.TailCall:
		return fmt.Sprintf("%v map%d", in.Op, in.Off)
	case ir.Exit, ir.Yield, ir.Trap, ir.CPU:
		return in.Op.String()
	}
	if in.Op.IsAtomic() {
		return fmt.Sprintf("%v%d [r%d%+d] r%d fetch=%v", in.Op, in.W*8, in.Dst, in.Off, in.Src, in.Fetch())
	}
	return fmt.Sprintf("%v%d r%d, %s", in.Op, in.W*8, in.Dst, v)
}

func check(t *testing.T, got *ir.Program, err error, want string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(want), "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	if d := cmp.Diff(strings.Join(lines, "\n")+"\n", show(got)); d != "" {
		t.Error(d)
	}
}

func TestStackArguments(t *testing.T) {
	p := parse(t, `
.func long main()
	*(u64 *)(r11 - 8) = 6
	r6 = 7
	*(u64 *)(r11 - 16) = r6
	call f
	exit
.func f args=7
	r0 = *(u64 *)(r11 + 8)
	r1 = *(u64 *)(r11 + 16)
	r0 += r1
	exit
`)
	got, err := lower.Lower(p, nil, env(p))
	check(t, got, err, `
		func 0 stack=512 in=0 out=2
		0: arg6 = 0x6
		1: mov64 r6, 0x7
		2: arg7 = r6
		3: call 1
		4: exit
		func 1 stack=512 in=2 out=0
		5: r0 = arg6
		6: r1 = arg7
		7: add64 r0, r1
		8: exit`)
}

// TestKfuncs: a native function's arguments and result are extended by their types, a Go function's are not.
func TestKfuncs(t *testing.T) {
	p := parse(t, `
.kfunc int f(int a, unsigned char b, long c, unsigned short d, unsigned int e, signed char f, unsigned short g, long h)
	*(u64 *)(r11 - 8) = 6
	*(u64 *)(r11 - 16) = 7
	*(u64 *)(r11 - 24) = 8
	call f
	exit
`)
	e := env(p)
	e.Kfuncs[0].Args = []lower.Ext{{4, true}, {1, false}, {8, true}, {2, false}, {4, false}, {1, true}, {2, false}, {8, false}}
	e.Kfuncs[0].Result = lower.Ext{Bytes: 4, Signed: true}
	got, err := lower.Lower(p, nil, e)
	check(t, got, err, `
		func 0 stack=512 in=0 out=3
		0: arg6 = 0x6
		1: arg7 = 0x7
		2: arg8 = 0x8
		3: call_host 0x7d0 args=8
		4: exit`)
	e.Kfuncs[0].Native = kfuncAddr
	got, err = lower.Lower(p, nil, e)
	check(t, got, err, `
		func 0 stack=512 in=0 out=3
		0: arg6 = 0x6
		1: arg7 = 0x7
		2: arg8 = 0x8
		3: r1 = sext32 r1
		4: r2 = zext8 r2
		5: r4 = zext16 r4
		6: r5 = zext32 r5
		7: arg6 ext8 signed=true
		8: arg7 ext16 signed=false
		9: call_native 0x1234000 args=8
		10: r0 = sext32 r0
		11: exit`)
}

const lookup = `
.map values array 4 20 10
	r6 = *(u32 *)(r1 + 0)
	*(u32 *)(r10 - 4) = KEY
	*(u64 *)(r10 - 16) = 1
	r2 = r10
	r2 += -4
	r1 = map[values] ll
	call 1
	if r0 == 0 goto out
	r0 = *(u64 *)(r0 + 0)
out:
	exit
`

func TestArrayLookup(t *testing.T) {
	p := parse(t, strings.Replace(lookup, "KEY", "r6", 1))
	res := proof(p)
	const call = 7
	res.Insns[call].Map = 0
	got, err := lower.Lower(p, res, env(p))
	if err != nil || !got.Insns[3].KeyInReg() || got.Insns[3].Src != 6 {
		t.Error("the key is not taken from r6")
	}
	check(t, got, err, `
		func 0 stack=0 in=0 out=0
		0: r6 = load32 [r1+0] signed=false
		1: store32 [r10-4] = r6
		2: store64 [r10-16] = 0x1
		3: array_lookup map0
		4: if64 r0 cond0 0x0 jmp 6
		5: r0 = load64 [r0+0] signed=false
		6: exit`)

	found := `
		func 0 stack=0 in=0 out=0
		0: r6 = load32 [r1+0] signed=false
		1: store32 [r10-4] = KEY
		2: store64 [r10-16] = 0x1
		3: mov64 r0, 0x200048
		4: r0 = load64 [r0+0] signed=false
		5: exit`
	missing := `
		func 0 stack=0 in=0 out=0
		0: r6 = load32 [r1+0] signed=false
		1: store32 [r10-4] = KEY
		2: store64 [r10-16] = 0x1
		3: mov64 r0, 0x0
		4: exit`
	for key, want := range map[uint32]string{3: found, 10: missing} {
		res.Insns[call].HasConstKey, res.Insns[call].ConstKey = true, key
		got, err = lower.Lower(p, res, env(p))
		check(t, got, err, strings.Replace(want, "KEY", "r6", 1))
		res.Insns[call].HasConstKey = false
		q := parse(t, strings.Replace(lookup, "KEY", fmt.Sprint(key), 1)) // without the fact: the store tells
		got, err = lower.Lower(q, res, env(q))
		check(t, got, err, strings.Replace(want, "KEY", fmt.Sprintf("%#x", key), 1))
	}

	e := env(p)
	e.Exact = true // nothing may be dropped, but the lookup is still one
	if got, err = lower.Lower(p, res, e); err != nil || len(got.Insns) != 10 || got.Insns[6].KeyInReg() {
		t.Error(show(got), err)
	}

	res.Insns[call].Map = -1 // several maps come here
	got, err = lower.Lower(p, res, env(p))
	check(t, got, err, `
		func 0 stack=0 in=0 out=0
		0: r6 = load32 [r1+0] signed=false
		1: store32 [r10-4] = r6
		2: store64 [r10-16] = 0x1
		3: mov64 r2, r10
		4: add64 r2, -0x4
		5: mov64 r1, 0x100000
		6: call_host 0x3e9 args=5
		7: if64 r0 cond0 0x0 jmp 9
		8: r0 = load64 [r0+0] signed=false
		9: exit`)
}

// TestKeyNotPlain: where something between store and lookup may change the key, it is read from memory.
func TestKeyNotPlain(t *testing.T) {
	for _, between := range []string{
		"r6 = 5", "*(u8 *)(r10 - 2) = 1", "*(u64 *)(r10 - 8) = 1", "*(u32 *)(r7 + 0) = 1", "lock *(u32 *)(r10 - 4) += r6", "call 7",
		"if r6 == 3 goto +0", "*(u16 *)(r10 - 4) = 1",
	} {
		p := parse(t, strings.Replace(strings.Replace(lookup, "KEY", "r6", 1), "r2 = r10", between+"\n\tr2 = r10", 1))
		res := proof(p)
		for pc := range p.Insns {
			if p.Insns[pc].IsHelperCall() && p.Insns[pc].Imm == 1 {
				res.Insns[pc].Map = 0
			}
		}
		got, err := lower.Lower(p, res, env(p))
		if err != nil {
			t.Fatal(err)
		}
		for _, in := range got.Insns {
			if in.Op == ir.ArrayLookup && in.KeyInReg() {
				t.Errorf("%s: the key is taken from a register", between)
			}
		}
	}
}

// TestKeyBeforeMap: the key's register gets the map between store and call, as compilers do it; nobody reads the map once
// the lookup is inlined. Where somebody does, the key comes from memory.
func TestKeyBeforeMap(t *testing.T) {
	for between, want := range map[string]bool{"r3 = 5": true, "r3 = r1": false} {
		src := strings.Replace(lookup, "KEY", "r1", 1)
		p := parse(t, strings.Replace(src, "call 1", between+"\n\tcall 1", 1))
		res := proof(p)
		for pc := range p.Insns {
			if p.Insns[pc].IsHelperCall() && p.Insns[pc].Imm == 1 {
				res.Insns[pc].Map = 0
			}
		}
		got, err := lower.Lower(p, res, env(p))
		if err != nil {
			t.Fatal(err)
		}
		inReg := false
		for _, in := range got.Insns {
			inReg = inReg || in.Op == ir.ArrayLookup && in.KeyInReg() && in.Src == 1
			if want && in.Op == ir.Mov && in.Dst == 1 && in.UseImm() {
				t.Errorf("%s: r1 is overwritten: %+v", between, in)
			}
		}
		if inReg != want {
			t.Errorf("%s: key in r1: %v, want %v", between, inReg, want)
		}
	}
}

// TestFacts: dead code goes, decided branches are folded, functions nobody calls vanish.
func TestFacts(t *testing.T) {
	p := parse(t, `
	r6 = 1
	if r6 == 1 goto yes
	r0 = 5
	call dead
	exit
yes:
	if r6 == 2 goto no
	call alive
no:
	exit
dead:
	r0 = 1
	exit
alive:
	r0 = 2
	exit
`)
	res := proof(p)
	for i := range p.Insns {
		if i >= 2 && i < 5 || i >= 8 && i < 10 {
			res.Insns[i].Seen = false
		}
	}
	res.Insns[1].Branch = verifier.BranchAlways
	res.Insns[5].Branch = verifier.BranchNever
	got, err := lower.Lower(p, res, env(p))
	check(t, got, err, `
		func 0 stack=0 in=0 out=0
		0: call 1
		1: exit
		func 1 stack=0 in=0 out=0
		2: mov64 r0, 0x2
		3: exit`)
}

func TestContext(t *testing.T) {
	p := parse(t, `
.type xdp
	r2 = *(u32 *)(r1 + 0)
	r3 = *(u32 *)(r1 + 4)
	r4 = *(u32 *)(r1 + 12)
	r0 = *(u32 *)(r2 + 0)
	r0 += r2
	r0 += r3
	r0 += r4
	exit
`)
	res := proof(p)
	for i := range 3 {
		res.Insns[i].Ptr = verifier.PtrCtx
	}
	res.Insns[3].Ptr = verifier.PtrPacket
	got, err := lower.Lower(p, res, env(p))
	check(t, got, err, `
		func 0 stack=0 in=0 out=0
		0: r2 = load64 [r1+256] signed=false
		1: r3 = load64 [r1+264] signed=false
		2: r4 = load32 [r1+12] signed=false
		3: r0 = load32 [r2+0] signed=false
		4: add64 r0, r2
		5: add64 r0, r3
		6: add64 r0, r4
		7: exit`)
}

// TestLoops: a yield point stands where a loop comes round, once for each such place.
func TestLoops(t *testing.T) {
	p := parse(t, `
	r0 = 0
again:
	r0 += 1
	if r0 == 5 goto again
	if r0 < 10 goto again
	if r0 == 11 goto out
	r0 = 0
out:
	exit
`)
	res := proof(p)
	res.Stats.Processed = 100 // the whole walk was short: no yield points
	got, err := lower.Lower(p, res, env(p))
	if err != nil || strings.Contains(show(got), "yield") {
		t.Error(show(got), err)
	}
	res.Stats.Processed = 100_000
	got, err = lower.Lower(p, res, env(p))
	check(t, got, err, `
		func 0 stack=0 in=0 out=0
		0: mov64 r0, 0x0
		1: yield
		2: add64 r0, 0x1
		3: if64 r0 cond0 0x5 jmp 1
		4: if64 r0 cond4 0xa jmp 1
		5: if64 r0 cond0 0xb jmp 7
		6: mov64 r0, 0x0
		7: exit`)
}

func TestOperations(t *testing.T) {
	p := parse(t, `
	r1 = be16 r1
	r2 = le32 r2
	r3 = bswap64 r3
	r4 = le64 r4
	w5 = (s8)w1
	r5 = (s32)r1
	r6 = *(s16 *)(r10 - 8)
	r6 s/= r5
	w6 s%= 7
	lock *(u64 *)(r10 - 8) += r6
	r6 = atomic_fetch_or((u32 *)(r10 - 8), r6)
	r0 = cmpxchg_64(r10 - 8, r0, r6)
	if w1 s< 5 goto +0
	if r1 & 8 goto +0
	r0 = r6
	exit
`)
	e := env(p)
	e.Exact = true
	got, err := lower.Lower(p, nil, e)
	check(t, got, err, `
		func 0 stack=512 in=0 out=0
		0: bswap16 r1, r1
		1: r2 = zext32 r2
		2: bswap64 r3, r3
		3: r5 = sext8 r1
		4: r5 = sext32 r1
		5: r6 = load16 [r10-8] signed=true
		6: sdiv64 r6, r5
		7: smod32 r6, 0x7
		8: atomic_add64 [r10-8] r6 fetch=false
		9: atomic_or32 [r10-8] r6 fetch=true
		10: atomic_cmpxchg64 [r10-8] r6 fetch=false
		11: if32 r1 cond8 0x5 jmp 12
		12: if64 r1 cond10 0x8 jmp 13
		13: mov64 r0, r6
		14: exit`)
}

func TestTailCall(t *testing.T) {
	p := parse(t, `
.map progs prog_array 4 4 8
	r2 = map[progs] ll
	r3 = 5
	call 12
	r0 = 1
	exit
`)
	got, err := lower.Lower(p, nil, env(p))
	check(t, got, err, `
		func 0 stack=512 in=0 out=0
		0: mov64 r3, 0x5
		1: tail_call map0
		2: mov64 r0, 0x1
		3: exit`)
}

// TestTailCallMixed: which of two arrays is meant is decided when it runs.
func TestTailCallMixed(t *testing.T) {
	p := parse(t, `
.map one prog_array 4 4 8
.map two prog_array 4 4 8
	r2 = map[one] ll
	if r1 == 0 goto go
	r2 = map[two] ll
go:
	r3 = 5
	call 12
	r0 = 1
	exit
`)
	got, err := lower.Lower(p, nil, env(p))
	check(t, got, err, `
		func 0 stack=512 in=0 out=0
		0: mov64 r2, 0x100000
		1: if64 r1 cond0 0x0 jmp 3
		2: mov64 r2, 0x100001
		3: mov64 r3, 0x5
		4: mov64 r5, 0x100000
		5: if64 r2 cond1 r5 jmp 7
		6: tail_call map0
		7: mov64 r5, 0x100001
		8: if64 r2 cond1 r5 jmp 10
		9: tail_call map1
		10: mov64 r0, 0x1
		11: exit`)
}

// TestTailCallJoined: the paths meet at the call itself, so the load in front of it is not the only one.
func TestTailCallJoined(t *testing.T) {
	p := parse(t, `
.map one prog_array 4 4 8
.map two prog_array 4 4 8
	r3 = 5
	r2 = map[one] ll
	if r1 == 0 goto go
	r2 = map[two] ll
go:
	call 12
	r0 = 1
	exit
`)
	got, err := lower.Lower(p, nil, env(p))
	if err != nil || strings.Count(show(got), "tail_call") != 2 {
		t.Error(show(got), err)
	}
}

// TestRefusals: what cannot be lowered is named.
func TestRefusals(t *testing.T) {
	for src, want := range map[string]string{
		"call 600\nexit": "program prog: instruction 0: helper unknown#600: known to the verifier, but without a runtime yet: not supported",
		".kfunc long f(long a) unresolved\n call f\nexit": "kfunc f is not registered",
		"r1 = 5\n call 12\n exit":                         "tail call: the program names no program array",
	} {
		p := parse(t, src)
		e := env(p)
		for i := range e.Kfuncs {
			e.Kfuncs[i] = lower.KfuncBinding{}
		}
		if _, err := lower.Lower(p, nil, e); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", src, err, want)
		}
	}
	p := parse(t, "r0 = *(u64 *)(r1 + 0)\nexit")
	res := proof(p)
	for _, k := range []verifier.PtrKind{verifier.PtrNone, verifier.PtrBTFUntrusted, verifier.PtrArena, 200} {
		res.Insns[0].Ptr = k
		if _, err := lower.Lower(p, res, env(p)); !errors.Is(err, lower.ErrNoRuntime) || !strings.Contains(err.Error(), "only verified") {
			t.Error(k, err)
		}
	}
	p.Insns[0] = isa.Insn{Op: isa.ClassLD | isa.ModeIMM | isa.SizeDW, Src: isa.PseudoBTFID}
	p.Insns = []isa.Insn{p.Insns[0], {}, p.Insns[1]}
	p.Funcs[0].End = 3
	p.Ksyms = []program.Ksym{{Name: "runqueues", Typed: true}}
	if _, err := lower.Lower(p, nil, env(p)); !errors.Is(err, lower.ErrNoRuntime) || !strings.Contains(err.Error(), "kernel variable runqueues") {
		t.Error(err)
	}
	p = parse(t, "r0 = *(u64 *)(r1 + 0)\nexit")
	res = proof(p)
	res.Kernel = "pointers to struct bpf_array"
	if _, err := lower.Lower(p, res, env(p)); !errors.Is(err, lower.ErrNoRuntime) || !strings.Contains(err.Error(), "struct bpf_array of the kernel") {
		t.Error(err)
	}
}

// TestLegacyLoads runs BPF_LD_ABS and BPF_LD_IND: values, and the return with 0 for an offset outside the packet.
func TestLegacyLoads(t *testing.T) {
	pkt, err := offheap.Alloc(4096)
	if err != nil {
		t.Fatal(err)
	}
	defer pkt.Free()
	for i := range 64 {
		pkt.Bytes()[100+i] = byte(i + 1)
	}
	r := rt.Acquire()
	defer r.Release()
	data := pkt.Addr() + 100
	binary.LittleEndian.PutUint64(pkt.Bytes()[2048+progtype.ShadowData:], uint64(data))
	binary.LittleEndian.PutUint64(pkt.Bytes()[2048+progtype.ShadowDataEnd:], uint64(data+64))
	r.Ctx = pkt.Addr() + 2048
	r.Packet = &rt.Packet{Head: pkt.Addr(), Meta: data, Data: data, DataEnd: data + 64, End: pkt.Addr() + 4096, NetOff: 14}
	for src, want := range map[string]uint64{
		"r0 = *(u8 *)skb[3]":                   4,
		"r0 = *(u16 *)skb[3]":                  0x0405,
		"r0 = *(u32 *)skb[60]":                 0x3d3e3f40,
		"r0 = *(u32 *)skb[61]\n r0 = 7":        0,
		"r0 = *(u8 *)skb[63]":                  64,
		"r0 = *(u8 *)skb[64]\n r0 = 7":         0,
		"r0 = *(u8 *)skb[2147483647]\n r0 = 7": 0,
		"r0 = *(u8 *)skb[1048575]\n r0 = 7":    0,
		"r0 = *(u16 *)skb[0]\n r0 = *(u8 *)skb[1]\n r7 = r0\n r0 = *(u8 *)skb[64]\n r0 = 7": 0,
		"r7 = 60\n r0 = *(u16 *)skb[r7 + 2]":                                                0x3f40,
		"r1 = 2\n r0 = *(u16 *)skb[r1 + 2]":                                                 0x0506,
		"r7 = 0\n r0 = *(u8 *)skb[r7 - 1048576]":                                            15, // SKF_NET_OFF
		"r7 = 0\n r0 = *(u8 *)skb[r7 - 2097152]":                                            1,  // SKF_LL_OFF
		"r7 = 0\n r0 = *(u8 *)skb[r7 - 5]":                                                  0,  // in no range
	} {
		p := parse(t, "r6 = r1\n "+src+"\n exit")
		code, err := lower.Lower(p, nil, env(p))
		if err != nil {
			t.Errorf("%s: %v", src, err)
			continue
		}
		x, err := interp.New(code, interp.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := x.Exec(context.Background(), r); got != want || err != nil {
			t.Errorf("%s: %#x, %v, want %#x", src, got, err, want)
		}
	}
}
