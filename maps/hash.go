package maps

import (
	"bytes"
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/errno"
	"github.com/skep-bpf/skep/internal/offheap"
	"github.com/skep-bpf/skep/internal/rt"
)

// Hash and per-CPU hash; lru.go adds what LRU hashes do more.
//
// Memory. A table of buckets, each one 32-bit link, and a slab of elements:
//
//	0  hash   u32   the whole hash of the key
//	4  next   u32   link to the next element of the bucket
//	8  free   u32   link of the free list
//	12 use    u32   of LRU maps: whether it is in the table, and used lately
//	16 key          padded with zeros to a multiple of 8
//	.. value        padded to a multiple of 8 (per-CPU maps keep values in a slab of their own, CPU after CPU)
//
// A link is 0 (end), element number + 1, or, with the top bit set, the end of the chain of the bucket in the low bits.
// The slab never shrinks and is never unmapped while the map lives: a program that still holds a value of a deleted
// element reads and writes map memory, perhaps of another element, never anything else. The kernel's preallocated hash
// map promises the same.
//
// Protocol. A writer holds the lock of the bucket's stripe. It fills a fresh element completely, then publishes it with
// one atomic store at the head of the chain; replacing a value publishes a new element and then unlinks the old one, so
// that no reader ever misses the key and none sees a half-written value through a lookup. A reader takes no lock: it walks the links
// with atomic loads. An element freed under its feet keeps its next link until it is used again; if it was by then put
// into another bucket, the walk ends at that bucket's end mark and starts again (the kernel's hlist_nulls). Go-side
// lookups take the stripe lock: they copy, so they must not see a value change half-way.
//
// Where elements come from: pool.go.
type hash struct {
	buckets, elems, values *offheap.Region
	bm, em, vm             mem

	keySize, keyPad     int
	valueSize, valuePad int
	elemSize            int
	perCPU              int // distance of one CPU's values from the next one's; 0: value in the element
	mask                uint32
	seed                uint64

	special *special
	lru     bool
	turn    atomic.Uint32 // whose pool Go's next new element comes from
	pools   []pool        // one, or one for each CPU slot (BPF_F_NO_COMMON_LRU)
	stripes [stripeCount]stripe
}

type stripe struct {
	sync.Mutex
	_ [56]byte // a cache line each
}

const (
	stripeCount = 64
	elemHeader  = 16
	offHash     = 0
	offNext     = 4
	offFree     = 8
	offUse      = 12
	endMark     = 1 << 31
)

// hashKind says which of the hash map types to make.
type hashKind struct {
	perCPU  bool // a value for each CPU slot
	seed    func() uint64
	lru     bool
	pools   int // 0: one
	special *special
}

func hashKindOf(s *ebpf.MapSpec, sp *special, seed func() uint64) hashKind {
	k := hashKind{special: sp, perCPU: s.Type == ebpf.PerCPUHash || s.Type == ebpf.LRUCPUHash, seed: seed, lru: isLRU(s.Type)}
	if s.Flags&FlagZeroSeed != 0 {
		k.seed = func() uint64 { return 0 }
	}
	if s.Flags&FlagNoCommonLRU != 0 {
		k.pools = rt.CPUs()
	}
	return k
}

