// Package objects has the memory of objects that programs allocate (bpf_obj_new), and the lists and trees that own them. Whoever owns an
// object (a run, a pointer in a map's value or in another object, a list, a tree) says so by nothing but holding its address; the verifier
// proves that each owner gives it up once.
//
// Memory is stable by type: a slot that once held an object of a type holds objects of that type only, as long as the heap lives. It is
// used again at once where nobody but the dropper can have seen the object, else when all runs have ended that may still read it
// (rt.AfterPasses): the verifier lets them do so under RCU, and as long as they hold a lock.
//
// Rules and results are those of kernel/bpf/helpers.c (bpf_obj_new_impl and its kin, 6.18).
package objects

import (
	"sync"
	"sync/atomic"

	"github.com/skep-bpf/skep/internal/offheap"
	"github.com/skep-bpf/skep/internal/rt"
)

// Limits of a heap and of one object in it.
const (
	DefaultLimit = 64 << 20 // bytes of objects
	maxObject    = 4096 - 8 // bytes: what the kernel's allocator serves; larger objects are NULL there, too
)

// Heap is the memory of the objects of one collection.
type Heap struct {
	limit int64
	used  atomic.Int64 // bytes of slots that were ever handed out
	live  atomic.Int64 // objects that are not free
	users atomic.Int64 // programs

	mu     sync.Mutex
	types  map[typeKey]*Type
	chunks []*chunk
	gone   bool // the chunks are unmapped, or will be soon

	dying struct {
		sync.Mutex
		list    []uint64
		waiting bool // somebody will look at list again
	}
}

// typeKey is the number of a type in the collection's types, and whether each CPU slot has a copy of its objects.
type typeKey struct {
	id     uint64
	perCPU bool
}

// NewHeap makes an empty heap of at most so many bytes; 0 means DefaultLimit. It has no user yet.
func NewHeap(limit int64) *Heap {
	if limit == 0 {
		limit = DefaultLimit
	}
	return &Heap{limit: limit}
}

// Hold keeps the heap until Unhold. A heap without users lives on as long as an object in it does.
func (h *Heap) Hold() { h.users.Add(1) }

// Unhold undoes Hold. The caller allocates no more.
func (h *Heap) Unhold() {
	if h.users.Add(-1) == 0 {
		h.unmapIfUnused()
	}
}

// InUse returns the number of objects that are not free, and the bytes that objects have taken: they stay with their types.
func (h *Heap) InUse() (objects, bytes int64) { return h.live.Load(), h.used.Load() }

// freed counts objects that are free now.
func (h *Heap) freed(n int) {
	if h.live.Add(int64(-n)) == 0 && h.users.Load() == 0 {
		h.unmapIfUnused()
	}
}

// unmapIfUnused gives the memory back if nobody can have an object any more. Who has none left in a register may still be in a run.
func (h *Heap) unmapIfUnused() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gone || h.users.Load() != 0 || h.live.Load() != 0 {
		return
	}
	h.gone = true
	chunks := h.chunks
	h.chunks, h.types = nil, nil
	rt.AfterRuns(func() {
		for _, c := range chunks {
			c.unmap()
		}
	})
}

// reserve counts bytes of new slots in, as many as fit: n slots of stride bytes at most.
func (h *Heap) reserve(n, stride int) int {
	for {
		used := h.used.Load()
		n = min(n, int((h.limit-used)/int64(stride)))
		if n <= 0 {
			return 0
		}
		if h.used.CompareAndSwap(used, used+int64(n*stride)) {
			return n
		}
	}
}

// release frees a dead object's slot once no run that is under way can have its address.
func (h *Heap) release(obj uint64) {
	d := &h.dying
	d.Lock()
	d.list = append(d.list, obj)
	first := !d.waiting
	d.waiting = true
	d.Unlock()
	if first {
		h.reclaim()
	}
}

// reclaim frees what dies, one batch after the other, until there is nothing left. Who calls it set waiting.
func (h *Heap) reclaim() {
	for {
		d := &h.dying
		d.Lock()
		batch := d.list
		d.list = nil
		d.waiting = len(batch) > 0
		d.Unlock()
		if len(batch) == 0 {
			return
		}
		const called, left = 1, 2
		var state atomic.Int32
		rt.AfterPasses(func() {
			freeAll(batch)
			if !state.CompareAndSwap(0, called) {
				h.reclaim()
			}
		})
		if state.CompareAndSwap(0, left) {
			return // the call is still to come
		}
	}
}

