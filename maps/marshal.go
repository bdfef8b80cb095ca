package maps

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/skep-bpf/skep/internal/rt"
	"github.com/skep-bpf/skep/internal/sysenc"
)

func (m *Map) marshalKey(key any, buf *sysenc.Buffer) ([]byte, error) {
	if key == nil && m.keySize == 0 {
		return nil, nil
	}
	if key == nil {
		return nil, errors.New("can't use nil as key of map")
	}
	return sysenc.Marshal(key, int(m.keySize), buf)
}

func (m *Map) marshalValue(value any, buf *sysenc.Buffer) ([]byte, error) {
	switch value.(type) {
	case *Map:
		return nil, fmt.Errorf("can't store map in %s", m.typ)
	case Program:
		return nil, fmt.Errorf("can't store program in %s", m.typ)
	}
	if m.perCPU() {
		b := make([]byte, m.fullValueSize)
		return b, marshalPerCPU(b, value, int(m.valueSize))
	}
	return sysenc.Marshal(value, int(m.valueSize), buf)
}

// marshalPerCPU encodes a slice of at most one value per CPU into b.
func marshalPerCPU(b []byte, values any, size int) error {
	v := reflect.ValueOf(values)
	if v.Kind() != reflect.Slice {
		return errors.New("per-CPU value requires slice")
	}
	if v.Len() > rt.CPUs() {
		return errors.New("per-CPU value greater than number of CPUs")
	}
	var buf sysenc.Buffer
	for i := range v.Len() {
		e, err := sysenc.Marshal(v.Index(i).Interface(), size, &buf)
		if err != nil {
			return err
		}
		copy(b[i*round8(size):], e)
	}
	return nil
}

// perCPUSlice returns the slice to decode into; behind a pointer it makes a new one.
func perCPUSlice(out any) (any, error) {
	v := reflect.ValueOf(out)
	if !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		return nil, errors.New("per-cpu value: nil pointer")
	}
	if v.Kind() == reflect.Slice {
		return out, nil
	}
	if v.Kind() != reflect.Pointer || v.Type().Elem().Kind() != reflect.Slice {
		return nil, errors.New("per-cpu value requires a slice or a pointer to slice")
	}
	n := rt.CPUs()
	s := reflect.MakeSlice(v.Type().Elem(), n, n)
	if et := s.Type().Elem(); et.Kind() == reflect.Pointer {
		for i := range n {
			s.Index(i).Set(reflect.New(et.Elem()))
		}
	}
	v.Elem().Set(s)
	return s.Interface(), nil
}

// unmarshalPerCPU decodes one value per CPU into a slice of that length.
func unmarshalPerCPU(slice any, size int, buf []byte) error {
	v := reflect.ValueOf(slice)
	if v.Kind() != reflect.Slice {
		return errors.New("per-CPU value requires a slice")
	}
	if v.Len() != rt.CPUs() {
		return fmt.Errorf("per-CPU slice has incorrect length, expected %d, got %d", rt.CPUs(), v.Len())
	}
	for i := range v.Len() {
		e := v.Index(i)
		if e.Kind() == reflect.Pointer {
			if e.IsNil() {
				return errors.New("per-CPU slice elements cannot be nil")
			}
		} else {
			e = e.Addr()
		}
		if err := sysenc.Unmarshal(e.Interface(), buf[i*round8(size):][:size]); err != nil {
			return fmt.Errorf("cpu %d: %w", i, err)
		}
	}
	return nil
}
