package skep

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/asmtext"
	"github.com/skep-bpf/skep/internal/native"
)

// This file runs generated programs with up to twelve arguments on each engine. What arrives is compared with what C says
// of the declared types.

func testEngines() []Engine {
	if native.Supported() == nil {
		return []Engine{EngineJIT, EngineInterpreter}
	}
	return []Engine{EngineInterpreter}
}

// loadText loads a program of asmtext's form.
func loadText(src string, opts Options) (*Program, error) {
	prog, err := asmtext.Program(src, asmtext.ProgramOptions{})
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, src)
	}
	l, err := newLoader(&ebpf.CollectionSpec{}, opts)
	if err != nil {
		return nil, err
	}
	for i := range prog.Maps {
		m := &prog.Maps[i]
		made, err := NewMap(&ebpf.MapSpec{Name: m.Name, Type: m.Type, KeySize: m.KeySize, ValueSize: m.ValueSize, MaxEntries: m.MaxEntries})
		if err != nil {
			return nil, err
		}
		defer made.Close() // the program holds it
		m.Source = made
	}
	p, err := l.load(prog)
	if err != nil {
		return nil, err
	}
	if err := l.place([]*Program{p}); err != nil {
		_ = p.Close()
		return nil, err
	}
	return p, nil
}

// runText loads and runs a program on 64 zero bytes.
func runText(t *testing.T, src string, opts Options) uint32 {
	t.Helper()
	p, err := loadText(src, opts)
	if err != nil {
		t.Fatalf("%+v\n%s", err, src)
	}
	defer p.Close()
	res, err := p.RunContext(context.Background(), &ebpf.RunOptions{Data: make([]byte, 64)})
	if err != nil {
		t.Fatalf("%v\n%s", err, src)
	}
	return res.Return
}

// argType is an integer type of C and its Go counterpart.
type argType struct {
	c   string
	typ reflect.Type
}

var argTypes = []argType{
	{"u8", reflect.TypeFor[uint8]()}, {"s8", reflect.TypeFor[int8]()}, {"u16", reflect.TypeFor[uint16]()}, {"s16", reflect.TypeFor[int16]()},
	{"u32", reflect.TypeFor[uint32]()}, {"s32", reflect.TypeFor[int32]()}, {"u64", reflect.TypeFor[uint64]()}, {"s64", reflect.TypeFor[int64]()},
	{"bool", reflect.TypeFor[bool]()},
}

// cast converts 64 bits to a type, as C does with an integer that is truncated; a bool is true if its byte is not 0.
func (a argType) cast(v uint64) reflect.Value {
	if a.typ.Kind() == reflect.Bool {
		return reflect.ValueOf(uint8(v) != 0)
	}
	return reflect.ValueOf(v).Convert(a.typ)
}

// word is the cast value extended to 64 bits.
func (a argType) word(v uint64) uint64 {
	x := a.cast(v)
	switch {
	case x.Kind() == reflect.Bool:
		return uint64(uint8(v))
	case x.CanInt():
		return uint64(x.Int())
	}
	return x.Uint()
}

// patterns are values at the edges of types, with and without bits above.
var patterns = []uint64{
	0, 1, 0x7f, 0x80, 0xff, 0x100, 0x1ff, 0x7fff, 0x8000, 0xffff, 0x18000, 0x7fffffff, 0x80000000, 0xffffffff, 1 << 32, 0x1_7fff_ffff, 0x1_8000_0000,
	1<<63 - 1, 1 << 63, ^uint64(0), ^uint64(0x7f), ^uint64(0xff), ^uint64(0x7fff), 0xffffffff_80000000, 0xffffffff_7fffffff, 0x123456789abcdef0,
}

// setArgs is the code that sets arguments 1.. to values: slots first, in random order, by immediates where they fit.
func setArgs(r *rand.Rand, values []uint64) string { return setArgsIn(r, values, 10) }

