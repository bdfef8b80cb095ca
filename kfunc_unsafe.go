package skep

import (
	"reflect"
	"runtime"
	"unsafe"

	"github.com/skep-bpf/skep/internal/offheap"
	"github.com/skep-bpf/skep/internal/rt"
)

// wordCall calls a Go function of any permitted form without reflection and without allocating, by calling it as if all
// its parameters were 64-bit integers.
//
// Preconditions, which callable checks. Go's internal calling convention (abi-internal.md) assigns parameters to integer
// registers one after the other, a struct of one pointer to one and a slice to three; a parameter wholly in registers
// may have anything in the unused upper bits; the caller reserves spill space of the parameters' size, and eight bytes for
// each is at least what narrower ones need. So a function whose parameters all fit into the integer registers cannot tell
// the difference, and neither can one whose further parameters, on the stack, are eight bytes each. The result is in the
// first register. Pointers among the words point outside of the Go heap (the program's memory), or to rt.Run, which the
// caller keeps alive; the callee's own stack maps describe them as what they are.
//
// TestWordCall calls functions of many forms this way; checkWordCall does so once at program start, and where its answers
// are wrong everything goes by reflection.

// intRegs is how many integer registers the convention has for parameters.
var intRegs = map[string]int{"amd64": 9, "arm64": 16}[runtime.GOARCH]

const maxWords = 15

var wordCallWorks = checkWordCall()

// checked is what checkWordCall's functions read and write through pointers.
var checked = [4]byte{1, 2, 3, 4}

// checkWordCall calls two functions as words and compares the results.
func checkWordCall() bool {
	if intRegs == 0 {
		return false
	}
	garbage := uint64(0xdeadbeef) << 32
	var mixed any = func(a uint8, b int16, p *[4]byte, c bool, s []byte, d uint64) uint16 {
		if a != 7 || b != -2 || p != &checked || !c || len(s) != 4 || cap(s) != 4 || &s[0] != &checked[0] {
			return 0
		}
		return uint16(d) + uint16(s[3])
	}
	var many any = func(a, b, c, d, e, f, g, h, i, j, k, l uint64) uint64 {
		return a + 2*b + 3*c + 4*d + 5*e + 6*f + 7*g + 8*h + 9*i + 10*j + 11*k + 12*l
	}
	at := uint64(uintptr(unsafe.Pointer(&checked)))
	w := [maxWords]uint64{garbage | 0xab00 | 7, garbage | 0xfffe, at, 1, at, 4, 4, 1000}
	ok := uint16(callWords((*[2]unsafe.Pointer)(unsafe.Pointer(&mixed))[1], 8, &w)) == 1004
	w = [maxWords]uint64{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}
	return ok && callWords((*[2]unsafe.Pointer)(unsafe.Pointer(&many))[1], 12, &w) == 78
}

// callable reports whether wordCall can call functions of type t, whose parameters make n words.
func callable(t reflect.Type, n int) bool {
	if n > maxWords || !wordCallWorks || t.NumOut() == 1 && t.Out(0).Kind() == reflect.Pointer {
		return false // a pointer result would be unknown to the collector for a moment
	}
	if n <= intRegs {
		return true
	}
	k := 0
	for i := range t.NumIn() {
		p := t.In(i)
		if p == bytesType {
			if k += 3; k > intRegs {
				return false // would go to the stack whole, and what follows to registers
			}
			continue
		}
		if k++; k > intRegs && p.Size() != 8 {
			return false // narrower parameters are packed on the stack
		}
	}
	return true
}

// pointerValue makes a *T of an address in the program's memory.
func pointerValue(t reflect.Type, addr uint64) reflect.Value {
	p := uintptr(addr)
	return reflect.NewAt(t.Elem(), *(*unsafe.Pointer)(unsafe.Pointer(&p)))
}

