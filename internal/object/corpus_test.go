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
	runCorpus(t, files)
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
	runCorpus(t, files)
}

func runCorpus(t *testing.T, files []string) {
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		t.Log("no BTF on this host: CO-RE programs are refused")
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
			t.Logf("%s: refused: %v", filepath.Base(path), err)
			continue
		}
		for _, name := range o.Programs() {
			programs++
			p, err := program.FromSpec(o.Spec, name, program.Options{KernelTypes: kernel})
			if err != nil {
				t.Logf("%s: %v", filepath.Base(path), err)
				continue
			}
			built++
			checkAgainstRaw(t, path, o, p)
		}
	}
	t.Logf("%d objects, %d programs, %d built", len(files), programs, built)
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
