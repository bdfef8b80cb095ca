// Package cheader writes BTF types of functions as a C header: declarations of kfuncs for programs, and the types that they need.
// It knows nothing of Go functions or programs.
package cheader

import (
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/ctype"
)

// regArgs is how many parameters plain C has with every compiler; more need the macros of bpf_stack_args.h.
const regArgs = 5

// identifier is what C calls a function.
var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// maxDepth bounds how deeply types are nested: those made in Go can be circles.
const maxDepth = 32

// Func is a function to declare, with what to say about it (one line, or nothing).
type Func struct {
	*btf.Func
	Comment string
}

// Write declares functions as weak kfuncs. Structures and unions that a parameter or result points to are defined, unless opaque
// says that the program has them from elsewhere; all others are named only.
func Write(w io.Writer, funcs []Func, opaque func(name string) bool) error {
	p := &printer{opaque: opaque, done: map[string]string{}}
	var decls strings.Builder
	long := false
	for _, f := range funcs {
		proto, ok := f.Type.(*btf.FuncProto)
		if !ok {
			return fmt.Errorf("%s: %T is no prototype", f.Name, f.Type)
		}
		if !identifier.MatchString(f.Name) {
			return fmt.Errorf("%q is no name in C", f.Name)
		}
		if err := p.needProto(proto); err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
		long = long || len(proto.Params) > regArgs
		if f.Comment != "" {
			fmt.Fprintf(&decls, "/* %s */\n", f.Comment)
		}
		decls.WriteString(declaration(f.Name, proto) + "\n")
	}
	head := "/* Written by skep: kfuncs for BPF programs. */\n#pragma once\n\n"
	if long {
		head += "#include <skep/bpf_stack_args.h>\n\n"
	}
	if p.out.Len() > 0 {
		p.out.WriteString("\n")
	}
	_, err := io.WriteString(w, head+p.out.String()+decls.String())
	return err
}

// WriteStruct writes the definition of a structure and of what it needs.
func WriteStruct(w io.Writer, s *btf.Struct) error {
	p := &printer{opaque: func(string) bool { return false }, done: map[string]string{}}
	if err := p.need(s, true, 0); err != nil {
		return fmt.Errorf("struct %s: %w", s.Name, err)
	}
	_, err := io.WriteString(w, "/* Written by skep: the context of a hook. */\n#pragma once\n\n"+p.out.String())
	return err
}

// declaration writes one kfunc. The macro wants a name for each parameter.
func declaration(name string, proto *btf.FuncProto) string {
	params := make([]string, len(proto.Params))
	for i, a := range proto.Params {
		if len(proto.Params) > regArgs {
			params[i] = ctype.Type(a.Type) + ", " + paramName(a.Name, i)
			continue
		}
		params[i] = ctype.Param(btf.FuncParam{Name: paramName(a.Name, i), Type: a.Type})
	}
	if len(params) > regArgs {
		return fmt.Sprintf("SKEP_KFUNC(%s, %s, %s);", ctype.Type(proto.Return), name, strings.Join(params, ", "))
	}
	if len(params) == 0 {
		params = []string{"void"}
	}
	return fmt.Sprintf("extern %s(%s) __attribute__((weak, section(\".ksyms\")));",
		ctype.Param(btf.FuncParam{Name: name, Type: proto.Return}), strings.Join(params, ", "))
}

func paramName(name string, i int) string {
	if name == "" {
		return fmt.Sprint("p", i+1)
	}
	return name
}

// printer writes each type once, before what needs it.
type printer struct {
	out    strings.Builder
	opaque func(name string) bool
	done   map[string]string // by "struct point", "u32": its definition, "" for one that is named only
}

// needProto writes what a prototype needs.
func (p *printer) needProto(proto *btf.FuncProto) error {
	for i, a := range proto.Params {
		if _, void := btf.UnderlyingType(a.Type).(*btf.Void); void {
			return fmt.Errorf("it is variadic")
		}
		if err := p.need(a.Type, true, 0); err != nil {
			return fmt.Errorf("parameter %d: %w", i+1, err)
		}
	}
	if err := p.need(proto.Return, true, 0); err != nil {
		return fmt.Errorf("result: %w", err)
	}
	return nil
}

// need writes what a type needs to be named, and, where it is to be whole, what it needs to be looked into.
func (p *printer) need(t btf.Type, whole bool, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("types are nested too deeply")
	}
	switch t := t.(type) {
	case nil:
		return fmt.Errorf("a type is missing")
	case *btf.Void, *btf.Int, *btf.Float:
		return nil
	case *btf.Pointer:
		return p.need(t.Target, whole, depth+1)
	case *btf.Const:
		return p.need(t.Type, whole, depth+1)
	case *btf.Volatile:
		return p.need(t.Type, whole, depth+1)
	case *btf.TypeTag:
		return p.need(t.Type, whole, depth+1)
	case *btf.Typedef:
		return p.typedef(t, whole, depth)
	case *btf.Struct:
		return p.composite("struct "+t.Name, t.Size, t.Members, whole, depth)
	case *btf.Union:
		return p.composite("union "+t.Name, t.Size, t.Members, whole, depth)
	case *btf.Fwd:
		return p.forward(ctype.Kind(t))
	case *btf.Enum:
		return p.enum(t)
	}
	return fmt.Errorf("%s cannot be declared before a name", ctype.Kind(t))
}