// wordCall returns a function that makes the words and calls fn with them.
func wordCall(fn any, words []word, res result) rt.Func {
	code := (*[2]unsafe.Pointer)(unsafe.Pointer(&fn))[1]
	words = append([]word(nil), words...)
	return func(r *rt.Run, args *[12]uint64) uint64 {
		var w [maxWords]uint64
		for i := range words {
			if words[i].kind == wordCaller {
				w[i] = uint64(uintptr(unsafe.Pointer(r)))
				continue
			}
			w[i] = words[i].value(args)
		}
		v := callWords(code, len(words), &w)
		runtime.KeepAlive(r)
		switch res.kind {
		case resultInt:
			return extend(v, res.ext)
		case resultBool:
			return v & 1
		}
		return 0
	}
}

// asWords returns a function of n words and a word as result as one of n uint64; fn itself if n is too large. The
// preconditions are wordCall's.
func asWords(fn any, n int) any {
	type w = uint64
	p := unsafe.Pointer(&(*[2]unsafe.Pointer)(unsafe.Pointer(&fn))[1])
	switch n {
	case 0:
		return *(*func() w)(p)
	case 1:
		return *(*func(w) w)(p)
	case 2:
		return *(*func(w, w) w)(p)
	case 3:
		return *(*func(w, w, w) w)(p)
	case 4:
		return *(*func(w, w, w, w) w)(p)
	case 5:
		return *(*func(w, w, w, w, w) w)(p)
	case 6:
		return *(*func(w, w, w, w, w, w) w)(p)
	case 7:
		return *(*func(w, w, w, w, w, w, w) w)(p)
	case 8:
		return *(*func(w, w, w, w, w, w, w, w) w)(p)
	case 9:
		return *(*func(w, w, w, w, w, w, w, w, w) w)(p)
	case 10:
		return *(*func(w, w, w, w, w, w, w, w, w, w) w)(p)
	case 11:
		return *(*func(w, w, w, w, w, w, w, w, w, w, w) w)(p)
	case 12:
		return *(*func(w, w, w, w, w, w, w, w, w, w, w, w) w)(p)
	}
	return fn
}

// callWords calls code, a Go function value, with n words.
func callWords(code unsafe.Pointer, n int, a *[maxWords]uint64) uint64 {
	type w = uint64
	p := unsafe.Pointer(&code)
	switch n {
	case 0:
		return (*(*func() w)(p))()
	case 1:
		return (*(*func(w) w)(p))(a[0])
	case 2:
		return (*(*func(w, w) w)(p))(a[0], a[1])
	case 3:
		return (*(*func(w, w, w) w)(p))(a[0], a[1], a[2])
	case 4:
		return (*(*func(w, w, w, w) w)(p))(a[0], a[1], a[2], a[3])
	case 5:
		return (*(*func(w, w, w, w, w) w)(p))(a[0], a[1], a[2], a[3], a[4])
	case 6:
		return (*(*func(w, w, w, w, w, w) w)(p))(a[0], a[1], a[2], a[3], a[4], a[5])
	case 7:
		return (*(*func(w, w, w, w, w, w, w) w)(p))(a[0], a[1], a[2], a[3], a[4], a[5], a[6])
	case 8:
		return (*(*func(w, w, w, w, w, w, w, w) w)(p))(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7])
	case 9:
		return (*(*func(w, w, w, w, w, w, w, w, w) w)(p))(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8])
	case 10:
		return (*(*func(w, w, w, w, w, w, w, w, w, w) w)(p))(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9])
	case 11:
		return (*(*func(w, w, w, w, w, w, w, w, w, w, w) w)(p))(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10])
	case 12:
		return (*(*func(w, w, w, w, w, w, w, w, w, w, w, w) w)(p))(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11])
	case 13:
		return (*(*func(w, w, w, w, w, w, w, w, w, w, w, w, w) w)(p))(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], a[12])
	case 14:
		return (*(*func(w, w, w, w, w, w, w, w, w, w, w, w, w, w) w)(p))(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], a[12], a[13])
	}
	return (*(*func(w, w, w, w, w, w, w, w, w, w, w, w, w, w, w) w)(p))(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], a[12], a[13], a[14])
}

// regionPointer returns the start of a region as a pointer. It is not to the collector's memory.
func regionPointer(r *offheap.Region) unsafe.Pointer {
	return unsafe.Pointer(unsafe.SliceData(r.Bytes()))
}
