package progtype

import (
	"slices"

	"github.com/cilium/ebpf"
)

// This file is the rule engine: a context is a table of rows, and one function reads every table. What a row says is
// what the is_valid_access callback of the kernel's program type says of the same bytes.

// sizes is a set of access sizes in bytes. Each size is a power of two, so the set is their sum.
type sizes uint8

const (
	none  sizes = 0
	upTo2 sizes = 1 | 2
	upTo4 sizes = 1 | 2 | 4 // a 32-bit field and its parts
	upTo8 sizes = 1 | 2 | 4 | 8
)

func (s sizes) has(size int) bool {
	switch size {
	case 1, 2, 4, 8:
		return int(s)&size != 0
	}
	return false
}

// row is what may be done with some bytes of a context.
type row struct {
	off, size   int
	read, write sizes
	is          Field
	// head: the row is about accesses that start at off only; others go by the rows behind it.
	head bool
	// at are the attach types that have the field, nil for all; writers are those that may write it.
	at, writers []ebpf.AttachType
}

// span is a range of bytes.
type span struct{ off, size int }

func (s span) has(off int) bool { return within(off, s.off, s.size) }

func within(off, field, bytes int) bool { return off >= field && off < field+bytes }

// layout is a context's structure.
type layout struct {
	name string // of the structure in C, "" if it has none
	size int
	rows []row // the first one that covers an access decides
	rest row   // what no row covers; its place means nothing
	// hidden are bytes that some of several types with the same structure cannot touch, writable the only ones that they
	// may write; nil where the rows say all.
	hidden, writable []span
	// plain contexts are not rewritten field by field: their address may be passed as memory.
	plain bool
}

// find returns the row for an access at off.
func (l *layout) find(off int) (r *row, place span) {
	for i := range l.rows {
		r := &l.rows[i]
		if r.head && off == r.off || !r.head && within(off, r.off, r.size) {
			return r, span{r.off, r.size}
		}
	}
	return &l.rest, span{0, l.size}
}

// access decides an access of size bytes at off, which the kernel wants aligned to its size everywhere. With anyAttach,
// the attach type does not matter.
func (l *layout) access(at ebpf.AttachType, anyAttach bool, off, size int, op Op) Access {
	if off < 0 || size <= 0 || off+size > l.size || off%size != 0 {
		return Access{}
	}
	for _, h := range l.hidden {
		if h.has(off) {
			return Access{}
		}
	}
	r, place := l.find(off)
	allowed := r.read
	if op == Write {
		allowed = r.write
		if r.writers != nil && !slices.Contains(r.writers, at) || l.writable != nil && !l.mayWrite(off) {
			return Access{}
		}
	}
	if r.at != nil && !anyAttach && !slices.Contains(r.at, at) {
		return Access{}
	}
	if !allowed.has(size) || off+size > place.off+place.size || r.is != FieldScalar && op == ReadSigned {
		return Access{}
	}
	return Access{true, r.is}
}

func (l *layout) mayWrite(off int) bool {
	return slices.ContainsFunc(l.writable, func(s span) bool { return s.has(off) })
}
