//go:build linux

package skep_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/skeptest"
)

// This file builds the fixtures with other compilers than they were committed with, at every level of optimisation and
// for every version of the instruction set, and compares what the objects do with what the committed ones do.

// compilers are the oldest and the newest that objects may come from, and two between.
var compilers = []string{"clang-14", "clang-16", "clang-19", "clang-22"}

// unbuildable says why a compiler refuses a fixture, as a part of its message; "" if it builds it.
func unbuildable(compiler, cpu, source string) string {
	old := compiler == "clang-14" || compiler == "clang-16"
	switch {
	case old && cpu == "v4":
		return "unknown target CPU 'v4'"
	case old && source == "twelve":
		return "invalid operand for instruction" // a store of an immediate, written in assembly
	case old && source == "alu_v4":
		return "Cannot select" // signed division came with v4
	case cpu != "v4" && source == "alu_v4":
		return "unsupported signed division"
	case compiler == "clang-14" && source == "objects":
		return "tags of pointers came with clang 15"
	}
	return ""
}

// variant is one way to build all fixtures.
type variant struct{ compiler, level, cpu string }

// large fixtures take long to run, and are there for what they call: they are built in one way by each compiler.
var large = []string{"mapbench", "objects", "reslock"}

func newest() string { return compilers[len(compilers)-1] }

// of leaves out fixtures that are not built in this way. On other machines than amd64 only the newest compiler builds the large ones.
func (v variant) of(sources []string) []string {
	all := v.level == "-O2" && v.cpu == "v3" && (runtime.GOARCH == "amd64" || v.compiler == newest())
	return slices.DeleteFunc(slices.Clone(sources), func(s string) bool { return slices.Contains(large, s) && !all })
}

func (v variant) String() string { return v.compiler + v.level + " " + v.cpu }

// build compiles a fixture into dir; it returns "" if the compiler refuses it for the known reason.
func (v variant) build(t *testing.T, dir, source string) string {
	out := filepath.Join(dir, source+".o")
	cmd := exec.Command(v.compiler, "-target", "bpf", "-mlittle-endian", "-mcpu="+v.cpu, v.level, "-g", "-I.",
		"-I../include", "-c", source+".c", "-o", out)
	cmd.Dir = "testdata"
	msg, err := cmd.CombinedOutput()
	why := unbuildable(v.compiler, v.cpu, source)
	switch {
	case err == nil && why == "":
		return out
	case err == nil:
		t.Errorf("%s: builds %s.c, which it was thought to refuse", v, source)
	case why == "" || !strings.Contains(string(msg), why):
		t.Errorf("%s: %s.c: %v\n%s", v, source, err, msg)
	}
	return ""
}

// TestCompilers compares on every engine: verdicts, results, packets, contexts, maps and variables.
func TestCompilers(t *testing.T) {
	sources := fixtureSources(t)
	for _, compiler := range compilers {
		t.Run(compiler, func(t *testing.T) {
			if _, err := exec.LookPath(compiler); err != nil {
				t.Skipf("objects of this compiler are what is tested: %v", err)
			}
			want := map[string][]string{} // by source, what the committed object does
			for _, s := range sources {
				want[s] = behaviour(t, filepath.Join("testdata", s+".o"), skep.EngineInterpreter)
			}
			levels, cpus := []string{"-O1", "-O2", "-O3"}, []string{"v1", "v2", "v3", "v4"}
			if runtime.GOARCH != "amd64" {
				// the objects are the same as on amd64, where all are run; here, it may be under qemu, only this compiler's work is new
				levels, cpus = levels[1:2], cpus[2:]
				if compiler != newest() {
					cpus = cpus[:1]
				}
			}
			if compiler != compilers[0] && compiler != newest() {
				levels = []string{"-O2"} // what lies between the oldest and the newest
			}
			var work []variant
			for _, level := range levels {
				for _, cpu := range cpus {
					work = append(work, variant{compiler, level, cpu})
				}
			}
			programs := 0
			for _, n := range inParallel(work, func(v variant) int { return v.compare(t, sources, want) }) {
				programs += n
			}
			if programs < 25*len(work) {
				t.Errorf("only %d programs compared", programs)
			}
		})
	}
}

// fixtureSources are the C files that an object of the same name is committed for.
func fixtureSources(t *testing.T) []string {
	files, err := filepath.Glob("testdata/*.c")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".c")
		if _, err := os.Stat(filepath.Join("testdata", name+".o")); err == nil {
			names = append(names, name)
		}
	}
	if len(names) < 10 {
		t.Fatal("too few fixtures: ", names)
	}
	return names
}

// inParallel calls f for each of work on all processors.
func inParallel[T, R any](work []T, f func(T) R) []R {
	out := make([]R, len(work))
	var wg sync.WaitGroup
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	for i, w := range work {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			out[i] = f(w)
		})
	}
	wg.Wait()
	return out
}

