package skep_test

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/internal/offheap"
)

// objectPrograms are those of testdata/objects.c.
var objectPrograms = []string{
	"new_drop", "kptr_array", "kptr_hash", "kptr_lru", "kptr_percpu_array", "kptr_percpu_hash", "kptr_locked_array", "kptr_locked_hash", "lists",
	"trees", "percpu",
}

// step is one run of a program of testdata/objects.c.
type step struct {
	program        string
	mark, priority uint32
}

func (s step) options() *ebpf.RunOptions {
	skb := make([]byte, 192)
	binary.LittleEndian.PutUint32(skb[8:], s.mark)
	binary.LittleEndian.PutUint32(skb[32:], s.priority)
	return &ebpf.RunOptions{Data: make([]byte, 64), Context: skb}
}

func runStep(t *testing.T, c *skep.Collection, s step) int32 {
	t.Helper()
	ret, err := c.Programs[s.program].Run(s.options())
	if err != nil {
		t.Fatalf("%+v: %v", s, err)
	}
	return int32(ret)
}

// objectStep makes a random step of a program.
func objectStep(r *rand.Rand, name string) step {
	s := step{program: name, priority: r.Uint32N(50)}
	switch {
	case strings.HasPrefix(name, "kptr_"):
		s.mark = r.Uint32N(9) | r.Uint32N(6)<<8
	case name == "lists":
		s.mark = r.Uint32N(7)
	case name == "trees":
		s.mark = []uint32{0, 0, 0, 1, 2, 3, 3, 3, 4, 4, 5, 6, 7, 8, 9, 10, 11}[r.IntN(17)]
		if s.mark == 3 || s.mark == 4 {
			s.priority = r.Uint32N(1 << 12)
		}
	case name == "percpu":
		s.mark = r.Uint32N(4)
		s.priority++
	}
	return s
}

// inUse returns how many objects of the collection are not free, once the number is what is wanted or does not change any more.
func inUse(c *skep.Collection, want int64) (n int64) {
	for range 500 {
		if n, _ = c.Programs["trees"].ObjectsInUse(); n == want {
			break
		}
		time.Sleep(2 * time.Millisecond)
	}
	return n
}

// TestObjectsZeroAndReused: a new object is zero, and an object that was dropped makes room for the next.
func TestObjectsZeroAndReused(t *testing.T) {
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		c := load(t, "objects.o", skep.Options{Engine: e, Limits: skep.Limits{AllocBytes: 4096}}, "new_drop", "trees")
		if n := runStep(t, c, step{"new_drop", 0, 100_000}); n != 100_000 {
			t.Errorf("%d objects", n)
		}
		if n := inUse(c, 0); n != 0 {
			t.Errorf("%d objects are left", n)
		}
	})
}

// TestObjectLimit: where the memory is used up programs get NULL, and what they free they get again.
func TestObjectLimit(t *testing.T) {
	const limit = 64 << 10
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		c := load(t, "objects.o", skep.Options{Engine: e, Limits: skep.Limits{AllocBytes: limit}}, "lists", "trees")
		for range 2 {
			n := int64(0)
			for runStep(t, c, step{"lists", 1, 7}) == 14 {
				n++
			}
			live, bytes := c.Programs["lists"].ObjectsInUse()
			if live != n || n < limit/64 || bytes > limit {
				t.Errorf("%d objects, %d are there, of %d bytes", n, live, bytes)
			}
			if got := runStep(t, c, step{"lists", 1, 7}); got != -2 {
				t.Errorf("one more: %d", got)
			}
			for range n {
				if got := runStep(t, c, step{"lists", 2, 0}); got != 7 {
					t.Fatalf("taken out: %d", got)
				}
			}
		}
	})
}