// define writes text for a name, once. Two definitions of one name cannot stand in one header.
func (p *printer) define(name, text string) error {
	if have, ok := p.done[name]; ok && have != "" {
		if have != text {
			return fmt.Errorf("there are two types %s", name)
		}
		return nil
	}
	p.done[name] = text
	p.out.WriteString(text + "\n")
	return nil
}

func (p *printer) forward(name string) error {
	if strings.HasSuffix(name, " ") {
		return fmt.Errorf("a %shas no name", name)
	}
	if _, ok := p.done[name]; !ok {
		p.done[name] = ""
		p.out.WriteString(name + ";\n")
	}
	return nil
}

func (p *printer) typedef(t *btf.Typedef, whole bool, depth int) error {
	if err := p.need(t.Type, whole, depth+1); err != nil {
		return fmt.Errorf("%s: %w", t.Name, err)
	}
	return p.define(t.Name, fmt.Sprintf("typedef %s;", ctype.Param(btf.FuncParam{Name: t.Name, Type: t.Type})))
}

func (p *printer) enum(t *btf.Enum) error {
	if t.Name == "" || t.Size != 4 {
		return fmt.Errorf("an enum of %d bytes without a name of its own", t.Size)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "enum %s {", t.Name)
	for _, v := range t.Values {
		fmt.Fprintf(&b, " %s = %d,", v.Name, int64(v.Value))
	}
	return p.define("enum "+t.Name, b.String()+" };")
}

// composite defines a structure or union, or names it only.
func (p *printer) composite(name string, size uint32, members []btf.Member, whole bool, depth int) error {
	short := name[strings.IndexByte(name, ' ')+1:]
	if !whole || p.opaque(short) {
		return p.forward(name)
	}
	if short == "" {
		return fmt.Errorf("a %shas no name", name)
	}
	for _, m := range members {
		elem, _ := dimensions(m.Type)
		_, isPtr := btf.UnderlyingType(elem).(*btf.Pointer)
		if err := p.need(elem, !isPtr, depth+1); err != nil {
			return fmt.Errorf("%s: %s: %w", name, m.Name, err)
		}
	}
	body, err := layout(size, members, strings.HasPrefix(name, "union"))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return p.define(name, fmt.Sprintf("%s {\n%s};", name, body))
}

// layout writes members at their offsets: what C's own alignment does not leave out is filled with unnamed bytes.
func layout(size uint32, members []btf.Member, union bool) (string, error) {
	var b strings.Builder
	at, align := uint32(0), uint32(1)
	for _, m := range members {
		if m.BitfieldSize != 0 {
			return "", fmt.Errorf("field %s is a bit field", m.Name)
		}
		if m.Name == "" {
			return "", fmt.Errorf("a field has no name")
		}
		n, err := btf.Sizeof(m.Type)
		if err != nil {
			return "", err
		}
		a := alignment(m.Type)
		if off := m.Offset.Bytes(); !union {
			if off%a != 0 || off < at {
				return "", fmt.Errorf("field %s is packed", m.Name)
			}
			if off != (at+a-1)/a*a {
				pad(&b, off-at)
			}
			at = off
		}
		at, align = at+uint32(n), max(align, a)
		b.WriteString("\t" + member(m) + ";\n")
		if union {
			at = 0
		}
	}
	if union {
		return b.String(), nil
	}
	if size%align != 0 || size < at {
		return "", fmt.Errorf("it is packed")
	}
	if size != (at+align-1)/align*align {
		pad(&b, size-at)
	}
	return b.String(), nil
}

// pad writes n bytes without a name.
func pad(b *strings.Builder, n uint32) {
	for range n {
		b.WriteString("\tunsigned char : 8;\n")
	}
}

// member writes a field, arrays with their lengths behind the name.
func member(m btf.Member) string {
	elem, dims := dimensions(m.Type)
	return ctype.Param(btf.FuncParam{Name: m.Name, Type: elem}) + dims
}

// dimensions returns what an array is made of, and its lengths as they stand behind its name. What qualifies the array
// qualifies the elements.
func dimensions(t btf.Type) (elem btf.Type, dims string) { return dimensionsAt(t, 0) }

func dimensionsAt(t btf.Type, depth int) (elem btf.Type, dims string) {
	if depth > maxDepth {
		return t, "" // which need refuses
	}
	switch t := t.(type) {
	case *btf.Array:
		elem, dims = dimensionsAt(t.Type, depth+1)
		return elem, fmt.Sprintf("[%d]", t.Nelems) + dims
	case *btf.Const:
		elem, dims = dimensionsAt(t.Type, depth+1)
		return &btf.Const{Type: elem}, dims
	case *btf.Volatile:
		elem, dims = dimensionsAt(t.Type, depth+1)
		return &btf.Volatile{Type: elem}, dims
	}
	return t, ""
}

// alignment is C's for a type.
func alignment(t btf.Type) uint32 {
	members := func(ms []btf.Member) uint32 {
		a := uint32(1)
		for _, m := range ms {
			a = max(a, alignment(m.Type))
		}
		return a
	}
	switch t := btf.UnderlyingType(t).(type) {
	case *btf.Array:
		return alignment(t.Type)
	case *btf.Struct:
		return members(t.Members)
	case *btf.Union:
		return members(t.Members)
	default:
		n, err := btf.Sizeof(t)
		if err != nil || n <= 0 {
			return 1
		}
		return uint32(n)
	}
}