// compare builds all fixtures in one way and returns how many programs it compared.
func (v variant) compare(t *testing.T, sources []string, want map[string][]string) int {
	dir, err := os.MkdirTemp(t.TempDir(), "")
	if err != nil {
		t.Error(err)
		return 0
	}
	programs := 0
	sources = v.of(sources)
	for _, s := range sources {
		v.build(t, dir, s)
	}
	for _, s := range sources {
		file := filepath.Join(dir, s+".o")
		if unbuildable(v.compiler, v.cpu, s) != "" {
			continue
		}
		results, err := skeptest.Run(file, skeptest.Options{})
		if err != nil {
			t.Errorf("%s: %v", v, err)
		}
		for _, r := range results {
			if r.Outcome != skeptest.Pass {
				t.Errorf("%s: %s", v, r)
			}
			programs++
		}
		for _, e := range engines() {
			if diff := cmp.Diff(want[s], behaviour(t, file, e)); diff != "" {
				t.Errorf("%s: %s with %s, against the committed object:\n%s", v, s, e, diff)
			}
		}
	}
	return programs
}

// behaviour says what the programs of an object do with packets and contexts, a line for each result.
func behaviour(t *testing.T, file string, engine skep.Engine) []string {
	spec, err := skep.LoadCollectionSpec(file)
	if err != nil {
		t.Error(err)
		return nil
	}
	opts := skep.Options{Engine: engine, Env: skep.Env{Clock: skep.NewFakeClock(1)}, Kconfig: func(name string) (string, bool) {
		return "0x010203", name == "LINUX_KERNEL_VERSION"
	}}
	if filepath.Base(file) != "objects.o" { // which asks for functions of the kernel
		if opts.KernelBTF, err = btf.LoadSpec("testdata/core_target.o"); err != nil {
			t.Error(err)
		}
	}
	opts.Kfuncs = fixtureKfuncs(t, spec)
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(spec.Programs)) {
		if strings.HasPrefix(name, "kptr_percpu") {
			continue // what they find is by slot, and runs of others take slots
		}
		opts.Programs = []string{name}
		lines = append(lines, programBehaviour(t, spec, name, opts)...)
	}
	return lines
}

// fixtureKfuncs are the Go functions that an object's kfuncs are, if it has any.
func fixtureKfuncs(t *testing.T, spec *ebpf.CollectionSpec) *skep.Kfuncs {
	k := newStackKfuncs(t)
	if _, ok := spec.Programs["ignored_in_slots"]; ok {
		k.nameParameters(t, spec)
	}
	if err := k.Register("kfunc12", sum12); err != nil {
		t.Error(err)
	}
	registerBridge(t, &k.Kfuncs)
	return &k.Kfuncs
}

// programBehaviour runs one program on all inputs and adds what its maps and variables hold in the end.
func programBehaviour(t *testing.T, spec *ebpf.CollectionSpec, name string, opts skep.Options) []string {
	c, err := skep.NewCollectionWithOptions(spec, opts)
	var rejected *skep.VerifierError
	if errors.As(err, &rejected) {
		return []string{name + ": " + string(rejected.Code)}
	}
	if err != nil {
		return []string{name + ": " + err.Error()}
	}
	defer c.Close()
	var lines []string
	for i, in := range inputs(c.Programs[name].Type()) {
		ret, err := c.Programs[name].Run(&in)
		lines = append(lines, fmt.Sprintf("%s %d: %d %v packet %x context %x", name, i, int32(ret), err, in.DataOut, in.ContextOut))
	}
	pl := place{maps: map[string]anyMap{}}
	for n, m := range c.Maps {
		if !strings.HasPrefix(n, ".rodata.") { // constants that the compiler took out of the code
			pl.maps[n] = m
		}
	}
	all := contents(t, &pl)
	for _, key := range slices.Sorted(maps.Keys(all)) {
		lines = append(lines, fmt.Sprintf("%s: %s = %x", name, key, all[key]))
	}
	return lines
}

// inputs are what programs of a type run on.
func inputs(typ ebpf.ProgramType) []ebpf.RunOptions {
	var in []ebpf.RunOptions
	if typ == ebpf.Syscall {
		for i := range uint64(5) {
			ctx := binary.NativeEndian.AppendUint64(nil, 1000003*i-7)
			ctx = binary.NativeEndian.AppendUint64(ctx, i*i-3)
			ctx = append(ctx, bytes.Repeat([]byte{0xf1 + byte(i)}, 128-len(ctx))...)
			in = append(in, ebpf.RunOptions{Context: ctx, ContextOut: make([]byte, len(ctx))})
		}
		return in
	}
	for i, packet := range trafficPackets() {
		if i%4 == 0 {
			in = append(in, ebpf.RunOptions{Data: packet, DataOut: make([]byte, len(packet)+64)})
		}
	}
	return in
}
