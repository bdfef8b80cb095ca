//go:build linux && (amd64 || arm64)

package skep

import (
	"context"
	"debug/elf"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/skep-bpf/skep/internal/native"
)

// nativeCompilers are the compilers of C that make code for this machine, with what they need to be told for it. The tests
// may run under qemu-user, where the compilers do not.
var nativeCompilers = map[string][][]string{
	"amd64": {{"gcc"}, {"clang-22"}},
	"arm64": {{"aarch64-linux-gnu-gcc"}, {"clang-22", "--target=aarch64-linux-gnu"}},
}[runtime.GOARCH]

// eachCompiler runs a test with the functions of testdata/stackargs_native.c as kfuncs, as each compiler makes them. It skips
// compilers that are not installed.
func eachCompiler(t *testing.T, test func(t *testing.T, ks *Kfuncs)) {
	if err := native.Supported(); err != nil {
		t.Skip(err)
	}
	for _, cc := range nativeCompilers {
		t.Run(cc[0], func(t *testing.T) {
			if _, err := exec.LookPath(cc[0]); err != nil {
				t.Skip("native kfuncs in C need a compiler: ", err)
			}
			test(t, nativeKfuncs(t, cc))
		})
	}
}

// nativeFuncs makes a library of testdata/stackargs_native.c, as optimised C that knows nothing of BPF, puts it into executable
// memory and returns the addresses of its functions.
func nativeFuncs(t *testing.T, cc []string) map[string]uintptr {
	t.Helper()
	lib := filepath.Join(t.TempDir(), "native.so")
	args := append(cc[1:len(cc):len(cc)], "-O2", "-Wall", "-ffreestanding", "-fPIC", "-fvisibility=hidden", "-fno-stack-protector",
		"-nostdlib", "-shared", "testdata/stackargs_native.c", "-o", lib)
	out, err := exec.Command(cc[0], args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	f, err := elf.Open(lib)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Section(".rela.dyn") != nil || f.Section(".rela.plt") != nil {
		t.Fatal("the functions need a dynamic linker")
	}
	base := loadSegments(t, f)
	syms, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	funcs := map[string]uintptr{}
	for _, s := range syms {
		if elf.ST_TYPE(s.Info) == elf.STT_FUNC {
			funcs[s.Name] = base + uintptr(s.Value)
		}
	}
	return funcs
}

// loadSegments puts what a library loads into memory that can be executed and not written, until the test ends.
func loadSegments(t *testing.T, f *elf.File) uintptr {
	t.Helper()
	size := uint64(0)
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD {
			size = max(size, p.Vaddr+p.Memsz)
		}
	}
	mem, err := unix.Mmap(-1, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(mem) })
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD {
			if _, err := io.ReadFull(p.Open(), mem[p.Vaddr:][:p.Filesz]); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := unix.Mprotect(mem, unix.PROT_READ|unix.PROT_EXEC); err != nil {
		t.Skip("no executable memory: ", err)
	}
	return reflect.ValueOf(mem).Pointer()
}

// nativeKfuncs registers the functions by their names.
func nativeKfuncs(t *testing.T, cc []string) *Kfuncs {
	t.Helper()
	ks := new(Kfuncs)
	for name, addr := range nativeFuncs(t, cc) {
		if err := ks.RegisterNative(name, addr); err != nil {
			t.Fatal(err)
		}
	}
	return ks
}

// run64 runs a program on the compiler and returns all of r0.
func run64(t *testing.T, src string, ks *Kfuncs) uint64 {
	t.Helper()
	p, err := loadText(src, Options{Engine: EngineJIT, Kfuncs: ks})
	if err != nil {
		t.Fatalf("%+v\n%s", err, src)
	}
	defer p.Close()
	res, err := p.RunContext(context.Background(), &ebpf.RunOptions{Data: make([]byte, 64)})
	if err != nil {
		t.Fatalf("%v\n%s", err, src)
	}
	return res.R0
}

// TestNativeArgumentTypes calls C functions with random prototypes and bits above the types. hash12 looks at all 64 bits of
// each argument, in whatever register or slot: they must be extended as declared.
func TestNativeArgumentTypes(t *testing.T) { eachCompiler(t, nativeArgumentTypes) }

