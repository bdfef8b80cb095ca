package skep_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep"
)

// This file runs testdata/stackargs.c: arguments six to twelve of every kind (stack_arguments.md section 6), on each engine.

type stackPoint struct{ X, Y int64 }

type stackThing struct {
	Tag, Uses uint32
	Sum       uint64
}

// stackKfuncs are the kfuncs of stackargs.c. They check what they get by returning something made of all of it.
type stackKfuncs struct {
	skep.Kfuncs
	thing    *skep.Object[stackThing]
	released *stackThing
	seen     []any // what widths got
}

func newStackKfuncs(t *testing.T) *stackKfuncs {
	t.Helper()
	thing, err := skep.NewObject[stackThing]()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(thing.Free)
	k := &stackKfuncs{thing: thing}
	for name, fn := range map[string]any{
		"sum8":   func(a, b, c, d, e, f, g, h int64) int64 { return a + b + c + d + e + f + g + h },
		"point6": func(a, b, c, d, e int64, p *stackPoint) int64 { return a + b + c + d + e + p.X + p.Y },
		"mixed": func(a, b, c, d, e int64, p *stackPoint, g int64, q *stackPoint) int64 {
			return a + b + c + d + e + p.X + p.Y + g + q.X + q.Y
		},
		"straddle": func(a, b, c, d int64, mem []byte) int64 {
			mem[0], mem[7] = 100, mem[7]+mem[6]
			return a + b + c + d + int64(len(mem)) + int64(mem[3])
		},
		"pairs": func(a, b, c, d int64, mem, mem2 []byte, i int64) int64 {
			mem[7], mem2[15] = 50, mem2[2]
			return a + b + c + d + i + int64(len(mem)) + int64(len(mem2)) + int64(mem[1]) + int64(mem2[0])
		},
		"nullable": func(a, b, c, d, e int64, p *stackPoint, g int64) int64 {
			if p != nil {
				g += p.X + p.Y
			}
			return a + b + c + d + e + g
		},
		"ignored":  func(a, b, c, d, e int64, _ uintptr, g, _ int64) int64 { return a + b + c + d + e + g },
		"constant": func(a, b, c, d, e int64, f uint32, g uint64) int64 { return a + b + c + d + e + int64(f) + int64(g) },
		"widths": func(a uint8, b int8, c uint16, d int16, e uint32, f int32, g bool, h uint8, i int8, j uint16, k16 int16, l uint32) int64 {
			k.seen = []any{a, b, c, d, e, f, g, h, i, j, k16, l}
			return 1
		},
		"scale": func(a, b, c, d, e int64, p *stackPoint, g int64) int64 { return ((a*p.X+b*p.Y)*100+c*10+d+e)*10 + g },
	} {
		if err := k.Register(name, fn); err != nil {
			t.Fatal(name, err)
		}
	}
	get := func(a, b, c, d, e int64, tag uint32) *skep.Object[stackThing] {
		thing.Value().Tag = tag
		return thing
	}
	if err := k.Register("thing_get", get, skep.KfuncAcquire, skep.KfuncRetNull); err != nil {
		t.Fatal(err)
	}
	put := func(a, b, c, d, e int64, p *stackThing) { k.released = p }
	if err := k.Register("thing_put", put, skep.KfuncRelease); err != nil {
		t.Fatal(err)
	}
	return k
}

// name gives parameters of a kfunc the names that compilers leave out, as the program declares it otherwise.
func (k *stackKfuncs) name(t *testing.T, spec *ebpf.CollectionSpec, kfunc string, names map[int]string) {
	t.Helper()
	var declared *btf.Func
	if err := spec.Types.TypeByName(kfunc, &declared); err != nil {
		t.Fatal(err)
	}
	old := declared.Type.(*btf.FuncProto)
	proto := &btf.FuncProto{Return: old.Return, Params: append([]btf.FuncParam(nil), old.Params...)}
	for i, n := range names {
		proto.Params[i-1].Name = n
	}
	if err := k.SetPrototype(&btf.Func{Name: kfunc, Type: proto, Linkage: declared.Linkage}); err != nil {
		t.Fatal(err)
	}
}