// setArgsIn is setArgs by way of the registers below regs only.
func setArgsIn(r *rand.Rand, values []uint64, regs int) string {
	var b strings.Builder
	order := r.Perm(len(values))
	for _, i := range order {
		if i < 5 {
			continue
		}
		slot := 8 * (i - 4)
		if v := int64(values[i]); v == int64(int32(v)) && r.IntN(2) == 0 {
			fmt.Fprintf(&b, "*(u64 *)(r11 - %d) = %d\n", slot, v)
			continue
		}
		reg := r.IntN(regs)
		fmt.Fprintf(&b, "r%d = %d ll\n*(u64 *)(r11 - %d) = r%d\n", reg, int64(values[i]), slot, reg)
	}
	for _, i := range order {
		if i < 5 {
			fmt.Fprintf(&b, "r%d = %d ll\n", i+1, int64(values[i]))
		}
	}
	return b.String()
}

// declare is the declaration of a kfunc.
func declare(name string, ret argType, params []argType) string {
	var ps []string
	for i, p := range params {
		ps = append(ps, fmt.Sprintf("%s p%d", p.c, i+1))
	}
	return fmt.Sprintf(".kfunc %s %s(%s)\n", ret.c, name, strings.Join(ps, ", "))
}

// TestArgumentTypes calls Go kfuncs of random prototypes, each type at every place, with bits above the types, and looks
// at what arrives and at all 64 bits of what comes back.
func TestArgumentTypes(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for round := range 400 {
		n := round % 13
		params, values := make([]argType, n), make([]uint64, n)
		for i := range params {
			params[i], values[i] = argTypes[r.IntN(len(argTypes))], patterns[r.IntN(len(patterns))]
			if round >= 200 {
				params[i] = argTypes[round%len(argTypes)] // all of one type
			}
		}
		ret := argTypes[r.IntN(len(argTypes))]
		result := patterns[r.IntN(len(patterns))]
		if ret.c == "bool" {
			result &= 1
		}
		var in []reflect.Type
		caller := 0
		if r.IntN(4) == 0 {
			in, caller = append(in, callerType), 1
		}
		for _, p := range params {
			in = append(in, p.typ)
		}
		var got []reflect.Value
		fn := reflect.MakeFunc(reflect.FuncOf(in, []reflect.Type{ret.typ}, false), func(args []reflect.Value) []reflect.Value {
			got = args[caller:]
			return []reflect.Value{ret.cast(result)}
		})
		var back uint64
		var ks Kfuncs
		if err := ks.Register("k", fn.Interface()); err != nil {
			t.Fatal(err)
		}
		if err := ks.Register("back", func(v uint64) uint64 { back = v; return 1 }); err != nil {
			t.Fatal(err)
		}
		src := declare("k", ret, params) + ".kfunc u64 back(u64 v)\n" + setArgs(r, values) + "call k\nr1 = r0\ncall back\nexit\n"
		for _, e := range testEngines() {
			got, back = nil, 0xbad
			if runText(t, src, Options{Engine: e, Kfuncs: &ks}) != 1 || len(got) != n {
				t.Fatalf("%s: %d arguments of %d arrived", e, len(got), n)
			}
			for i, g := range got {
				if want := params[i].cast(values[i]); g.Interface() != want.Interface() {
					t.Errorf("%s: argument %d of %s: %#x arrives as %v, want %v\n%s", e, i+1, declare("k", ret, params), values[i], g, want, src)
				}
			}
			if want := ret.word(result); back != want {
				t.Errorf("%s: %s returns %#x, want %#x", e, declare("k", ret, params), back, want)
			}
		}
	}
}

// weigh12 makes one number of up to twelve arguments; each place counts differently.
func weigh12(args []uint64) uint64 {
	h := uint64(0xcbf29ce484222325)
	for _, a := range args {
		h = (h ^ a) * 0x100000001b3
	}
	return h
}

