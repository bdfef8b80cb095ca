package asmtext

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf/btf"
)

// ctypes reads the C declarations that directives use and keeps the types they name, as one BTF would: each struct and
// integer is one value.
type ctypes struct {
	structs map[string]*btf.Struct
	unions  map[string]*btf.Union
	basic   map[string]btf.Type
	order   []*btf.Struct // as they were named first: their numbers, from 1
}

func newCtypes() *ctypes {
	c := &ctypes{structs: map[string]*btf.Struct{}, unions: map[string]*btf.Union{}, basic: map[string]btf.Type{}}
	add := func(name string, size uint32, enc btf.IntEncoding) btf.Type {
		t := &btf.Int{Name: name, Size: size, Encoding: enc}
		c.basic[name] = t
		return t
	}
	add("char", 1, btf.Signed)
	add("signed char", 1, btf.Signed)
	add("_Bool", 1, btf.Bool)
	u8, s8 := add("unsigned char", 1, btf.Unsigned), c.basic["signed char"]
	u16, s16 := add("unsigned short", 2, btf.Unsigned), add("short", 2, btf.Signed)
	u32, s32 := add("unsigned int", 4, btf.Unsigned), add("int", 4, btf.Signed)
	add("unsigned long", 8, btf.Unsigned)
	add("long", 8, btf.Signed)
	u64, s64 := add("unsigned long long", 8, btf.Unsigned), add("long long", 8, btf.Signed)
	add("__int128", 16, btf.Signed)
	c.basic["bool"] = &btf.Typedef{Name: "bool", Type: c.basic["_Bool"]}
	c.basic["size_t"] = &btf.Typedef{Name: "size_t", Type: c.basic["unsigned long"]}
	c.basic["void"] = (*btf.Void)(nil)
	c.basic["float"], c.basic["double"] = &btf.Float{Name: "float", Size: 4}, &btf.Float{Name: "double", Size: 8}
	for name, t := range map[string]btf.Type{"u8": u8, "s8": s8, "u16": u16, "s16": s16, "u32": u32, "s32": s32, "u64": u64, "s64": s64} {
		for _, n := range []string{name, "__" + name} {
			c.basic[n] = &btf.Typedef{Name: n, Type: t}
		}
	}
	return c
}

// structNamed returns the struct of that name, an empty one until it is defined.
func (c *ctypes) structNamed(name string) *btf.Struct {
	if c.structs[name] == nil {
		c.structs[name] = &btf.Struct{Name: name}
		c.order = append(c.order, c.structs[name])
	}
	return c.structs[name]
}

// number returns the number that the type of that name has among the program's.
func (c *ctypes) number(name string) int64 {
	return int64(slices.Index(c.order, c.structNamed(name)) + 1)
}

// spec returns the structures as the types of an object would be, under their numbers.
func (c *ctypes) spec() (*btf.Spec, error) {
	var b btf.Builder
	for _, s := range c.order {
		if _, err := b.Add(s); err != nil {
			return nil, err
		}
	}
	return b.Spec()
}

// named returns the structure or plain type of that name.
func (c *ctypes) named(name string) btf.Type {
	if t := c.basic[name]; t != nil {
		return t
	}
	return c.structNamed(name)
}

// typeTags are the tags of pointers to what a map's value can keep, as they stand in front of the star.
var typeTags = map[string]string{
	"__kptr": "kptr", "__kptr_untrusted": "kptr_untrusted", "__percpu_kptr": "percpu_kptr", "__uptr": "uptr",
}

// base takes qualifiers and a type name.
func (c *ctypes) base(p *cursor) (btf.Type, error) {
	isConst := false
	word, unsigned, signed, longs := "", false, false, 0
	for {
		t := p.peek()
		switch t.text {
		case "const":
			isConst = true
		case "volatile", "restrict":
		case "unsigned":
			unsigned = true
		case "signed":
			signed = true
		case "long":
			longs++
		case "struct", "union":
			p.pos++
			name, err := p.ident()
			if err != nil {
				return nil, err
			}
			return c.tagged(t.text, name, isConst || p.accept("const")), nil
		default:
			if word != "" || unsigned || signed || longs > 0 {
				if t.text != "int" && t.text != "char" && t.text != "short" || word == t.text {
					return c.integer(word, unsigned, signed, longs, isConst)
				}
			} else if c.basic[t.text] == nil {
				return nil, fmt.Errorf("expected a type, found %s", t)
			}
			if word == "" || word == "int" {
				word = t.text
			}
		}
		p.pos++
	}
}

