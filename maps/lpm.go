package maps

import (
	"encoding/binary"
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/errno"
	"github.com/skep-bpf/skep/internal/offheap"
	"github.com/skep-bpf/skep/internal/rt"
)

// LPM trie: keys are a length in bits (u32) and bytes of which that many bits count; a lookup finds the longest key that is a prefix of
// its own. lpm_trie.c of the kernel has the rules.
//
// Structure. A binary trie in which a node has the whole prefix and a path has nodes only where a key ends or two keys part:
//
//	0  length u32   bits of the prefix
//	4  value  u32   number of its value + 1; 0: no key ends here, the node has two children
//	8  child  2*u32 node number + 1 of the prefixes that go on with 0 and with 1; 0: none
//	16 data         the key's bytes as big-endian words, zeros behind them; bits beyond the prefix are as the writer gave them
//
// Values lie in a slab of their own, since nodes without one can be as many as those with one. In front of each is a word for the chain
// of free ones: a program can still write to a value that was deleted, but not to that.
//
// Protocol. Writers hold the mutex. Nodes and values are filled before one atomic store makes them reachable, so a walk without a lock
// sees the trie as it was or as it is. What is freed may be used again at once: the generation, which every free counts, tells a reader
// that the ground was taken from under its walk, which then starts again. All words of nodes are loaded and stored atomically, because
// that orders them against the generation on every machine.
type lpm struct {
	nodes, values       *offheap.Region
	nm, vm              mem
	nodeSize, words     int
	valueSize, cellSize int
	maxPrefix           uint32
	maxEntries          uint32

	generation atomic.Uint32
	root       atomic.Uint32

	mu        sync.Mutex
	count     uint32
	nodeFree  freeList
	valueFree freeList
}

// freeList are numbers (+1) that can be used: a chain through memory of the freed things, and those never used.
type freeList struct {
	head, unused, n uint32
}

const (
	lpmLength  = 0
	lpmValue   = 4
	lpmChild   = 8
	lpmData    = 16
	lpmCell    = 8   // in front of a value
	lpmMaxData = 256 // bytes of a key without its length (LPM_DATA_SIZE_MAX)
	lpmHeader  = 24  // sizeof(struct lpm_trie_node)
	lpmRetries = 8   // walks without the lock before one with it
)

// checkLPM applies the rules of trie_alloc.
func checkLPM(s *ebpf.MapSpec) error {
	switch {
	case s.Flags&FlagNoPrealloc == 0:
		return refuse(errno.EINVAL, "type %s needs BPF_F_NO_PREALLOC", s.Type)
	case s.KeySize < 4+1 || s.KeySize > 4+lpmMaxData:
		return refuse(errno.EINVAL, "KeySize is %d, type %s needs 5 to %d", s.KeySize, s.Type, 4+lpmMaxData)
	case s.ValueSize > maxKmalloc-lpmMaxData-lpmHeader:
		return refuse(errno.EINVAL, "ValueSize %d is above %d", s.ValueSize, maxKmalloc-lpmMaxData-lpmHeader)
	case s.MaxEntries > maxHashElems:
		return refuse(errno.E2BIG, "MaxEntries %d is above %d", s.MaxEntries, maxHashElems)
	}
	if err := checkSizes(s, 0); err != nil {
		return err
	}
	return checkFlags(s, FlagNoPrealloc|FlagNUMANode|accessFlags)
}

func newLPM(keySize, valueSize, maxEntries uint32, limit uint64) (_ *lpm, err error) {
	data := int(keySize) - 4
	t := &lpm{
		words: (data + 7) / 8, valueSize: int(valueSize), cellSize: lpmCell + round8(int(valueSize)),
		maxPrefix: uint32(data) * 8, maxEntries: maxEntries,
		// Writers take what is new before they free what is old.
		nodeFree: freeList{n: 2 * maxEntries}, valueFree: freeList{n: maxEntries + 1},
	}
	t.nodeSize = lpmData + 8*t.words
	size, err := mulSize(limit, uint64(t.nodeSize), uint64(t.nodeFree.n))
	if err != nil {
		return nil, err
	}
	valueBytes, err := mulSize(limit, uint64(t.cellSize), uint64(t.valueFree.n))
	if err != nil {
		return nil, err
	}
	if t.nodes, err = offheap.Alloc(int(size)); err != nil {
		return nil, err
	}
	if t.values, err = offheap.Alloc(int(valueBytes)); err != nil {
		_ = t.nodes.Free()
		return nil, err
	}
	t.nm, t.vm = memOf(t.nodes), memOf(t.values)
	return t, nil
}