// TestArgumentsOfFunctions passes 0 to 12 arguments to functions that pass them on, changed, to a Go kfunc, from frames of
// different sizes.
func TestArgumentsOfFunctions(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 2))
	var got []uint64
	var ks Kfuncs
	if err := ks.Register("k", func(a, b, c, d, e, f, g, h, i, j, k, l uint64) uint64 {
		got = []uint64{a, b, c, d, e, f, g, h, i, j, k, l}
		return a
	}); err != nil {
		t.Fatal(err)
	}
	u64 := argTypes[6]
	for n := range 13 {
		for stack := 0; stack <= 64; stack += 8 {
			values := make([]uint64, n)
			for i := range values {
				values[i] = patterns[r.IntN(len(patterns))]
			}
			var b strings.Builder
			b.WriteString(declare("k", u64, []argType{u64, u64, u64, u64, u64, u64, u64, u64, u64, u64, u64, u64}))
			for i := 0; i < stack; i += 8 {
				fmt.Fprintf(&b, "*(u64 *)(r10 - %d) = %d\n", i+8, i)
			}
			b.WriteString(setArgs(r, values))
			fmt.Fprintf(&b, "call f\nexit\n.func f args=%d\n", n)
			forward(&b, n)
			want := make([]uint64, 12)
			for i := range want {
				want[i] = uint64(1000 + i)
				if i < n {
					want[i] = values[i] + uint64(i)
				}
			}
			for _, e := range testEngines() {
				got = nil
				runText(t, b.String(), Options{Engine: e, Kfuncs: &ks})
				if fmt.Sprint(got) != fmt.Sprint(want) {
					t.Fatalf("%s: %d arguments: got %x, want %x\n%s", e, n, got, want, b.String())
				}
			}
		}
	}
}

// forward is the body of a function of n arguments that calls k with twelve: its own, plus their number, and 1000 and on for
// those that are missing.
func forward(b *strings.Builder, n int) {
	for i := n - 1; i >= 0; i-- { // everything to the stack: loads before any store to a slot
		if i >= 5 {
			fmt.Fprintf(b, "r0 = *(u64 *)(r11 + %d)\n*(u64 *)(r10 - %d) = r0\n", 8*(i-4), 8*(i+1))
		} else {
			fmt.Fprintf(b, "*(u64 *)(r10 - %d) = r%d\n", 8*(i+1), i+1)
		}
	}
	for i := 11; i >= 0; i-- {
		reg := i + 1
		if i >= 5 {
			reg = 6 + i%4
		}
		if i < n {
			fmt.Fprintf(b, "r%d = *(u64 *)(r10 - %d)\nr%d += %d\n", reg, 8*(i+1), reg, i)
		} else {
			fmt.Fprintf(b, "r%d = %d\n", reg, 1000+i)
		}
		if i >= 5 {
			fmt.Fprintf(b, "*(u64 *)(r11 - %d) = r%d\n", 8*(i-4), reg)
		}
	}
	b.WriteString("call k\nexit\n")
}

// TestWorkBetweenStores puts random computations between the stores of arguments and the call: none may reach them.
func TestWorkBetweenStores(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 3))
	var got []uint64
	var ks Kfuncs
	if err := ks.Register("k", func(a, b, c, d, e, f, g, h, i, j, k, l uint64) uint64 {
		got = []uint64{a, b, c, d, e, f, g, h, i, j, k, l}
		return 7
	}); err != nil {
		t.Fatal(err)
	}
	u64 := argTypes[6]
	var decl []argType
	for range 12 {
		decl = append(decl, u64)
	}
	for range 300 {
		values := make([]uint64, 12)
		for i := range values {
			values[i] = r.Uint64() >> r.IntN(64)
		}
		var b strings.Builder
		b.WriteString(declare("k", u64, decl))
		b.WriteString("r9 = r1\n")
		for i := range 9 {
			fmt.Fprintf(&b, "r%d = %d ll\n", i, int64(r.Uint64()>>r.IntN(64)))
		}
		b.WriteString("*(u64 *)(r10 - 8) = 3\n*(u64 *)(r10 - 16) = 3\n")
		for _, i := range r.Perm(7) {
			work(r, &b)
			reg := r.IntN(9)
			fmt.Fprintf(&b, "r%d = %d ll\n*(u64 *)(r11 - %d) = r%d\n", reg, int64(values[i+5]), 8*(i+1), reg)
		}
		work(r, &b)
		fmt.Fprintf(&b, "r6 = 0\nloop%d:\n", 0)
		work(r, &b)
		fmt.Fprintf(&b, "r6 &= 7\nif r6 s> 100 goto loop%d\n", 0)
		for i := range 5 {
			fmt.Fprintf(&b, "r%d = %d ll\n", i+1, int64(values[i]))
		}
		b.WriteString("call k\n")
		for i := range 9 {
			fmt.Fprintf(&b, "r1 = *(u64 *)(r10 - %d)\nr0 *= 31\nr0 += r1\n", 24+8*i)
		}
		b.WriteString("exit\n")
		var rets []uint32
		for _, e := range testEngines() {
			got = nil
			rets = append(rets, runText(t, b.String(), Options{Engine: e, Kfuncs: &ks}))
			if fmt.Sprint(got) != fmt.Sprint(values) || rets[0] != rets[len(rets)-1] {
				t.Fatalf("%s: got %x, want %x; results %x\n%s", e, got, values, rets, b.String())
			}
		}
	}
}

