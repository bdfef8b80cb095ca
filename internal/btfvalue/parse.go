package btfvalue

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/cilium/ebpf/btf"
)

// Parser reads values from one line of text. Its errors name the column, from 1.
type Parser struct {
	text string
	pos  int
}

// NewParser returns a parser of a line.
func NewParser(text string) *Parser { return &Parser{text: text} }

// Parse reads a value of type t, which may be nil, and size bytes.
func Parse(t btf.Type, size int, text string) ([]byte, error) {
	p := NewParser(text)
	b, err := p.Value(t, size)
	if err != nil {
		return nil, err
	}
	return b, p.End()
}

func (p *Parser) errorf(at int, format string, args ...any) error {
	return fmt.Errorf("column %d: %s", at+1, fmt.Sprintf(format, args...))
}

// Peek returns the next byte that is no blank, 0 at the end.
func (p *Parser) Peek() byte {
	for p.pos < len(p.text) && (p.text[p.pos] == ' ' || p.text[p.pos] == '\t') {
		p.pos++
	}
	if p.pos == len(p.text) {
		return 0
	}
	return p.text[p.pos]
}

// Take skips the next byte if it is c.
func (p *Parser) Take(c byte) bool {
	if c == 0 || p.Peek() != c {
		return false
	}
	p.pos++
	return true
}

// Expect is Take that fails.
func (p *Parser) Expect(c byte) error {
	if p.Take(c) {
		return nil
	}
	if p.Peek() == 0 {
		return p.errorf(p.pos, "%q is missing", c)
	}
	return p.errorf(p.pos, "%q where %q should be", p.text[p.pos], c)
}

// End fails unless nothing is left.
func (p *Parser) End() error {
	if p.Peek() != 0 {
		return p.errorf(p.pos, "%q behind the end", p.text[p.pos:])
	}
	return nil
}

// Word reads letters, digits and what is in names of maps, programs and numbers. It fails if there are none.
func (p *Parser) Word() (string, error) {
	p.Peek()
	start := p.pos
	for p.pos < len(p.text) && isWord(p.text[p.pos]) {
		p.pos++
	}
	if start == p.pos {
		if start == len(p.text) {
			return "", p.errorf(start, "something is missing")
		}
		return "", p.errorf(start, "unexpected %q", p.text[start])
	}
	return p.text[start:p.pos], nil
}

func isWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("_.:+-/$", c) >= 0
}

// maxValue bounds the bytes of a value that is read: larger than any map's.
const maxValue = 64 << 20

// Value reads a value of type t, which may be nil, and size bytes. What an initialiser leaves out is zero.
func (p *Parser) Value(t btf.Type, size int) ([]byte, error) {
	if size < 0 || size > maxValue {
		return nil, p.errorf(p.pos, "a value of %d bytes", size)
	}
	b := make([]byte, size)
	return b, p.value(t, b, 0)
}

func (p *Parser) value(t btf.Type, b []byte, depth int) error {
	c := p.Peek()
	at := p.pos
	switch {
	case depth > maxDepth:
		return p.errorf(at, "nested too deep")
	case c == '{':
		return p.braces(t, b, depth)
	case c == '"':
		return p.quoted(t, b)
	}
	w, err := p.Word()
	if err != nil {
		return err
	}
	if p.Take('(') {
		end := strings.IndexByte(p.text[p.pos:], ')')
		if end < 0 {
			return p.errorf(p.pos, "')' is missing")
		}
		arg := p.text[p.pos : p.pos+end]
		p.pos += end + 1
		if err := function(w, arg, b); err != nil {
			return p.errorf(at, "%v", err)
		}
		return nil
	}
	if err := word(t, w, b); err != nil {
		return p.errorf(at, "%v", err)
	}
	return nil
}

// function reads hex(...) and be(...).
func function(name, arg string, b []byte) error {
	switch name {
	case "hex":
		v, err := hexBytes(arg)
		switch {
		case err != nil:
			return err
		case len(v) != len(b):
			return fmt.Errorf("hex(%s): %d bytes where %d should be", arg, len(v), len(b))
		}
		copy(b, v)
		return nil
	case "be":
		v, err := strconv.ParseUint(strings.TrimSpace(arg), 0, 64)
		switch {
		case err != nil:
			return fmt.Errorf("be(%s): not a number", arg)
		case len(b) != 2 && len(b) != 4 && len(b) != 8:
			return fmt.Errorf("be(%s): a number has 2, 4 or 8 bytes, here are %d", arg, len(b))
		case truncate(v, len(b)) != v:
			return fmt.Errorf("be(%s): does not fit into %d bytes", arg, len(b))
		}
		var all [8]byte
		binary.BigEndian.PutUint64(all[:], v)
		copy(b, all[8-len(b):])
		return nil
	}
	return fmt.Errorf("there is no %s(...); use hex(...) or be(...)", name)
}

