// Package btfvalue shows bytes as C values by their BTF type, and reads C values into bytes. It knows types and bytes, nothing of maps or
// programs.
//
// A value is written as in an initialiser of C: numbers, names of an enum, "text" for an array of char, {...} for structures and arrays,
// with .member = and [index] = in front of what does not stand in order. What C lacks:
//
//	10.0.0.1  2001:db8::1  02:00:00:00:00:01   addresses, for 4, 16, 6 bytes
//	be(443)                                    a number in network order
//	hex(0a 00 00 01)                           the bytes themselves, for a type of any kind
//
// All numbers are in the host's byte order. Without a type, 1, 2, 4 and 8 bytes are an unsigned number, others are hex().
package btfvalue

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"

	"github.com/cilium/ebpf/btf"
)

// maxDepth bounds how deep types nest; those of BTF may be circular only through pointers, which are numbers here.
const maxDepth = 32

// leaf is a part of a value that has no parts of its own.
type leaf struct {
	path string // .member[0], "" for a value that is a leaf itself
	text string
	off  int // of the first byte in the value
	size int
}

// Format writes a value of type t, which may be nil.
func Format(t btf.Type, b []byte) string {
	var s strings.Builder
	format(&s, t, b, 0)
	return s.String()
}

func format(s *strings.Builder, t btf.Type, b []byte, depth int) {
	switch u := under(t).(type) {
	case *btf.Struct:
		if depth < maxDepth && int(u.Size) == len(b) && plainMembers(u.Members) {
			s.WriteByte('{')
			sep := ""
			for _, m := range u.Members {
				mb, text, ok := member(m, b)
				if !ok {
					continue
				}
				s.WriteString(sep)
				sep = ", "
				if m.Name != "" {
					fmt.Fprintf(s, ".%s = ", m.Name)
				}
				if mb == nil {
					s.WriteString(text)
				} else {
					format(s, m.Type, mb, depth+1)
				}
			}
			s.WriteByte('}')
			return
		}
	case *btf.Array:
		if n, ok := elements(u, b); ok && depth < maxDepth && !isBytes(u) {
			s.WriteByte('{')
			for i := range n {
				if i > 0 {
					s.WriteString(", ")
				}
				size := len(b) / n
				format(s, u.Type, b[i*size:(i+1)*size], depth+1)
			}
			s.WriteByte('}')
			return
		}
	}
	s.WriteString(scalar(t, b))
}

// leaves lists the parts of a value.
func leaves(t btf.Type, b []byte) []leaf { return appendLeaves(nil, "", 0, t, b, 0) }

func appendLeaves(all []leaf, path string, off int, t btf.Type, b []byte, depth int) []leaf {
	switch u := under(t).(type) {
	case *btf.Struct:
		if depth < maxDepth && int(u.Size) == len(b) && plainMembers(u.Members) {
			for _, m := range u.Members {
				mb, text, ok := member(m, b)
				p := path
				if m.Name != "" {
					p += "." + m.Name
				}
				switch at := off + int(m.Offset/8); {
				case !ok:
				case mb == nil:
					all = append(all, leaf{p, text, at, int(m.Offset%8+m.BitfieldSize+7) / 8})
				default:
					all = appendLeaves(all, p, at, m.Type, mb, depth+1)
				}
			}
			return all
		}
	case *btf.Array:
		if n, ok := elements(u, b); ok && depth < maxDepth && !isBytes(u) {
			size := len(b) / n
			for i := range n {
				all = appendLeaves(all, fmt.Sprintf("%s[%d]", path, i), off+i*size, u.Type, b[i*size:(i+1)*size], depth+1)
			}
			return all
		}
	}
	return append(all, leaf{path, scalar(t, b), off, len(b)})
}

// Diff lists what differs between two values of type t: ".member: got 1, want 2 (bytes 8 to 15)". It is empty if all bytes are equal.
func Diff(t btf.Type, got, want []byte) []string {
	if string(got) == string(want) {
		return nil
	}
	g, w := leaves(t, got), leaves(t, want)
	var out []string
	covered := make([]bool, len(want))
	for i := range w {
		if len(g) != len(w) || len(got) != len(want) {
			break
		}
		for k := w[i].off; k < w[i].off+w[i].size; k++ {
			covered[k] = true
		}
		if g[i].text == w[i].text && string(got[w[i].off:w[i].off+w[i].size]) == string(want[w[i].off:w[i].off+w[i].size]) {
			continue
		}
		if g[i].text == w[i].text && w[i].path != "" && sharesBytes(w, i) {
			continue // the difference is in another bit field of the same bytes
		}
		path := ""
		if w[i].path != "" {
			path = w[i].path + ": "
		}
		out = append(out, fmt.Sprintf("%sgot %s, want %s (%s)", path, g[i].text, w[i].text, span(w[i].off, w[i].size)))
	}
	for k := range want { // between the members
		if !covered[k] && k < len(got) && got[k] != want[k] {
			out = append(out, fmt.Sprintf("padding: got %#02x, want %#02x (%s)", got[k], want[k], span(k, 1)))
		}
	}
	if len(out) == 0 {
		out = append(out, fmt.Sprintf("got %s, want %s", Format(t, got), Format(t, want)))
	}
	return out
}

// sharesBytes reports whether leaf i is a bit field, by a neighbour in the same bytes.
func sharesBytes(all []leaf, i int) bool {
	overlaps := func(j int) bool {
		return j >= 0 && j < len(all) && all[j].off < all[i].off+all[i].size && all[i].off < all[j].off+all[j].size
	}
	return overlaps(i-1) || overlaps(i+1)
}

func span(off, size int) string {
	if size == 1 {
		return fmt.Sprintf("byte %d", off)
	}
	return fmt.Sprintf("bytes %d to %d", off, off+size-1)
}

