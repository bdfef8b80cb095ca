package verifier

import (
	"fmt"

	"github.com/cilium/ebpf/btf"
)

// This file finds out what stands at an offset in a structure by its BTF alone: a number, a pointer to another structure, or a
// structure inside (btf_struct_walk). It knows no registers.

// walkKind is what kind of thing an access of a structure meets.
type walkKind uint8

const (
	walkedNothing walkKind = iota // why says what is wrong
	walkedScalar
	walkedPointer // to a structure or union
	walkedAddress // a pointer to anything else
	walkedStruct  // the start of a structure or union inside
)

// walked is the answer of a walk.
type walked struct {
	kind   walkKind
	target btf.Type // the structure pointed to, or the one inside
	flags  regType  // what the way to a pointer says of it: untrusted, or the tag of its type
	field  string   // the member that is a pointer
	safe   safety   // of that member, see btfsafe.go
	why    string
}

func walkFails(format string, args ...any) walked {
	return walked{why: fmt.Sprintf(format, args...)}
}

// walkStruct looks for size bytes at off, which is not negative, in t. flags are those of the way up to t. With flex, arrays of no
// length at the end of a structure go on as long as anyone wants: what is read there must be read with care.
func walkStruct(t btf.Type, off, size int, flags regType, flex bool) walked {
	for range maxTypeDepth {
		t = skipModifiers(t, true)
		name := anon(t.TypeName())
		total, members, union := composite(t)
		if members == nil && total < 0 {
			return walkFails("Type '%s' is not a struct", name)
		}
		if union && len(members) != 1 {
			// which member is meant is not known; of a union with one there is no doubt
			flags |= untrusted
		}
		if off+size > total {
			elem, at, ok := flexElement(members, off, flex)
			switch {
			case !ok:
				return walkFails("access beyond struct %s at off %d size %d", name, off, size)
			case elem == nil:
				return walked{kind: walkedScalar}
			}
			t, off = elem, at
			continue
		}
		m, what := findMember(name, members, off, size)
		if what.kind != walkedNothing || what.why != "" {
			return what
		}
		if n, _, _ := composite(m.typ); n < 0 {
			return m.leaf(name, off, size, flags)
		}
		if off == m.off {
			return walked{kind: walkedStruct, target: m.typ, flags: flags}
		}
		t, off = m.typ, off-m.off
	}
	return walkFails("struct %s doesn't have field at offset %d", t.TypeName(), off)
}

// maxTypeDepth bounds how far structures are followed into one another; BTF that the kernel takes has at most 32 levels.
const maxTypeDepth = 64

// composite returns size and members of a structure or union, a negative size for any other type.
func composite(t btf.Type) (size int, members []btf.Member, union bool) {
	switch x := t.(type) {
	case *btf.Struct:
		return int(x.Size), x.Members, false
	case *btf.Union:
		return int(x.Size), x.Members, true
	}
	return -1, nil, false
}

// flexElement returns the structure that off is in, and where, if the last member is an array without a length; no structure for
// an array of numbers.
func flexElement(members []btf.Member, off int, flex bool) (elem btf.Type, at int, ok bool) {
	if !flex || len(members) == 0 {
		return nil, 0, false
	}
	last := &members[len(members)-1]
	a, isArray := skipModifiers(last.Type, true).(*btf.Array)
	start := int(last.Offset / 8)
	if !isArray || a.Nelems != 0 || off < start {
		return nil, 0, false
	}
	elem = skipModifiers(a.Type, true)
	if _, isInt := elem.(*btf.Int); isInt {
		return nil, 0, true
	}
	n, _, _ := composite(elem)
	if n <= 0 {
		return nil, 0, false
	}
	return elem, (off - start) % n, true
}

// member is a member of a structure, or the element of an array in it, that an access falls into.
type member struct {
	name string
	typ  btf.Type // behind its modifiers, and of an array its element
	off  int      // of the member or element
	size int
	end  int // of the whole member: numbers may be read across the elements of an array
}