func newHash(keySize, valueSize, maxEntries uint32, kind hashKind, limit uint64) (_ *hash, err error) {
	h := &hash{
		keySize: int(keySize), keyPad: round8(int(keySize)),
		valueSize: int(valueSize), valuePad: round8(int(valueSize)),
		lru: kind.lru, special: kind.special,
	}
	defer func() {
		if err != nil {
			_ = h.free()
		}
	}()
	h.seed = kind.seed()
	slab := h.makePools(max(kind.pools, 1), maxEntries)
	n := uint32(1)
	if maxEntries > 1 {
		n = 1 << bits.Len32(maxEntries-1)
	}
	h.mask = n - 1
	h.elemSize = elemHeader + h.keyPad
	if !kind.perCPU {
		h.elemSize += h.valuePad
	}
	size, err := mulSize(limit, uint64(slab), uint64(h.elemSize))
	if err != nil {
		return nil, err
	}
	if h.buckets, err = offheap.Alloc(int(n) * 4); err != nil {
		return nil, err
	}
	if h.elems, err = offheap.Alloc(int(size)); err != nil {
		return nil, err
	}
	h.bm, h.em, h.vm = memOf(h.buckets), memOf(h.elems), memOf(h.elems)
	if !kind.perCPU {
		return h, nil
	}
	if size, err = mulSize(limit, uint64(slab), uint64(h.valuePad)); err != nil {
		return nil, err
	}
	h.perCPU = offheap.RoundUp(int(size))
	if size, err = mulSize(limit, uint64(h.perCPU), uint64(rt.CPUs())); err != nil {
		return nil, err
	}
	if h.values, err = offheap.Alloc(int(size)); err != nil {
		return nil, err
	}
	h.vm = memOf(h.values)
	return h, nil
}

// hashMul is an odd constant with well-mixed bits (2^64 divided by the golden ratio).
const hashMul = 0x9e3779b97f4a7c15

// hashOf mixes the key in words of eight bytes, the last one filled with zeros, each by the two halves of a 128-bit
// product: one multiplication a word, and short enough to be emitted as machine code.
func (h *hash) hashOf(key []byte) uint32 {
	x := h.seed ^ hashMul
	mix := func(w uint64) {
		hi, lo := bits.Mul64(x^w, hashMul)
		x = bits.RotateLeft64(hi^lo, 32) + w
	}
	switch {
	case len(key) == 4:
		mix(uint64(key32(key)))
	default:
		for ; len(key) >= 8; key = key[8:] {
			mix(key64(key))
		}
		if len(key) > 0 {
			var w uint64
			for i, b := range key {
				w |= uint64(b) << (8 * i)
			}
			mix(w)
		}
	}
	hi, lo := bits.Mul64(x, hashMul)
	return uint32(hi ^ lo>>32)
}

func (h *hash) elem(link uint32) int           { return int(link-1) * h.elemSize }
func (h *hash) bucket(i uint32) *atomic.Uint32 { return h.bm.u32(int(i) * 4) }

// valueOff returns where the value of an element lies in vm.
func (h *hash) valueOff(link uint32, cpu int) int {
	if h.perCPU == 0 {
		return h.elem(link) + elemHeader + h.keyPad
	}
	return cpu*h.perCPU + int(link-1)*h.valuePad
}

func isEnd(link uint32) bool { return link == 0 || link&endMark != 0 }

func (h *hash) keyEqual(link uint32, key []byte) bool {
	off := h.elem(link) + elemHeader
	switch len(key) {
	case 4:
		return h.em.load32(off) == key32(key)
	case 8:
		return h.em.load64(off) == key64(key)
	}
	return bytes.Equal(h.em.bytes(off, len(key)), key)
}

// find walks the key's bucket without a lock and returns the element's link, 0 if there is none.
func (h *hash) find(key []byte, hv uint32) uint32 {
	b := hv & h.mask
	for {
		link := h.bucket(b).Load()
		for !isEnd(link) {
			e := h.elem(link)
			if h.em.u32(e+offHash).Load() == hv && h.keyEqual(link, key) {
				return link
			}
			link = h.em.u32(e + offNext).Load()
		}
		if link == 0 || link == endMark|b {
			return 0
		}
	}
}

func (h *hash) lookup(key []byte, cpu int) uintptr {
	link := h.find(key, h.hashOf(key))
	if link == 0 {
		return 0
	}
	h.markRecent(link)
	return h.vm.addr(h.valueOff(link, cpu))
}

// lock takes the stripe of a bucket.
func (h *hash) lock(b uint32) *stripe {
	s := &h.stripes[b%stripeCount]
	s.Lock()
	return s
}