func (c *ctypes) tagged(kind, name string, isConst bool) btf.Type {
	var t btf.Type = c.unions[name]
	if kind == "struct" {
		t = c.structNamed(name)
	} else if c.unions[name] == nil {
		c.unions[name] = &btf.Union{Name: name}
		t = c.unions[name]
	}
	if isConst {
		return &btf.Const{Type: t}
	}
	return t
}

func (c *ctypes) integer(word string, unsigned, signed bool, longs int, isConst bool) (btf.Type, error) {
	switch {
	case longs == 1 && word != "double":
		word = "long"
	case longs == 2:
		word = "long long"
	case word == "":
		word = "int"
	}
	if unsigned {
		word = "unsigned " + word
	} else if signed && word == "char" {
		word = "signed char"
	}
	t := c.basic[word]
	if t == nil {
		return nil, fmt.Errorf("no type %s", word)
	}
	if isConst {
		return &btf.Const{Type: t}, nil
	}
	return t, nil
}

// declarator takes stars, an optional name and array bounds: the name is "" if there is none.
func (c *ctypes) declarator(p *cursor, t btf.Type) (string, btf.Type, error) {
	for {
		if p.accept("*") {
			t = &btf.Pointer{Target: t}
		} else if p.accept("const") {
			t = &btf.Const{Type: t}
		} else if tag := typeTags[p.peek().text]; tag != "" {
			p.pos++
			t = &btf.TypeTag{Type: t, Value: tag}
		} else {
			break
		}
	}
	name := ""
	if p.peek().kind == tokIdent {
		name = p.next().text
	}
	var dims []uint32
	for p.accept("[") {
		n := uint64(0)
		if p.peek().text != "]" {
			var err error
			if n, err = strconv.ParseUint(p.next().text, 0, 32); err != nil {
				return "", nil, fmt.Errorf("bad array size")
			}
		}
		if err := p.expect("]"); err != nil {
			return "", nil, err
		}
		dims = append(dims, uint32(n))
	}
	for i := len(dims) - 1; i >= 0; i-- {
		t = &btf.Array{Index: c.basic["unsigned int"], Type: t, Nelems: dims[i]}
	}
	return name, t, nil
}

// prototype takes "TYPE NAME(PARAMS)" and makes the BTF function.
func (c *ctypes) prototype(p *cursor, linkage btf.FuncLinkage) (*btf.Func, error) {
	ret, err := c.base(p)
	if err != nil {
		return nil, err
	}
	name, ret, err := c.declarator(p, ret)
	if err != nil {
		return nil, err
	}
	if name == "" {
		return nil, fmt.Errorf("prototype without a name")
	}
	params, tags, err := c.params(p)
	if err != nil {
		return nil, err
	}
	return &btf.Func{Name: name, Linkage: linkage, Type: &btf.FuncProto{Return: ret, Params: params}, ParamTags: tags}, nil
}

func (c *ctypes) params(p *cursor) (params []btf.FuncParam, tags [][]string, err error) {
	if err := p.expect("("); err != nil {
		return nil, nil, err
	}
	if p.accept(")") {
		return nil, nil, nil
	}
	if p.peek().text == "void" && p.at(1).text == ")" {
		p.pos += 2
		return nil, nil, nil
	}
	for {
		if p.accept("...") {
			params = append(params, btf.FuncParam{Type: (*btf.Void)(nil)})
			return params, tags, p.expect(")")
		}
		t, err := c.base(p)
		if err != nil {
			return nil, nil, err
		}
		name, t, err := c.declarator(p, t)
		if err != nil {
			return nil, nil, err
		}
		params = append(params, btf.FuncParam{Name: name, Type: t})
		if list := argTags(p); list != nil {
			tags = append(tags, make([][]string, len(params)-len(tags))...)
			tags[len(params)-1] = list
		}
		if p.accept(")") {
			return params, tags, nil
		}
		if err := p.expect(","); err != nil {
			return nil, nil, err
		}
	}
}

