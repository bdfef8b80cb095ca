package sysenc

import (
	"errors"
	"reflect"
	"unsafe"
)

// Backing returns the memory behind a pointer or slice of plain values, nil if its memory is not its encoding. The
// types have no Go pointers (isPlain), so that writing bytes there cannot mislead the collector, and bytes have no
// alignment to keep.
func Backing(data any) []byte {
	v := reflect.ValueOf(data)
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		t := v.Type().Elem()
		if t.Kind() == reflect.Slice {
			v = v.Elem()
			break
		}
		if !isPlain(t) {
			return nil
		}
		return unsafe.Slice((*byte)(v.UnsafePointer()), int(t.Size()))
	case reflect.Slice:
	default:
		return nil
	}
	t := v.Type().Elem()
	if v.Len() == 0 || !isPlain(t) {
		return nil
	}
	return unsafe.Slice((*byte)(v.UnsafePointer()), int(t.Size())*v.Len())
}

// rawBytes views size bytes at data if it is an unsafe.Pointer (ok): the caller of the map method vouches for them, as
// with cilium/ebpf.
func rawBytes(data any, size int) (b []byte, ok bool, err error) {
	p, ok := data.(unsafe.Pointer)
	if !ok {
		return nil, false, nil
	}
	if p == nil {
		return nil, true, errors.New("nil unsafe.Pointer")
	}
	return unsafe.Slice((*byte)(p), size), true, nil
}
