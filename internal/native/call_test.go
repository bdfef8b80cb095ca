//go:build linux && (amd64 || arm64)

package native

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/skep-bpf/skep/internal/interp"
	"github.com/skep-bpf/skep/internal/ir"
	"github.com/skep-bpf/skep/internal/offheap"
	"github.com/skep-bpf/skep/internal/rt"
)

func mov(dst, src uint8) ir.Insn { return ir.Insn{Op: ir.Mov, W: 8, Dst: dst, Src: src} }

func add(dst, src uint8) ir.Insn { return ir.Insn{Op: ir.Add, W: 8, Dst: dst, Src: src} }

func argLoad(dst uint8, n int) ir.Insn { return ir.Insn{Op: ir.ArgLoad, Dst: dst, Sub: uint8(n)} }

func argStore(n int, src uint8) ir.Insn { return ir.Insn{Op: ir.ArgStore, Sub: uint8(n), Src: src} }

func argStoreImm(n int, v int64) ir.Insn {
	return ir.Insn{Op: ir.ArgStore, Sub: uint8(n), Imm: v, Flag: ir.FlagImm}
}

// join lays functions out behind each other. Jumps in each are relative to its start.
func join(name string, funcs []ir.Func, bodies ...[]ir.Insn) *ir.Program {
	p := &ir.Program{Name: name}
	for i, b := range bodies {
		f := funcs[i]
		f.Start = len(p.Insns)
		for _, in := range b {
			if in.Op.HasTarget() {
				in.Off += int32(f.Start)
			}
			in.PC = int32(len(p.Insns))
			p.Insns = append(p.Insns, in)
		}
		f.End = len(p.Insns)
		p.Funcs = append(p.Funcs, f)
	}
	return p
}

// TestNesting is section 6 of the specification: 8 arguments forwarded, each plus one, through two levels; from 6, 7, 8
// and zeros the sum is 29.
func TestNesting(t *testing.T) {
	forward := func(callee int32) (b []ir.Insn) {
		b = append(b, argLoad(6, 6), argLoad(7, 7), argLoad(8, 8))
		for r := range uint8(8) {
			b = append(b, ir.Insn{Op: ir.Add, W: 8, Dst: r + 1, Imm: 1, Flag: ir.FlagImm})
		}
		return append(b, argStore(6, 6), argStore(7, 7), argStore(8, 8), ir.Insn{Op: ir.Call, Off: callee, Sub: 8}, exit)
	}
	sum := []ir.Insn{argLoad(6, 6), argLoad(7, 7), argLoad(0, 8), add(0, 6), add(0, 7)}
	for r := range uint8(5) {
		sum = append(sum, add(0, r+1))
	}
	main := []ir.Insn{}
	for r := range uint8(5) {
		main = append(main, movImm(r+1, 0))
	}
	main = append(main, argStoreImm(6, 6), argStoreImm(7, 7), argStoreImm(8, 8), ir.Insn{Op: ir.Call, Off: 1, Sub: 8}, exit)
	// the middle functions add 1 to r1..r5 and to the three loaded ones: 8 a level; 21 + 8 = 29 after one
	p := join("nesting", []ir.Func{{OutArgs: 3}, {InArgs: 3, OutArgs: 3}, {InArgs: 3}}, main, forward(2), append(sum, exit))
	b := newBench(t)
	c := load(t, p)
	b.compare(p, c, [words]uint64{})
	if o := b.exec(c, &[words]uint64{}); o.ret != 29 {
		t.Error(o.ret)
	}
}

// graph makes a random program: functions with 0 to 12 parameters that call later ones, keep values in r6..r9 and on
// the stack across calls, and mix all they get into the result.
func graph(r *rand.Rand, host, native uint64) *ir.Program {
	n := 1 + r.IntN(5)
	funcs := make([]ir.Func, n)
	for i := 1; i < n; i++ {
		funcs[i].InArgs = r.IntN(8)
	}
	bodies := make([][]ir.Insn, n)
	for i := range funcs {
		g := &funcBuilder{r: r, f: &funcs[i], funcs: funcs, index: i}
		g.f.Stack = 8 * r.IntN(12)
		bodies[i] = g.build(host, native)
	}
	return join("graph", funcs, bodies...)
}

type funcBuilder struct {
	r     *rand.Rand
	f     *ir.Func
	funcs []ir.Func
	index int
	b     []ir.Insn
}

func (g *funcBuilder) emit(in ...ir.Insn) { g.b = append(g.b, in...) }