// nameParameters names all that stackargs.c's kfuncs need.
func (k *stackKfuncs) nameParameters(t *testing.T, spec *ebpf.CollectionSpec) {
	t.Helper()
	k.name(t, spec, "nullable", map[int]string{6: "p__nullable"})
	k.name(t, spec, "ignored", map[int]string{6: "f__ign", 8: "h__ign"})
	k.name(t, spec, "constant", map[int]string{6: "f__k"})
}

// load loads one program of stackargs.o.
func (k *stackKfuncs) load(t *testing.T, e skep.Engine, program string) (*skep.Program, error) {
	t.Helper()
	spec := loadSpec(t, "stackargs.o")
	k.nameParameters(t, spec)
	c, err := skep.NewCollectionWithOptions(spec, skep.Options{Engine: e, Kfuncs: &k.Kfuncs, Programs: []string{program}})
	if err != nil {
		return nil, err
	}
	t.Cleanup(c.Close)
	return c.Programs[program], nil
}

func (k *stackKfuncs) run(t *testing.T, e skep.Engine, program string) int32 {
	t.Helper()
	p, err := k.load(t, e, program)
	if err != nil {
		t.Fatalf("%s: %+v", program, err)
	}
	ret, _, err := p.Test(make([]byte, 64))
	if err != nil {
		t.Fatal(program, err)
	}
	again, _, err := p.Test(make([]byte, 64))
	if err != nil || program != "work_between" && again != ret {
		t.Errorf("%s: the second run returned %d, %v after %d", program, int32(again), err, int32(ret))
	}
	return int32(ret)
}

// workBetween is work_between's result for a packet of 64 bytes.
func workBetween() int32 {
	n := uint64(64)
	q := 1000000/n + (1000000%n)<<(n&7)
	old := uint64(5) + q>>(n&3)
	q = 77777 / (old | 1)
	return int32((((q*2+old*3)*100+n*10+4+5)*10 + 9) & 0x7fffffff)
}

func TestStackArgs(t *testing.T) {
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		k := newStackKfuncs(t)
		for _, c := range []struct {
			program string
			want    int32
		}{
			{"scalars", 36},
			{"struct_sixth", 45},
			{"pointers_among", 51},
			{"memory_straddles", 1000*(10+8+4) + 100 + 15},
			{"memory_in_slots", 1000*(10+100+8+16+2+16) + 50 + 14},
			{"null_in_slot", 1000*22 + 52},
			{"ignored_in_slots", 22},
			{"constant_in_slot", 22},
			{"object_in_slot", 4711},
			{"garbage_above", 1},
			{"four_callees", 2*4482 + 10 + 2},
			{"call_in_loop", 3375},
			{"eight_frames", 457},
			{"stack_through_slot", 1110},
			{"work_between", workBetween()},
		} {
			if got := k.run(t, e, c.program); got != c.want {
				t.Errorf("%s: %d, want %d", c.program, got, c.want)
			}
		}
		if k.released != k.thing.Value() {
			t.Error("another object was released than was handed out")
		}
		want := []any{uint8(0xfe), int8(-1), uint16(0xffff), int16(-1), uint32(0xffffffff), int32(-1 << 31), true, uint8(0xff), int8(-128),
			uint16(0xfffe), int16(-32767), uint32(0xffffffff)}
		for i, v := range want {
			if i < len(k.seen) && k.seen[i] != v {
				t.Errorf("argument %d: %v, want %v", i+1, k.seen[i], v)
			}
		}
	})
}

// TestStackArgsRefused: what is wrong with an argument in a slot is said of the slot.
func TestStackArgsRefused(t *testing.T) {
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		k := newStackKfuncs(t)
		for program, want := range map[string]string{
			"memory_too_long": "arg#4 *(R11-8) memory, len pair leads to invalid memory access",
			"object_leaks":    "Unreleased reference",
		} {
			_, err := k.load(t, e, program)
			var ve *skep.VerifierError
			if !errors.As(err, &ve) || !strings.Contains(ve.Message, want) {
				t.Errorf("%s: %v\nwant %s", program, err, want)
			}
		}
	})
}

