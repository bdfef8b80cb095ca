package skep

import (
	"bytes"
	"debug/dwarf"
	"debug/elf"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/listing"
)

// objectPrograms loads programs of a fixture in the order of their names.
func objectPrograms(t *testing.T, file string, names ...string) []*Program {
	t.Helper()
	spec, err := LoadCollectionSpec(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewCollectionWithOptions(spec, Options{Programs: names})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(c.Close)
	var progs []*Program
	for _, n := range names {
		progs = append(progs, c.Programs[n])
	}
	return progs
}

var objectFixtures = []struct {
	file  string
	names []string
}{
	{"nesting.o", []string{"nesting", "two_callees"}},
	{"twelve.o", []string{"call_function", "call_kfunc"}},
	{"counter.o", []string{"count"}},
	{"syscall.o", []string{"add"}},
	{"exceptions.o", []string{"deep_throws_to_callback", "throw_through_many"}},
}

// TestWriteObject writes objects for every architecture and reads them back: all code is there, each function has its symbol,
// and each byte has the source line of the BPF instruction that it belongs to.
func TestWriteObject(t *testing.T) {
	for _, arch := range Architectures() {
		for _, c := range objectFixtures {
			t.Run(arch+"/"+c.file, func(t *testing.T) {
				progs := objectPrograms(t, c.file, c.names...)
				var b bytes.Buffer
				if err := WriteObject(&b, arch, progs...); err != nil {
					t.Fatal(err)
				}
				f, err := elf.NewFile(bytes.NewReader(b.Bytes()))
				if err != nil {
					t.Fatal(err)
				}
				if f.Section(".note.GNU-stack") == nil {
					t.Error("no .note.GNU-stack: a linker would make the stack executable")
				}
				checkObject(t, f, arch, progs)
			})
		}
	}
	if err := WriteObject(io.Discard, "pdp11", objectPrograms(t, "counter.o", "count")...); !errors.Is(err, ebpf.ErrNotSupported) {
		t.Error(err)
	}
	if err := WriteObject(io.Discard, ""); err == nil {
		t.Error("an object of no programs")
	}
}

func checkObject(t *testing.T, f *elf.File, arch string, progs []*Program) {
	text, err := f.Section(".text").Data()
	if err != nil {
		t.Fatal(err)
	}
	syms, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	lines := lineTable(t, f)
	base := uint64(0)
	for _, p := range progs {
		code, err := p.machineCode(arch)
		if err != nil {
			t.Fatal(err)
		}
		base = (base + 15) &^ 15
		if end := base + uint64(len(code.Text)); end > uint64(len(text)) || !bytes.Equal(text[base:end], code.Text) {
			t.Fatalf("%s: other code at %#x", p.name, base)
		}
		for i, fn := range code.Funcs {
			if !hasSymbol(syms, fn, base) {
				t.Errorf("%s: no symbol for %+v in %+v", p.name, fn, syms)
			}
			if fn.Name != p.ir.Funcs[i].Name {
				t.Errorf("function %d is %s", i, fn.Name)
			}
		}
		for off := range code.Text {
			pc := code.PCAt(off)
			if pc < 0 {
				continue
			}
			want := p.prog.LineAt(pc)
			got := lines[base+uint64(off)]
			if got == nil || want == nil || got.Line != int(want.Number) || got.Column != int(want.Column) || got.File.Name != want.File {
				t.Fatalf("%s: the line of %#x is %+v, want %+v", p.name, base+uint64(off), got, want)
			}
		}
		base += uint64(len(code.Text))
	}
	if base != uint64(len(text)) {
		t.Errorf(".text has %d bytes, want %d", len(text), base)
	}
}

func hasSymbol(syms []elf.Symbol, fn listing.Func, base uint64) bool {
	bind := elf.STB_LOCAL
	if fn.Entry {
		bind = elf.STB_GLOBAL
	}
	for _, s := range syms {
		if s.Name == fn.Name && s.Value == base+uint64(fn.Off) && s.Size == uint64(fn.Size) && s.Info == elf.ST_INFO(bind, elf.STT_FUNC) {
			return true
		}
	}
	return false
}

// lineTable returns the row of each address.
func lineTable(t *testing.T, f *elf.File) map[uint64]*dwarf.LineEntry {
	t.Helper()
	d, err := f.DWARF()
	if err != nil {
		t.Fatal(err)
	}
	unit, err := d.Reader().Next()
	if err != nil || unit == nil {
		t.Fatal("no unit: ", err)
	}
	r, err := d.LineReader(unit)
	if err != nil {
		t.Fatal(err)
	}
	table := map[uint64]*dwarf.LineEntry{}
	var last *dwarf.LineEntry
	for {
		e := new(dwarf.LineEntry)
		if err := r.Next(e); err == io.EOF {
			return table
		} else if err != nil {
			t.Fatal(err)
		}
		if last != nil {
			for a := last.Address; a < e.Address; a++ {
				table[a] = last
			}
		}
		last = e
	}
}

// TestWriteObjectDisassembles: binutils read from the object the instructions that our listing has.
func TestWriteObjectDisassembles(t *testing.T) {
	objdumps := map[string]string{"amd64": "x86_64-linux-gnu-objdump", "arm64": "aarch64-linux-gnu-objdump"}
	progs := objectPrograms(t, "nesting.o", "nesting", "two_callees")
	for _, arch := range Architectures() {
		t.Run(arch, func(t *testing.T) {
			objdump, err := exec.LookPath(objdumps[arch])
			if err != nil {
				t.Skip(err)
			}
			var b bytes.Buffer
			if err := WriteObject(&b, arch, progs...); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "nesting.o")
			if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command(objdump, "-dlr", file).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, want := range []string{"<nesting>:", "<two_callees>:", "<outer8>:", "nesting.c:32", "\tcall", "\tret"} {
				if arch == "arm64" && want == "\tcall" {
					want = "\tbl\t"
				}
				if !strings.Contains(string(out), want) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
			if strings.Contains(string(out), "(bad)") || strings.Contains(string(out), "undefined") {
				t.Errorf("instructions that are none:\n%s", out)
			}
		})
	}
}