// freeAll frees the slots of objects of one heap.
func freeAll(batch []uint64) {
	for _, obj := range batch {
		c := chunkOf(obj)
		stateAt(obj).Store(stateFree)
		c.typ.shared.put(obj)
	}
	chunkOf(batch[0]).typ.heap.freed(len(batch))
}

// chunk is memory for objects of one type. Its address is a multiple of its size, so that an object's address says in which it is.
//
//	0   index u32      in the table of chunks
//	64  slots          of stride bytes: state u64, then the object, one copy or one for each execution slot
type chunk struct {
	base   uint64
	index  uint32
	region *offheap.Region
	typ    *Type
}

const (
	chunkSize   = 256 << 10
	chunkHeader = 64
	slotHeader  = 8
)

// What the state word of a slot says.
const (
	stateFree  = 0
	stateLive  = 1
	stateDying = 2 // nobody owns it, but runs may still read it
	stateMask  = 3
	// stateShared: a pointer in a map or object owned it at some time, so that others may read it under RCU after its end.
	stateShared = 4
)

// chunks finds the Go side of a chunk: by its index where the address is proven, by its address where it is not.
var chunks struct {
	mu    sync.RWMutex
	table atomic.Pointer[[]*chunk] // copied on change
	free  []uint32
	at    map[uint64]*chunk
}

// newChunk maps a chunk for objects of t.
func newChunk(t *Type) (*chunk, error) {
	region, err := offheap.Alloc(2*chunkSize - offheap.PageSize())
	if err != nil {
		return nil, err
	}
	c := &chunk{base: (uint64(region.Addr()) + chunkSize - 1) &^ (chunkSize - 1), region: region, typ: t}
	chunks.mu.Lock()
	defer chunks.mu.Unlock()
	var old []*chunk
	if p := chunks.table.Load(); p != nil {
		old = *p
	}
	if n := len(chunks.free); n > 0 {
		c.index, chunks.free = chunks.free[n-1], chunks.free[:n-1]
	} else {
		c.index = uint32(len(old))
	}
	table := make([]*chunk, max(len(old), int(c.index)+1))
	copy(table, old)
	table[c.index] = c
	chunks.table.Store(&table)
	if chunks.at == nil {
		chunks.at = map[uint64]*chunk{}
	}
	chunks.at[c.base] = c
	u32At(c.base).Store(c.index)
	return c, nil
}

// unmap gives the memory back. Nobody has an address in it.
func (c *chunk) unmap() {
	chunks.mu.Lock()
	table := append([]*chunk(nil), *chunks.table.Load()...)
	table[c.index] = nil
	chunks.table.Store(&table)
	chunks.free = append(chunks.free, c.index)
	delete(chunks.at, c.base)
	chunks.mu.Unlock()
	_ = c.region.Free()
}

// chunkOf returns the chunk of an address inside of an object, which the verifier's proof says it is.
func chunkOf(addr uint64) *chunk {
	base := addr &^ (chunkSize - 1)
	c := (*chunks.table.Load())[u32At(base).Load()]
	if c.base != base {
		panic("internal error: an address outside of any object")
	}
	return c
}

// slots returns how many objects fit in.
func (c *chunk) slots() int { return (chunkSize - chunkHeader) / c.typ.stride }

// slot returns the address of object i.
func (c *chunk) slot(i int) uint64 { return c.base + chunkHeader + uint64(i*c.typ.stride) + slotHeader }

// start returns the address of the object that an address is in.
func (c *chunk) start(addr uint64) uint64 {
	return c.slot(int(uint32(addr-c.base-chunkHeader) / uint32(c.typ.stride)))
}

// Find returns the object that holds n bytes at an address, of which nothing is known: one that lives, or that runs may still read
// (ir.Reach).
func Find(addr, n uint64) (rt.Region, bool) {
	chunks.mu.RLock()
	c := chunks.at[addr&^(chunkSize-1)]
	chunks.mu.RUnlock()
	if c == nil || addr < c.base+chunkHeader {
		return rt.Region{}, false
	}
	obj := c.start(addr)
	g := rt.Region{Base: obj, Size: uint64(c.typ.stride - slotHeader), Name: "object of struct " + c.typ.Name}
	if !g.Contains(addr, n) || obj+g.Size > c.base+chunkSize || stateAt(obj).Load()&stateMask == stateFree {
		return rt.Region{}, false
	}
	return g, true
}