// field returns a word of a node's head.
func (t *lpm) field(node uint32, off int) *atomic.Uint32 {
	return t.nm.u32(int(node-1)*t.nodeSize + off)
}
func (t *lpm) length(node uint32) uint32 { return t.field(node, lpmLength).Load() }

func (t *lpm) child(node uint32, bit uint64) *atomic.Uint32 {
	return t.field(node, lpmChild+4*int(bit))
}

func (t *lpm) word(node uint32, i int) uint64 {
	return t.nm.u64(int(node-1)*t.nodeSize + lpmData + 8*i).Load()
}

// valueOff returns where a value lies in vm.
func (t *lpm) valueOff(v uint32) int { return int(v-1)*t.cellSize + lpmCell }

// keyWord returns word i of a key's data, zeros behind its end.
func keyWord(key []byte, i int) uint64 {
	data := key[4+8*i:]
	if len(data) >= 8 {
		return bits.ReverseBytes64(binary.LittleEndian.Uint64(data))
	}
	if len(data) >= 4 {
		w := uint64(bits.ReverseBytes32(binary.LittleEndian.Uint32(data))) << 32
		for j, b := range data[4:] {
			w |= uint64(b) << (24 - 8*j)
		}
		return w
	}
	var w uint64
	for j, b := range data {
		w |= uint64(b) << (56 - 8*j)
	}
	return w
}

// keyBit returns bit i of a key's data.
func keyBit(key []byte, i uint32) uint64 { return uint64(key[4+i/8] >> (7 - i%8) & 1) }

// match finds the number of the value for a key; 0 if there is none. It ends whatever it reads: the length grows with each step.
func (t *lpm) match(key []byte) (value uint32) {
	if t.words == 1 {
		return t.matchWord(key32(key), keyWord(key, 0))
	}
	limit := key32(key)
	w, cur, least := 0, keyWord(key, 0), uint32(0)
	for node := t.root.Load(); node != 0; {
		n := t.length(node)
		if n > limit || n < least {
			return value
		}
		// Words in front of w are those of the parent, which matched.
		for ; uint32(w+1)*64 <= n; w++ {
			if t.word(node, w) != cur {
				return value
			}
			if cur = 0; w+1 < t.words {
				cur = keyWord(key, w+1)
			}
		}
		if rest := n % 64; rest != 0 && (t.word(node, w)^cur)>>(64-rest) != 0 {
			return value
		}
		if v := t.field(node, lpmValue).Load(); v != 0 {
			value = v
		}
		if n == limit {
			return value
		}
		node, least = t.child(node, cur>>(63-n%64)&1).Load(), n+1
	}
	return value
}

// matchWord is match of a key whose data is one word, as addresses of IPv4 are.
func (t *lpm) matchWord(limit uint32, key uint64) (value uint32) {
	const nodeSize = lpmData + 8
	least := uint32(0)
	for node := t.root.Load(); node != 0; {
		at := int(node-1) * nodeSize
		n := t.nm.u32(at + lpmLength).Load()
		if n > limit || n < least || (t.nm.u64(at+lpmData).Load()^key)>>(64-n) != 0 {
			return value
		}
		if v := t.nm.u32(at + lpmValue).Load(); v != 0 {
			value = v
		}
		if n == limit {
			return value
		}
		node, least = t.nm.u32(at+lpmChild+int(key>>(63-n)&1)*4).Load(), n+1
	}
	return value
}

