package skep

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/ctype"
	"github.com/skep-bpf/skep/internal/offheap"
	"github.com/skep-bpf/skep/internal/rt"
)

// C types of the tests.
var (
	cU8, cS8   = cInt("u8", 1, btf.Unsigned), cInt("s8", 1, btf.Signed)
	cU16, cS16 = cInt("u16", 2, btf.Unsigned), cInt("s16", 2, btf.Signed)
	cU32, cS32 = cInt("u32", 4, btf.Unsigned), cInt("int", 4, btf.Signed)
	cU64, cS64 = cInt("u64", 8, btf.Unsigned), cInt("long", 8, btf.Signed)
	cBool      = cInt("_Bool", 1, btf.Bool)
	cPoint     = &btf.Struct{Name: "point", Size: 16, Members: []btf.Member{
		{Name: "x", Type: cU32}, {Name: "y_pos", Type: cU16, Offset: 32}, {Name: "tag", Type: &btf.Array{Index: cU32, Type: cU8, Nelems: 2}, Offset: 48},
		{Name: "sum", Type: cU64, Offset: 64},
	}}
)

type point struct {
	X    uint32
	YPos uint16
	Tag  [2]uint8
	Sum  uint64
}

func cInt(name string, size uint32, e btf.IntEncoding) *btf.Int {
	return &btf.Int{Name: name, Size: size, Encoding: e}
}
func cPtr(t btf.Type) btf.Type { return &btf.Pointer{Target: t} }

// cFunc makes a prototype; a parameter's name may be given as "name=type" pairs.
func cFunc(ret btf.Type, params ...btf.FuncParam) *btf.Func {
	return &btf.Func{Name: "f", Type: &btf.FuncProto{Return: ret, Params: params}, Linkage: btf.ExternFunc}
}

func par(name string, t btf.Type) btf.FuncParam { return btf.FuncParam{Name: name, Type: t} }

func pars(ts ...btf.Type) []btf.FuncParam {
	var ps []btf.FuncParam
	for i, t := range ts {
		ps = append(ps, par(fmt.Sprintf("p%d", i), t))
	}
	return ps
}

// offheapPoint makes a point where programs' memory lies.
func offheapPoint(t *testing.T, p point) (*point, uint64) {
	t.Helper()
	r, err := offheap.Alloc(64)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Free() })
	q := (*point)(regionPointer(r))
	*q = p
	return q, uint64(r.Addr())
}

