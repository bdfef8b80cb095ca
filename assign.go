package skep

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// field is a struct field with an ebpf tag.
type field struct {
	reflect.StructField
	value reflect.Value
}

// ebpfFields lists the tagged fields of a struct, those of structs in it and behind pointers in it as well.
func ebpfFields(v reflect.Value, seen map[reflect.Type]bool) ([]field, error) {
	t := v.Type()
	if t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("%s is not a struct", t)
	}
	if seen[t] {
		return nil, fmt.Errorf("recursion on type %s", t)
	}
	seen[t] = true
	defer delete(seen, t)
	var fields []field
	for i := range t.NumField() {
		f := field{t.Field(i), v.Field(i)}
		if f.Tag.Get("ebpf") != "" {
			fields = append(fields, f)
			continue
		}
		inner := f.value
		if f.Type.Kind() == reflect.Pointer {
			if f.Type.Elem().Kind() != reflect.Struct || f.value.IsNil() {
				if f.Anonymous && f.Type.Elem().Kind() == reflect.Struct {
					return nil, fmt.Errorf("nil pointer to %s", f.Name)
				}
				continue
			}
			inner = f.value.Elem()
		}
		if inner.Kind() != reflect.Struct || !f.IsExported() && !f.Anonymous {
			continue
		}
		more, err := ebpfFields(inner, seen)
		if err != nil {
			return nil, fmt.Errorf("field %s: %w", f.Name, err)
		}
		fields = append(fields, more...)
	}
	return fields, nil
}

// assign sets the tagged fields of the struct behind to. get returns the value for a name; its first argument is a nil
// value of the field's type.
func assign(to any, get func(kind any, name string) (any, error)) error {
	v := reflect.ValueOf(to)
	if v.Kind() != reflect.Pointer {
		return fmt.Errorf("%T is not a pointer to struct", to)
	}
	if v.IsNil() {
		return errors.New("nil pointer to struct")
	}
	fields, err := ebpfFields(v.Elem(), map[reflect.Type]bool{})
	if err != nil {
		return err
	}
	type key struct {
		t    reflect.Type
		name string
	}
	done := map[key]string{}
	for _, f := range fields {
		name := f.Tag.Get("ebpf")
		if strings.Contains(name, ",") {
			return fmt.Errorf("field %s: ebpf tag contains a comma", f.Name)
		}
		k := key{f.Type, name}
		if other, ok := done[k]; ok {
			return fmt.Errorf("field %s: object %q was already assigned to %s", f.Name, name, other)
		}
		done[k] = f.Name
		if !f.value.CanSet() {
			return fmt.Errorf("field %s: can't set value", f.Name)
		}
		val, err := get(reflect.Zero(f.Type).Interface(), name)
		if err != nil {
			return fmt.Errorf("field %s: %w", f.Name, err)
		}
		f.value.Set(reflect.ValueOf(val))
	}
	return nil
}
