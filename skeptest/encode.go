package skeptest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"reflect"
	"slices"

	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/sysenc"
)

// encode turns a Go value into size bytes that nobody else holds. An int, which a constant in a table of cases most often is, takes the size
// that is asked for.
func encode(v any, size int) ([]byte, error) {
	switch n := reflect.ValueOf(v); n.Kind() {
	case reflect.Int:
		if size == 1 || size == 2 || size == 4 || size == 8 {
			if shift := 64 - 8*size; n.Int()<<shift>>shift != n.Int() && uint64(n.Int())<<shift>>shift != uint64(n.Int()) {
				return nil, fmt.Errorf("%d does not fit into %d bytes", v, size)
			}
			return nativeBytes(uint64(n.Int()), size), nil
		}
	case reflect.Uint:
		if size == 1 || size == 2 || size == 4 || size == 8 {
			if shift := 64 - 8*size; n.Uint()<<shift>>shift != n.Uint() {
				return nil, fmt.Errorf("%d does not fit into %d bytes", v, size)
			}
			return nativeBytes(n.Uint(), size), nil
		}
	}
	b, err := encodeAny(v)
	if err == nil && len(b) != size {
		err = fmt.Errorf("%T has %d bytes, here are %d", v, len(b), size)
	}
	return b, err
}

// nativeBytes is the lower bytes of a number in the host's order.
func nativeBytes(v uint64, size int) []byte {
	switch size {
	case 1:
		return []byte{byte(v)}
	case 2:
		return binary.NativeEndian.AppendUint16(nil, uint16(v))
	case 4:
		return binary.NativeEndian.AppendUint32(nil, uint32(v))
	}
	return binary.NativeEndian.AppendUint64(nil, v)
}

// encodeAny is encode for a value of any size; an int has none.
func encodeAny(v any) ([]byte, error) {
	switch v := v.(type) {
	case int, uint:
		return nil, fmt.Errorf("%T has no fixed size: write uint32(%d), say", v, v)
	case string:
		return []byte(v), nil
	case *typed:
		return slices.Clone(v.bytes), nil
	case nil:
		return nil, errors.New("nil has no bytes")
	}
	return sysenc.Append(nil, v)
}

// typeOf is the BTF type of bytes: the one that the object has, or one made of the Go type that a test writes them with; nil if neither is
// of their size.
func typeOf(t btf.Type, v any, size int) btf.Type {
	fits := func(t btf.Type) bool {
		n, err := btf.Sizeof(t)
		return err == nil && n == size
	}
	if _, void := t.(*btf.Void); t != nil && !void && fits(t) {
		return t
	}
	if v == nil {
		return nil
	}
	if v, ok := v.(*typed); ok && fits(v.typ) {
		return v.typ
	}
	if g, _ := goType(reflect.TypeOf(v), 0); g != nil && fits(g) {
		return g
	}
	return nil
}

// goType makes a BTF type of a Go type, laid out as encoding/binary does, and its size; nil if it has no such layout.
func goType(t reflect.Type, depth int) (btf.Type, uint32) {
	const maxDepth = 16
	if depth > maxDepth {
		return nil, 0
	}
	switch k := t.Kind(); k {
	case reflect.Bool:
		return &btf.Int{Name: "bool", Size: 1, Encoding: btf.Bool}, 1
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n := uint32(t.Size())
		return &btf.Int{Name: k.String(), Size: n, Encoding: btf.Signed}, n
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		n := uint32(t.Size())
		return &btf.Int{Name: k.String(), Size: n}, n
	case reflect.Float32, reflect.Float64:
		n := uint32(t.Size())
		return &btf.Float{Name: k.String(), Size: n}, n
	case reflect.Pointer:
		return goType(t.Elem(), depth+1)
	case reflect.Array:
		e, n := goType(t.Elem(), depth+1)
		over, total := bits.Mul64(uint64(n), uint64(t.Len()))
		if e == nil || over != 0 || total > 1<<30 {
			return nil, 0
		}
		return &btf.Array{Index: &btf.Int{Size: 4}, Type: e, Nelems: uint32(t.Len())}, uint32(total)
	case reflect.Struct:
		s := &btf.Struct{Name: t.Name()}
		for i := range t.NumField() {
			f := t.Field(i)
			e, n := goType(f.Type, depth+1)
			if e == nil {
				return nil, 0
			}
			s.Members = append(s.Members, btf.Member{Name: f.Name, Type: e, Offset: btf.Bits(8 * s.Size)})
			s.Size += n
		}
		return s, s.Size
	}
	return nil, 0
}