// findMember finds the member that size bytes at off are in. If there is none, or it is a bit field, the answer is complete.
func findMember(name string, members []btf.Member, off, size int) (member, walked) {
	for i := range members {
		m := &members[i]
		start := int(m.Offset / 8)
		if off+size <= start {
			break
		}
		if m.BitfieldSize != 0 {
			// a member in front of it may be one that compilers leave out of BTF
			if end := (int(m.Offset) + int(m.BitfieldSize) + 7) / 8; off <= start && end <= off+size {
				return member{}, walked{kind: walkedScalar}
			}
			continue
		}
		if off < start {
			break // a hole
		}
		elem, total, ok := sizeOfType(m.Type)
		if !ok {
			return member{}, walkFails("field %s doesn't have size", anon(m.Name))
		}
		if off >= start+total {
			continue
		}
		one, n, ok := sizeOfType(elem)
		if !ok || n <= 0 {
			return member{}, walkFails("field %s doesn't have size", anon(m.Name))
		}
		return member{name: anon(m.Name), typ: one, off: start + (off-start)/n*n, size: n, end: start + total}, walked{}
	}
	return member{}, walkFails("struct %s doesn't have field at offset %d", name, off)
}

// leaf answers for a member that is no structure.
func (m *member) leaf(name string, off, size int, flags regType) walked {
	if p, ok := m.typ.(*btf.Pointer); ok {
		if m.size != size || off != m.off {
			return walkFails("cannot access ptr member %s with moff %d in struct %s with off %d size %d", m.name, m.off, name, off, size)
		}
		target := skipModifiers(p.Target, true)
		if n, _, _ := composite(target); n >= 0 {
			return walked{kind: walkedPointer, target: target, flags: flags | tagFlag(p.Target), field: m.name}
		}
		return walked{kind: walkedAddress}
	}
	if off+size > m.end && flags&untrusted == 0 {
		return walkFails("access beyond the end of member %s (mend:%d) in struct %s with off %d size %d", m.name, m.end, name, off, size)
	}
	return walked{kind: walkedScalar}
}

// tagFlag is what a type tag right behind a pointer says of it.
func tagFlag(t btf.Type) regType {
	if tag, ok := t.(*btf.TypeTag); ok {
		switch tag.Value {
		case "user":
			return userMem
		case "percpu":
			return percpu
		case "rcu":
			return memRCU
		}
	}
	return 0
}

// sizeOfType returns the size of t and, of an array of any dimensions, what it consists of; otherwise t itself behind its
// modifiers (btf_resolve_size).
func sizeOfType(t btf.Type) (elem btf.Type, size int, ok bool) {
	const limit = 1<<31 - 1
	count := 1
	for range maxTypeDepth {
		t = skipModifiers(t, true)
		switch x := t.(type) {
		case *btf.Array:
			if count *= int(x.Nelems); count > limit {
				return nil, 0, false
			}
			t = x.Type
		case *btf.Pointer, *btf.Int, *btf.Enum, *btf.Struct, *btf.Union, *btf.Float:
			n, err := btf.Sizeof(t)
			if err != nil || n < 0 || n > limit {
				return nil, 0, false
			}
			return t, count * n, count*n <= limit
		default:
			return nil, 0, false
		}
	}
	return nil, 0, false
}

// typesMatch reports whether a pointer off bytes into have can stand for one to want: the same structure, or, unless strict, one
// that is there (btf_struct_ids_match). why is what a failed walk says.
func typesMatch(have btf.Type, off int, want btf.Type, strict, flex bool) (ok bool, why string) {
	if off == 0 && sameType(have, want) {
		return true, ""
	}
	if strict {
		return false, ""
	}
	var flags regType
	for range maxTypeDepth {
		w := walkStruct(have, off, 1, flags, flex)
		if w.kind != walkedStruct {
			return false, w.why
		}
		if sameType(w.target, want) {
			return true, ""
		}
		have, off, flags = w.target, 0, w.flags
	}
	return false, ""
}

// sameType reports whether two structures are one. Types of different sources (a program's and a kfunc's) are the same by
// name and size.
func sameType(a, b btf.Type) bool {
	if a == b {
		return true
	}
	switch x := a.(type) {
	case *btf.Struct:
		y, ok := b.(*btf.Struct)
		return ok && sameStruct(x, y)
	case *btf.Union:
		y, ok := b.(*btf.Union)
		return ok && x.Name != "" && x.Name == y.Name && x.Size == y.Size
	}
	return false
}

// anon is the name that messages give to what has none (__btf_name_by_offset).
func anon(name string) string {
	if name == "" {
		return "(anon)"
	}
	return name
}