func nativeArgumentTypes(t *testing.T, ks *Kfuncs) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 4))
	u64 := argTypes[6]
	for round := range 300 {
		params, values, words := make([]argType, 12), make([]uint64, 12), make([]uint64, 12)
		for i := range params {
			params[i], values[i] = argTypes[r.IntN(len(argTypes))], patterns[r.IntN(len(patterns))]
			if round < 90 {
				params[i] = argTypes[round%len(argTypes)] // all of one type
			}
			words[i] = params[i].word(values[i])
		}
		src := declare("hash12", u64, params) + setArgs(r, values) + "call hash12\nexit\n"
		if got, want := run64(t, src, ks), weigh12(words); got != want {
			t.Fatalf("%s of %x: %#x, want %#x\n%s", declare("hash12", u64, params), values, got, want, src)
		}
	}
	mixed := []argType{}
	for _, k := range []int{0, 1, 2, 3, 4, 5, 8, 0, 1, 2, 3, 4} {
		mixed = append(mixed, argTypes[k])
	}
	for range 100 {
		values, words := make([]uint64, 12), make([]uint64, 12)
		for i := range values {
			if values[i] = patterns[r.IntN(len(patterns))]; i == 6 {
				values[i] = values[i]&^0xff | values[i]&1 // C has no other truth
			}
			words[i] = mixed[i].word(values[i])
		}
		src := declare("hash_mixed", u64, mixed) + setArgs(r, values) + "call hash_mixed\nexit\n"
		if got, want := run64(t, src, ks), weigh12(words); got != want {
			t.Fatalf("hash_mixed of %x: %#x, want %#x\n%s", values, got, want, src)
		}
	}
}

// TestNativeResults: what a C function leaves above its declared result is cleared, or filled with the sign.
func TestNativeResults(t *testing.T) { eachCompiler(t, nativeResults) }

func nativeResults(t *testing.T, ks *Kfuncs) {
	r := rand.New(rand.NewPCG(1, 5))
	u64 := argTypes[6]
	for _, ret := range argTypes {
		for _, v := range patterns {
			src := declare("last", ret, []argType{u64, u64, u64, u64, u64, u64, u64}) + setArgs(r, []uint64{1, 2, 3, 4, 5, 6, v}) + "call last\nexit\n"
			if got, want := run64(t, src, ks), ret.word(v); got != want {
				t.Errorf("%s last(%#x): %#x, want %#x", ret.c, v, got, want)
			}
		}
	}
}

// TestNativeAlignment calls C functions of 0 to 12 arguments, which use aligned vectors on the stack and look at their frame's
// address, from frames of every shape: with and without own stack, saved registers, slots that the frame needs for
// other calls, and incoming slots; in the entry function and in a subprogram.
func TestNativeAlignment(t *testing.T) { eachCompiler(t, nativeAlignment) }

func nativeAlignment(t *testing.T, ks *Kfuncs) {
	u64 := argTypes[6]
	var decls strings.Builder
	params := []argType{}
	for n := range 13 {
		decls.WriteString(declare(fmt.Sprintf("align%d", n), u64, params))
		params = append(params, u64)
	}
	r := rand.New(rand.NewPCG(1, 6))
	for n := range 13 {
		values, want := make([]uint64, n), uint64(1)
		for i := range values {
			values[i] = uint64(100 + i)
			want += uint64(i+2) * values[i]
		}
		call := setArgsIn(r, values, 1) + fmt.Sprintf("call align%d\n", n)
		for _, stack := range []int{0, 8, 16, 24, 512} {
			for saved := range 5 {
				for _, incoming := range []int{-1, 0, 6, 7, 8, 12} { // -1: in the entry function
					src, more := alignProgram(call, stack, saved, incoming, r)
					if got := run64(t, decls.String()+src, ks); got != want+more {
						t.Fatalf("%d arguments, %d bytes of stack, %d saved registers, %d incoming: %#x, want %#x\n%s", n, stack, saved, incoming, got, want+more, src)
					}
				}
			}
		}
	}
}

// wanted are the types and values that the C functions check6..check12 expect.
var wanted = []struct {
	typ   string
	value int64
}{
	{"u8", 0xfe}, {"s8", -2}, {"u16", 0xfedc}, {"s16", -300}, {"u32", 0xfedcba98}, {"s32", -70000}, {"u64", 0x123456789abcdef0}, {"bool", 1},
	{"s8", -3}, {"u16", 0xabcd}, {"s32", -5}, {"s64", -0x7ffffffffffffff0},
}

// TestNativeWidths calls C functions of 6 to 12 parameters of mixed widths, which look at each value and at their frame's
// address, from frames of several shapes; with bits above the types, and with one argument that they must find wrong.
func TestNativeWidths(t *testing.T) { eachCompiler(t, nativeWidths) }

