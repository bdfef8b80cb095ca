package skep

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/ctype"
	"github.com/skep-bpf/skep/internal/progtype"
)

// This file makes the fields of a hook's context out of a structure, in Go or in C.

// Declaration tags of fields, and what they are made of in Go.
const (
	tagWrite  = "skep:rw"
	tagHidden = "skep:-"
	tagPacket = "skep:packet"
	tagEnd    = "skep:packet_end"
)

var (
	packetStartType = reflect.TypeFor[PacketStart]()
	packetEndType   = reflect.TypeFor[PacketEnd]()
)

// hookContext is the structure that a context is declared as, with the tags above.
func hookContext(c any) (*btf.Struct, error) {
	switch c := c.(type) {
	case nil:
		return nil, errors.New("there is none")
	case *btf.Struct:
		if c == nil || !complete(c, map[btf.Type]bool{}) {
			return nil, errors.New("the structure lacks a type")
		}
		return c, nil
	}
	t := reflect.TypeOf(c)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("%T is neither a struct nor a *btf.Struct", c)
	}
	return goContext(&goTypes{made: map[reflect.Type]btf.Type{}, names: map[string]int{}}, t)
}

// goContext makes a structure with tags of a Go struct.
func goContext(ts *goTypes, t reflect.Type) (*btf.Struct, error) {
	s := &btf.Struct{Name: ts.name(t), Size: uint32(t.Size())}
	end := uintptr(0)
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Offset != end {
			return nil, paddingError(t, end, f.Offset)
		}
		end += f.Type.Size()
		if f.Name == "_" {
			continue
		}
		m := btf.Member{Name: fieldName(f), Offset: btf.Bits(8 * f.Offset)}
		var err error
		if m.Type, err = goContextField(ts, f.Type); err != nil {
			return nil, fmt.Errorf("field %s: %w", f.Name, err)
		}
		if m.Tags, err = tagsOf(f); err != nil {
			return nil, fmt.Errorf("field %s: %w", f.Name, err)
		}
		s.Members = append(s.Members, m)
	}
	if end != t.Size() {
		return nil, paddingError(t, end, t.Size())
	}
	return s, nil
}

func paddingError(t reflect.Type, from, to uintptr) error {
	return fmt.Errorf("%s has padding at offset %d: name it, _ [%d]byte", t, from, to-from)
}

func goContextField(ts *goTypes, t reflect.Type) (btf.Type, error) {
	switch {
	case t == packetStartType || t == packetEndType:
		return &btf.Pointer{Target: &btf.Void{}}, nil
	case t.Kind() == reflect.Struct:
		return goContext(ts, t)
	case t.Kind() == reflect.Array:
		if e := t.Elem(); !isScalar(e) || e == packetStartType || e == packetEndType {
			return nil, fmt.Errorf("%s: arrays are of integers", t)
		}
		return ts.of(t), nil
	case isScalar(t):
		return ts.of(t), nil
	}
	return nil, fmt.Errorf("%s cannot lie in a context", t)
}

// tagsOf turns a field's tag into declaration tags.
func tagsOf(f reflect.StructField) (tags []string, err error) {
	switch f.Type {
	case packetStartType:
		tags = append(tags, tagPacket)
	case packetEndType:
		tags = append(tags, tagEnd)
	}
	switch v := f.Tag.Get("bpf"); v {
	case "", "r":
	case "rw":
		tags = append(tags, tagWrite)
	case "-":
		tags = append(tags, tagHidden)
	default:
		return nil, fmt.Errorf("tag bpf:%q: known are r, rw and -", v)
	}
	return tags, nil
}

// hookRights are what may be done with a field.
type hookRights struct{ read, write bool }

// addLeaves notes the fields of a structure at offset base, whose own field has the given rights.
func (h *Hook) addLeaves(path string, s *btf.Struct, base uint32, of hookRights, depth int) error {
	if depth > maxHookDepth {
		return errors.New("it is nested too deeply")
	}
	for _, m := range s.Members {
		name := joinPath(path, m.Name)
		if err := h.addMember(name, m, base+m.Offset.Bytes(), of, depth); err != nil {
			return err
		}
	}
	return nil
}

func (h *Hook) addMember(name string, m btf.Member, at uint32, of hookRights, depth int) error {
	l := hookLeaf{path: name, typ: m.Type}
	rights := hookRights{read: true}
	for _, tag := range m.Tags {
		switch tag {
		case tagWrite:
			rights.write = true
		case tagHidden:
			rights.read = false
		case tagPacket:
			l.Is = progtype.FieldPacket
		case tagEnd:
			l.Is = progtype.FieldPacketEnd
		}
	}
	under := btf.UnderlyingType(m.Type)
	switch t := under.(type) {
	case *btf.Struct:
		// The fields of a structure say by themselves what can be written.
		return h.addLeaves(name, t, at, hookRights{of.read && rights.read, of.write && rights.read}, depth+1)
	case *btf.Int:
		if t.Encoding == btf.Bool && rights.write {
			return fmt.Errorf("field %s: a bool can be neither 0 nor 1 once a program wrote to it; take uint8", name)
		}
	case *btf.Enum:
	case *btf.Array:
		if e, ok := btf.UnderlyingType(t.Type).(*btf.Int); !ok || e.Encoding == btf.Bool && rights.write {
			return fmt.Errorf("field %s: %s: arrays are of integers", name, ctype.Type(m.Type))
		}
	case *btf.Pointer:
		if l.Is == progtype.FieldScalar {
			return fmt.Errorf("field %s: %s: the only addresses in a context are those of a packet", name, ctype.Type(m.Type))
		}
	default:
		return fmt.Errorf("field %s: %s cannot lie in a context", name, ctype.Type(m.Type))
	}
	if m.BitfieldSize != 0 || m.Offset%8 != 0 {
		return fmt.Errorf("field %s is a bit field", name)
	}
	size, err := btf.Sizeof(m.Type)
	if err != nil || uint64(size) > progtype.MaxHookContext {
		return fmt.Errorf("field %s: %s is too large", name, ctype.Type(m.Type))
	}
	l.Off, l.Size, l.Read, l.Write = int(at), size, of.read && rights.read, of.write && rights.read && rights.write
	h.leaves = append(h.leaves, l)
	return nil
}
