package object

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// btfImage is the section .BTF of an object as bytes, for edits that cilium/ebpf needs before it reads it. It is a view
// on the object's image.
type btfImage struct {
	order   binary.ByteOrder
	section []byte
	types   []byte
	strings []byte
	kinds   []int // offset of each type in types; the first has id 1
}

// The header's fields and the parts of a type, all 32-bit.
const (
	btfHdrLen     = 4 // offsets in the header
	btfTypeOff    = 8
	btfTypeLen    = 12
	btfStrOff     = 16
	btfStrLen     = 20
	btfHeader     = 24
	btfTypeInfo   = 4 // offsets in a type
	btfTypeTarget = 8
	btfTypeHead   = 12
	btfMember     = 12 // size of a variable in a data section
)

// Kinds of types, and what follows the head of each: a fixed part and a part for each of its members.
const (
	btfKindTypedef  = 8
	btfKindVolatile = 9
	btfKindConst    = 10
	btfKindRestrict = 11
	btfKindVar      = 14
	btfKindDatasec  = 15
)

var btfTail = [20]struct{ fixed, each int }{
	1: {4, 0}, 3: {12, 0}, 4: {0, 12}, 5: {0, 12}, 6: {0, 8}, 13: {0, 8}, btfKindVar: {4, 0}, btfKindDatasec: {0, btfMember},
	17: {4, 0}, 19: {0, 12},
}

// newBTFImage finds the types in a section.
func newBTFImage(section []byte, order binary.ByteOrder) (*btfImage, error) {
	b := &btfImage{order: order, section: section}
	if len(section) < btfHeader {
		return nil, fmt.Errorf("section .BTF: the header ends at offset %d, the section at %d", btfHeader, len(section))
	}
	var ok, ok2 bool
	b.types, ok = b.part(btfTypeOff, btfTypeLen)
	b.strings, ok2 = b.part(btfStrOff, btfStrLen)
	if !ok || !ok2 {
		return nil, fmt.Errorf("section .BTF: types or strings end behind the section's %d bytes", len(section))
	}
	for at := 0; at < len(b.types); {
		if len(b.types)-at < btfTypeHead {
			return nil, fmt.Errorf("section .BTF: type at offset %d is not whole", at)
		}
		if b.kind(at) >= len(btfTail) {
			return nil, fmt.Errorf("section .BTF: type at offset %d is of unknown kind %d", at, b.kind(at))
		}
		b.kinds = append(b.kinds, at)
		tail := btfTail[b.kind(at)]
		at += btfTypeHead + tail.fixed + tail.each*b.members(at)
		if at > len(b.types) {
			return nil, fmt.Errorf("section .BTF: type at offset %d is not whole", b.kinds[len(b.kinds)-1])
		}
	}
	return b, nil
}

// part returns a part of the section whose offset and length stand in the header.
func (b *btfImage) part(off, length int) ([]byte, bool) {
	from := uint64(b.u32(b.section, btfHdrLen)) + uint64(b.u32(b.section, off))
	to := from + uint64(b.u32(b.section, length))
	if to > uint64(len(b.section)) {
		return nil, false
	}
	return b.section[from:to:to], true
}

func (b *btfImage) u32(p []byte, at int) uint32 { return b.order.Uint32(p[at:]) }

func (b *btfImage) kind(at int) int    { return int(b.u32(b.types, at+btfTypeInfo) >> 24 & 31) }
func (b *btfImage) members(at int) int { return int(b.u32(b.types, at+btfTypeInfo) & 0xffff) }

// name returns the name of the type at an offset, "" if it lies outside of the strings.
func (b *btfImage) name(at int) string { return cString(b.strings, b.u32(b.types, at)) }

// cString returns the text at an offset of a table of strings.
func cString(table []byte, at uint32) string {
	if uint64(at) >= uint64(len(table)) {
		return ""
	}
	for end := int(at); end < len(table); end++ {
		if table[end] == 0 {
			return string(table[at:end])
		}
	}
	return ""
}

// sections calls f with each data section: the offset of its type and its name.
func (b *btfImage) sections(f func(at int, name string)) {
	for _, at := range b.kinds {
		if b.kind(at) == btfKindDatasec {
			f(at, b.name(at))
		}
	}
}

// untype makes the variables of a data section ones of type void, and calls f with the name of each that had another type.
func (b *btfImage) untype(section int, f func(name string)) {
	for i := range b.members(section) {
		id := b.u32(b.types, section+btfTypeHead+i*btfMember)
		if id == 0 || uint64(id) > uint64(len(b.kinds)) {
			continue // the reader will say so
		}
		if at := b.kinds[id-1]; b.kind(at) == btfKindVar {
			if !b.void(b.u32(b.types, at+btfTypeTarget)) {
				f(b.name(at))
			}
			b.order.PutUint32(b.types[at+btfTypeTarget:], 0)
		}
	}
}

// void reports whether a type is void behind const and its like.
func (b *btfImage) void(id uint32) bool {
	for range 32 {
		if id == 0 || uint64(id) > uint64(len(b.kinds)) {
			return id == 0
		}
		at := b.kinds[id-1]
		switch b.kind(at) {
		case btfKindTypedef, btfKindVolatile, btfKindConst, btfKindRestrict:
			id = b.u32(b.types, at+btfTypeTarget)
		default:
			return false
		}
	}
	return false
}

// rename returns a longer section where data sections have other names. The table of strings must be its last part, as
// all compilers write it.
func (b *btfImage) rename(names map[string]string) ([]byte, error) {
	out := append([]byte(nil), b.section...)
	strOff, strLen := b.u32(out, btfStrOff), b.u32(out, btfStrLen)
	start := uint64(b.u32(out, btfHdrLen)) + uint64(strOff)
	if start+uint64(strLen) != uint64(len(out)) {
		return nil, errors.New("section .BTF: its strings do not stand at its end")
	}
	base := int(b.u32(out, btfHdrLen)) + int(b.u32(out, btfTypeOff))
	b.sections(func(at int, name string) {
		if to := names[name]; to != "" {
			b.order.PutUint32(out[base+at:], uint32(uint64(len(out))-start))
			out = append(append(out, to...), 0)
		}
	})
	b.order.PutUint32(out[btfStrLen:], uint32(uint64(len(out))-start))
	return out, nil
}