// TestStackArgsMismatch: where the Go function differs in a slot from what the program declares, loading fails and shows
// both prototypes.
func TestStackArgsMismatch(t *testing.T) {
	type narrow struct {
		X int64
		Y int32
	}
	type swapped struct{ Y, X int64 }
	for _, c := range []struct {
		program, kfunc string
		fn             any
		want           string
	}{
		{"scalars", "sum8", func(a, b, c, d, e, f, g int64) int64 { return a }, "passes 8 arguments, Go takes 7"},
		{"scalars", "sum8", func(a, b, c, d, e, f, g, h, i int64) int64 { return a }, "more parameters than C's 8"},
		{"scalars", "sum8", func(a, b, c, d, e, f, g int64, h int32) int64 { return a }, "is long of 8 bytes, Go has int32 of 4"},
		{"scalars", "sum8", func(a, b, c, d, e, f, g int64, h *stackPoint) int64 { return a }, "is long, Go has *skep_test.stackPoint"},
		{"scalars", "sum8", func(a, b, c, d, e, f, g, h int64) int32 { return 0 }, "result is long of 8 bytes, Go has int32 of 4"},
		{"struct_sixth", "point6", func(a, b, c, d, e, f int64) int64 { return a }, "is struct point *, Go has int64"},
		{"struct_sixth", "point6", func(a, b, c, d, e int64, p *narrow) int64 { return a }, "field y: it is long of 8 bytes in C, int32 of 4 in Go"},
		{"struct_sixth", "point6", func(a, b, c, d, e int64, p *swapped) int64 { return a }, "field x is at offset 0, Go's skep_test.swapped.X at 8"},
		{"struct_sixth", "point6", func(a, b, c, d, e int64, p *stackThing) int64 { return a }, "has no field for x of struct point"},
	} {
		k := newStackKfuncs(t)
		var ks skep.Kfuncs
		if err := ks.Register(c.kfunc, c.fn); err != nil {
			t.Fatal(err)
		}
		_, err := skep.NewCollectionWithOptions(loadSpec(t, "stackargs.o"), skep.Options{Kfuncs: &ks, Programs: []string{c.program}})
		if err == nil {
			t.Errorf("%s: %T was taken", c.program, c.fn)
			continue
		}
		for _, want := range []string{c.want, "long " + c.kfunc + "(long, ", "func("} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s with %T: %v\nwant %s", c.program, c.fn, err, want)
			}
		}
		if _, err := k.load(t, skep.EngineAuto, c.program); err != nil {
			t.Errorf("%s, with the right function: %v", c.program, err)
		}
	}
	// A prototype given in Go that is not the program's is an error that shows both, too.
	k := newStackKfuncs(t)
	spec := loadSpec(t, "stackargs.o")
	long := &btf.Int{Name: "long", Size: 8, Encoding: btf.Signed}
	if err := k.SetPrototype(cFuncOf("sum8", long, long, long, long, long, long, long, long)); err != nil {
		t.Fatal(err)
	}
	_, err := skep.NewCollectionWithOptions(spec, skep.Options{Kfuncs: &k.Kfuncs, Programs: []string{"scalars"}})
	if err == nil || strings.Count(err.Error(), "long sum8(long") != 2 || !strings.Contains(err.Error(), "8 and 7 parameters") {
		t.Errorf("a prototype of seven for a kfunc of eight: %v", err)
	}
}

// cFuncOf is a kfunc's declaration.
func cFuncOf(name string, ret btf.Type, params ...btf.Type) *btf.Func {
	proto := &btf.FuncProto{Return: ret}
	for _, p := range params {
		proto.Params = append(proto.Params, btf.FuncParam{Type: p})
	}
	return &btf.Func{Name: name, Type: proto, Linkage: btf.ExternFunc}
}
