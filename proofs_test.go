package skep

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/verifier"
)

// TestProofs: a second load verifies nothing, one that differs in anything does.
func TestProofs(t *testing.T) {
	spec, err := LoadCollectionSpec("testdata/globals.o")
	if err != nil {
		t.Fatal(err)
	}
	var p Proofs
	load := func(opts Options) (*Collection, error) {
		opts.Proofs = &p
		c, err := NewCollectionWithOptions(spec, opts)
		if err == nil {
			t.Cleanup(c.Close)
		}
		return c, err
	}
	hits := func(what string, opts Options, want int) {
		t.Helper()
		before := p.hits
		if _, err := load(opts); err != nil {
			t.Fatalf("%s: %+v", what, err)
		}
		if got := p.hits - before; got != want {
			t.Errorf("%s: %d programs were not verified again, want %d", what, got, want)
		}
	}
	n := len(spec.Programs)
	hits("first", Options{}, 0)
	hits("again", Options{}, n)
	hits("another engine", Options{Engine: EngineInterpreter}, n)
	hits("counted", Options{Coverage: new(Coverage)}, n)
	hits("other rules", Options{Target: verifier.Target612}, 0)
	hits("fewer capabilities", Options{Without: verifier.CapPerfmon}, 0)
	hits("a log", Options{LogLevel: ebpf.LogLevelBranch}, 0)
	hits("the first rules", Options{}, n)
}

// TestProofOfOtherConstants: a constant is part of what is proven.
func TestProofOfOtherConstants(t *testing.T) {
	spec, err := LoadCollectionSpec("examples/slowopen/bpf/slowopen.o")
	if err != nil {
		t.Fatal(err)
	}
	var p Proofs
	for i, threshold := range []uint64{1, 2, 1} {
		if err := spec.Variables["threshold"].Set(threshold); err != nil {
			t.Fatal(err)
		}
		c, err := NewCollectionWithOptions(spec, Options{Proofs: &p, Arch: "amd64"})
		if err != nil {
			t.Fatalf("%+v", err)
		}
		c.Close()
		want := i // enter has no constants: found in the second load; both in the third
		if i == 2 {
			want = 3
		}
		if p.hits != want {
			t.Errorf("load %d: %d proofs were used, want %d", i+1, p.hits, want)
		}
	}
}

// TestProofsKeptAreFew: variants without end do not fill memory.
func TestProofsKeptAreFew(t *testing.T) {
	spec, err := LoadCollectionSpec("testdata/globals.o")
	if err != nil {
		t.Fatal(err)
	}
	var p Proofs
	for i := range 2 * maxProofs {
		c, err := NewCollectionWithOptions(spec, Options{Proofs: &p, Limits: Limits{Insns: 100_000 + i}})
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	for name, kept := range p.m {
		if len(kept) != maxProofs {
			t.Errorf("%s: %d proofs", name, len(kept))
		}
	}
}

// TestProofsKnowAll: who adds a field to what a proof is about says here what comparing does with it.
func TestProofsKnowAll(t *testing.T) {
	for _, c := range []struct {
		v                 any
		compared, ignored string
	}{
		{Options{}, "Arch KernelBTF Limits GlobalStackArgs Without Target JIT",
			// Of Kfuncs and ExtraBTF, Kconfig, MapReplacements the program has what counts; the others are for what comes after.
			"Engine LogLevel LogWriter Kfuncs Hooks ExtraBTF Kconfig Env MapReplacements PerfMap Coverage Proofs Programs unverified"},
		{verifier.Options{}, "LogLevel InsnLimit GlobalStackArgs JIT Arch Kernel Without Target",
			"LogLimit Helpers CPUs ExactStates Visit CheckpointEvery Kernel618 StateBytes"}, // the same for all loads of a process
		{program.Program{}, "Name Type AttachType AttachTo Section Flags License Hook Insns Funcs Maps Kfuncs Ksyms Types OldDialect", "Lines"},
		{program.Map{}, "Name Type KeySize ValueSize MaxEntries Flags Extra Frozen Contents Inner Key Value Types Bound", "Source"},
		{program.Kfunc{}, "Name Type Weak Flags Resolved", ""},
		{program.Func{}, "Name Start End Type Global Weak", ""},
		{program.Ksym{}, "Name Typed", ""},
	} {
		want := append(strings.Fields(c.compared), strings.Fields(c.ignored)...)
		var have []string
		for i := range reflect.TypeOf(c.v).NumField() {
			have = append(have, reflect.TypeOf(c.v).Field(i).Name)
		}
		slices.Sort(want)
		slices.Sort(have)
		if !slices.Equal(have, want) {
			t.Errorf("%T has the fields %s\nknown are          %s", c.v, have, want)
		}
	}
}

// TestSameMap: each field that counts does.
func TestSameMap(t *testing.T) {
	inner := program.Map{Name: "inner"}
	base := program.Map{Name: "m", Contents: []byte{1}, Inner: &inner}
	if !sameMap(base, base) {
		t.Fatal("a map is not itself")
	}
	other := program.Map{Name: "other"}
	for i, change := range []func(m *program.Map){
		func(m *program.Map) { m.Name = "n" }, func(m *program.Map) { m.Type = ebpf.Hash }, func(m *program.Map) { m.KeySize = 1 },
		func(m *program.Map) { m.ValueSize = 1 }, func(m *program.Map) { m.MaxEntries = 1 }, func(m *program.Map) { m.Flags = 1 },
		func(m *program.Map) { m.Extra = 1 }, func(m *program.Map) { m.Frozen = true }, func(m *program.Map) { m.Contents = []byte{2} },
		func(m *program.Map) { m.Inner = nil }, func(m *program.Map) { m.Inner = &other },
		func(m *program.Map) { m.Types = new(btf.Spec) }, func(m *program.Map) { m.Bound = true },
	} {
		m := base
		change(&m)
		if sameMap(base, m) || sameMap(m, base) {
			t.Errorf("change %d is not seen", i)
		}
	}
}