func (g *funcBuilder) build(host, native uint64) []ir.Insn {
	acc := uint8(6 + g.r.IntN(4)) // collects the result
	if g.index == 0 {
		g.emit(mov(6, 1))
		for k := range uint8(4) { // the entry's values come from the shared memory
			g.emit(ld(5-k, 1, int(8*(5-k))))
		}
		g.emit(ld(1, 1, 8), mov(acc, 5))
	} else {
		g.emit(mov(acc, 1))
		for k := uint8(2); k <= 5; k++ {
			g.emit(ir.Insn{Op: ir.Mul, W: 8, Dst: acc, Imm: 31, Flag: ir.FlagImm}, add(acc, k))
		}
		for a := 6; a < 6+g.f.InArgs; a++ {
			g.emit(argLoad(0, a), ir.Insn{Op: ir.Mul, W: 8, Dst: acc, Imm: 33, Flag: ir.FlagImm}, add(acc, 0))
		}
	}
	others := []uint8{}
	for k := uint8(6); k <= 9; k++ {
		if k != acc && g.r.IntN(2) == 0 {
			g.emit(movImm(k, g.r.Int64()))
			others = append(others, k)
		}
	}
	for off := 8; off <= g.f.Stack; off += 8 {
		g.emit(ir.Insn{Op: ir.Store, W: 8, Dst: 10, Off: int32(-off), Imm: int64(g.r.Int32()), Flag: ir.FlagImm})
	}
	for range g.r.IntN(4) {
		g.call(acc, host, native)
	}
	for _, k := range others {
		g.emit(ir.Insn{Op: ir.Xor, W: 8, Dst: acc, Src: k})
	}
	for off := 8; off <= g.f.Stack; off += 8 {
		g.emit(ld(0, 10, -off), add(acc, 0))
	}
	g.emit(mov(0, acc), exit)
	return g.b
}

// call emits a call of a later function, of a host function or of machine code.
func (g *funcBuilder) call(acc uint8, host, native uint64) {
	in := ir.Insn{Op: ir.CallHost, Imm: int64(host), Sub: uint8(g.r.IntN(13))}
	if g.index+1 < len(g.funcs) && g.r.IntN(3) != 0 {
		callee := g.index + 1 + g.r.IntN(len(g.funcs)-g.index-1)
		in = ir.Insn{Op: ir.Call, Off: int32(callee), Sub: uint8(5 + g.funcs[callee].InArgs)}
	} else if native != 0 && g.r.IntN(2) == 0 {
		in = ir.Insn{Op: ir.CallNative, Imm: int64(native), Sub: 12}
	} else if in.Sub < 12 {
		in.Sub = 12
	}
	n := int(in.Sub)
	g.f.OutArgs = max(g.f.OutArgs, n-5)
	for a := 6; a <= n; a++ {
		switch g.r.IntN(3) {
		case 0:
			g.emit(argStoreImm(a, int64(g.r.Int32())))
		case 1:
			g.emit(argStore(a, acc))
		default:
			g.emit(movImm(0, g.r.Int64()), argStore(a, 0))
		}
	}
	for a := uint8(1); a <= 5; a++ {
		g.emit(movImm(a, g.r.Int64()>>g.r.IntN(64)))
	}
	if g.r.IntN(3) == 0 && n > 5 { // as before a native call
		x := ir.Insn{Op: ir.ArgExt, Sub: uint8(6 + g.r.IntN(n-5)), W: 1 << g.r.IntN(3)}
		if g.r.IntN(2) == 0 {
			x.Flag = ir.FlagSigned
		}
		g.emit(x)
	}
	g.emit(in, ir.Insn{Op: ir.Mul, W: 8, Dst: acc, Imm: 37, Flag: ir.FlagImm}, add(acc, 0))
}

// weigh is what the tests' twelve-argument functions compute.
func weigh(_ *rt.Run, a *[12]uint64) (s uint64) {
	for i, v := range a {
		s = s*3 + v ^ uint64(i)
	}
	return s
}

func TestCallGraphs(t *testing.T) {
	h := rt.Register(weigh)
	defer rt.Unregister(h)
	b := newBench(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for range max(*randomN/250, 1) {
		var progs []*ir.Program
		for range 100 {
			progs = append(progs, graph(r, uint64(h), 0))
		}
		b.compareAll(progs, [words]uint64{1: 1, 2: 22, 3: 333, 4: 4444, 5: 55555})
	}
}

// nativeSum maps sumAligned.
func nativeSum(t testing.TB) uint64 {
	if err := start(); err != nil {
		t.Fatal(err)
	}
	a, err := text.add(sumAligned)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { text.remove(a, len(sumAligned)) })
	return uint64(a)
}

