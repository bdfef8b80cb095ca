package objects

import (
	"github.com/skep-bpf/skep/internal/errno"
	"github.com/skep-bpf/skep/internal/rt"
)

// A red-black tree. Its root (bpf_rb_root) is a word, the node at the top, and another that is not used; a node (bpf_rb_node) is four: the
// parent, the children to the right and left, and the root that owns it. A node without parent is the top one. The program holds the
// tree's lock, but for the owner, which any owner of the object may look at.
//
// Programs can walk a tree, so its shape is that of the kernel's: it comes from where nodes are put and how the tree is balanced again
// (Cormen et al., Introduction to Algorithms, chapter 13; where a node with two children is taken out, its successor takes its place).
const (
	nodeParent = 0 // address of the parent, and in its lowest bit the colour
	nodeRight  = 8
	nodeLeft   = 16
	treeOwner  = 24

	black = 1
)

// side is a child of a node: the offset of its address.
type side uint64

func (s side) other() side { return nodeLeft + nodeRight - s }

func parentOf(n uint64) uint64            { return load(n+nodeParent) &^ black }
func isBlack(n uint64) bool               { return n == 0 || load(n+nodeParent)&black != 0 }
func colour(n uint64) uint64              { return load(n+nodeParent) & black }
func setColour(n, c uint64)               { store(n+nodeParent, parentOf(n)|c) }
func setParent(n, p uint64)               { store(n+nodeParent, p|colour(n)) }
func child(n uint64, s side) uint64       { return load(n + uint64(s)) }
func setChild(n uint64, s side, c uint64) { store(n+uint64(s), c) }

// sideOf returns which child of its parent n is.
func sideOf(n, parent uint64) side {
	if child(parent, nodeLeft) == n {
		return nodeLeft
	}
	return nodeRight
}

// replace puts n, or nothing, into the place of old below its parent p.
func replace(root, p, old, n uint64) {
	if p == 0 {
		store(root, n)
	} else {
		setChild(p, sideOf(old, p), n)
	}
}

// rotate moves n down to side s; the child on the other side comes up in its place.
func rotate(root, n uint64, s side) {
	up := child(n, s.other())
	moves := child(up, s)
	setChild(n, s.other(), moves)
	if moves != 0 {
		setParent(moves, n)
	}
	p := parentOf(n)
	replace(root, p, n, up)
	setParent(up, p)
	setChild(up, s, n)
	setParent(n, up)
}

// insert puts n below p at side s, p 0 into an empty tree, and balances.
func insert(root, n, p uint64, s side) {
	store(n+nodeParent, p) // red
	store(n+nodeLeft, 0)
	store(n+nodeRight, 0)
	if p == 0 {
		store(root, n)
	} else {
		setChild(p, s, n)
	}
	for {
		p := parentOf(n)
		if p == 0 {
			setColour(n, black)
			return
		}
		if isBlack(p) {
			return
		}
		g := parentOf(p)
		s := sideOf(p, g)
		if u := child(g, s.other()); !isBlack(u) {
			setColour(u, black)
			setColour(p, black)
			setColour(g, 0)
			n = g
			continue
		}
		if n == child(p, s.other()) {
			rotate(root, p, s)
			p = n
		}
		setColour(p, black)
		setColour(g, 0)
		rotate(root, g, s.other())
		return
	}
}

// erase takes n out and balances.
func erase(root, n uint64) {
	left, right := child(n, nodeLeft), child(n, nodeRight)
	if left != 0 && right != 0 {
		eraseInner(root, n, left, right)
		return
	}
	below := left | right
	p := parentOf(n)
	s := side(nodeLeft)
	if p != 0 {
		s = sideOf(n, p)
	}
	replace(root, p, n, below)
	if below != 0 {
		setParent(below, p)
	}
	if isBlack(n) {
		fill(root, below, p, s)
	}
}