func nativeWidths(t *testing.T, ks *Kfuncs) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 8))
	for n := 6; n <= 12; n++ {
		var params []argType
		for _, c := range wanted[:n] {
			k := slices.IndexFunc(argTypes, func(a argType) bool { return a.c == c.typ })
			params = append(params, argTypes[k])
		}
		decl := declare(fmt.Sprintf("check%d", n), argTypes[6], params)
		for wrong := -1; wrong < n; wrong++ {
			values, want := make([]uint64, n), uint64(0)
			for i := range values {
				above := 8 * params[i].typ.Size()
				values[i] = uint64(wanted[i].value)&(1<<above-1) | r.Uint64()<<above
			}
			if wrong >= 0 {
				values[wrong] ^= 1
				want = 1 << wrong
			}
			call := setArgsIn(r, values, 1) + fmt.Sprintf("call check%d\n", n)
			for _, incoming := range []int{-1, 0, 6, 9, 12} {
				src, more := alignProgram(call, 8*r.IntN(65), r.IntN(5), incoming, r)
				if got := run64(t, decl+src, ks); got != want+more {
					t.Fatalf("%d arguments %x: %#x, want %#x\n%s", n, values, got-more, want, decl+src)
				}
			}
		}
	}
}

// alignProgram wraps a call into a function with the given frame; it adds more to the call's result, made of what the
// frames keep over it.
func alignProgram(call string, stack, saved, incoming int, r *rand.Rand) (src string, more uint64) {
	var b strings.Builder
	if incoming >= 0 {
		b.WriteString(setArgsIn(r, make([]uint64, incoming), 1))
		fmt.Fprintf(&b, "r6 = 1\nr7 = 2\nr8 = 3\nr9 = 4\ncall f\nr0 += r6\nr0 += r7\nr0 += r8\nr0 += r9\nexit\n.func f args=%d\n", incoming)
		more = 10
	}
	for i := range saved {
		fmt.Fprintf(&b, "r%d = %d\n", 6+i, 1000*(i+1))
	}
	if stack > 0 {
		fmt.Fprintf(&b, "*(u64 *)(r10 - %d) = 77\n", stack)
	}
	b.WriteString(call)
	for i := range saved {
		fmt.Fprintf(&b, "r0 += r%d\n", 6+i)
		more += uint64(1000 * (i + 1))
	}
	if stack > 0 {
		fmt.Fprintf(&b, "r1 = *(u64 *)(r10 - %d)\nr0 += r1\n", stack)
		more += 77
	}
	b.WriteString("exit\n")
	return b.String(), more
}

// TestNativeInInterpreter: the interpreter cannot call machine code and says so.
func TestNativeInInterpreter(t *testing.T) { eachCompiler(t, nativeInInterpreter) }

func nativeInInterpreter(t *testing.T, ks *Kfuncs) {
	u64 := argTypes[6]
	p, err := loadText(declare("last", u64, []argType{u64, u64, u64, u64, u64, u64, u64})+setArgs(rand.New(rand.NewPCG(1, 7)), []uint64{1, 2, 3, 4, 5, 6, 7})+
		"call last\nexit\n", Options{Engine: EngineInterpreter, Kfuncs: ks})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, _, err := p.Test(make([]byte, 64)); err == nil || !strings.Contains(err.Error(), "machine code") {
		t.Errorf("the interpreter called machine code: %v", err)
	}
}

// TestNativeRefused: what C passes otherwise than as one word each is refused when the program is loaded, by its name.
func TestNativeRefused(t *testing.T) {
	const five = "r1 = 1\nr2 = 2\nr3 = 3\nr4 = 4\nr5 = 5\n*(u64 *)(r11 - 8) = 6\n"
	var ks Kfuncs
	if err := ks.RegisterNative("k", 0x1000); err != nil {
		t.Fatal(err)
	}
	for decl, want := range map[string]string{
		".struct two { long a; long b; }\n.kfunc long k(long a, long b, long c, long d, long e, struct two f)\n": "Unrecognized *(R11-8) type STRUCT",
		".kfunc long k(long a, long b, long c, long d, long e, double f)\n":                                      "*(R11-8)",
		".kfunc long k(long a, long b, long c, long d, long e, __int128 f)\n":                                    "parameter 6 (f): an integer of 128 bits is wider than a register",
		".kfunc __int128 k(long a, long b, long c, long d, long e, long f)\n":                                    "result: an integer of 128 bits is wider than a register",
		".kfunc long k(long a, long b, long c, long d, long e, ...)\n":                                           "kfunc k is variadic",
		".kfunc long k(long a, ...)\n":                                                                           "kfunc k is variadic",
		".kfunc void k(...)\n":                                                                                   "kfunc k is variadic",
	} {
		p, err := loadText(decl+five+"call k\nexit\n", Options{Kfuncs: &ks})
		if err == nil {
			p.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nwant %s\n%s", err, want, decl)
		}
	}
}