// Hex reads hex(...) of any length.
func (p *Parser) Hex() ([]byte, error) {
	p.Peek()
	at := p.pos
	w, err := p.Word()
	if err != nil {
		return nil, err
	}
	arg, end, ok := strings.Cut(p.text[p.pos:], ")")
	if w != "hex" || !strings.HasPrefix(arg, "(") || !ok {
		return nil, p.errorf(at, "only hex(...) can be here, the type is not known")
	}
	p.pos = len(p.text) - len(end)
	b, err := hexBytes(arg[1:])
	if err != nil {
		return nil, p.errorf(at, "%v", err)
	}
	return b, nil
}

// hexBytes reads what is in hex(...).
func hexBytes(arg string) ([]byte, error) {
	b, err := hex.DecodeString(strings.Join(strings.Fields(strings.ReplaceAll(arg, ":", " ")), ""))
	if err != nil {
		return nil, fmt.Errorf("hex(%s): not pairs of hexadecimal digits", arg)
	}
	return b, nil
}

// quoted reads "text" into an array of bytes.
func (p *Parser) quoted(t btf.Type, b []byte) error {
	at := p.pos
	q, err := strconv.QuotedPrefix(p.text[p.pos:])
	if err != nil {
		return p.errorf(at, "the text has no end")
	}
	p.pos += len(q)
	s, err := strconv.Unquote(q)
	if a, ok := under(t).(*btf.Array); err != nil || t != nil && (!ok || !isBytes(a)) {
		return p.errorf(at, "text where %s should be", describe(t, len(b)))
	}
	if len(s) > len(b) {
		return p.errorf(at, "%d characters where %d bytes are", len(s), len(b))
	}
	copy(b, s)
	return nil
}

// describe says what a type wants.
func describe(t btf.Type, size int) string {
	if name := typeName(t); name != "" {
		return fmt.Sprintf("%s (%d bytes)", name, size)
	}
	return fmt.Sprintf("a value of %d bytes", size)
}

// braces reads {...} into a structure, union or array.
func (p *Parser) braces(t btf.Type, b []byte, depth int) error {
	at := p.pos
	p.pos++
	next := 0
	for !p.Take('}') {
		part, err := p.part(t, b, &next)
		if err != nil {
			return err
		}
		if err := part.read(p, depth+1); err != nil {
			return err
		}
		if p.Take(',') {
			continue
		}
		if err := p.Expect('}'); err != nil {
			return fmt.Errorf("%w (of the '{' in column %d)", err, at+1)
		}
		break
	}
	return nil
}

// part is where a value in braces goes.
type part struct {
	typ   btf.Type
	bytes []byte
	field btf.Member // a bit field, of all bytes
}

func (d *part) read(p *Parser, depth int) error {
	if d.field.BitfieldSize == 0 {
		return p.value(d.typ, d.bytes, depth)
	}
	p.Peek()
	at := p.pos
	w, err := p.Word()
	if err != nil {
		return err
	}
	n := d.field.BitfieldSize
	v, err := strconv.ParseInt(w, 0, 64)
	if err != nil || n < 64 && (v >= 1<<n || v < -(1<<(n-1))) {
		return p.errorf(at, "%s is no number of %d bits", w, n)
	}
	for i := range int(n) {
		k := int(d.field.Offset) + i
		d.bytes[k/8] = d.bytes[k/8]&^(1<<(k%8)) | byte(v>>i&1)<<(k%8)
	}
	return nil
}

// part finds where the next value in braces goes: to the member or element that stands in front of it, or behind the one before.
func (p *Parser) part(t btf.Type, b []byte, next *int) (*part, error) {
	p.Peek()
	at := p.pos
	switch u := under(t).(type) {
	case *btf.Struct:
		return p.memberPart(u.Members, b, next)
	case *btf.Union:
		return p.memberPart(u.Members, b, next)
	case *btf.Array:
		n, ok := elements(u, b)
		if !ok {
			break
		}
		if p.Take('[') {
			w, err := p.Word()
			if err != nil {
				return nil, err
			}
			if *next, err = strconv.Atoi(w); err != nil || *next < 0 {
				return nil, p.errorf(at, "[%s] is no index", w)
			}
			if err := errors.Join(p.Expect(']'), p.Expect('=')); err != nil {
				return nil, err
			}
		}
		if *next >= n {
			return nil, p.errorf(at, "element %d of an array of %d", *next, n)
		}
		size := len(b) / n
		d := &part{typ: u.Type, bytes: b[*next*size : (*next+1)*size]}
		*next++
		return d, nil
	}
	return nil, p.errorf(at, "{...} where %s should be", describe(t, len(b)))
}