// TestObjectsFreedOnClose: what maps and lists still own is freed with the collection, and all memory with it.
func TestObjectsFreedOnClose(t *testing.T) {
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		var regions int
		for round := range 2 {
			if round == 1 {
				regions, _ = offheap.Stats() // the first run makes stacks and contexts that stay
			}
			c, err := skep.NewCollectionWithOptions(loadSpec(t, "objects.o"), skep.Options{Engine: e})
			if err != nil {
				t.Fatalf("%+v", err)
			}
			r := rand.New(rand.NewPCG(2, 3))
			for range 2000 {
				name := objectPrograms[r.IntN(len(objectPrograms))]
				runStep(t, c, objectStep(r, name))
			}
			trees := c.Programs["trees"]
			if n, _ := trees.ObjectsInUse(); n < 20 {
				t.Errorf("only %d objects", n)
			}
			for key := range uint32(4) {
				runStep(t, c, step{"kptr_array", 7 | key<<8, 0}) // an update, which frees
			}
			runStep(t, c, step{"kptr_array", 0, 1})
			kept := c.DetachMap("array") // which owns an object still
			c.Close()
			c.Programs = map[string]*skep.Program{"trees": trees}
			if n := inUse(c, 1); n != 1 {
				t.Errorf("%d objects are left with a map that owns one", n)
			}
			kept.Close()
			if n := inUse(c, 0); n != 0 {
				t.Errorf("%d objects are left", n)
			}
		}
		for range 500 {
			if n, _ := offheap.Stats(); n <= regions {
				return
			}
			time.Sleep(2 * time.Millisecond)
		}
		n, _ := offheap.Stats()
		t.Errorf("%d regions more than before", n-regions)
	})
}

// TestStoppedRunOwnsNothing: what a run owns when it is stopped is freed, and what it held is given back.
func TestStoppedRunOwnsNothing(t *testing.T) {
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		for op, left := range []int64{0, 0, 2, 0} {
			c := load(t, "objects.o", skep.Options{Engine: e}, "slow", "trees", "kptr_array")
			runStep(t, c, step{"kptr_array", 0, 1})
			if op != 3 {
				runStep(t, c, step{"kptr_array", 1, 0})
			}
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
			_, err := c.Programs["slow"].RunContext(ctx, step{"slow", uint32(op + 1), 0}.options())
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("slow %d: %v", op, err)
			}
			if n := inUse(c, left); n != left {
				t.Errorf("slow %d: %d objects are left, want %d", op, n, left)
			}
			if op != 2 {
				continue
			}
			// The second leaf is in the list only, and can be put into the tree.
			if got := runStep(t, c, step{"trees", 10, 0}); got != 0 {
				t.Errorf("the leaf in the list into the tree: %d", got)
			}
			if got := runStep(t, c, step{"trees", 3, 1}); got != 2*16+1 {
				t.Errorf("the way to it: %d", got)
			}
		}
	})
}

// TestObjectsInParallel hammers shared lists, trees and pointers.
func TestObjectsInParallel(t *testing.T) {
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		c := load(t, "objects.o", skep.Options{Engine: e}, objectPrograms...)
		var wg sync.WaitGroup
		for g := range runtime.GOMAXPROCS(0) + 3 {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(uint64(g), 5))
				for n := range 4000 {
					name := objectPrograms[r.IntN(len(objectPrograms))]
					s := objectStep(r, name)
					if _, err := c.Programs[name].Run(s.options()); err != nil {
						t.Errorf("%+v: %v", s, err)
						return
					}
					if m := c.Maps[strings.TrimPrefix(name, "kptr_")]; n%16 == 0 && m != nil && m.Type() == ebpf.Hash {
						if err := m.Delete(r.Uint32N(5)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
							t.Error(err)
						}
					}
				}
			})
		}
		wg.Wait()
		for runStep(t, c, step{"lists", 2, 0}) != -3 {
		}
		for runStep(t, c, step{"trees", 2, 0}) != -3 {
		}
		for runStep(t, c, step{"trees", 8, 0}) != -5 {
		}
		trees := c.Programs["trees"]
		c.Close()
		c.Programs = map[string]*skep.Program{"trees": trees}
		if n := inUse(c, 0); n != 0 {
			t.Errorf("%d objects are left", n)
		}
	})
}

