package object_test

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/asmtext"
	"github.com/skep-bpf/skep/internal/object"
	"github.com/skep-bpf/skep/internal/program"
)

func fixtures(t testing.TB) map[string][]byte {
	files, _ := filepath.Glob("../../testdata/*.o")
	if len(files) < 10 {
		t.Fatalf("%d objects in testdata", len(files))
	}
	out := map[string][]byte{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out[filepath.Base(f)] = b
	}
	return out
}

// use loads an object and builds and prints all its programs: whatever the bytes are, there is an error or a result.
func use(t testing.TB, data []byte, target *btf.Spec) {
	o, err := object.Load(bytes.NewReader(data), object.Options{MaxSize: 4 << 20, MaxData: 4 << 20})
	if err != nil {
		if !strings.HasPrefix(err.Error(), "object: ") {
			t.Errorf("error without a place: %v", err)
		}
		return
	}
	opt := program.Options{KernelTypes: target, Kconfig: func(string) (string, bool) { return "1", true }}
	for _, name := range o.Programs() {
		_ = o.Tags(name)
		p, err := program.FromSpec(o.Spec, name, opt)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "program "+name+": ") {
				t.Errorf("error without a place: %v", err)
			}
			continue
		}
		_ = asmtext.Text(p)
		for _, f := range p.Funcs {
			if f.Start < 0 || f.End <= f.Start || f.End > len(p.Insns) {
				t.Errorf("function %+v in %d instructions", f, len(p.Insns))
			}
		}
	}
}

// FuzzLoad mutates the objects of testdata: go test -fuzz FuzzLoad -fuzzminimizetime 1x ./internal/object (at its
// default the fuzzer spends its time on making objects smaller).
func FuzzLoad(f *testing.F) {
	target, err := btf.LoadSpec("../../testdata/core_target.o")
	if err != nil {
		f.Fatal(err)
	}
	for _, b := range fixtures(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) { use(t, data, target) })
}

// TestMutations runs a fixed number of mutations on every run of the tests: flipped bytes, extreme 32-bit values,
// truncation; memory stays bounded.
func TestMutations(t *testing.T) {
	target, err := btf.LoadSpec("../../testdata/core_target.o")
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(7, 7))
	extreme := []uint32{0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 0xfffffff8, 0x10000}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	n := 0
	for _, orig := range fixtures(t) {
		for range 150 {
			data := bytes.Clone(orig)
			for range 1 + r.IntN(4) {
				switch at := r.IntN(len(data) - 8); r.IntN(3) {
				case 0:
					data[at] ^= 1 << r.IntN(8)
				case 1:
					binary.LittleEndian.PutUint32(data[at&^3:], extreme[r.IntN(len(extreme))])
				case 2:
					copy(data[at:], data[r.IntN(len(data)-8):][:8])
				}
			}
			if r.IntN(10) == 0 {
				data = data[:r.IntN(len(data))]
			}
			use(t, data, target)
			n++
		}
	}
	runtime.ReadMemStats(&after)
	if per := (after.TotalAlloc - before.TotalAlloc) / uint64(n); per > 8<<20 {
		t.Errorf("%d bytes allocated per object of some kilobytes", per)
	}
}

// TestHostile: things that cost an unguarded reader memory or time.
func TestHostile(t *testing.T) {
	for name, c := range map[string]struct {
		edit func([]byte) []byte
		want string
	}{
		"huge bss":        {func(b []byte) []byte { return editSection(t, b, ".bss", 32, 1<<38) }, "section .bss: 274877906944 bytes of zeroed data, the limit is 67108864"},
		"compressed data": {func(b []byte) []byte { return editSection(t, b, ".rodata", 8, uint64(elf.SHF_COMPRESSED)) }, "object: "},
		"32-bit":          {func(b []byte) []byte { b[4] = 1; return b }, "object: "},
		"other machine":   {func(b []byte) []byte { b[18] = 62; b[19] = 0; return b }, "ELF machine EM_X86_64: not BPF"},
		"executable":      {func(b []byte) []byte { b[16] = 2; return b }, "ELF type ET_EXEC: not a relocatable object"},
		"empty":           {func(b []byte) []byte { return nil }, "object: "},
		"too large":       {func(b []byte) []byte { return append(b, make([]byte, 65<<20)...) }, "object: larger than 67108864 bytes"},
	} {
		_, err := object.Load(bytes.NewReader(c.edit(bytes.Clone(fixtures(t)["globals.o"]))), object.Options{})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %s", name, err, c.want)
		}
	}
}

// editSection sets a 64-bit field of a section header.
func editSection(t *testing.T, b []byte, name string, field int, value uint64) []byte {
	t.Helper()
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range f.Sections {
		if s.Name == name {
			table := binary.LittleEndian.Uint64(b[40:])
			binary.LittleEndian.PutUint64(b[table+uint64(i)*64+uint64(field):], value)
			return b
		}
	}
	t.Fatalf("no section %s", name)
	return nil
}