// TestWordCall calls functions of many forms through wordCall and through reflection with the same arguments, full of garbage
// above what the C types say, and compares the results.
func TestWordCall(t *testing.T) {
	pt, addr := offheapPoint(t, point{X: 1, YPos: 2, Tag: [2]uint8{3, 4}, Sum: 5})
	run := rt.Acquire()
	defer run.Release()
	h := uint64(14695981039346656037)
	mix := func(vs ...any) uint64 {
		x := h
		for _, v := range vs {
			for _, c := range []byte(fmt.Sprint(v)) {
				x = (x ^ uint64(c)) * 1099511628211
			}
		}
		return x
	}
	forms := []struct {
		c  *btf.Func
		fn any
	}{
		{cFunc(cU64, pars(cU8, cS8, cU16, cS16, cU32, cS32, cU64, cS64, cBool)...),
			func(a uint8, b int8, c uint16, d int16, e uint32, f int32, g uint64, h int64, i bool) uint64 {
				return mix(a, b, c, d, e, f, g, h, i)
			}},
		{cFunc(cS8, pars(cU64)...), func(a uint64) int8 { return int8(a) }},
		{cFunc(cU8, pars(cU64)...), func(a uint64) uint8 { return uint8(a) }},
		{cFunc(cS16, pars(cU64)...), func(a uint64) int16 { return int16(a) }},
		{cFunc(cS32, pars(cU64)...), func(a uint64) int32 { return int32(a) }},
		{cFunc(cU32, pars(cU64)...), func(a uint64) uint32 { return uint32(a) }},
		{cFunc(cBool, pars(cU64)...), func(a uint64) bool { return a&1 != 0 }},
		{cFunc(&btf.Void{}, pars(cU64)...), func(a uint64) {}},
		{cFunc(cU64, pars(cPtr(cPoint), cS32)...), func(p *point, k int32) uint64 { return mix(p == pt, p.X, p.YPos, p.Tag, p.Sum, k) }},
		{cFunc(cU64, par("buf", cPtr(&btf.Void{})), par("buf__sz", cU32), par("k", cS16)), func(b []byte, k int16) uint64 { return mix(b, cap(b), k) }},
		{cFunc(cU64, append(pars(cU64, cU64, cU64, cU64), par("m", cPtr(&btf.Void{})), par("m__szk", cU32))...),
			func(a, b, c, d uint64, m []byte) uint64 { return mix(a, b, c, d, m) }},
		{cFunc(cU64, pars(cPtr(&btf.Fwd{Name: "file"}))...), func(p uintptr) uint64 { return uint64(p) }},
		{cFunc(cU64, pars(cS64, cS64, cS64, cS64, cS64, cS64, cS64, cS64, cS64, cS64, cS64, cS64)...),
			func(a, b, c, d, e, f, g, h, i, j, k, l int64) uint64 { return mix(a, b, c, d, e, f, g, h, i, j, k, l) }},
		{cFunc(cU64, pars(cU64, cU64, cU64, cU64, cU64, cU64, cU64, cU64, cU64, cU64, cU64, cU64)...),
			func(a, b, c, d, e, f, g, h, i, j, k, l uint64) uint64 { return mix(a, b, c, d, e, f, g, h, i, j, k, l) }},
		{cFunc(cU64, pars(cU8, cU8, cU8, cU8, cU8, cU8, cU8, cU8, cU8, cU8, cU8, cU8)...), // narrow ones on the stack
			func(a, b, c, d, e, f, g, h, i, j, k, l uint8) uint64 { return mix(a, b, c, d, e, f, g, h, i, j, k, l) }},
		{cFunc(cU64, append(pars(cU64, cU64, cU64, cU64, cU64, cU64, cU64, cU64), par("m", cPtr(&btf.Void{})), par("m__sz", cU64), par("z", cU32))...),
			func(a, b, c, d, e, f, g, h uint64, m []byte, z uint32) uint64 {
				return mix(a, b, c, d, e, f, g, h, m, z)
			}}, // a slice that does not fit
		{cFunc(cU64, pars(cU64)...), func(c Caller, a uint64) uint64 { return mix(c.r == run, a, c.CPU()) }},
		{cFunc(cU64), func(c Caller) uint64 { return uint64(c.CPU()) }},
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for _, f := range forms {
		typ := reflect.TypeOf(f.fn)
		proto := f.c.Type.(*btf.FuncProto)
		k := &kfunc{name: "f", fn: f.fn}
		words, err := k.match(typ, proto)
		if err != nil {
			t.Fatalf("%s: %v", typ, err)
		}
		_, ext, err := kfuncExts("f", proto)
		if err != nil {
			t.Fatal(err)
		}
		res := resultOf(typ, ext)
		slow := reflectCall(f.fn, typ, words, res)
		adapted, err := k.adapt(proto, ext)
		if err != nil {
			t.Fatal(err)
		}
		for range 50 {
			var args [12]uint64
			for i := range args {
				args[i] = rng.Uint64()
			}
			for i, p := range proto.Params {
				if _, ok := p.Type.(*btf.Pointer); ok {
					args[i] = addr
				}
				if isSizeParam(p) {
					args[i] = uint64(rng.IntN(17))
					if p.Type == cU32 {
						args[i] |= 0xabcd << 32
					}
				}
			}
			want := slow(run, &args)
			if got := adapted(run, &args); got != want {
				t.Fatalf("%s: %#x, by reflection %#x (args %x)", typ, got, want, args)
			}
			if callable(typ, len(words)) {
				if got := wordCall(f.fn, words, res)(run, &args); got != want {
					t.Fatalf("%s: as words %#x, by reflection %#x (args %x)", typ, got, want, args)
				}
			} else if len(words) <= 9 && typ.NumIn() < 9 {
				t.Errorf("%s: not callable as words", typ)
			}
		}
	}
	if intRegs != 0 && !wordCallWorks {
		t.Error("calls as words do not work on this machine")
	}
}

// TestExtension checks the values themselves, which TestWordCall compares only with another adapter.
func TestExtension(t *testing.T) {
	var got []any
	fn := func(a uint8, b int8, c uint16, d int16, e uint32, f int32, g bool) int8 {
		got = append(got, a, b, c, d, e, f, g)
		return b
	}
	proto := cFunc(cS8, pars(cU8, cS8, cU16, cS16, cU32, cS32, cBool)...).Type.(*btf.FuncProto)
	_, ext, _ := kfuncExts("f", proto)
	call, err := (&kfunc{name: "f", fn: fn}).adapt(proto, ext)
	if err != nil {
		t.Fatal(err)
	}
	ones := ^uint64(0)
	args := [12]uint64{ones, 0xffffff80, ones &^ 0xff, 0x18000, ones, 0x80000000, 0x100}
	r0 := call(nil, &args)
	if want := fmt.Sprint([]any{uint8(255), int8(-128), uint16(0xff00), int16(-32768), uint32(1<<32 - 1), int32(-1 << 31), false}); fmt.Sprint(got) != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if int64(r0) != -128 {
		t.Errorf("result %#x is not sign-extended", r0)
	}
}

func TestKfuncCallsDoNotAllocate(t *testing.T) {
	_, addr := offheapPoint(t, point{})
	for _, f := range []struct {
		c  *btf.Func
		fn any
	}{
		{cFunc(cU64, pars(cU64, cU64, cU64, cU64, cU64, cU64, cU64, cU64, cU64, cU64, cU64, cU64)...),
			func(a, b, c, d, e, f, g, h, i, j, k, l uint64) uint64 { return a + l }},
		{cFunc(cS32, append(pars(cPtr(cPoint), cS32, cU8), par("m", cPtr(&btf.Void{})), par("m__sz", cU32))...),
			func(p *point, a int32, b uint8, m []byte) int32 { p.Sum++; return a + int32(len(m)) }},
	} {
		b, err := (&kfunc{name: "f", fn: f.fn}).bind(f.c)
		if err != nil {
			t.Fatal(err)
		}
		call := rt.Lookup(b.Handle)
		args := [12]uint64{addr, 1, 2, addr, 4}
		if n := testing.AllocsPerRun(100, func() { call(nil, &args) }); n != 0 {
			t.Errorf("%T: %v allocations a call", f.fn, n)
		}
		rt.Unregister(b.Handle)
	}
}

// TestKfuncMismatch checks that every difference between the prototypes is found, and that both are shown.
func TestKfuncMismatch(t *testing.T) {
	type wrongName struct {
		Z    uint32
		YPos uint16
		Tag  [2]uint8
		Sum  uint64
	}
	type wrongOrder struct {
		YPos uint16
		Tag  [2]uint8
		X    uint32
		Sum  uint64
	}
	type wrongSize struct {
		X    uint32
		YPos uint16
		Tag  [2]uint8
		Sum  uint32
		_    uint32
	}
	type more struct {
		point
		More uint64
	}
	type fewer struct {
		X    uint32
		YPos uint16
		Tag  [2]uint8
		_    uint64
	}
	for _, c := range []struct {
		c    *btf.Func
		fn   any
		want string
	}{
		{cFunc(cU64, pars(cU64, cU64)...), func(a uint64) uint64 { return a }, "passes 2 arguments, Go takes 1"},
		{cFunc(cU64, pars(cU64)...), func(a, b uint64) uint64 { return a }, "more parameters than C's 1"},
		{cFunc(cU64, pars(cU32)...), func(a uint64) uint64 { return a }, "parameter p0 is u32 of 4 bytes, Go has uint64 of 8"},
		{cFunc(cU32, pars(cU32)...), func(a uint32) uint64 { return 0 }, "result is u32 of 4 bytes, Go has uint64 of 8"},
		{cFunc(&btf.Void{}, pars(cU32)...), func(a uint32) uint64 { return 0 }, "result is void, Go has uint64"},
		{cFunc(cU32, pars(cU32)...), func(a uint32) {}, "result is u32, Go has none"},
		{cFunc(cU32, pars(cPtr(cPoint))...), func(a uint64) uint32 { return 0 }, "parameter p0 is struct point *, Go has uint64"},
		{cFunc(cU32, pars(cU64)...), func(a *point) uint32 { return 0 }, "parameter p0 is u64, Go has *skep.point"},
		{cFunc(cU32, pars(cPtr(cPoint))...), func(a *wrongName) uint32 { return 0 }, "has no field for x of struct point"},
		{cFunc(cU32, pars(cPtr(cPoint))...), func(a *wrongOrder) uint32 { return 0 }, "field x is at offset 0, Go's skep.wrongOrder.X at 4"},
		{cFunc(cU32, pars(cPtr(cPoint))...), func(a *wrongSize) uint32 { return 0 }, "field sum: it is u64 of 8 bytes in C, uint32 of 4 in Go"},
		{cFunc(cU32, pars(cPtr(cPoint))...), func(a *more) uint32 { return 0 }, "has no field for"},
		{cFunc(cU32, pars(cPtr(cPoint))...), func(a *fewer) uint32 { return 0 }, "has no field for sum of struct point"},
		{cFunc(cU32, pars(cPtr(&btf.Void{}), cU32)...), func(a []byte) uint32 { return 0 }, "named with __sz or __szk"},
		{cFunc(cU32, pars(cPtr(&btf.Fwd{Name: "file"}))...), func(a *point) uint32 { return 0 }, "only declares struct file"},
		{cFunc(cU32, pars(cPoint)...), func(a *point) uint32 { return 0 }, "struct point by value"},
		{cFunc(cU32, pars(&btf.Float{Name: "double", Size: 8})...), func(a uint64) uint32 { return 0 }, "floating point"},
		{cFunc(cU32, pars(cInt("__int128", 16, btf.Signed))...), func(a uint64) uint32 { return 0 }, "wider than a register"},
		{cFunc(cInt("__int128", 16, btf.Signed), pars(cU64)...), func(a uint64) uint32 { return 0 }, "wider than a register"},
		{cFunc(cU32, append(pars(cU64), par("", &btf.Void{}))...), func(a uint64) uint32 { return 0 }, "variadic"},
		{cFunc(cU32, pars(cU64, cU64, cU64, cU64, cU64, cU64, cU64, cU64, cU64, cU64, cU64, cU64, cU64)...), func() uint32 { return 0 }, "Function f has 13 > 12 args"},
	} {
		var ks Kfuncs
		if err := ks.Register("f", c.fn); err != nil {
			t.Errorf("%T: %v", c.fn, err)
			continue
		}
		f, _ := ks.find("f")
		b, err := f.bind(c.c)
		if err == nil {
			rt.Unregister(b.Handle)
			t.Errorf("%T was bound to %s", c.fn, ctype.Proto("f", c.c.Type.(*btf.FuncProto)))
			continue
		}
		if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%T: %v\nwant: %s", c.fn, err, c.want)
		}
		if _, _, exts := kfuncExts("f", c.c.Type.(*btf.FuncProto)); exts == nil {
			for _, proto := range []string{ctype.Proto("f", c.c.Type.(*btf.FuncProto)), reflect.TypeOf(c.fn).String()} {
				if !strings.Contains(err.Error(), proto) {
					t.Errorf("the error does not show %s: %v", proto, err)
				}
			}
		}
	}
}

