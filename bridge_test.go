package skep_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/internal/ctype"
)

// This file judges include/skep/bpf_stack_args.h by testdata/bridge.c: what programs written with it return, what prototypes
// compilers leave in their BTF, what they say to those who use it wrongly, and what it becomes for a compiler that knows stack
// arguments. TestCompilers runs the fixture as each compiler makes it.

type bridgePoint struct{ X, Y int64 }

// registerBridge adds the kfuncs of bridge.c: k6 to k12 weigh their arguments by their numbers.
func registerBridge(t *testing.T, k *skep.Kfuncs) {
	t.Helper()
	for name, fn := range map[string]any{
		"k6":  func(a, b, c, d, e, f int64) int64 { return weigh(a, b, c, d, e, f) },
		"k7":  func(a, b, c, d, e, f, g int64) int64 { return weigh(a, b, c, d, e, f, g) },
		"k8":  func(a, b, c, d, e, f, g, h int64) int64 { return weigh(a, b, c, d, e, f, g, h) },
		"k9":  func(a, b, c, d, e, f, g, h, i int64) int64 { return weigh(a, b, c, d, e, f, g, h, i) },
		"k10": func(a, b, c, d, e, f, g, h, i, j int64) int64 { return weigh(a, b, c, d, e, f, g, h, i, j) },
		"k11": func(a, b, c, d, e, f, g, h, i, j, k int64) int64 { return weigh(a, b, c, d, e, f, g, h, i, j, k) },
		"k12": func(a, b, c, d, e, f, g, h, i, j, k, l int64) int64 { return weigh(a, b, c, d, e, f, g, h, i, j, k, l) },
		"knarrow": func(a uint8, b int8, c uint16, d int16, e uint32, f int32, g bool, h uint8, i int8, j uint16, k int16, l uint32) bool {
			v := bridgeWide
			return a == uint8(v) && b == int8(v) && c == uint16(v) && d == int16(v) && e == uint32(v) && f == int32(v) && g &&
				h == uint8(v) && i == int8(v) && j == uint16(v) && k == int16(v) && l == uint32(v)
		},
		"kpoint": func(a, b, c, d, e int64, p *bridgePoint, g uint8, q *bridgePoint) {
			p.X, p.Y = p.X+q.Y+a, p.Y+b+c+d+e
			q.X, q.Y = q.X+int64(g), -q.Y
		},
	} {
		if err := k.Register(name, fn); err != nil {
			t.Error(err)
		}
	}
}

// bridgeWide is what bridge.c gives to narrow parameters.
var bridgeWide = uint64(0x1234567887654321 ^ 0x80808080)

func weigh(args ...int64) (sum int64) {
	for i, a := range args {
		sum += int64(i+1) * a
	}
	return sum
}

// bridgeResults are the results of all programs of bridge.c.
func bridgeResults() map[string]int32 {
	want := map[string]int32{
		"nested": 1836, "in_loop": 507000, "forwarded": 26121, "pointers": 211807, "unused": 257, "results": 37,
		"kfuncs": 91 + 140 + 204 + 285 + 385 + 506 + 650, "kfuncs_nested": 45*(1+30+66) + 120,
	}
	for n, sum := 6, 91; n <= 12; n++ {
		want[fmt.Sprint("func", n)] = int32(sum)
		sum += (n + 1) * (n + 1)
	}
	v := bridgeWide
	narrow := int64(uint8(v)) + int64(int8(v)) + int64(uint16(v)) + int64(int16(v)) + 1 + int64(uint8(v)) + int64(int8(v)) +
		int64(uint16(v)) + int64(int16(v)) + int64(uint32(v)) + int64(int32(v)) + 1
	want["conversions"] = int32(narrow & 0x7fffffff)
	want["kfuncs_typed"] = 1000*(1+40+1) + (2 + 14) + (30 + int32(uint8(v))) - 40
	return want
}

func TestBridge(t *testing.T) {
	want := bridgeResults()
	if spec := loadSpec(t, "bridge.o"); len(spec.Programs) != len(want) {
		t.Errorf("%d programs, %d results", len(spec.Programs), len(want))
	}
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		var k skep.Kfuncs
		registerBridge(t, &k)
		for name, w := range want {
			p := load(t, "bridge.o", skep.Options{Engine: e, Kfuncs: &k}, name).Programs[name]
			ret, _, err := p.Test(make([]byte, 64))
			if err != nil || int32(ret) != w {
				t.Errorf("%s: %d, %v; expected %d", name, int32(ret), err, w)
			}
		}
	})
}