// TestObjectsOfOtherCollections: programs of two collections share objects by a map that they share, and the objects outlive the collection
// that made them. Types of another object file are others, also where they look alike.
func TestObjectsOfOtherCollections(t *testing.T) {
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		spec := loadSpec(t, "objects.o")
		opts := skep.Options{Engine: e, Programs: []string{"lists", "kptr_array", "trees"}}
		first, err := skep.NewCollectionWithOptions(spec, opts)
		if err != nil {
			t.Fatalf("%+v", err)
		}
		opts.MapReplacements = map[string]*skep.Map{".bss.A": first.Maps[".bss.A"], "array": first.Maps["array"]}
		for _, name := range []string{"lists", "kptr_array"} {
			other := opts
			other.Programs = []string{name}
			if c, err := skep.NewCollectionWithOptions(loadSpec(t, "objects.o"), other); err == nil {
				t.Errorf("%s: types of another object are taken for the same", name)
				c.Close()
			}
		}
		second, err := skep.NewCollectionWithOptions(spec, opts)
		if err != nil {
			t.Fatalf("%+v", err)
		}
		for i := range uint32(3) {
			runStep(t, first, step{"lists", 1, i})
		}
		runStep(t, first, step{"kptr_array", 0, 77})
		trees := first.Programs["trees"]
		first.Close()
		first.Programs = map[string]*skep.Program{"trees": trees}
		if n := inUse(first, 4); n != 4 {
			t.Errorf("%d objects of the collection that is closed", n)
		}
		for i := range uint32(2) {
			if got := runStep(t, second, step{"lists", 2, 0}); got != int32(i) {
				t.Errorf("object %d: %d", i, got)
			}
		}
		if got := runStep(t, second, step{"kptr_array", 2, 0}); got != 77 {
			t.Errorf("the pointer's object: %d", got)
		}
		second.Close()
		if n := inUse(first, 0); n != 0 {
			t.Errorf("%d objects are left", n)
		}
	})
}

// TestObjectsOfCopiedSpec: a copy of a spec is as good as the spec.
func TestObjectsOfCopiedSpec(t *testing.T) {
	c, err := skep.NewCollection(loadSpec(t, "objects.o").Copy())
	if err != nil {
		t.Fatalf("%.400v", err)
	}
	c.Close()
}

// TestTreeOrderedByTenArguments: what compares two objects calls a function of ten arguments.
func TestTreeOrderedByTenArguments(t *testing.T) {
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		c := load(t, "objects.o", skep.Options{Engine: e}, "tree_ten", "trees")
		greatest := int32(0)
		r := rand.New(rand.NewPCG(7, 7))
		for range 200 {
			s := step{"tree_ten", 0, r.Uint32N(1000)}
			greatest = max(greatest, int32(s.priority))
			if got := runStep(t, c, s); got != greatest {
				t.Fatalf("%+v: the first is %d, not %d", s, got, greatest)
			}
		}
		for last := greatest; ; {
			got := runStep(t, c, step{"trees", 2, 0})
			if got == -3 {
				break
			}
			if got > last {
				t.Fatalf("%d behind %d", got, last)
			}
			last = got
		}
	})
}

// TestObjectsOfRepeatedRun: objects that pointers owned make room while one run executes its program over and over.
func TestObjectsOfRepeatedRun(t *testing.T) {
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		c := load(t, "objects.o", skep.Options{Engine: e, Limits: skep.Limits{AllocBytes: 8 << 20}}, "kptr_array", "trees")
		o := step{"kptr_array", 0, 5}.options()
		for range 5 { // in all several times what there is room for; -3 says that there is none
			o.Repeat = 200_000
			if ret, err := c.Programs["kptr_array"].Run(o); err != nil || int32(ret) != 5 && int32(ret) != -1 {
				t.Fatalf("%d, %v", int32(ret), err)
			}
		}
	})
}
