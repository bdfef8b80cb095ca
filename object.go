package skep

import (
	"fmt"
	"reflect"

	"github.com/skep-bpf/skep/internal/offheap"
	"github.com/skep-bpf/skep/internal/rt"
)

// Object is a value of type T in memory that programs can hold a pointer to: what a kfunc that returns a pointer to a struct
// gives them. It lies outside of the Go heap, zeroed at first, and lives until Free.
type Object[T any] struct {
	region *offheap.Region
}

// NewObject makes an Object. T is of fixed size and without Go pointers. Each takes at least a page of memory.
func NewObject[T any]() (*Object[T], error) {
	t := reflect.TypeFor[T]()
	if err := checkPointee(t); err != nil {
		return nil, fmt.Errorf("object of type %s: %w", t, err)
	}
	r, err := offheap.Alloc(max(int(t.Size()), 1))
	if err != nil {
		return nil, fmt.Errorf("object of type %s: %w", t, err)
	}
	return &Object[T]{region: r}, nil
}

// Value returns the value itself; nil after Free. A kfunc that later gets a pointer to it as argument gets the same pointer.
func (o *Object[T]) Value() *T {
	if o == nil || o.region.Addr() == 0 {
		return nil
	}
	return (*T)(regionPointer(o.region))
}

// Free gives the memory back once the runs that are under way have ended. The caller knows that programs started later
// cannot hold the pointer.
func (o *Object[T]) Free() {
	rt.AfterRuns(func() { _ = o.region.Free() })
}

// objectResult is any *Object.
type objectResult interface {
	objectAddr(r *rt.Run) uint64
	objectElem() reflect.Type
}

// objectAddr returns the address for a program, and tells the run that it may use the memory.
func (o *Object[T]) objectAddr(r *rt.Run) uint64 {
	if o == nil || o.region.Addr() == 0 {
		return 0
	}
	addr := uint64(o.region.Addr())
	for _, g := range r.Mem() {
		if g.Base == addr {
			return addr
		}
	}
	r.AddMem(rt.Region{Base: addr, Size: uint64(reflect.TypeFor[T]().Size()), Name: "object"})
	return addr
}

func (o *Object[T]) objectElem() reflect.Type { return reflect.TypeFor[T]() }