// under is a type without names and qualifiers, nil for none.
func under(t btf.Type) btf.Type {
	if t == nil {
		return nil
	}
	return btf.UnderlyingType(t)
}

// plainMembers reports whether a structure has members to show.
func plainMembers(ms []btf.Member) bool { return len(ms) > 0 }

// member returns the bytes of a member, or the text of one that is a bit field; ok is false if it is not inside of b.
func member(m btf.Member, b []byte) (bytes []byte, text string, ok bool) {
	if m.BitfieldSize != 0 {
		v, ok := bits(b, int(m.Offset), int(m.BitfieldSize))
		if u, isInt := under(m.Type).(*btf.Int); isInt && u.Encoding == btf.Signed {
			shift := 64 - m.BitfieldSize
			return nil, strconv.FormatInt(int64(v<<shift)>>shift, 10), ok
		}
		return nil, strconv.FormatUint(v, 10), ok
	}
	size, err := btf.Sizeof(m.Type)
	off := int(m.Offset / 8)
	if err != nil || size < 0 || off+size > len(b) || size == 0 {
		return nil, "", false
	}
	return b[off : off+size], "", true
}

// bits reads a bit field, as little-endian machines lay it out.
func bits(b []byte, off, n int) (v uint64, ok bool) {
	if n > 64 || off < 0 || off+n > 8*len(b) {
		return 0, false
	}
	for i := n - 1; i >= 0; i-- {
		v = v<<1 | uint64(b[(off+i)/8]>>((off+i)%8)&1)
	}
	return v, true
}

// elements is the number of elements of an array, ok if they fill b.
func elements(a *btf.Array, b []byte) (n int, ok bool) {
	size, err := btf.Sizeof(a.Type)
	if err != nil || size <= 0 || a.Nelems == 0 || uint64(a.Nelems)*uint64(size) != uint64(len(b)) {
		return 0, false
	}
	return int(a.Nelems), true
}

// isBytes reports whether an array is one of bytes, which are shown together.
func isBytes(a *btf.Array) bool {
	i, ok := under(a.Type).(*btf.Int)
	return ok && i.Size == 1
}

func isChar(t btf.Type) bool {
	i, ok := under(t).(*btf.Int)
	return ok && i.Size == 1 && (i.Name == "char" || i.Encoding == btf.Char)
}

// scalar writes what has no parts.
func scalar(t btf.Type, b []byte) string {
	switch u := under(t).(type) {
	case *btf.Int:
		if int(u.Size) == len(b) {
			return integer(t, u, b)
		}
	case *btf.Enum:
		if v, ok := number(b); ok && int(u.Size) == len(b) {
			for _, e := range u.Values {
				if truncate(e.Value, len(b)) == v {
					return e.Name
				}
			}
			return signedText(v, len(b), u.Signed)
		}
	case *btf.Float:
		switch v, _ := number(b); len(b) {
		case 4:
			return strconv.FormatFloat(float64(math.Float32frombits(uint32(v))), 'g', -1, 32)
		case 8:
			return strconv.FormatFloat(math.Float64frombits(v), 'g', -1, 64)
		}
	case *btf.Pointer:
		if v, ok := number(b); ok {
			return fmt.Sprintf("%#x", v)
		}
	case *btf.Array:
		if s, ok := charText(u, b); ok {
			return strconv.Quote(s)
		}
	case nil, *btf.Void:
		if v, ok := number(b); ok {
			return strconv.FormatUint(v, 10)
		}
	}
	return fmt.Sprintf("hex(% x)", b)
}

// integer writes a number: an address if its type's name says so.
func integer(t btf.Type, u *btf.Int, b []byte) string {
	v, ok := number(b)
	switch {
	case !ok:
		return fmt.Sprintf("hex(% x)", b)
	case u.Encoding == btf.Bool && v <= 1:
		return strconv.FormatBool(v == 1)
	}
	switch typeName(t) {
	case "__be32":
		if len(b) == 4 {
			return netip.AddrFrom4([4]byte(b)).String()
		}
	case "__be16":
		if len(b) == 2 {
			return fmt.Sprintf("be(%d)", binary.BigEndian.Uint16(b))
		}
	}
	return signedText(v, len(b), u.Encoding == btf.Signed)
}

// typeName is the outermost name of a type, without qualifiers.
func typeName(t btf.Type) string {
	for range maxDepth {
		switch u := t.(type) {
		case *btf.Const:
			t = u.Type
		case *btf.Volatile:
			t = u.Type
		case nil:
			return ""
		default:
			return t.TypeName()
		}
	}
	return ""
}

// charText is the text in an array of char, ok if there is nothing else in it.
func charText(a *btf.Array, b []byte) (s string, ok bool) {
	if !isChar(a.Type) {
		return "", false
	}
	s = strings.TrimRight(string(b), "\x00")
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' {
			return "", false
		}
	}
	return s, true
}

// number reads 1, 2, 4 or 8 bytes.
func number(b []byte) (uint64, bool) {
	switch len(b) {
	case 1:
		return uint64(b[0]), true
	case 2:
		return uint64(binary.NativeEndian.Uint16(b)), true
	case 4:
		return uint64(binary.NativeEndian.Uint32(b)), true
	case 8:
		return binary.NativeEndian.Uint64(b), true
	}
	return 0, false
}

func truncate(v uint64, size int) uint64 { return v & (math.MaxUint64 >> (64 - 8*size)) }

func signedText(v uint64, size int, signed bool) string {
	if signed {
		shift := 64 - 8*size
		return strconv.FormatInt(int64(v<<shift)>>shift, 10)
	}
	return strconv.FormatUint(v, 10)
}