func TestRegisterRefuses(t *testing.T) {
	type withPointer struct{ P *int }
	for _, fn := range []any{
		nil, 1, (func(uint64) uint64)(nil), func(int) {}, func(string) {}, func(float64) {}, func(...uint64) {}, func(*withPointer) {}, func(*string) {},
		func() (uint64, error) { return 0, nil }, func() *point { return nil }, func() string { return "" }, func([]uint64) {},
		func(a, b, c, d, e, f, g, h, i, j, k, l, m uint64) {}, func([]byte, []byte, []byte, []byte, []byte, []byte, uint8) {}, func(uint64, Caller) {},
		func(point) {}, func(unsafe.Pointer) {},
	} {
		var ks Kfuncs
		if err := ks.Register("f", fn); err == nil {
			t.Errorf("%T was registered", fn)
		}
	}
	var ks Kfuncs
	ok := func() {}
	if err := ks.Register("f", ok); err != nil {
		t.Error(err)
	}
	if ks.Register("f", ok) == nil || ks.Register("", ok) == nil || ks.RegisterNative("g", 0) == nil {
		t.Error("a name twice, no name or no address was registered")
	}
}

func BenchmarkKfuncAdapters(b *testing.B) {
	run := rt.Acquire()
	defer run.Release()
	for _, f := range []struct {
		name string
		c    *btf.Func
		fn   any
	}{
		{"12 words", cFunc(cU64, pars(cU64, cU64, cU64, cU64, cU64, cU64, cU64, cU64, cU64, cU64, cU64, cU64)...),
			func(a, b, c, d, e, f, g, h, i, j, k, l uint64) uint64 { return a + l }},
		{"12 signed", cFunc(cS64, pars(cS64, cS64, cS64, cS64, cS64, cS64, cS64, cS64, cS64, cS64, cS64, cS64)...),
			func(a, b, c, d, e, f, g, h, i, j, k, l int64) int64 { return a + l }},
		{"mixed", cFunc(cS32, pars(cU8, cS32, cU16)...), func(a uint8, b int32, c uint16) int32 { return b }},
	} {
		k, err := (&kfunc{name: "f", fn: f.fn}).bind(f.c)
		if err != nil {
			b.Fatal(err)
		}
		call := rt.Lookup(k.Handle)
		b.Run(f.name, func(b *testing.B) {
			b.ReportAllocs()
			var args [12]uint64
			for range b.N {
				call(run, &args)
			}
		})
	}
}
