//go:build linux && (amd64 || arm64)

package native

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Executable memory. One range is reserved; programs get pieces of it in units of a cache line, which the compiler
// aligns loops to, so that small programs share pages. No page is ever writable and executable, nor executable and written through another address: to add
// code, the pages it touches are made anew beside (old contents and new code), sealed, and moved over the old ones in
// one step; threads that execute in them go on in the new ones.
const (
	textSize = 256 << 20
	textUnit = 64
	minText  = 1 << 20
)

// span is a piece [off, off+n) of the range.
type span struct{ off, n uintptr }

// textSpace is the range. Its free pieces are ordered by offset; neighbours are merged.
type textSpace struct {
	mu   sync.Mutex
	base uintptr
	size uintptr
	free []span
	used uintptr
	page uintptr
}

var text textSpace

// reserve takes the range. At first it is executable: the kernel tells a profiler of executable memory when it is mapped, not
// when it is moved to where it is used, and perf looks for names (Options.PerfMap) only in memory that it knows of.
func (t *textSpace) reserve() error {
	t.page = uintptr(os.Getpagesize())
	for size := uintptr(textSize); ; size /= 2 {
		p, err := mmap(0, size, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
		if err == nil {
			if err = mprotect(p, size, unix.PROT_NONE); err != nil {
				munmap(p, size)
			}
		}
		if err == nil {
			t.base, t.size, t.free = p, size, []span{{0, size}}
			return nil
		}
		if size <= minText {
			return fmt.Errorf("reserve executable memory: %w", err)
		}
	}
}

var errTextFull = errors.New("executable memory is used up")

// add copies code into executable memory and returns its address.
func (t *textSpace) add(code []byte) (uintptr, error) {
	n := (uintptr(len(code)) + textUnit - 1) &^ (textUnit - 1)
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.free {
		f := &t.free[i]
		if f.n < n {
			continue
		}
		off := f.off
		if err := t.write(off, n, code); err != nil {
			return 0, err
		}
		if f.off, f.n = f.off+n, f.n-n; f.n == 0 {
			t.free = slices.Delete(t.free, i, i+1)
		}
		t.used += n
		return t.base + off, nil
	}
	return 0, errTextFull
}

// write puts code at off; [off, off+n) is free.
func (t *textSpace) write(off, n uintptr, code []byte) error {
	lo, hi := off&^(t.page-1), (off+n+t.page-1)&^(t.page-1)
	size := hi - lo
	tmp, err := mmap(0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return fmt.Errorf("executable memory: %w", err)
	}
	fresh := unsafe.Slice((*byte)(pointer(tmp)), size)
	for i := range fresh {
		fresh[i] = fillByte
	}
	for p := lo; p < hi; p += t.page { // pages that hold code of others keep it
		if t.occupied(p) {
			copy(fresh[p-lo:][:t.page], unsafe.Slice((*byte)(pointer(t.base+p)), t.page))
		}
	}
	copy(fresh[off-lo:], code)
	for i := off - lo + uintptr(len(code)); i < off-lo+n; i++ {
		fresh[i] = fillByte
	}
	if err := mprotect(tmp, size, unix.PROT_READ|unix.PROT_EXEC); err != nil {
		munmap(tmp, size)
		return fmt.Errorf("executable memory: %w", err)
	}
	cleanText(tmp, size) // what is shared with others as well: its pages are new
	if err := mremap(tmp, size, t.base+lo); err != nil {
		munmap(tmp, size)
		return fmt.Errorf("executable memory: %w", err)
	}
	serialize()
	return nil
}

// occupied reports whether the page at off holds anybody's code.
func (t *textSpace) occupied(off uintptr) bool {
	for _, f := range t.free {
		if f.off <= off && off+t.page <= f.off+f.n {
			return false
		}
	}
	return true
}

// remove gives [addr, addr+n) back, as add gave it. Pages without code go back to the system.
func (t *textSpace) remove(addr uintptr, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	off, size := addr-t.base, (uintptr(n)+textUnit-1)&^(textUnit-1)
	t.used -= size
	i, _ := slices.BinarySearchFunc(t.free, off, func(s span, off uintptr) int {
		if s.off < off {
			return -1
		}
		return 1
	})
	t.free = slices.Insert(t.free, i, span{off, size})
	if i+1 < len(t.free) && t.free[i].off+t.free[i].n == t.free[i+1].off {
		t.free[i].n += t.free[i+1].n
		t.free = slices.Delete(t.free, i+1, i+2)
	}
	if i > 0 && t.free[i-1].off+t.free[i-1].n == t.free[i].off {
		t.free[i-1].n += t.free[i].n
		t.free = slices.Delete(t.free, i, i+1)
		i--
	}
	f := t.free[i]
	lo := max((f.off+t.page-1)&^(t.page-1), off&^(t.page-1))
	hi := min((f.off+f.n)&^(t.page-1), (off+size+t.page-1)&^(t.page-1))
	if lo < hi { // failing to give pages back costs memory, nothing else
		_, _ = mmap(t.base+lo, hi-lo, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE|unix.MAP_FIXED)
	}
}

// contains reports whether pc lies in the range.
func (t *textSpace) contains(pc uintptr) bool { return pc-t.base < t.size }

// bytes views n bytes of code at addr.
func (t *textSpace) bytes(addr uintptr, n int) []byte { return unsafe.Slice((*byte)(pointer(addr)), n) }