// TestNativeCalls compares programs that call machine code with the same programs that call a Go function instead.
func TestNativeCalls(t *testing.T) {
	sum := rt.Register(func(_ *rt.Run, a *[12]uint64) (s uint64) {
		for _, v := range a {
			s += v
		}
		return s
	})
	defer rt.Unregister(sum)
	fn := nativeSum(t)
	b := newBench(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 2))
	for range 300 {
		p := graph(r, uint64(sum), fn)
		q := *p
		q.Insns = append([]ir.Insn(nil), p.Insns...)
		for i := range q.Insns {
			if q.Insns[i].Op == ir.CallNative {
				q.Insns[i].Op, q.Insns[i].Imm = ir.CallHost, int64(sum)
			}
		}
		codes, err := Load(p)
		if err != nil {
			t.Fatal(err)
		}
		b.compare(&q, codes[0], [words]uint64{1: 1, 2: 22, 3: 333, 4: 4444, 5: 55555})
		codes[0].Close()
	}
}

func TestArrayLookup(t *testing.T) {
	b := newBench(t)
	for _, m := range []ir.Map{
		{Kind: ir.MapArray, Base: 0x7f0000001000, Stride: 8, MaxEntries: 10},
		{Kind: ir.MapArray, Base: 0x7f0000001000, Stride: 8, MaxEntries: 1},
		{Kind: ir.MapArray, Base: 0x1000, Stride: 24, MaxEntries: 100000},
		{Kind: ir.MapArray, Base: 0x7f0000001000, Stride: 64, MaxEntries: 300},
		{Kind: ir.MapArray, Base: 0x7f0000001000, Stride: 1 << 20, MaxEntries: 1 << 20},
		{Kind: ir.MapPerCPUArray, Base: 0x7f0000001000, Stride: 16, MaxEntries: 7, PerCPUStride: 4096},
		{Kind: ir.MapPerCPUArray, Base: 0x7f0000001000, Stride: 16, MaxEntries: 1 << 30, PerCPUStride: 1 << 34},
	} {
		p := around("lookup", mov(2, 10), ir.Insn{Op: ir.Add, W: 8, Dst: 2, Imm: -300, Flag: ir.FlagImm},
			ir.Insn{Op: ir.Store, W: 4, Dst: 2, Src: 6}, ir.Insn{Op: ir.ArrayLookup, Src: 2}, ir.Insn{Op: ir.Mov, W: 8, Dst: 2, Flag: ir.FlagImm})
		p.Maps = []ir.Map{m}
		var in [][words]uint64
		for _, k := range []uint64{0, 1, uint64(m.MaxEntries) - 1, uint64(m.MaxEntries), uint64(m.MaxEntries) + 1, 1<<32 - 1, 1 << 32} {
			in = append(in, inputWith(6, k, 7, 0))
		}
		b.compareAll([]*ir.Program{p}, in...)
	}
}

func TestMayGoto(t *testing.T) {
	b := newBench(t)
	p := around("may_goto", movImm(3, 0), ir.Insn{Op: ir.Yield}, ir.Insn{Op: ir.MayGoto, Off: 5},
		ir.Insn{Op: ir.Add, W: 8, Dst: 3, Imm: 1, Flag: ir.FlagImm}, ir.Insn{Op: ir.Jmp, Off: 1}, movImm(4, 9))
	p.Funcs[0].MayGoto = true
	b.compareAll([]*ir.Program{p}, [words]uint64{})
}

// tailBench is a program array in memory that the programs of a test are put into.
func tailBench(t *testing.T, n int) (*rt.ProgArray, ir.Map) {
	mem, err := offheap.Alloc(8 * n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mem.Free() })
	a := rt.NewProgArray(wordsOf(mem, n))
	return a, ir.Map{Kind: ir.MapProgArray, Base: uint64(mem.Addr()), MaxEntries: uint32(n), Progs: a}
}

