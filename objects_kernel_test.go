//go:build linux

package skep_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/internal/kernel"
	"github.com/skep-bpf/skep/internal/program"
)

// onOneCPU keeps the test on one processor of the kernel's, as it is in one slot here.
func onOneCPU(t *testing.T) {
	var old, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &old); err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread()
	for i := range 1024 {
		if old.IsSet(i) {
			one.Set(i)
			break
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = unix.SchedSetaffinity(0, &old)
		runtime.UnlockOSThread()
	})
}

// sameValues compares what Go sees of a map's elements. What their fields own is zero.
func sameValues(t *testing.T, m *skep.Map, k *kernel.Map) {
	t.Helper()
	for key := range uint32(6) {
		kb := binary.NativeEndian.AppendUint32(nil, key)
		want, err := k.Lookup(kb)
		if err != nil {
			want = nil
		}
		got, err := m.LookupBytes(kb)
		if err != nil {
			got = nil
		}
		got, want = got[:min(len(got), 24)], want[:min(len(want), 24)] // of per-CPU maps: of the slot, and of the processor
		if !bytes.Equal(got, want) {
			t.Errorf("%s: element %d is % x, in the kernel % x", m, key, got, want)
		}
	}
}

// TestObjectsAsKernel: random steps of the programs of testdata/objects.c and of Go on their maps, here and in the kernel.
func TestObjectsAsKernel(t *testing.T) {
	needKernel(t)
	spec := loadSpec(t, "objects.o")
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		onOneCPU(t)
		for i, name := range objectPrograms[1:] { // the kernel's objects are not zeroed
			p, err := program.FromSpec(spec, name, program.Options{})
			if err != nil {
				t.Fatal(err)
			}
			k, err := kernel.Load(p)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			defer k.Close()
			c := load(t, "objects.o", skep.Options{Engine: e}, name)
			r := rand.New(rand.NewPCG(1, uint64(i)))
			seen := map[int32]bool{}
			for n := range 3000 {
				s := objectStep(r, name)
				o := s.options()
				want, err := k.Run(kernel.RunInput{Data: o.Data, Ctx: o.Context.([]byte)})
				if err != nil {
					t.Fatal(err)
				}
				got := runStep(t, c, s)
				if got != int32(want.Ret) {
					t.Fatalf("step %d, %+v: %d, in the kernel %d", n, s, got, int32(want.Ret))
				}
				seen[got] = true
				if !strings.HasPrefix(name, "kptr_") || n%10 != 0 {
					continue
				}
				for j := range p.Maps {
					m := c.Maps[p.Maps[j].Name]
					if m == nil || m.ValueSize() < 24 {
						continue
					}
					goStep(t, r, m, k.Map(j))
					sameValues(t, m, k.Map(j))
				}
			}
			if len(seen) < 3 {
				t.Errorf("%s: only %d results", name, len(seen))
			}
		}
	})
}

// goStep changes an element from Go, here and there.
func goStep(t *testing.T, r *rand.Rand, m *skep.Map, k *kernel.Map) {
	t.Helper()
	key := binary.NativeEndian.AppendUint32(nil, r.Uint32N(5))
	value := make([]byte, m.ValueSize())
	for i := range value {
		value[i] = byte(r.IntN(256)) // also where the pointer is
	}
	if r.IntN(2) == 0 {
		want := k.Delete(key)
		if got := m.Delete(key); (got == nil) != (want == nil) {
			t.Errorf("%s: delete: %v, in the kernel %v", m, got, want)
		}
		return
	}
	var v any = value
	all := value
	if m.Type() == ebpf.PerCPUArray || m.Type() == ebpf.PerCPUHash {
		var one [3]uint64
		for i := range one {
			one[i] = binary.NativeEndian.Uint64(value[8*i:])
		}
		v = slices.Repeat([][3]uint64{one}, skep.PossibleCPUs())
		all = bytes.Repeat(value, ebpf.MustPossibleCPU())
	}
	flags := ebpf.UpdateAny
	if len(value) > 24 && r.IntN(2) == 0 {
		flags = ebpf.UpdateLock
	}
	want := k.Update(key, all, uint64(flags))
	if got := m.Update(key, v, flags); (got == nil) != (want == nil) {
		t.Errorf("%s: update: %v, in the kernel %v", m, got, want)
	}
}

// objectFiles are the kernel's tests of objects, lists and trees.
var objectFiles = []string{"linked_list", "rbtree", "refcounted_kptr", "local_kptr_stash", "map_kptr", "percpu_alloc_array", "kptr_xchg_inline"}

// TestObjectCorpusAsKernel runs the kernel's own tests of objects (SKEP_CORPUS), each on maps of its own, a few times here and in the
// kernel.
func TestObjectCorpusAsKernel(t *testing.T) {
	needKernel(t)
	dirs := filepath.SplitList(os.Getenv("SKEP_CORPUS"))
	if len(dirs) == 0 {
		t.Skip("no directory of the kernel's tests: SKEP_CORPUS")
	}
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		onOneCPU(t)
		ran := 0
		for _, dir := range dirs {
			for _, name := range objectFiles {
				if file := filepath.Join(dir, name+".o"); fileExists(file) {
					ran += runAsKernel(t, file, e)
				}
			}
		}
		t.Logf("%d programs", ran)
		if ran < 30 {
			t.Error("too few")
		}
	})
}

func fileExists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// runAsKernel runs the programs of one file, and returns how many ran.
func runAsKernel(t *testing.T, file string, e skep.Engine) (ran int) {
	spec, err := skep.LoadCollectionSpec(file)
	if err != nil {
		t.Fatal(err)
	}
	for name := range spec.Programs {
		p, err := program.FromSpec(spec, name, program.Options{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if slices.ContainsFunc(p.Maps, func(m program.Map) bool { return m.Inner != nil }) {
			continue // in the kernel nobody puts a map there
		}
		k, err := kernel.Load(p)
		if err != nil {
			t.Logf("%s/%s: not in the kernel: %.120s", filepath.Base(file), name, err)
			continue
		}
		c, err := skep.NewCollectionWithOptions(spec, skep.Options{Engine: e, Programs: []string{name}})
		if err != nil {
			t.Logf("%s/%s: %.200s", filepath.Base(file), name, err)
			k.Close()
			continue
		}
		for i := range 4 {
			data := make([]byte, 64)
			in := kernel.RunInput{Data: data}
			o := ebpf.RunOptions{Data: data}
			if spec.Programs[name].Type == ebpf.Syscall {
				in.Data, o.Data = nil, nil
			}
			want, err := k.Run(in)
			if err != nil {
				t.Logf("%s/%s: does not run in the kernel: %v", filepath.Base(file), name, err)
				break
			}
			if got, err := c.Programs[name].Run(&o); err != nil || got != want.Ret {
				t.Errorf("%s/%s, run %d: %d, %v, in the kernel %d", filepath.Base(file), name, i, int32(got), err, int32(want.Ret))
			}
			if i == 3 {
				ran++
			}
		}
		k.Close()
		c.Close()
	}
	return ran
}