// argTags takes the tags behind a parameter, by bpf_helpers.h's names: __arg_ctx is the declaration tag arg:ctx.
func argTags(p *cursor) (tags []string) {
	for {
		name, ok := strings.CutPrefix(p.peek().text, "__arg_")
		if !ok {
			return tags
		}
		p.pos++
		tags = append(tags, "arg:"+name)
	}
}

// structDecl takes "NAME { TYPE NAME; ... }" with natural alignment, and bit fields as "TYPE NAME:BITS".
func (c *ctypes) structDecl(p *cursor) error {
	name, err := p.ident()
	if err != nil {
		return err
	}
	if err := p.expect("{"); err != nil {
		return err
	}
	s := c.structNamed(name)
	if len(s.Members) > 0 {
		return fmt.Errorf("struct %s defined twice", name)
	}
	bits, align := uint32(0), uint32(1)
	for !p.accept("}") {
		a, err := c.member(p, s, &bits)
		if err != nil {
			return err
		}
		align = max(align, a)
	}
	p.accept(";")
	s.Size = roundUp((bits+7)/8, align)
	return nil
}

// member takes one member declaration, places it at or behind *bits and moves *bits. It returns its alignment in bytes.
func (c *ctypes) member(p *cursor, s *btf.Struct, bits *uint32) (uint32, error) {
	base, err := c.base(p)
	if err != nil {
		return 0, err
	}
	name, t, err := c.declarator(p, base)
	if err != nil {
		return 0, err
	}
	if incomplete(t) {
		return 0, fmt.Errorf("member %s: its type is not defined yet", name)
	}
	size, err := btf.Sizeof(t)
	if err != nil {
		return 0, fmt.Errorf("member %s: %w", name, err)
	}
	align, err := alignOf(t)
	if err != nil {
		return 0, fmt.Errorf("member %s: %w", name, err)
	}
	m := btf.Member{Name: name, Type: t}
	if m.Tags, err = c.contains(p); err != nil {
		return 0, err
	}
	if p.accept(":") {
		n, err := strconv.ParseUint(p.next().text, 0, 8)
		if err != nil || n == 0 || uint32(n) > uint32(size)*8 {
			return 0, fmt.Errorf("member %s: bad width of a bit field", name)
		}
		if *bits/uint32(size*8) != (*bits+uint32(n)-1)/uint32(size*8) {
			*bits = roundUp(*bits, uint32(size*8))
		}
		m.Offset, m.BitfieldSize = btf.Bits(*bits), btf.Bits(n)
		*bits += uint32(n)
	} else {
		*bits = roundUp(roundUp(*bits, 8), align*8)
		m.Offset = btf.Bits(*bits)
		*bits += uint32(size) * 8
	}
	s.Members = append(s.Members, m)
	return align, p.expect(";")
}

// contains takes "__contains(STRUCT, MEMBER)" behind a member: what a list or tree holds.
func (c *ctypes) contains(p *cursor) ([]string, error) {
	if !p.accept("__contains") {
		return nil, nil
	}
	if err := p.expect("("); err != nil {
		return nil, err
	}
	name, err := p.ident()
	if err != nil {
		return nil, err
	}
	if err := p.expect(","); err != nil {
		return nil, err
	}
	member, err := p.ident()
	if err != nil {
		return nil, err
	}
	return []string{"contains:" + name + ":" + member}, p.expect(")")
}

// incomplete reports whether t is, or is an array of, a struct or union that has no size (yet).
func incomplete(t btf.Type) bool {
	switch t := btf.UnderlyingType(t).(type) {
	case *btf.Array:
		return incomplete(t.Type)
	case *btf.Struct:
		return t.Size == 0
	case *btf.Union:
		return t.Size == 0
	}
	return false
}

func roundUp(v, to uint32) uint32 { return (v + to - 1) / to * to }

// alignOf returns the natural alignment of a type in bytes.
func alignOf(t btf.Type) (uint32, error) {
	switch t := btf.UnderlyingType(t).(type) {
	case *btf.Array:
		return alignOf(t.Type)
	case *btf.Struct:
		a := uint32(1)
		for _, m := range t.Members {
			n, err := alignOf(m.Type)
			if err != nil {
				return 0, err
			}
			a = max(a, n)
		}
		return a, nil
	default:
		n, err := btf.Sizeof(t)
		if err != nil || n == 0 {
			return 1, err
		}
		return min(uint32(n), 16), nil
	}
}
