package objects

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/skep-bpf/skep/internal/errno"
	"github.com/skep-bpf/skep/internal/rt"
	"github.com/skep-bpf/skep/verifier"
)

// The types of the tests: a leaf is in lists, by the member at 8, and in trees, by that at 32; a counted one has a count at 64, too. A box
// owns a leaf by a pointer at 0, and has a list at 8 and a tree at 24, under a lock at 40.
const (
	leafList, leafTree, leafCount = 8, 32, 64
	boxPtr, boxList, boxTree      = 0, 8, 24
)

var (
	leafType    = verifier.ObjectType{ID: 1, Name: "leaf", Size: 72}
	countedType = verifier.ObjectType{ID: 2, Name: "counted", Size: 72, Fields: []verifier.ValueField{{Kind: verifier.CountField, Off: leafCount}}}
	boxType     = verifier.ObjectType{ID: 3, Name: "box", Size: 44, Fields: []verifier.ValueField{
		{Kind: verifier.KptrField, Off: boxPtr}, {Kind: verifier.ListField, Off: boxList}, {Kind: verifier.TreeField, Off: boxTree},
		{Kind: verifier.SpinLockField, Off: 40},
	}}
)

func newHeap(t *testing.T, limit int64) *Heap {
	h := NewHeap(limit)
	h.Hold()
	t.Cleanup(func() {
		h.Unhold()
		eventually(t, "no object is left", func() bool { n, _ := h.InUse(); return n == 0 })
		eventually(t, "no memory is left", func() bool {
			chunks.mu.RLock()
			defer chunks.mu.RUnlock()
			for _, c := range chunks.at {
				if c.typ.heap == h {
					return false
				}
			}
			return true
		})
	})
	return h
}

// eventually waits for what happens once runs have ended.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for range 1000 {
		if f() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Errorf("not after a second: %s", what)
}

func isThere(obj uint64) bool {
	_, ok := Find(obj, 8)
	return ok
}

// TestReusedAtOnce: an object that no pointer owned is free as soon as it is dropped, and its memory is the next object's.
func TestReusedAtOnce(t *testing.T) {
	leaf := newHeap(t, 0).Type(&leafType)
	r := rt.Acquire()
	defer r.Release()
	obj := leaf.New(r)
	store(obj, 7)
	if g, ok := Find(obj+71, 1); !ok || g.Base != obj || g.Size != 72 {
		t.Errorf("%+v, %v", g, ok)
	}
	if _, ok := Find(obj+71, 2); ok {
		t.Error("a byte behind it belongs to it")
	}
	if _, ok := Find(obj-8, 8); ok {
		t.Error("its state belongs to it")
	}
	Give(r, obj)
	if isThere(obj) {
		t.Error("is there after the drop")
	}
	if again := leaf.New(r); again != obj || load(again) != 0 {
		t.Errorf("the next one is at %#x, not %#x, and begins with %d", again, obj, load(again))
	}
	Give(r, obj)
}

// TestKeptForReaders: an object that a pointer owned stays until the runs have ended that were under way when it was dropped.
func TestKeptForReaders(t *testing.T) {
	h := newHeap(t, 0)
	leaf, box := h.Type(&leafType), h.Type(&boxType)
	r := rt.Acquire()
	b, obj := box.New(r), leaf.New(r)
	Exchange(r, b+boxPtr, obj)
	reader := rt.Acquire() // loads the pointer
	if got := Exchange(r, b+boxPtr, 0); got != obj {
		t.Fatalf("%#x, not %#x", got, obj)
	}
	store(obj, 7)
	Give(r, obj)
	Give(r, b)
	r.Release()
	time.Sleep(30 * time.Millisecond)
	if !isThere(obj) || load(obj) != 7 {
		t.Error("is gone while a reader is there")
	}
	r = rt.Acquire()
	if leaf.New(r) == obj {
		t.Error("its memory is another object's while a reader is there")
	}
	r.Release() // frees that
	reader.Release()
	eventually(t, "the object is free", func() bool { return !isThere(obj) })
	eventually(t, "nothing is left", func() bool { n, _ := h.InUse(); return n == 0 })
}