// bridgePrototypes are what functions of bridge.c have to look like in BTF. Compilers leave out the names of what is only declared.
var bridgePrototypes = []string{
	"long f6(long a, long b, long c, long d, long e, long f)",
	"long f12(long a, long b, long c, long d, long e, long f, long g, long h, long i, long j, long k, long l)",
	"long narrow(u8 a, s8 b, u16 c, s16 d, bool e, u8 f, s8 g, u16 h, s16 i, u32 j, s32 k, bool l)",
	"void move(struct point *p, long dx, long dy, long fx, long fy, const struct point *by, struct point *old)",
	"struct point *larger(struct point *p, long b, long c, long d, long e, struct point *q)",
	"long picky(long a, long b, long c, long d, long e, long f, long g, long h)",
	"int always7(long a, long b, long c, long d, long e, u64 *f)",
	"long k6(long, long, long, long, long, long)",
	"long k12(long, long, long, long, long, long, long, long, long, long, long, long)",
	"bool knarrow(u8, s8, u16, s16, u32, s32, bool, u8, s8, u16, s16, u32)",
	"void kpoint(long, long, long, long, long, struct point *, u8, struct point *)",
}

func checkBridgeTypes(t *testing.T, file string) {
	t.Helper()
	spec, err := skep.LoadCollectionSpec(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range bridgePrototypes {
		name := strings.TrimLeft(strings.Fields(want[:strings.Index(want, "(")])[strings.Count(want[:strings.Index(want, "(")], " ")], "*")
		var fn *btf.Func
		if err := spec.Types.TypeByName(name, &fn); err != nil {
			t.Errorf("%s: %s: %v", file, name, err)
			continue
		}
		if got := ctype.Proto(name, fn.Type.(*btf.FuncProto)); got != want {
			t.Errorf("%s:\n%s, expected\n%s", file, got, want)
		}
	}
}

// bridgeCompilers calls f for each compiler of the header.
func bridgeCompilers(t *testing.T, f func(t *testing.T, clang string)) {
	for _, clang := range []string{"clang-14", "clang-16", "clang-19", "clang-22"} {
		t.Run(clang, func(t *testing.T) {
			if _, err := exec.LookPath(clang); err != nil {
				t.Skipf("what this compiler makes of the header is what is tested: %v", err)
			}
			f(t, clang)
		})
	}
}

// TestBridgeTypes: no warnings, and whole prototypes.
func TestBridgeTypes(t *testing.T) {
	checkBridgeTypes(t, "testdata/bridge.o")
	bridgeCompilers(t, func(t *testing.T, clang string) {
		for _, level := range []string{"-O1", "-O2", "-O3"} {
			out := filepath.Join(t.TempDir(), "bridge.o")
			msg, err := exec.Command(clang, "-target", "bpf", "-mlittle-endian", "-mcpu=v3", level, "-g", "-Wall", "-Wextra",
				"-Wno-unused-parameter", "-Werror", "-Itestdata", "-Iinclude", "-c", "testdata/bridge.c", "-o", out).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, msg)
			}
			checkBridgeTypes(t, out)
		}
	})
}

// TestBridgePage compiles the example of docs/calling-convention.md.
func TestBridgePage(t *testing.T) {
	page, err := os.ReadFile("docs/calling-convention.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```c\n")
	code, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("no C in it")
	}
	bridgeCompilers(t, func(t *testing.T, clang string) {
		cmd := exec.Command(clang, "-target", "bpf", "-O2", "-g", "-Wall", "-Werror", "-Itestdata", "-Iinclude", "-c", "-x", "c", "-", "-o", os.DevNull)
		cmd.Stdin = strings.NewReader("#include <skep_test.h>\nstruct point { long x, y; };\n" + code)
		if msg, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, msg)
		}
	})
}