// work writes instructions on r0 to r8 and the stack, those above all that need fixed registers or temporaries in machine
// code.
func work(r *rand.Rand, b *strings.Builder) {
	for range r.IntN(12) {
		d, s := r.IntN(9), r.IntN(9)
		w := "r"
		if r.IntN(2) == 0 {
			w = "w"
		}
		switch r.IntN(12) {
		case 0:
			fmt.Fprintf(b, "%s%d %s= %s%d\n", w, d, []string{"/", "%", "s/", "s%"}[r.IntN(4)], w, s)
		case 1:
			fmt.Fprintf(b, "%s%d %s= %d\n", w, d, []string{"/", "%", "s/", "s%"}[r.IntN(4)], 1+r.IntN(1000))
		case 2, 3:
			fmt.Fprintf(b, "%s%d %s= %s%d\n", w, d, []string{"<<", ">>", "s>>"}[r.IntN(3)], w, s)
		case 4:
			fmt.Fprintf(b, "r%d = atomic_fetch_%s((u64 *)(r10 - %d), r%d)\n", s, []string{"add", "or", "and", "xor"}[r.IntN(4)], 8+8*r.IntN(2), s)
		case 5:
			fmt.Fprintf(b, "r0 = cmpxchg_64(r10 - %d, r0, r%d)\n", 8+8*r.IntN(2), s)
		case 6:
			fmt.Fprintf(b, "r%d = xchg_64(r10 - %d, r%d)\n", s, 8+8*r.IntN(2), s)
		case 7:
			fmt.Fprintf(b, "r%d = bswap%d r%d\n", d, []int{16, 32, 64}[r.IntN(3)], d)
		case 8:
			fmt.Fprintf(b, "%s%d *= %s%d\n", w, d, w, s)
		case 9:
			fmt.Fprintf(b, "r%d = *(u32 *)(r9 + 4)\n", d)
		case 10:
			fmt.Fprintf(b, "r%d = r%d\nr%d += %d\n", d, s, d, r.Int32())
		default:
			fmt.Fprintf(b, "%s%d -= %s%d\n", w, d, w, s)
		}
	}
	for i := range 9 { // nothing was for nothing
		fmt.Fprintf(b, "*(u64 *)(r10 - %d) = r%d\n", 24+8*i, i)
	}
}

