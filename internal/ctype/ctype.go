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
		return strings.TrimSuffix(typeAt(t.Target, depth+1), " *") + " *"
	case *btf.Const:
		return "const " + typeAt(t.Type, depth+1)
	case *btf.Volatile:
		return "volatile " + typeAt(t.Type, depth+1)
	case *btf.TypeTag:
		return typeAt(t.Type, depth+1)
	case *btf.Typedef:
		return t.Name
	}
	return Kind(t)
}

// Proto writes a prototype as C does.
func Proto(name string, p *btf.FuncProto) string {
	params := make([]string, len(p.Params))
	for i, a := range p.Params {
		params[i] = strings.TrimSpace(Type(a.Type) + " " + a.Name)
	}
	return fmt.Sprintf("%s %s(%s)", Type(p.Return), name, strings.Join(params, ", "))
}
