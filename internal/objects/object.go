package objects

import (
	"sync"

	"github.com/skep-bpf/skep/internal/rt"
	"github.com/skep-bpf/skep/internal/spin"
	"github.com/skep-bpf/skep/verifier"
)

// Kind is what a field of an object or of a map's value owns, or how it is counted.
type Kind uint8

// The kinds. Other fields need no care: a new object is zero.
const (
	Pointer Kind = iota + 1
	List
	Tree
	Count
	Lock
)

// Field is a field at an offset.
type Field struct {
	Kind Kind
	Off  int
}

var kinds = map[verifier.FieldKind]Kind{
	verifier.KptrField: Pointer, verifier.ListField: List, verifier.TreeField: Tree, verifier.CountField: Count, verifier.SpinLockField: Lock,
	verifier.ResLockField: Lock,
}

// Fields are the fields that need care.
func Fields(all []verifier.ValueField) []Field {
	var out []Field
	for _, f := range all {
		if k := kinds[f.Kind]; k != 0 {
			out = append(out, Field{Kind: k, Off: f.Off})
		}
	}
	return out
}

// Type is one type of object in a heap.
type Type struct {
	Name   string
	fields []Field
	lock   int // offset of the lock of lists and trees, -1: none
	count  int // offset of the count that decides, -1: none
	copies int
	each   int // bytes from one copy to the next
	stride int // bytes of a slot
	heap   *Heap

	shared stock   // slots that are free
	own    []cache // for each execution slot: those it takes first, with no lock
	mu     sync.Mutex
	fresh  *chunk // the chunk that new slots are taken from
	next   int    // the first of them that is new
}

// cache is the free slots of one execution slot. Who holds that uses it.
type cache struct {
	free []uint64
	_    [40]byte
}

// stock is the free slots of all.
type stock struct {
	mu   sync.Mutex
	free []uint64
}

func (s *stock) put(objs ...uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = append(s.free, objs...)
}

// batch is how many free slots move at a time.
const batch = 32

// Type returns the type of the objects that o describes. Those of which there is one for each execution slot are types of their own.
func (h *Heap) Type(o *verifier.ObjectType) *Type {
	h.mu.Lock()
	defer h.mu.Unlock()
	key := typeKey{o.ID, o.PerCPU}
	if t := h.types[key]; t != nil {
		return t
	}
	t := &Type{Name: o.Name, lock: -1, count: -1, copies: 1, each: (max(o.Size, 1) + 7) &^ 7, heap: h, own: make([]cache, rt.CPUs())}
	if o.PerCPU {
		t.copies = rt.CPUs()
	}
	t.stride = slotHeader + t.copies*t.each
	t.fields = Fields(o.Fields)
	for _, f := range t.fields {
		switch f.Kind {
		case Lock:
			t.lock = f.Off
		case Count:
			t.count = f.Off
		}
	}
	if h.types == nil {
		h.types = map[typeKey]*Type{}
	}
	h.types[key] = t
	return t
}

// Maker returns the function by which a program that allocates these types does so: its first argument is the number of a type
// (bpf_obj_new). perCPU: it is the one for objects with a copy for each execution slot.
func (h *Heap) Maker(all []verifier.ObjectType, perCPU bool) rt.Func {
	types := map[uint64]*Type{}
	for i := range all {
		if o := &all[i]; o.PerCPU == perCPU {
			types[o.ID] = h.Type(o)
		}
	}
	return func(r *rt.Run, a *[12]uint64) uint64 { return types[a[0]].New(r) }
}

// New makes an object that the run owns, zeroed, counted once. The result is its address, 0 if it is too large or the heap is used up.
func (t *Type) New(r *rt.Run) uint64 {
	c := &t.own[r.CPU]
	if len(c.free) == 0 && !t.refill(c) {
		return 0
	}
	obj := c.free[len(c.free)-1]
	c.free = c.free[:len(c.free)-1]
	clear(bytesAt(obj, t.stride-slotHeader))
	for _, f := range t.fields {
		if f.Kind == Count {
			u32At(obj + uint64(f.Off)).Store(1)
		}
	}
	stateAt(obj).Store(stateLive)
	t.heap.live.Add(1)
	r.Hold(rt.Held{Addr: obj, Kind: rt.HeldObject})
	return obj
}

// refill gives a cache that is empty slots, and reports whether there were any.
func (t *Type) refill(c *cache) bool {
	t.shared.mu.Lock()
	if n := len(t.shared.free); n > 0 {
		from := max(n-batch, 0)
		c.free = append(c.free, t.shared.free[from:]...)
		t.shared.free = t.shared.free[:from]
	}
	t.shared.mu.Unlock()
	return len(c.free) > 0 || t.carve(c)
}