// insert fills a new element and publishes it; 0 if there is none. The caller holds the stripe lock and has made room in count.
func (h *hash) insert(p *pool, key []byte, hv uint32, fill func(link uint32)) uint32 {
	link := h.alloc(p)
	if link == 0 {
		return 0
	}
	e, b := h.elem(link), hv&h.mask
	h.em.u32(e + offHash).Store(hv)
	copy(h.em.bytes(e+elemHeader, h.keySize), key)
	fill(link)
	next := h.bucket(b).Load()
	if next == 0 {
		next = endMark | b
	}
	h.em.u32(e + offNext).Store(next)
	h.bucket(b).Store(link)
	if h.lru {
		h.use(link).Store(useOld)
	}
	return link
}

// unlink takes an element out of its chain and frees it. The caller holds the stripe lock.
func (h *hash) unlink(link uint32) {
	e := h.elem(link)
	next := h.em.u32(e + offNext).Load()
	p := h.bucket(h.em.u32(e+offHash).Load() & h.mask)
	for p.Load() != link {
		p = h.em.u32(h.elem(p.Load()) + offNext)
	}
	p.Store(next)
	if h.lru {
		h.use(link).Store(useFree)
	}
	if h.special != nil {
		h.freeValues(link, h.special.free)
	}
	h.release(link)
}

// put inserts or replaces by the rules of htab_map_update_elem and htab_lru_map_update_elem. fill writes the value of a new element;
// inPlace, if not nil, changes an existing one instead of replacing it. cpu is the slot of the program, anyCPU for Go.
func (h *hash) put(key []byte, flags uint64, cpu int, fill, inPlace func(link uint32)) errno.Errno {
	if flags > updateExist {
		return errno.EINVAL
	}
	hv := h.hashOf(key)
	p := h.poolFor(cpu)
	if !h.lru {
		s := h.lock(hv & h.mask)
		defer s.Unlock()
		return h.putLocked(p, key, hv, flags, p.reserve, fill, inPlace)
	}
	return h.putLRU(p, key, hv, flags, fill, inPlace)
}

// putLocked does the work of put under the stripe lock. room counts a new element, and fails if there is no place for it.
func (h *hash) putLocked(p *pool, key []byte, hv uint32, flags uint64, room func() bool, fill, inPlace func(link uint32)) errno.Errno {
	old := h.find(key, hv)
	switch {
	case old != 0 && flags == updateNoExist:
		return errno.EEXIST
	case old == 0 && flags == updateExist:
		return errno.ENOENT
	case old != 0 && inPlace != nil:
		inPlace(old)
		h.markRecent(old)
		return 0
	case old == 0 && !room():
		return errno.E2BIG
	case old != 0:
		p = h.poolOf(old) // which has room to spare for a short time
	}
	link := h.insert(p, key, hv, fill)
	if link == 0 {
		if old == 0 {
			p.count.Add(^uint32(0))
		}
		return errno.ENOMEM
	}
	if old != 0 {
		h.unlink(old)
		h.markRecent(link)
	}
	return 0
}

func (h *hash) update(key, value []byte, flags uint64, cpu int) errno.Errno {
	if h.perCPU == 0 {
		return h.updateOne(key, value, flags, cpu)
	}
	// A program writes its own CPU's value; the others of a new element are zero.
	own := func(l uint32) { h.special.replace(h.vm.bytes(h.valueOff(l, cpu), h.valueSize), value, false) }
	return h.put(key, flags, cpu, func(l uint32) {
		for c := range rt.CPUs() {
			h.special.zero(h.vm.bytes(h.valueOff(l, c), h.valueSize))
		}
		own(l)
	}, own)
}

// updateOne is update of a map with one value for each key. With BPF_F_LOCK an element that exists is changed in place, under its lock.
func (h *hash) updateOne(key, value []byte, flags uint64, cpu int) errno.Errno {
	fill := func(l uint32) { h.special.put(h.vm.bytes(h.valueOff(l, 0), h.valueSize), value, false) }
	if flags&updateLock == 0 || !h.special.hasLock() {
		return h.put(key, flags, cpu, fill, nil) // which refuses the flag
	}
	return h.put(key, flags&^updateLock, cpu, fill, func(l uint32) {
		h.special.put(h.vm.bytes(h.valueOff(l, 0), h.valueSize), value, true) // keeps its fields, as in 6.18
	})
}