// find is match of a reader without the lock.
func (t *lpm) find(key []byte) uint32 {
	if key32(key) > t.maxPrefix {
		return 0
	}
	for range lpmRetries {
		g := t.generation.Load()
		if v := t.match(key); t.generation.Load() == g {
			return v
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.match(key)
}

func (t *lpm) lookup(key []byte, _ int) uintptr {
	v := t.find(key)
	if v == 0 {
		return 0
	}
	return t.vm.addr(t.valueOff(v))
}

// common returns how many bits a node's prefix and a key share, at most as many as both have.
func (t *lpm) common(node uint32, key []byte) uint32 {
	most := min(t.length(node), key32(key))
	for i := range t.words {
		if d := t.word(node, i) ^ keyWord(key, i); d != 0 {
			return min(most, uint32(64*i+bits.LeadingZeros64(d)))
		}
	}
	return most
}

// place is where a key belongs: the link that leads to the first node on its way that is not a proper prefix of it, that node, 0 if
// there is none, and how many bits they share.
type place struct {
	link   *atomic.Uint32
	node   uint32
	shared uint32
}

// exact reports whether the node is the key's own.
func (t *lpm) exact(p place, key []byte) bool {
	return p.node != 0 && p.shared == key32(key) && p.shared == t.length(p.node)
}

// way walks to a key's place. The places on the way are appended to path.
func (t *lpm) way(key []byte, path []place) []place {
	p := place{link: &t.root}
	for {
		if p.node = p.link.Load(); p.node == 0 {
			return append(path, p)
		}
		p.shared = t.common(p.node, key)
		path = append(path, p)
		if n := t.length(p.node); p.shared != n || n == key32(key) {
			return path
		}
		p.link = t.child(p.node, keyBit(key, p.shared))
	}
}

// update inserts or replaces by the rules of trie_update_elem.
func (t *lpm) update(key, value []byte, flags uint64, _ int) errno.Errno {
	if flags > updateExist || key32(key) > t.maxPrefix {
		return errno.EINVAL
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var room [40]place
	path := t.way(key, room[:0])
	p := path[len(path)-1]
	old := uint32(0)
	if t.exact(p, key) {
		old = t.field(p.node, lpmValue).Load()
	}
	switch {
	case old != 0 && flags == updateNoExist:
		return errno.EEXIST
	case old == 0 && flags == updateExist:
		return errno.ENOENT
	case old == 0 && t.count == t.maxEntries:
		return errno.ENOSPC
	}
	v := t.newValue(value)
	if t.exact(p, key) {
		t.setData(p.node, key)
		t.field(p.node, lpmValue).Store(v)
	} else {
		t.insert(p, key, v)
	}
	if old != 0 {
		t.freeValue(old)
	} else {
		t.count++
	}
	return 0
}

// insert makes a node for a key that has none and links it in.
func (t *lpm) insert(p place, key []byte, value uint32) {
	leaf := t.newNode(key32(key), value)
	t.setData(leaf, key)
	switch {
	case p.node == 0:
		p.link.Store(leaf)
	case p.shared == key32(key): // the key is a prefix of the node
		t.child(leaf, t.nodeBit(p.node, p.shared)).Store(p.node)
		p.link.Store(leaf)
	default:
		fork := t.newNode(p.shared, 0)
		t.setData(fork, key)
		t.child(fork, keyBit(key, p.shared)).Store(leaf)
		t.child(fork, keyBit(key, p.shared)^1).Store(p.node)
		p.link.Store(fork)
	}
}

// nodeBit returns bit i of a node's data.
func (t *lpm) nodeBit(node, i uint32) uint64 { return t.word(node, int(i/64)) >> (63 - i%64) & 1 }

// delete takes a key out by the rules of trie_delete_elem.
func (t *lpm) delete(key []byte) errno.Errno {
	if key32(key) > t.maxPrefix {
		return errno.EINVAL
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var room [40]place
	path := t.way(key, room[:0])
	p := path[len(path)-1]
	if !t.exact(p, key) {
		return errno.ENOENT
	}
	value := t.field(p.node, lpmValue)
	old := value.Load()
	if old == 0 {
		return errno.ENOENT
	}
	left, right := t.child(p.node, 0).Load(), t.child(p.node, 1).Load()
	switch {
	case left != 0 && right != 0:
		value.Store(0) // it is where two keys part
	case left|right == 0 && len(path) > 1 && t.isFork(path[len(path)-2].node):
		// The parent parts nothing any more: the other child takes its place.
		parent := path[len(path)-2]
		other := t.child(parent.node, 0).Load()
		if other == p.node {
			other = t.child(parent.node, 1).Load()
		}
		parent.link.Store(other)
		t.freeNode(parent.node)
		t.freeNode(p.node)
	default:
		p.link.Store(left | right)
		t.freeNode(p.node)
	}
	t.freeValue(old)
	t.count--
	return 0
}

func (t *lpm) isFork(node uint32) bool { return t.field(node, lpmValue).Load() == 0 }

func (t *lpm) read(key, value []byte) errno.Errno {
	if key32(key) > t.maxPrefix {
		return errno.ENOENT
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	v := t.match(key)
	if v == 0 {
		return errno.ENOENT
	}
	copy(value, t.vm.bytes(t.valueOff(v), t.valueSize))
	return 0
}

func (t *lpm) write(key, value []byte, flags uint64) errno.Errno {
	return t.update(key, value, flags, 0)
}
func (t *lpm) take([]byte, []byte) errno.Errno { return errno.ENOTSUPP }

// nextKey goes through the keys in the order of trie_get_next_key: a key comes behind all it is a prefix of, else 0 is in front of 1.
// An absent or unknown key is followed by the first.
func (t *lpm) nextKey(key, next []byte) errno.Errno {
	t.mu.Lock()
	defer t.mu.Unlock()
	root := t.root.Load()
	if root == 0 {
		return errno.ENOENT
	}
	if key == nil || key32(key) > t.maxPrefix {
		t.copyKey(t.leftmost(root), next)
		return 0
	}
	path := t.way(key, nil)
	if p := path[len(path)-1]; !t.exact(p, key) || t.isFork(p.node) {
		t.copyKey(t.leftmost(root), next)
		return 0
	}
	for i := len(path) - 1; i > 0; i-- {
		parent := path[i-1].node
		if right := t.child(parent, 1).Load(); t.child(parent, 0).Load() == path[i].node && right != 0 {
			t.copyKey(t.leftmost(right), next)
			return 0
		}
		if !t.isFork(parent) {
			t.copyKey(parent, next)
			return 0
		}
	}
	return errno.ENOENT
}

// leftmost returns the first key below a node.
func (t *lpm) leftmost(node uint32) uint32 {
	for {
		next := t.child(node, 0).Load()
		if next == 0 {
			next = t.child(node, 1).Load()
		}
		if next == 0 {
			return node
		}
		node = next
	}
}

func (t *lpm) copyKey(node uint32, key []byte) {
	binary.NativeEndian.PutUint32(key, t.length(node))
	var w [8]byte
	for i := range t.words {
		binary.BigEndian.PutUint64(w[:], t.word(node, i))
		copy(key[4+8*i:], w[:])
	}
}

func (t *lpm) setData(node uint32, key []byte) {
	for i := range t.words {
		t.nm.u64(int(node-1)*t.nodeSize + lpmData + 8*i).Store(keyWord(key, i))
	}
}

// newNode takes a node that nothing leads to. There is always one: with n keys there are at most n-1 forks.
func (t *lpm) newNode(length, value uint32) uint32 {
	n := t.nodeFree.take(func(n uint32) uint32 { return t.child(n, 0).Load() })
	t.field(n, lpmLength).Store(length)
	t.field(n, lpmValue).Store(value)
	t.child(n, 0).Store(0)
	t.child(n, 1).Store(0)
	return n
}

func (t *lpm) freeNode(n uint32) {
	t.generation.Add(1)
	t.child(n, 0).Store(t.nodeFree.head)
	t.nodeFree.head = n
}

// newValue takes room for a value and fills it. There is always room: for all keys and one more.
func (t *lpm) newValue(value []byte) uint32 {
	v := t.valueFree.take(func(v uint32) uint32 { return t.vm.u32(t.valueOff(v) - lpmCell).Load() })
	copy(t.vm.bytes(t.valueOff(v), t.valueSize), value)
	return v
}

func (t *lpm) freeValue(v uint32) {
	t.generation.Add(1)
	t.vm.u32(t.valueOff(v) - lpmCell).Store(t.valueFree.head)
	t.valueFree.head = v
}

// take takes a number off the list; next reads what follows one in the chain.
func (f *freeList) take(next func(uint32) uint32) uint32 {
	if n := f.head; n != 0 {
		f.head = next(n)
		return n
	}
	f.unused++
	return f.unused
}

func (t *lpm) ranges() []rt.Region {
	return []rt.Region{{Base: uint64(t.values.Addr()), Size: uint64(t.values.Size())}}
}

func (t *lpm) free() error {
	err := t.nodes.Free()
	if e := t.values.Free(); err == nil {
		err = e
	}
	return err
}
