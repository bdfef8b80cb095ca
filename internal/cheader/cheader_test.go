package cheader

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
)

func ptr(t btf.Type) btf.Type { return &btf.Pointer{Target: t} }

func nothing(string) bool { return false }

// pointerTo is a kfunc of one parameter, a pointer to t.
func pointerTo(name string, t btf.Type) Func {
	return Func{Func: &btf.Func{Name: name, Type: &btf.FuncProto{Return: &btf.Void{}, Params: []btf.FuncParam{{Name: "p", Type: ptr(t)}}}}}
}

// TestKernelLayouts compares with clang: it writes every fourth structure and union of the kernel, where it can be written, with
// those inside of it, and looks at what the compiler makes of them.
func TestKernelLayouts(t *testing.T) {
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		t.Skipf("the layouts are those of this machine's kernel: %v", err)
	}
	if _, err := exec.LookPath("clang-22"); err != nil {
		t.Skipf("what a compiler makes of the layouts is what is tested: %v", err)
	}
	want := map[string]btf.Type{}
	var funcs []Func
	n := 0
	for typ, err := range kernel.All() {
		if err != nil {
			t.Fatal(err)
		}
		switch typ.(type) {
		case *btf.Struct, *btf.Union:
			f := pointerTo(fmt.Sprintf("f%d", len(funcs)), typ)
			if name := typ.TypeName(); n%4 == 0 && name != "" && want[name] == nil {
				want[name] = typ
				funcs = append(funcs, f)
			}
			n++
		}
	}
	got, compared := compile(t, funcs), 0
	for name, w := range want {
		compared += compareLayout(t, got, name, w)
	}
	if compared < 1000 {
		t.Errorf("only %d layouts compared", compared)
	}
	t.Logf("%d of %d layouts compared", compared, len(want))
}

// compile returns the BTF that clang makes of a header; what cannot be written (bit fields, packed structures, names that two
// types have) is left out.
func compile(t *testing.T, funcs []Func) *btf.Spec {
	t.Helper()
	var header strings.Builder
	var left []Func
	p := &printer{opaque: nothing, done: map[string]string{}}
	for _, f := range funcs {
		if p.needProto(f.Type.(*btf.FuncProto)) == nil {
			left = append(left, f)
		}
	}
	if err := Write(&header, left, nothing); err != nil {
		t.Fatal(err)
	}
	header.WriteString("\nvoid use(void)\n{\n")
	for _, f := range left {
		fmt.Fprintf(&header, "\t%s(0);\n", f.Name)
	}
	header.WriteString("}\n")
	dir := t.TempDir()
	src, out := filepath.Join(dir, "x.c"), filepath.Join(dir, "x.o")
	if err := os.WriteFile(src, []byte(header.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if msg, err := exec.Command("clang-22", "-target", "bpf", "-w", "-ferror-limit=10", "-g", "-O1", "-c", src, "-o", out).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, msg)
	}
	spec, err := btf.LoadSpec(out)
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

// compareLayout compares sizes, names and offsets, and returns how many it could compare.
func compareLayout(t *testing.T, spec *btf.Spec, name string, want btf.Type) (compared int) {
	t.Helper()
	types, err := spec.AnyTypesByName(name)
	if err != nil {
		return 0 // left out
	}
	for _, got := range types {
		if fmt.Sprintf("%T", got) != fmt.Sprintf("%T", want) {
			continue
		}
		compared++
		if g, w := layoutOf(got), layoutOf(want); g != w {
			t.Errorf("%s:\n%s, expected\n%s", name, g, w)
		}
	}
	return compared
}

func layoutOf(t btf.Type) string {
	var b strings.Builder
	members := func(size uint32, ms []btf.Member) string {
		for _, m := range ms {
			n, _ := btf.Sizeof(m.Type)
			fmt.Fprintf(&b, " %s@%d+%d", m.Name, m.Offset.Bytes(), n)
		}
		return fmt.Sprint(size, b.String())
	}
	switch t := t.(type) {
	case *btf.Struct:
		return members(t.Size, t.Members)
	case *btf.Union:
		return members(t.Size, t.Members)
	}
	return ""
}

// TestRefused: what C cannot say where it is to stand is an error, and circles and holes in types made in Go are.
func TestRefused(t *testing.T) {
	char := &btf.Int{Name: "char", Size: 1}
	field := func(t btf.Type) btf.Type {
		return &btf.Struct{Name: "s", Size: 8, Members: []btf.Member{{Name: "m", Type: t}}}
	}
	circle, array := &btf.Struct{Name: "circle"}, &btf.Array{Nelems: 2}
	circle.Members = []btf.Member{{Name: "m", Type: circle}}
	array.Type = array
	for _, c := range []struct {
		t    btf.Type
		want string
	}{
		{ptr(&btf.FuncProto{Return: &btf.Void{}}), "cannot be declared before a name"},
		{ptr(&btf.Array{Type: char, Nelems: 2}), "cannot be declared before a name"},
		{field(ptr(&btf.Array{Type: char, Nelems: 2})), "cannot be declared before a name"},
		{&btf.Struct{Size: 1}, "has no name"},
		{&btf.Fwd{}, "has no name"},
		{field(nil), "a type is missing"},
		{field(array), "cannot be declared"},
		{circle, "nested too deeply"},
		{&btf.Struct{Name: "s", Size: 5, Members: []btf.Member{{Name: "c", Type: char}, {Name: "i", Type: &btf.Int{Name: "int", Size: 4}, Offset: 8}}},
			"field i is packed"},
		{&btf.Struct{Name: "s", Size: 4, Members: []btf.Member{{Name: "b", Type: &btf.Int{Name: "int", Size: 4}, BitfieldSize: 3}}}, "field b is a bit field"},
		{&btf.Struct{Name: "s", Size: 5, Members: []btf.Member{{Name: "i", Type: &btf.Int{Name: "int", Size: 4}}}}, "it is packed"},
	} {
		if err := Write(&strings.Builder{}, []Func{pointerTo("f", c.t)}, nothing); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, expected %q", c.t, err, c.want)
		}
	}
	two := []Func{pointerTo("f", &btf.Struct{Name: "s", Size: 0}), pointerTo("g", field(char))}
	two[1].Type.(*btf.FuncProto).Params[0].Type.(*btf.Pointer).Target.(*btf.Struct).Size = 1
	if err := Write(&strings.Builder{}, two, nothing); err == nil || !strings.Contains(err.Error(), "two types struct s") {
		t.Errorf("two structures of one name: %v", err)
	}
}