// eraseInner takes a node with two children out: its successor comes in its place.
func eraseInner(root, n, left, right uint64) {
	next := right
	for l := child(next, nodeLeft); l != 0; l = child(next, nodeLeft) {
		next = l
	}
	below, lacks := child(next, nodeRight), colour(next)
	p, s := next, side(nodeRight)
	if next != right {
		p, s = parentOf(next), nodeLeft
		setChild(p, nodeLeft, below)
		if below != 0 {
			setParent(below, p)
		}
		setChild(next, nodeRight, right)
		setParent(right, next)
	}
	setChild(next, nodeLeft, left)
	setParent(left, next)
	replace(root, parentOf(n), n, next)
	store(next+nodeParent, load(n+nodeParent))
	if lacks == black {
		fill(root, below, p, s)
	}
}

// fill balances where the subtree n, perhaps empty, at side s of p lacks a black node on each of its paths.
func fill(root, n, p uint64, s side) {
	for p != 0 && isBlack(n) {
		o := s.other()
		w := child(p, o)
		if !isBlack(w) {
			setColour(w, black)
			setColour(p, 0)
			rotate(root, p, s)
			w = child(p, o)
		}
		if isBlack(child(w, o)) {
			if isBlack(child(w, s)) {
				setColour(w, 0)
				n, p = p, parentOf(p)
				if p != 0 {
					s = sideOf(n, p)
				}
				continue
			}
			setColour(child(w, s), black)
			setColour(w, 0)
			rotate(root, w, o)
			w = child(p, o)
		}
		setColour(w, colour(p))
		setColour(p, black)
		setColour(child(w, o), black)
		rotate(root, p, s)
		return
	}
	if n != 0 {
		setColour(n, black)
	}
}

// Add is what the loop in place of bpf_rbtree_add calls, over and over: to put node, whose object the run owns, into a tree. at is a node
// of the tree that the program has compared it with, less whether node comes before that; 0 the first time. next is the node to compare
// with now; where it is 0 there is no more to do. EINVAL: node is in a tree already.
func Add(r *rt.Run, root, node, at uint64, less bool) (next uint64, err errno.Errno) {
	s := side(nodeLeft)
	switch {
	case at == 0:
		if !claim(r, node, treeOwner) {
			return 0, errno.EINVAL
		}
		r.Hold(rt.Held{Addr: node, Kind: rt.HeldNode}) // the program compares, and can be stopped there
		next = load(root)
	default:
		if !less {
			s = nodeRight
		}
		next = child(at, s)
	}
	if next != 0 {
		return next, 0
	}
	insert(root, node, at, s)
	u64At(node + treeOwner).Store(root)
	r.GiveBack(node)
	return 0, 0
}

// dropClaimed drops an object that was about to be put into a tree.
func dropClaimed(node uint64) {
	u64At(node + treeOwner).Store(0)
	Drop(ofNode(node))
}

// Remove takes a node out of a tree and returns it; 0 if it is not in it. The run owns its object afterwards (bpf_rbtree_remove).
func Remove(r *rt.Run, root, node uint64) uint64 {
	if u64At(node+treeOwner).Load() != root {
		return 0
	}
	erase(root, node)
	u64At(node + treeOwner).Store(0)
	r.Hold(rt.Held{Addr: ofNode(node), Kind: rt.HeldObject})
	return node
}

// First returns the first node of a tree, 0 if it is empty.
func First(root uint64) uint64 {
	n := load(root)
	if n == 0 {
		return 0
	}
	for l := child(n, nodeLeft); l != 0; l = child(n, nodeLeft) {
		n = l
	}
	return n
}

// Top returns the node at the top of a tree, 0 if it is empty.
func Top(root uint64) uint64 { return load(root) }

// Child returns the left or right child of a node; 0 if there is none, or the node is not in the tree.
func Child(root, node uint64, right bool) uint64 {
	if u64At(node+treeOwner).Load() != root {
		return 0
	}
	if right {
		return child(node, nodeRight)
	}
	return child(node, nodeLeft)
}

// takeTree empties a tree and returns its nodes, children before their parents.
func takeTree(root uint64) (nodes []uint64) {
	for n := load(root); n != 0; {
		if l := child(n, nodeLeft); l != 0 {
			setChild(n, nodeLeft, 0)
			n = l
			continue
		}
		if r := child(n, nodeRight); r != 0 {
			setChild(n, nodeRight, 0)
			n = r
			continue
		}
		p := parentOf(n)
		u64At(n + treeOwner).Store(0)
		nodes = append(nodes, n)
		n = p
	}
	store(root, 0)
	return nodes
}