// carve gives a cache slots that are new.
func (t *Type) carve(c *cache) bool {
	if t.each > maxObject && t.copies == 1 || t.stride > chunkSize-chunkHeader {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fresh == nil || t.next == t.fresh.slots() {
		if t.heap.limit-t.heap.used.Load() < int64(t.stride) {
			return false
		}
		fresh, err := newChunk(t)
		if err != nil {
			return false
		}
		t.fresh, t.next = fresh, 0
		t.heap.mu.Lock()
		t.heap.chunks = append(t.heap.chunks, fresh)
		t.heap.mu.Unlock()
	}
	n := t.heap.reserve(min(batch, t.fresh.slots()-t.next), t.stride)
	for i := range n {
		c.free = append(c.free, t.fresh.slot(t.next+n-1-i)) // the lowest is the first to be taken
	}
	t.next += n
	return n > 0
}

// Give drops an object that the run owned (bpf_obj_drop).
func Give(r *rt.Run, obj uint64) {
	r.GiveBack(obj)
	c := chunkOf(obj)
	t := c.typ
	if !t.destroy(obj) {
		return
	}
	if stateAt(obj).Load()&stateShared != 0 {
		t.die(obj)
		return
	}
	// Nobody else has its address: what a list or tree held was seen under its lock only, and taken out under it.
	stateAt(obj).Store(stateFree)
	own := &t.own[r.CPU]
	own.free = append(own.free, obj)
	if n := len(own.free); n >= 2*batch {
		t.shared.put(own.free[n-batch:]...)
		own.free = own.free[:n-batch]
	}
	t.heap.freed(1)
}

// Drop drops an object on behalf of what owned it, which is no run: the object may still be seen by runs.
func Drop(obj uint64) {
	if t := chunkOf(obj).typ; t.destroy(obj) {
		t.die(obj)
	}
}

func init() {
	rt.OnDrop(rt.HeldObject, Drop)
	rt.OnDrop(rt.HeldNode, dropClaimed)
}

func (t *Type) die(obj uint64) {
	stateAt(obj).Store(stateDying)
	t.heap.release(obj)
}

// saturated is a count that never changes any more, and never comes to zero: a leak, in place of an overflow (refcount_t).
const saturated = 1 << 31

// destroy takes one owner from an object and reports whether it was the last. What the object owned is then dropped.
func (t *Type) destroy(obj uint64) bool {
	if t.count >= 0 {
		w := u32At(obj + uint64(t.count))
		for {
			n := w.Load()
			if n >= saturated || n == 0 {
				return false
			}
			if w.CompareAndSwap(n, n-1) {
				if n > 1 {
					return false
				}
				break
			}
		}
	}
	DropFields(obj, t.fields, t.lock)
	return true
}

// DropFields drops what fields at addr own, in an object or a map's value; lock is the offset of its lock.
func DropFields(addr uint64, fields []Field, lock int) {
	for _, f := range fields {
		at := addr + uint64(f.Off)
		switch f.Kind {
		case Pointer:
			if old := u64At(at).Swap(0); old != 0 {
				Drop(old)
			}
		case List, Tree:
			dropRoot(f.Kind, at, addr+uint64(lock))
		}
	}
}

// dropRoot empties a list or tree under its lock, and drops its objects.
func dropRoot(k Kind, at, lock uint64) {
	spin.Take(lock)
	var nodes []uint64
	if k == List {
		nodes = takeList(at)
	} else {
		nodes = takeTree(at)
	}
	spin.Drop(lock)
	for _, n := range nodes {
		Drop(ofNode(n))
	}
}

// Acquire makes the run another owner of an object that is counted, and returns it; 0 if it has no owner left
// (bpf_refcount_acquire).
func Acquire(r *rt.Run, obj uint64) uint64 {
	w := u32At(obj + uint64(chunkOf(obj).typ.count))
	for {
		n := w.Load()
		if n == 0 {
			return 0
		}
		if n >= saturated || w.CompareAndSwap(n, n+1) {
			break
		}
	}
	r.Hold(rt.Held{Addr: obj, Kind: rt.HeldObject})
	return obj
}

// Exchange puts an object that the run owns, 0 for none, into the place of the one that a pointer owns, which the run owns afterwards
// (bpf_kptr_xchg).
func Exchange(r *rt.Run, place, obj uint64) uint64 {
	if obj != 0 {
		s := stateAt(obj)
		s.Store(s.Load() | stateShared)
	}
	old := u64At(place).Swap(obj)
	if obj != 0 {
		r.GiveBack(obj)
	}
	if old != 0 {
		r.Hold(rt.Held{Addr: old, Kind: rt.HeldObject})
	}
	return old
}

// Copy returns the address of the copy of an object for an execution slot.
func Copy(obj uint64, cpu int) uint64 { return obj + uint64(cpu*chunkOf(obj).typ.each) }

// ofNode returns the object that a node of a list or tree is in.
func ofNode(node uint64) uint64 { return chunkOf(node).start(node) }