// TestOwners: what an object owns goes with it, what is counted with its last owner.
func TestOwners(t *testing.T) {
	h := newHeap(t, 0)
	leaf, counted, box := h.Type(&leafType), h.Type(&countedType), h.Type(&boxType)
	r := rt.Acquire()
	defer r.Release()
	b, shared := box.New(r), counted.New(r)
	for range 5 {
		if e := Push(r, b+boxList, leaf.New(r)+leafList, true); e != 0 {
			t.Error(e)
		}
		addNode(r, b+boxTree, leaf.New(r)+leafTree)
	}
	Exchange(r, b+boxPtr, leaf.New(r))
	if Acquire(r, shared) != shared {
		t.Error("no second owner")
	}
	addNode(r, b+boxTree, shared+leafTree)
	Give(r, b)
	eventually(t, "all but the counted one are gone", func() bool { n, _ := h.InUse(); return n == 12 }) // which this run can still read
	if !isThere(shared) || u32At(shared+leafCount).Load() != 1 {
		t.Errorf("the counted one has %d owners", u32At(shared+leafCount).Load())
	}
	if u64At(shared+leafTree+treeOwner).Load() != 0 {
		t.Error("is in a tree that is gone")
	}
	Give(r, shared)
}

// TestNoOwnerLeft: an object that dies has no new owner.
func TestNoOwnerLeft(t *testing.T) {
	h := newHeap(t, 0)
	counted, box := h.Type(&countedType), h.Type(&boxType)
	r := rt.Acquire()
	defer r.Release()
	b, obj := box.New(r), counted.New(r)
	Exchange(r, b+boxPtr, obj)
	Give(r, b)
	if Acquire(r, obj) != 0 {
		t.Error("another owner of what is dropped")
	}
}

// TestList: ends, the empty list, and a node that is in a list already.
func TestList(t *testing.T) {
	h := newHeap(t, 0)
	counted, box := h.Type(&countedType), h.Type(&boxType)
	r := rt.Acquire()
	defer r.Release()
	b := box.New(r)
	head := b + boxList
	if Pop(r, head, true) != 0 || Pop(r, head, false) != 0 || Peek(head, false) != 0 {
		t.Error("something in an empty list")
	}
	var want []uint64
	for i := range 6 {
		node := counted.New(r) + leafList
		if i%2 == 0 {
			want = append(want, node)
		} else {
			want = append([]uint64{node}, want...)
		}
		Push(r, head, node, i%2 == 0)
	}
	second := Acquire(r, want[0]-leafList)
	if e := Push(r, head, second+leafList, true); e != errno.EINVAL || u32At(second+leafCount).Load() != 1 {
		t.Errorf("twice in a list: %v, %d owners", e, u32At(second+leafCount).Load())
	}
	if Peek(head, false) != want[0] || Peek(head, true) != want[5] {
		t.Error("the ends are others")
	}
	var got []uint64
	for i := range 6 {
		node := Pop(r, head, i%2 == 1)
		got = append(got, node)
		Give(r, node-leafList)
	}
	if w := []uint64{want[0], want[5], want[1], want[4], want[2], want[3]}; !slices.Equal(got, w) {
		t.Errorf("%x, want %x", got, w)
	}
	Give(r, b)
}

// addNode puts an object into a tree by its key, as machine code does.
func addNode(r *rt.Run, root, node uint64) errno.Errno {
	at, less := uint64(0), false
	for {
		next, e := Add(r, root, node, at, less)
		if next == 0 {
			return e
		}
		at, less = next, load(node-leafTree) < load(next-leafTree)
	}
}