// TestTailCalls goes through chains from the entry function and from a subprogram, out of range, to an empty entry and
// beyond the limit of 33.
func TestTailCalls(t *testing.T) {
	for _, sub := range []bool{false, true} {
		arr, m := tailBench(t, 4)
		// Entry 0 counts in word 0 of the shared memory and calls itself; entry 1 returns; entry 2 is empty.
		tail := func(index int64, after ...ir.Insn) []ir.Insn {
			return append([]ir.Insn{
				mov(6, 1), ld(7, 1, 0), ir.Insn{Op: ir.Add, W: 8, Dst: 7, Imm: 1, Flag: ir.FlagImm}, st(1, 7, 0), movImm(0, 5),
				movImm(3, index), {Op: ir.TailCall},
			}, after...)
		}
		build := func(name string, index int64) *ir.Program {
			body := tail(index, add(0, 7), exit)
			if !sub {
				p := join(name, []ir.Func{{Stack: 64}}, body)
				p.Maps = []ir.Map{m}
				return p
			}
			// the subprogram's caller keeps values in r6..r9 over the tail call
			main := []ir.Insn{mov(6, 1), movImm(7, 1000), movImm(8, 20000), movImm(9, 300000),
				{Op: ir.Store, W: 8, Dst: 10, Off: -8, Imm: 4000000, Flag: ir.FlagImm},
				{Op: ir.Call, Off: 1, Sub: 5}, add(0, 7), add(0, 8), add(0, 9), ld(1, 10, -8), add(0, 1), exit}
			p := join(name, []ir.Func{{Stack: 8}, {Stack: 32}}, main, body)
			p.Maps = []ir.Map{m}
			return p
		}
		progs := []*ir.Program{build("self", 0), build("to1", 1), build("empty", 2), build("out", 4), build("far", 1<<32-1),
			join("end", []ir.Func{{}}, []ir.Insn{ld(0, 1, 0), ir.Insn{Op: ir.Add, W: 8, Imm: 100, Flag: ir.FlagImm}, exit})}
		codes, err := Load(progs...)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			for _, c := range codes {
				c.Close()
			}
		}()
		var ics []*interp.Code
		for _, p := range progs {
			ic, err := interp.New(p, interp.Options{})
			if err != nil {
				t.Fatal(err)
			}
			ics = append(ics, ic)
		}
		for k, i := range map[int]int{0: 0, 1: 5} {
			arr.Set(k, &rt.Target{Entry: codes[i].Target().Entry, Interp: ics[i]})
		}
		b := newBench(t)
		for i := range progs {
			in := [words]uint64{}
			want, got := b.exec(ics[i], &in), b.exec(codes[i], &in)
			if want != got {
				t.Errorf("sub %v, %s: interpreter %d %d %s, compiled %d %d %s", sub, progs[i].Name, want.ret, want.mem[0], want.err, got.ret, got.mem[0], got.err)
			}
			if i == 0 && got.mem[0] != 34 {
				t.Errorf("sub %v: %d programs of a chain ran, want 34", sub, got.mem[0])
			}
		}
		arr.Set(1, nil)
		if o := b.exec(codes[1], &[words]uint64{}); o.mem[0] != 1 || o.err != "" {
			t.Error("entry emptied:", o.ret, o.err)
		}
	}
}

func TestNestedRun(t *testing.T) {
	inner := load(t, prog("inner", movImm(0, 40), exit))
	h := rt.Register(func(r *rt.Run, a *[12]uint64) uint64 {
		v, err := inner.Exec(context.Background(), r.Nested())
		if err != nil {
			r.Err = err
		}
		return v + a[0]
	})
	defer rt.Unregister(h)
	c := load(t, prog("outer", movImm(6, 1000), movImm(1, 2), ir.Insn{Op: ir.CallHost, Imm: int64(h), Sub: 1}, add(0, 6), exit))
	if got, err := c.Exec(context.Background(), acquire(t)); got != 1042 || err != nil {
		t.Fatal(got, err)
	}
}

func TestRefused(t *testing.T) {
	deep := make([]ir.Func, 10)
	bodies := make([][]ir.Insn, 10)
	for i := range deep {
		deep[i].Stack = 512
		bodies[i] = []ir.Insn{{Op: ir.Store, W: 8, Dst: 10, Src: 10, Off: -512}, {Op: ir.Call, Off: int32(i + 1)}, exit}
	}
	bodies[9][1] = movImm(0, 0)
	for want, p := range map[string]*ir.Program{
		"bytes of machine stack":   join("deep", deep, bodies...),
		"recursive call":           join("rec", make([]ir.Func, 2), []ir.Insn{{Op: ir.Call, Off: 1}, exit}, []ir.Insn{{Op: ir.Call, Off: 1}, exit}),
		"calls the entry function": join("main", make([]ir.Func, 1), []ir.Insn{{Op: ir.Call}, exit}),
	} {
		if _, err := Load(p); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", p.Name, err)
		}
	}
	// the interpreter refuses endless recursion when it happens
	ic, err := interp.New(join("rec", make([]ir.Func, 2), []ir.Insn{{Op: ir.Call, Off: 1}, exit}, []ir.Insn{{Op: ir.Call, Off: 1}, exit}), interp.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var f *rt.Fault
	if _, err := ic.Exec(context.Background(), acquire(t)); !errors.As(err, &f) {
		t.Error(err)
	}
}