func (h *hash) write(key, value []byte, flags uint64) errno.Errno {
	if h.perCPU == 0 {
		return h.update(key, value, flags, anyCPU)
	}
	all := func(l uint32) {
		for c := range rt.CPUs() {
			h.special.replace(h.vm.bytes(h.valueOff(l, c), h.valueSize), value[c*h.valuePad:c*h.valuePad+h.valueSize], false)
		}
	}
	return h.put(key, flags, anyCPU, all, all)
}

func (h *hash) delete(key []byte) errno.Errno { return h.takeElem(key, nil, false) }

func (h *hash) take(key, value []byte) errno.Errno { return h.takeElem(key, value, false) }

func (h *hash) takeLocked(key, value []byte) errno.Errno { return h.takeElem(key, value, true) }

// takeElem deletes an element after copying its value to value, if that is not nil.
func (h *hash) takeElem(key, value []byte, locked bool) errno.Errno {
	hv := h.hashOf(key)
	s := h.lock(hv & h.mask)
	defer s.Unlock()
	link := h.find(key, hv)
	if link == 0 {
		return errno.ENOENT
	}
	if value != nil {
		h.copyOut(link, value, locked)
	}
	p := h.poolOf(link)
	h.unlink(link)
	p.count.Add(^uint32(0))
	return 0
}

func (h *hash) read(key, value []byte) errno.Errno { return h.readElem(key, value, false) }

func (h *hash) readLocked(key, value []byte) errno.Errno { return h.readElem(key, value, true) }

func (h *hash) readElem(key, value []byte, locked bool) errno.Errno {
	hv := h.hashOf(key)
	s := h.lock(hv & h.mask)
	defer s.Unlock()
	link := h.find(key, hv)
	if link == 0 {
		return errno.ENOENT
	}
	h.copyOut(link, value, locked)
	return 0
}

// copyOut copies an element's value, of all CPUs if there are several. locked: under its bpf_spin_lock.
func (h *hash) copyOut(link uint32, value []byte, locked bool) {
	if h.perCPU == 0 {
		h.special.get(value[:h.valueSize], h.vm.bytes(h.valueOff(link, 0), h.valueSize), locked)
		return
	}
	for c := range rt.CPUs() {
		h.special.get(value[c*h.valuePad:c*h.valuePad+h.valueSize], h.vm.bytes(h.valueOff(link, c), h.valueSize), false)
	}
}

// nextKey gives the key after key in table order; an absent or unknown key is followed by the first one.
func (h *hash) nextKey(key, next []byte) errno.Errno {
	b := uint32(0)
	if key != nil {
		hv := h.hashOf(key)
		s := h.lock(hv & h.mask)
		if link := h.find(key, hv); link != 0 {
			n := h.em.u32(h.elem(link) + offNext).Load()
			if !isEnd(n) {
				copy(next, h.em.bytes(h.elem(n)+elemHeader, h.keySize))
				s.Unlock()
				return 0
			}
			b = hv&h.mask + 1
		}
		s.Unlock()
	}
	for ; b <= h.mask; b++ {
		if isEnd(h.bucket(b).Load()) {
			continue
		}
		s := h.lock(b)
		link := h.bucket(b).Load()
		if !isEnd(link) {
			copy(next, h.em.bytes(h.elem(link)+elemHeader, h.keySize))
			s.Unlock()
			return 0
		}
		s.Unlock()
	}
	return errno.ENOENT
}

func (h *hash) ranges() []rt.Region {
	r := h.elems
	if h.values != nil {
		r = h.values
	}
	return []rt.Region{{Base: uint64(r.Addr()), Size: uint64(r.Size())}}
}

func (h *hash) free() error {
	err := h.buckets.Free()
	for _, r := range []*offheap.Region{h.elems, h.values} {
		if e := r.Free(); err == nil {
			err = e
		}
	}
	return err
}