// checkTree checks the rules of red-black trees below n, and returns the keys in order and the number of black nodes on each path.
func checkTree(t *testing.T, n, parent uint64) (keys []uint64, blacks int) {
	if n == 0 {
		return nil, 1
	}
	if parentOf(n) != parent {
		t.Fatalf("the parent of %#x is %#x, not %#x", n, parentOf(n), parent)
	}
	if !isBlack(n) && (parent == 0 || !isBlack(parent)) {
		t.Fatal("a red node at the top or below a red one")
	}
	l, bl := checkTree(t, child(n, nodeLeft), n)
	r, br := checkTree(t, child(n, nodeRight), n)
	if bl != br {
		t.Fatalf("paths with %d and %d black nodes", bl, br)
	}
	if isBlack(n) {
		bl++
	}
	return append(append(l, load(n-leafTree)), r...), bl
}

// TestTree: random additions and removals leave a red-black tree in order; equal keys come behind each other.
func TestTree(t *testing.T) {
	h := newHeap(t, 0)
	leaf, box := h.Type(&leafType), h.Type(&boxType)
	r := rt.Acquire()
	defer r.Release()
	b := box.New(r)
	root := b + boxTree
	rng := rand.New(rand.NewPCG(1, 1))
	var nodes []uint64
	for range 20_000 {
		if grow := 60 - 40*(len(nodes)/200); rng.IntN(100) < grow || len(nodes) == 0 {
			obj := leaf.New(r)
			store(obj, rng.Uint64N(300))
			if e := addNode(r, root, obj+leafTree); e != 0 {
				t.Fatal(e)
			}
			nodes = append(nodes, obj+leafTree)
		} else {
			i := rng.IntN(len(nodes))
			if Remove(r, root, nodes[i]) != nodes[i] || Remove(r, root, nodes[i]) != 0 {
				t.Fatal("not taken out once")
			}
			Give(r, nodes[i]-leafTree)
			nodes = slices.Delete(nodes, i, i+1)
		}
		keys, _ := checkTree(t, Top(root), 0)
		if len(keys) != len(nodes) || !slices.IsSorted(keys) {
			t.Fatalf("%d nodes, %v", len(nodes), keys)
		}
		if f := First(root); len(keys) > 0 && load(f-leafTree) != keys[0] || len(keys) == 0 && f != 0 {
			t.Fatal("the first is another")
		}
	}
	Give(r, b)
}

// TestLimits: the heap's, and the kernel's of one object.
func TestLimits(t *testing.T) {
	h := newHeap(t, 1000)
	leaf := h.Type(&leafType)
	r := rt.Acquire()
	defer r.Release()
	var all []uint64
	for obj := leaf.New(r); obj != 0; obj = leaf.New(r) {
		all = append(all, obj)
	}
	if len(all) != 1000/80 {
		t.Errorf("%d objects", len(all))
	}
	for _, obj := range all {
		Give(r, obj)
	}
	big := newHeap(t, 0)
	for size, ok := range map[int]bool{4088: true, 4089: false} {
		obj := big.Type(&verifier.ObjectType{ID: uint64(size), Size: size}).New(r)
		if (obj != 0) != ok {
			t.Errorf("object of %d bytes at %#x", size, obj)
		}
		if obj != 0 {
			Give(r, obj)
		}
	}
}

// TestPerCPU: each slot has a copy, all zero at first.
func TestPerCPU(t *testing.T) {
	counts := newHeap(t, 0).Type(&verifier.ObjectType{ID: 1, Size: 12, PerCPU: true})
	r := rt.Acquire()
	defer r.Release()
	for range 2 {
		obj := counts.New(r)
		for cpu := range rt.CPUs() {
			c := Copy(obj, cpu)
			if c != obj+uint64(16*cpu) || load(c) != 0 || !isThere(c) {
				t.Errorf("copy %d is at %#x", cpu, c)
			}
			store(c, ^uint64(0))
		}
		Give(r, obj)
	}
}
