// Package sysenc turns Go values into bytes and back as cilium/ebpf does: encoding.BinaryMarshaler, strings and byte
// slices as they are, everything else of fixed size by encoding/binary in the host's byte order; a raw unsafe.Pointer is
// the address of the bytes.
package sysenc

import (
	"encoding"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
)

// Buffer is room for a small key or value on the caller's stack, so that integers are marshalled without an allocation.
type Buffer [16]byte

// Marshal returns data as size bytes, in buf if it fits there. The result may be data's own memory.
func Marshal(data any, size int, buf *Buffer) ([]byte, error) {
	if b, ok, err := rawBytes(data, size); ok {
		return b, err
	}
	if isNil(data) {
		return nil, fmt.Errorf("can't marshal a nil %T", data)
	}
	var b []byte
	var err error
	switch v := data.(type) {
	case nil:
		return nil, errors.New("can't marshal a nil value")
	case encoding.BinaryMarshaler:
		b, err = v.MarshalBinary()
	case string:
		b = []byte(v)
	case []byte:
		b = v
	case uint32:
		b = binary.NativeEndian.AppendUint32(buf[:0], v)
	case *uint32:
		b = binary.NativeEndian.AppendUint32(buf[:0], *v)
	case int32:
		b = binary.NativeEndian.AppendUint32(buf[:0], uint32(v))
	case uint64:
		b = binary.NativeEndian.AppendUint64(buf[:0], v)
	case *uint64:
		b = binary.NativeEndian.AppendUint64(buf[:0], *v)
	case int64:
		b = binary.NativeEndian.AppendUint64(buf[:0], uint64(v))
	case uint16:
		b = binary.NativeEndian.AppendUint16(buf[:0], v)
	case int16:
		b = binary.NativeEndian.AppendUint16(buf[:0], uint16(v))
	default:
		if m := Backing(data); m != nil && len(m) == size {
			return m, nil
		}
		b, err = binary.Append(nil, binary.NativeEndian, data)
	}
	if err != nil {
		return nil, err
	}
	if len(b) != size {
		return nil, fmt.Errorf("%T doesn't marshal to %d bytes", data, size)
	}
	return b, nil
}

// Unmarshal decodes buf into data.
func Unmarshal(data any, buf []byte) error {
	if b, ok, err := rawBytes(data, len(buf)); ok {
		copy(b, buf)
		return err
	}
	if isNil(data) {
		return fmt.Errorf("can't unmarshal into a nil %T", data)
	}
	switch v := data.(type) {
	case nil:
		return errors.New("can't unmarshal into nil")
	case encoding.BinaryUnmarshaler:
		return v.UnmarshalBinary(buf)
	case *string:
		*v = string(buf)
		return nil
	case *[]byte:
		*v = slices.Clone(buf) // as cilium/ebpf: the slice is replaced
		return nil
	}
	if m := Backing(data); m != nil && len(m) == len(buf) {
		copy(m, buf)
		return nil
	}
	n, err := binary.Decode(buf, binary.NativeEndian, data)
	if err != nil {
		return err
	}
	if n != len(buf) {
		return fmt.Errorf("unmarshaling %T doesn't consume all data", data)
	}
	return nil
}

// isNil reports whether data is a nil pointer: encoding/binary panics on some of them.
func isNil(data any) bool {
	v := reflect.ValueOf(data)
	return v.Kind() == reflect.Pointer && v.IsNil()
}

// OutBuffer returns a buffer of size bytes for a result: data's own memory if it has that size (direct), else a new one.
func OutBuffer(data any, size int) (buf []byte, direct bool) {
	switch v := data.(type) {
	case encoding.BinaryUnmarshaler, *string, *[]byte, nil:
	case []byte:
		if len(v) == size {
			return v, true
		}
	default:
		if m := Backing(data); m != nil && len(m) == size {
			return m, true
		}
	}
	return make([]byte, size), false
}

// plain caches whether a type's memory is its encoding: no padding, no unexported fields, nothing but fixed-size numbers.
var plain sync.Map // reflect.Type -> bool

func isPlain(t reflect.Type) bool {
	if p, ok := plain.Load(t); ok {
		return p.(bool)
	}
	n := plainSize(t)
	p := n >= 0 && uintptr(n) == t.Size()
	plain.Store(t, p)
	return p
}

// plainSize returns the encoded size of t, -1 if its memory is not its encoding. A bool's is, but a byte of 2 is not a bool.
func plainSize(t reflect.Type) int {
	switch t.Kind() {
	case reflect.Int8, reflect.Uint8, reflect.Int16, reflect.Uint16, reflect.Int32, reflect.Uint32, reflect.Int64, reflect.Uint64,
		reflect.Float32, reflect.Float64, reflect.Complex64, reflect.Complex128:
		return int(t.Size())
	case reflect.Array:
		if n := plainSize(t.Elem()); n >= 0 {
			return n * t.Len()
		}
	case reflect.Struct:
		sum := 0
		for i := range t.NumField() {
			f := t.Field(i)
			// Blank fields are always written as zero by encoding/binary, their memory may hold anything.
			n := plainSize(f.Type)
			if n < 0 || !f.IsExported() {
				return -1
			}
			sum += n
		}
		return sum
	}
	return -1
}

// Append appends data's bytes to b, whatever their number.
func Append(b []byte, data any) ([]byte, error) {
	switch v := data.(type) {
	case nil:
		return nil, errors.New("can't marshal a nil value")
	case []byte:
		return append(b, v...), nil
	case encoding.BinaryMarshaler:
		m, err := v.MarshalBinary()
		return append(b, m...), err
	}
	if isNil(data) {
		return nil, fmt.Errorf("can't marshal a nil %T", data)
	}
	if m := Backing(data); m != nil {
		return append(b, m...), nil
	}
	return binary.Append(b, binary.NativeEndian, data)
}

// Size returns the number of bytes that data, a pointer or slice to decode into, stands for; -1 if it has none.
func Size(data any) int {
	if isNil(data) {
		return -1
	}
	if v, ok := data.(*[]byte); ok {
		return len(*v)
	}
	if m := Backing(data); m != nil {
		return len(m)
	}
	return binary.Size(data)
}
