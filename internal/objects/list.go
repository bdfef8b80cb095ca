package objects

import (
	"github.com/skep-bpf/skep/internal/errno"
	"github.com/skep-bpf/skep/internal/rt"
)

// A list. Its head (bpf_list_head) is two words, the first and the last node; a node (bpf_list_node) three: the next, the one before, and
// the head that owns it. The ends of a list are the head itself; a head of zeros is an empty list. The program holds the list's lock,
// but for the owner, which any owner of the object may look at.
const (
	nodeNext  = 0
	nodePrev  = 8
	listOwner = 16
)

// claimed is the owner of a node that somebody is about to put into a list or tree.
const claimed = 1

// claim makes a node that the run owns nobody else's, and reports whether it was free. If not, the run owns its object no more
// (__bpf_list_add, __bpf_rbtree_add).
func claim(r *rt.Run, node, owner uint64) bool {
	obj := ofNode(node)
	r.GiveBack(obj)
	if u64At(node+owner).CompareAndSwap(0, claimed) {
		return true
	}
	Drop(obj) // the run may still read it, as the list's or tree's
	return false
}

func initHead(head uint64) {
	if load(head+nodeNext) == 0 {
		store(head+nodeNext, head)
		store(head+nodePrev, head)
	}
}

// Push puts an object that the run owns, by its node, at the front or back of a list. EINVAL: it is in a list already.
func Push(r *rt.Run, head, node uint64, back bool) errno.Errno {
	initHead(head)
	if !claim(r, node, listOwner) {
		return errno.EINVAL
	}
	before := head
	if back {
		before = load(head + nodePrev)
	}
	after := load(before + nodeNext)
	store(node+nodeNext, after)
	store(node+nodePrev, before)
	store(before+nodeNext, node)
	store(after+nodePrev, node)
	u64At(node + listOwner).Store(head)
	return 0
}

// Pop takes an object from the front or back of a list and returns its node; 0 if there is none. The run owns it afterwards.
func Pop(r *rt.Run, head uint64, back bool) uint64 {
	node := Peek(head, back)
	if node == 0 {
		return 0
	}
	before, after := load(node+nodePrev), load(node+nodeNext)
	store(before+nodeNext, after)
	store(after+nodePrev, before)
	u64At(node + listOwner).Store(0)
	r.Hold(rt.Held{Addr: ofNode(node), Kind: rt.HeldObject})
	return node
}

// Peek returns the node at the front or back of a list, 0 if there is none.
func Peek(head uint64, back bool) uint64 {
	initHead(head)
	node := load(head + nodeNext)
	if back {
		node = load(head + nodePrev)
	}
	if node == head {
		return 0
	}
	return node
}

// takeList empties a list and returns its nodes.
func takeList(head uint64) (nodes []uint64) {
	initHead(head)
	for node := load(head + nodeNext); node != head; {
		next := load(node + nodeNext)
		u64At(node + listOwner).Store(0)
		nodes = append(nodes, node)
		node = next
	}
	store(head+nodeNext, head)
	store(head+nodePrev, head)
	return nodes
}