func (p *Parser) memberPart(ms []btf.Member, b []byte, next *int) (*part, error) {
	at := p.pos
	if p.Peek() == '.' {
		p.pos++
		name, err := p.Word()
		if err != nil {
			return nil, err
		}
		*next = -1
		for i := range ms {
			if ms[i].Name == name {
				*next = i
			}
		}
		if *next < 0 {
			return nil, p.errorf(at, "no member %s; there are: %s", name, memberNames(ms))
		}
		if err := p.Expect('='); err != nil {
			return nil, err
		}
	}
	if *next >= len(ms) {
		return nil, p.errorf(at, "more values than members (%d)", len(ms))
	}
	m := ms[*next]
	*next++
	if m.BitfieldSize != 0 {
		if _, ok := bits(b, int(m.Offset), int(m.BitfieldSize)); !ok {
			return nil, p.errorf(at, "member %s is not inside of its structure", m.Name)
		}
		return &part{bytes: b, field: m}, nil
	}
	mb, _, ok := member(m, b)
	if !ok {
		return nil, p.errorf(at, "member %s has no size", m.Name)
	}
	return &part{typ: m.Type, bytes: mb}, nil
}

func memberNames(ms []btf.Member) string {
	var names []string
	for _, m := range ms {
		names = append(names, m.Name)
	}
	return strings.Join(names, ", ")
}

// word reads a number, a name or an address into b.
func word(t btf.Type, w string, b []byte) error {
	if addr, err := netip.ParseAddr(w); err == nil {
		return put(w, addr.AsSlice(), b)
	}
	if mac, err := net.ParseMAC(w); err == nil && strings.Contains(w, ":") { // not 12 digits, which are a number
		return put(w, mac, b)
	}
	switch u := under(t).(type) {
	case *btf.Struct, *btf.Union, *btf.Array:
		return fmt.Errorf("%s where %s should be: write {...}, \"text\" or hex(...)", w, describe(t, len(b)))
	case *btf.Enum:
		for _, e := range u.Values {
			if e.Name == w {
				return putNumber(w, e.Value, b)
			}
		}
	case *btf.Float:
		return putFloat(w, b)
	case *btf.Int:
		if u.Encoding == btf.Bool {
			if v, err := strconv.ParseBool(w); err == nil && len(b) == 1 {
				b[0] = 0
				if v {
					b[0] = 1
				}
				return nil
			}
		}
	}
	return parseNumber(w, b)
}

// put copies what has a fixed size.
func put(w string, v, b []byte) error {
	if len(v) != len(b) {
		return fmt.Errorf("%s has %d bytes, here are %d", w, len(v), len(b))
	}
	copy(b, v)
	return nil
}

func putFloat(w string, b []byte) error {
	v, err := strconv.ParseFloat(w, 8*len(b))
	switch {
	case err != nil || len(b) != 4 && len(b) != 8:
		return fmt.Errorf("%s is no number of %d bytes", w, len(b))
	case len(b) == 4:
		return putNumber(w, uint64(math.Float32bits(float32(v))), b)
	}
	return putNumber(w, math.Float64bits(v), b)
}

// parseNumber reads a number, of either sign whatever the type: -1 for all bits is as good as in C.
func parseNumber(w string, b []byte) error {
	if _, ok := number(b); !ok {
		return fmt.Errorf("%s where %d bytes are: write hex(...)", w, len(b))
	}
	if v, err := strconv.ParseUint(w, 0, 64); err == nil {
		if truncate(v, len(b)) != v {
			return fmt.Errorf("%s does not fit into %d bytes", w, len(b))
		}
		return putNumber(w, v, b)
	}
	v, err := strconv.ParseInt(w, 0, 64)
	switch {
	case err != nil:
		return fmt.Errorf("%s is no number", w)
	case v < -(1 << (8*len(b) - 1)):
		return fmt.Errorf("%s does not fit into %d bytes", w, len(b))
	}
	return putNumber(w, uint64(v), b)
}

// putNumber stores the lower bytes of v.
func putNumber(w string, v uint64, b []byte) error {
	switch len(b) {
	case 1:
		b[0] = byte(v)
	case 2:
		binary.NativeEndian.PutUint16(b, uint16(v))
	case 4:
		binary.NativeEndian.PutUint32(b, uint32(v))
	case 8:
		binary.NativeEndian.PutUint64(b, v)
	default:
		return fmt.Errorf("%s where %d bytes are", w, len(b))
	}
	return nil
}
