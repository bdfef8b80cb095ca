// Package ctype writes BTF types as C does, for messages and listings.
package ctype

import (
	"fmt"
	"strings"

	"github.com/cilium/ebpf/btf"
)

// Kind writes a type without what stands around it: its kind and name.
func Kind(t btf.Type) string {
	switch t := btf.UnderlyingType(t).(type) {
	case *btf.Struct:
		return "struct " + t.Name
	case *btf.Union:
		return "union " + t.Name
	case *btf.Enum:
		return "enum " + t.Name
	case *btf.Fwd:
		return "struct " + t.Name
	}
	if n := t.TypeName(); n != "" {
		return n
	}
	return strings.ToLower(strings.TrimPrefix(fmt.Sprintf("%T", t), "*btf."))
}

// Type writes a type as C does.
func Type(t btf.Type) string { return typeAt(t, 0) }

func typeAt(t btf.Type, depth int) string {
	if depth > 32 {
		return "..." // types made in Go can be circles
	}
	switch t := t.(type) {
	case *btf.Void:
		return "void"
	case *btf.Pointer:
		target := typeAt(t.Target, depth+1)
		if strings.HasSuffix(target, "*") {
			return target + "*"
		}
		return target + " *"
	case *btf.Const:
		return qualified("const", t.Type, depth)
	case *btf.Volatile:
		return qualified("volatile", t.Type, depth)
	case *btf.TypeTag:
		return typeAt(t.Type, depth+1)
	case *btf.Typedef:
		return t.Name
	}
	return Kind(t)
}

// qualified writes a qualifier before the type it is of, or behind a pointer.
func qualified(word string, t btf.Type, depth int) string {
	s := typeAt(t, depth+1)
	if strings.HasSuffix(s, "*") {
		return s + " " + word
	}
	return word + " " + s
}

// Param writes a parameter as C declares it; compilers leave the names of some out.
func Param(p btf.FuncParam) string {
	t := Type(p.Type)
	if strings.HasSuffix(t, "*") {
		return t + p.Name
	}
	return strings.TrimSpace(t + " " + p.Name)
}

// Proto writes a prototype as C does.
func Proto(name string, p *btf.FuncProto) string {
	params := make([]string, len(p.Params))
	for i, a := range p.Params {
		params[i] = Param(a)
	}
	return fmt.Sprintf("%s(%s)", Param(btf.FuncParam{Name: name, Type: p.Return}), strings.Join(params, ", "))
}