// TestOldDialectArguments: what the first design of stack arguments, r12, says and does.
func TestOldDialectArguments(t *testing.T) {
	const five = "r1 = 1\nr2 = 2\nr3 = 3\nr4 = 4\nr5 = 5\n"
	twelve := five
	for i := 6; i <= 12; i++ {
		twelve += fmt.Sprintf("*(u64 *)(r12 - %d) = %d\n", 8*(i-5), i)
	}
	// f has 3 incoming slots, so that its outgoing ones begin at the fourth.
	const through = five + "*(u64 *)(r12 - 8) = 6\n*(u64 *)(r12 - 16) = 7\n*(u64 *)(r12 - 24) = 8\ncall f\nexit\n" +
		".func f args=8\nr6 = *(u64 *)(r12 - 8)\nr7 = *(u64 *)(r12 - 16)\nr8 = *(u64 *)(r12 - 24)\n" +
		"r6 *= 10\nr7 *= 100\nr8 *= 1000\n*(u64 *)(r12 - 32) = r8\n*(u64 *)(r12 - 40) = r6\n*(u64 *)(r12 - 48) = r7\n*(u64 *)(r12 - 56) = 5\ncall g\nexit\n" +
		".func g args=9\nr0 = *(u64 *)(r12 - 8)\nr6 = *(u64 *)(r12 - 16)\nr0 -= r6\nr6 = *(u64 *)(r12 - 24)\nr0 -= r6\nr6 = *(u64 *)(r12 - 32)\nr0 -= r6\nr0 += r5\nexit\n"
	var ks Kfuncs
	if err := ks.Register("k", func(a, b, c, d, e, f, g, h, i, j, k, l int64) int64 {
		return a + 2*b + 3*c + 4*d + 5*e + 6*f + 7*g + 8*h + 9*i + 10*j + 11*k + 12*l
	}); err != nil {
		t.Fatal(err)
	}
	const kfunc = ".kfunc s64 k(s64 a, s64 b, s64 c, s64 d, s64 e, s64 f, s64 g, s64 h, s64 i, s64 j, s64 k, s64 l)\n"
	for src, want := range map[string]uint32{kfunc + twelve + "call k\nexit\n": 650, through: 8000 - 60 - 700 - 5 + 5} {
		for _, e := range testEngines() {
			if got := runText(t, src, Options{Engine: e, Kfuncs: &ks}); got != want {
				t.Errorf("%s: %d, want %d\n%s", e, got, want, src)
			}
		}
	}
	const f6 = "call f\nexit\n.func f args=6\n"
	for src, want := range map[string]string{
		five + "*(u32 *)(r12 - 8) = 6\n" + f6 + "r0 = 0\nexit\n":                                  "stack arg write must be 8 bytes, got 4",
		five + "*(u64 *)(r12 - 12) = 6\n" + f6 + "r0 = 0\nexit\n":                                 "stack arg write offset -12 not aligned to 8",
		five + "*(u64 *)(r12 - 8) = 6\n" + f6 + "r0 = *(u16 *)(r12 - 8)\nexit\n":                  "stack arg read must be 8 bytes, got 2",
		five + "*(u64 *)(r12 - 8) = 6\n" + f6 + "r0 = *(u64 *)(r12 - 16)\nexit\n":                 "invalid read from stack arg off -16 depth 8",
		five + f6 + "r0 = 0\nexit\n":                                                              "callee expects 6 args, stack arg1 is not initialized", // no r12: the newer words
		five + "*(u64 *)(r12 - 16) = 6\n" + strings.Replace(f6, "=6", "=7", 1) + "r0 = 0\nexit\n": "stack arg#6 not properly initialized",
		five + "*(u64 *)(r12 - 8) = 6\n*(u64 *)(r11 - 16) = 6\n" + f6 + "r0 = 0\nexit\n":          "two dialects of stack arguments do not mix",
		five + "*(u64 *)(r12 - 8) = 6\nr0 = *(u64 *)(r12 - 8)\n" + f6 + "r0 = 0\nexit\n":          "invalid read from stack arg off -8 depth 0",
		five + "*(u64 *)(r12 - 8) = 6\n" + f6 + "*(u64 *)(r12 - 8) = 6\nr0 = 0\nexit\n":           "invalid write to stack arg off -8 depth 8",
		five + "*(u64 *)(r12 - 8) = 6\n*(u64 *)(r12 - 64) = 6\n" + f6 + "r0 = 0\nexit\n":          "exceeds max 7 stack args",
		five + "*(u64 *)(r12 - 8) = 6\n*(u64 *)(r12 - 16) = 6\n" + f6 + "r0 = 0\nexit\n":          "func#0 writes 2 stack arg slots, but calls only require 1",
		five + "r12 += 8\n*(u64 *)(r12 - 8) = 6\n" + f6 + "r0 = 0\nexit\n":                        "R12 is invalid",
		five + "*(u64 *)(r12 - 8) = 6\n" + f6 + "call 7\nr0 = *(u64 *)(r12 - 8)\nexit\n":          "must be before any",
		five + "*(u64 *)(r12 - 8) = 6\ncall f\nr1 = 1\n" + five + f6 + "r0 = 0\nexit\n":           "stack arg#6 not properly initialized",
		five + "*(u64 *)(r12 - 8) = r7\n" + f6 + "r0 = 0\nexit\n":                                 "R7 !read_ok",
		five + "*(u64 *)(r12 + 8) = 7\n" + f6 + "r0 = 0\nexit\n":                                  "invalid write to stack arg off 8 depth 0",
		five + "*(u64 *)(r12 - 8) = 7\n" + f6 + "r0 = *(u64 *)(r12 + 8)\nexit\n":                  "invalid read from stack arg off 8 depth 8",
	} {
		p, err := loadText(src, Options{})
		if err == nil {
			p.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nwant %s\n%s", err, want, src)
		}
	}
}

