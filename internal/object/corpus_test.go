package object_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/object"
	"github.com/skep-bpf/skep/internal/program"
)

// TestCiliumObjects loads every object in the testdata of the cilium/ebpf module: each loads or is refused with a
// reason that this table expects.
func TestCiliumObjects(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/cilium/ebpf").Output()
	if err != nil {
		t.Skip("go list: ", err)
	}
	files, _ := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "testdata", "*.elf"))
	if len(files) < 50 {
		t.Fatalf("%d objects found", len(files))
	}
	refused := runCorpus(t, files)
	for what, want := range ciliumRefused {
		if got := refused[what]; !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
		delete(refused, what)
	}
	for what, why := range refused {
		if !strings.Contains(what, "-eb.elf") || !strings.Contains(why, "this machine has the other byte order") {
			t.Errorf("%s: refused without being expected: %s", what, why)
		}
	}
}

// ciliumRefused are the objects and programs that do not load on a little-endian machine, with the reason. Big-endian
// twins are refused for their byte order.
var ciliumRefused = map[string]string{
	"fwd_decl-el.elf/call_fwd":              "symbol fwd is not defined", // linked from two objects
	"linked1-el.elf/entry_l2":               "symbol l2 is not defined",
	"linked2-el.elf/entry_l1":               "symbol l1 is not defined",
	"ksym-el.elf/ksym_test":                 "there are no kernel variables in user space",
	"loader-clang-14-el.elf/asm_relocation": "symbol MY_CONST is not defined", // meant to be set by the test
	"loader-clang-17-el.elf/asm_relocation": "symbol MY_CONST is not defined",
	"loader-clang-22-el.elf/asm_relocation": "symbol MY_CONST is not defined",
	"loader_nobtf-el.elf/asm_relocation":    "symbol MY_CONST is not defined",
	"invalid_btf_map_init-eb.elf":           "section .maps: map hash_map",
	"invalid_btf_map_init-el.elf":           "section .maps: map hash_map",
	"invalid_map_static-eb.elf":             "erroneous static qualifier on map definition",
	"invalid_map_static-el.elf":             "erroneous static qualifier on map definition",
}

// TestCorpus does the same with directories of objects on this machine, separated by ':' in SKEP_OBJECTS.
func TestCorpus(t *testing.T) {
	dirs := os.Getenv("SKEP_OBJECTS")
	if dirs == "" {
		t.Skip("SKEP_OBJECTS names no directories")
	}
	var files []string
	for dir := range strings.SplitSeq(dirs, ":") {
		_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() && (strings.HasSuffix(path, ".o") || strings.HasSuffix(path, ".elf")) {
				files = append(files, path)
			}
			return nil
		})
	}
	for what, why := range runCorpus(t, files) {
		t.Logf("%s: %s", what, why)
	}
}

// runCorpus loads and builds everything; it returns what was refused, by file or file/program.
func runCorpus(t *testing.T, files []string) map[string]string {
	refused := map[string]string{}
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		t.Skip("no BTF on this host: CO-RE programs would be refused")
	}
	programs, built := 0, 0
	for _, path := range files {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		o, err := object.Load(f, object.Options{})
		f.Close()
		if err != nil {
			refused[filepath.Base(path)] = err.Error()
			continue
		}
		for _, name := range o.Programs() {
			programs++
			p, err := program.FromSpec(o.Spec, name, program.Options{KernelTypes: kernel})
			if err != nil {
				refused[filepath.Base(path)+"/"+name] = err.Error()
				continue
			}
			built++
			checkAgainstRaw(t, path, o, p)
		}
	}
	t.Logf("%d objects, %d programs, %d built", len(files), programs, built)
	return refused
}

// checkAgainstRaw compares each function of a built program with the bytes of the file: only relocated slots and those
// of CO-RE relocations may differ.
func checkAgainstRaw(t *testing.T, path string, o *object.Object, p *program.Program) {
	core := coreSlots(o, p)
	for _, fn := range p.Funcs {
		f := o.Function(fn.Name)
		if f == nil {
			t.Errorf("%s: program %s: function %s is not in the file", path, p.Name, fn.Name)
			continue
		}
		if fn.End-fn.Start != len(f.Insns) {
			t.Errorf("%s: program %s: function %s has %d slots, in the file %d", path, p.Name, fn.Name, fn.End-fn.Start, len(f.Insns))
			continue
		}
		if f.Type != nil && (fn.Type == nil || fn.Type.Name != f.Type.Name) {
			t.Errorf("%s: program %s: function %s has type %v, in the file %v", path, p.Name, fn.Name, fn.Type, f.Type)
		}
		for i, want := range f.Insns {
			got := p.Insns[fn.Start+i]
			second := i > 0 && f.Insns[i-1].IsLdImm64()
			if got == want || f.Relocated[i] || second && f.Relocated[i-1] || core[fn.Start+i] || got.IsPseudoCall() || p.OldDialect {
				continue
			}
			t.Errorf("%s: program %s: %s+%d is %+v, in the file %+v", path, p.Name, fn.Name, i, got, want)
		}
	}
}

// coreSlots are the slots with a CO-RE relocation.
func coreSlots(o *object.Object, p *program.Program) map[int]bool {
	slots := map[int]bool{}
	iter := o.Spec.Programs[p.Name].Instructions.Iterate()
	for iter.Next() {
		if btf.CORERelocationMetadata(iter.Ins) != nil {
			slots[int(iter.Offset)], slots[int(iter.Offset)+1] = true, true
		}
	}
	return slots
}
