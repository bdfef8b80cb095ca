package offheap

import (
	"errors"
	"runtime/debug"
	"testing"
)

func TestAllocIsZeroedAlignedAndFreed(t *testing.T) {
	n0, b0 := Stats()
	r, err := Alloc(pageSize + 1)
	if err != nil {
		t.Fatal(err)
	}
	if r.Size() != 2*pageSize || len(r.Bytes()) != 2*pageSize {
		t.Fatalf("size %d, want two pages", r.Size())
	}
	if r.Addr()%uintptr(pageSize) != 0 {
		t.Errorf("address %#x is not page-aligned", r.Addr())
	}
	for i, v := range r.Bytes() {
		if v != 0 {
			t.Fatalf("byte %d is %d", i, v)
		}
	}
	r.Bytes()[r.Size()-1] = 1
	if n, b := Stats(); n != n0+1 || b != b0+int64(2*pageSize) {
		t.Errorf("stats %d, %d", n, b)
	}
	for range 2 {
		if err := r.Free(); err != nil {
			t.Fatal(err)
		}
	}
	if n, b := Stats(); n != n0 || b != b0 {
		t.Errorf("leaked: %d regions, %d bytes", n-n0, b-b0)
	}
	if r.Addr() != 0 {
		t.Error("address of a freed region")
	}
}

func TestAllocRefusesSizes(t *testing.T) {
	for _, n := range []int{0, -1, MaxSize + 1} {
		if _, err := Alloc(n); !errors.Is(err, ErrSize) {
			t.Errorf("Alloc(%d): %v", n, err)
		}
	}
}

func faults(f func()) (ok bool) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() { ok = recover() != nil }()
	f()
	return false
}

func TestGuardAndReadOnlyFault(t *testing.T) {
	r, err := Alloc(pageSize, WithGuard())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Free()
	w, b := r.whole, r.b
	b[0], b[pageSize-1] = 1, 1
	if !faults(func() { w[pageSize-1] = 1 }) {
		t.Error("no fault in front of the region")
	}
	if !faults(func() { w[2*pageSize] = 1 }) {
		t.Error("no fault behind the region")
	}
	if err := r.SetReadOnly(true); err != nil {
		t.Fatal(err)
	}
	if b[0] != 1 || !faults(func() { b[0] = 2 }) {
		t.Error("a read-only region was written")
	}
	if err := r.SetReadOnly(false); err != nil {
		t.Fatal(err)
	}
	b[0] = 3
}