// TestGlobalFunctionsWithSlots: Options.GlobalStackArgs permits what the kernel does not.
func TestGlobalFunctionsWithSlots(t *testing.T) {
	src := "r1 = 1\nr2 = 2\nr3 = 3\nr4 = 4\nr5 = 5\n"
	for i := 6; i <= 12; i++ {
		src += fmt.Sprintf("*(u64 *)(r11 - %d) = %d\n", 8*(i-5), i)
	}
	src += "call g\nexit\n.func int g(int a, int b, int c, int d, int e, u8 f, s64 g, int h, int i, int j, int k, int l) global\n" +
		"r0 = *(u64 *)(r11 + 8)\nr0 *= 100\nr6 = *(u64 *)(r11 + 56)\nr0 += r6\nr0 += r5\nexit\n"
	for _, e := range testEngines() {
		_, err := loadText(src, Options{Engine: e})
		if err == nil || !strings.Contains(err.Error(), "global function g has 12 > 5 args, stack args not supported") {
			t.Errorf("%s: %v", e, err)
		}
		if got := runText(t, src, Options{Engine: e, GlobalStackArgs: true}); got != 617 {
			t.Errorf("%s: %d", e, got)
		}
	}
}

// TestGlobalPointerInSlot: a global function is proven by its prototype alone: a pointer in a slot may be NULL, a narrow
// number may have any bits.
func TestGlobalPointerInSlot(t *testing.T) {
	const call = "*(u64 *)(r10 - 8) = 41\nr1 = 1\nr2 = 2\nr3 = 3\nr4 = 4\nr5 = 5\nr0 = r10\nr0 += -8\n*(u64 *)(r11 - 16) = 258\n"
	const global = "call g\nr1 = *(u64 *)(r10 - 8)\nr0 += r1\nexit\n.func int g(int a, int b, int c, int d, int e, u64 *f, u8 g) global\n" +
		"r1 = *(u64 *)(r11 + 8)\nr2 = *(u64 *)(r11 + 16)\n"
	const body = "r0 = r2\nif r1 == 0 goto out\nr0 = *(u64 *)(r1 + 0)\nr0 += 1\n*(u64 *)(r1 + 0) = 500\nout: exit\n"
	for _, e := range testEngines() {
		opts := Options{Engine: e, GlobalStackArgs: true}
		if got := runText(t, call+"*(u64 *)(r11 - 8) = r0\n"+global+body, opts); got != 542 {
			t.Errorf("%s: pointer: %d", e, got)
		}
		if got := runText(t, call+"*(u64 *)(r11 - 8) = 0\n"+global+body, opts); got != 258+41 {
			t.Errorf("%s: NULL: %d", e, got)
		}
		for body, want := range map[string]string{
			"r0 = *(u64 *)(r1 + 0)\nexit\n":                                          "R1 invalid mem access 'mem_or_null'",
			"if r2 > 255 goto bad\nr0 = 0\nexit\nbad: r0 = *(u64 *)(r1 + 0)\nexit\n": "R1 invalid mem access 'mem_or_null'",
			"if r1 == 0 goto out\nr0 = *(u64 *)(r1 + 8)\nout: r0 = 0\nexit\n":        "invalid access to memory, mem_size=8 off=8 size=8",
		} {
			p, err := loadText(call+"*(u64 *)(r11 - 8) = r0\n"+global+body, opts)
			if err == nil {
				p.Close()
			}
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v\nwant %s", body, err, want)
			}
		}
	}
}