// bridgeMisuse are lines of C with a part of what compilers say to them.
var bridgeMisuse = []struct{ name, code, want string }{
	{"five", "SKEP_KFUNC(long, f, long, a, long, b, long, c, long, d, long, e);", "f: a function of up to five parameters is plain C"},
	{"none", "SKEP_KFUNC(long, f, void);", "each parameter is a type, a comma and a name"},
	{"thirteen", "SKEP_DECL(int, f, int, a, int, b, int, c, int, d, int, e, int, f, int, g, int, h, int, i, int, j, int, k, int, l, int, m);",
		"f: functions have at most twelve parameters"},
	{"fifteen", "SKEP_KFUNC(int, f, int, a, int, b, int, c, int, d, int, e, int, f, int, g, int, h, int, i, int, j, int, k, int, l, int, m, " +
		"int, n, int, o);", "f: functions have at most twelve parameters"},
	{"no name", "SKEP_KFUNC(int, f, int, a, int, b, int, c, int, d, int, e, int);", "f: each parameter is a type, a comma and a name"},
	{"no comma", "SKEP_KFUNC(int, f, int, a, int, b, int c, int, d, int, e, int, g);", "f: each parameter is a type, a comma and a name"},
	{"struct", "SKEP_KFUNC(int, f, int, a, int, b, struct s, c, int, d, int, e, int, g);", "parameter c: struct s is no integer or pointer"},
	{"struct in a slot", "SKEP_KFUNC(int, f, int, a, int, b, int, c, int, d, int, e, int, g, struct s, h);",
		"parameter h: struct s is no integer or pointer"},
	{"double", "SKEP_DECL(int, f, int, a, int, b, int, c, int, d, int, e, double, g);", "parameter g: double is no integer or pointer"},
	{"128 bits", "SKEP_DECL(int, f, int, a, int, b, int, c, int, d, int, e, __int128, g);", "parameter g: __int128 is no integer or pointer"},
	{"void", "SKEP_DECL(int, f, int, a, int, b, int, c, int, d, int, e, void, g);", "parameter g: void is no integer or pointer"},
	{"result", "SKEP_DECL(struct s, f, int, a, int, b, int, c, int, d, int, e, int, g);", "f returns struct s, which is no integer or pointer"},
	{"two definitions", "SKEP_DECL(int, f, int, a, int, b, int, c, int, d, int, e, int, g);" +
		"SKEP_DECL(int, f, int, a, int, b, int, c, int, d, int, e, long, g);", "conflicting types for 'f"},
	{"too few arguments", "SKEP_KFUNC(int, f, int, a, int, b, int, c, int, d, int, e, int, g); int h(void) { return SKEP_CALL(f, 1, 2, 3, 4, 5); }",
		"too few arguments to function call, expected 6, have 5"},
	{"too many arguments", "SKEP_KFUNC(int, f, int, a, int, b, int, c, int, d, int, e, int, g);" +
		"int h(void) { return SKEP_CALL(f, 1, 2, 3, 4, 5, 6, 7); }", "too many arguments to function call, expected 6, have 7"},
	{"another pointer", "SKEP_KFUNC(int, f, int, a, int, b, int, c, int, d, int, e, struct s *, g);" +
		"int h(int *p) { return SKEP_CALL(f, 1, 2, 3, 4, 5, p); }", "incompatible pointer types"},
}

// TestBridgeMisuse: errors name the function or parameter, whichever form the header takes.
func TestBridgeMisuse(t *testing.T) {
	bridgeCompilers(t, func(t *testing.T, clang string) {
		for _, form := range []string{"-U__BPF_FEATURE_STACK_ARGUMENT", "-D__BPF_FEATURE_STACK_ARGUMENT"} {
			for _, c := range bridgeMisuse {
				cmd := exec.Command(clang, "-target", "bpf", "-fsyntax-only", "-Werror=incompatible-pointer-types", "-Iinclude", form, "-x", "c", "-")
				cmd.Stdin = strings.NewReader("#include <skep/bpf_stack_args.h>\nstruct s { int x; };\n" + c.code + "\n")
				msg, err := cmd.CombinedOutput()
				if err == nil || !strings.Contains(string(msg), c.want) {
					t.Errorf("%s %s: %v, expected %q:\n%s", c.name, form, err, c.want, msg)
				}
			}
		}
	})
}

// TestBridgePlain: a compiler that knows stack arguments sees C without assembly. None is released, so that its macro is defined
// here, and the code looked at before instructions are chosen for it.
func TestBridgePlain(t *testing.T) {
	bridgeCompilers(t, func(t *testing.T, clang string) {
		out, err := exec.Command(clang, "-target", "bpf", "-O2", "-Itestdata", "-Iinclude", "-D__BPF_FEATURE_STACK_ARGUMENT", "-S", "-emit-llvm",
			"testdata/bridge.c", "-o", "-").CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if strings.Contains(string(out), " asm ") {
			t.Error("there is assembly in it")
		}
		for _, name := range []string{"f6", "f12", "k6", "k12", "knarrow", "kpoint", "move"} {
			if !strings.Contains(string(out), "@"+name+"(") {
				t.Errorf("nothing calls %s", name)
			}
		}
	})
}

// TestBridgePlainRuns: the same source as C for the compiler's machine, where arguments never were a problem, computes the same.
func TestBridgePlainRuns(t *testing.T) {
	bridgeCompilers(t, func(t *testing.T, clang string) {
		want := bridgeResults()
		main := "#include \"testdata/bridge.c\"\nint printf(const char *, ...);\nint main(void) {\n\tstruct __sk_buff skb = {};\n"
		names := []string{}
		for name := range want {
			if !strings.HasPrefix(name, "kfuncs") { // their functions are elsewhere
				names = append(names, name)
				main += fmt.Sprintf("\tprintf(\"%s %%d\\n\", %s(&skb));\n", name, name)
			}
		}
		bin := filepath.Join(t.TempDir(), "bridge")
		cmd := exec.Command(clang, "-O2", "-w", "-I.", "-Itestdata", "-Iinclude", "-D__BPF_FEATURE_STACK_ARGUMENT", "-x", "c", "-", "-o", bin)
		cmd.Stdin = strings.NewReader(main + "\treturn 0;\n}\n")
		if msg, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, msg)
		}
		out, err := exec.Command(bin).Output()
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(out), "\n")
		for _, name := range names {
			if line := fmt.Sprintf("%s %d", name, want[name]); !slices.Contains(lines, line) {
				t.Errorf("no line %q in\n%s", line, out)
			}
		}
	})
}
