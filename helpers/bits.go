package helpers

import (
	"encoding/binary"
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/skep-bpf/skep/internal/errno"
	"github.com/skep-bpf/skep/internal/rt"
)

// Open-coded iterators over the bits of memory (bpf_iter_bits_*). The iterator's 16 bytes, which programs cannot touch, are as the
// kernel's: one word of bits, or where a copy of several lies, then how many bits there are and the number of the last one that was set.
// Here the place of a copy is a number.

func init() {
	kfuncs["bpf_iter_bits_new"] = &Kfunc{Args: 3, fn: iterBitsNew}
	kfuncs["bpf_iter_bits_next"] = &Kfunc{Args: 1, fn: iterBitsNext}
	kfuncs["bpf_iter_bits_destroy"] = &Kfunc{Args: 1, fn: iterBitsDestroy}
	rt.OnDrop(rt.HeldBits, func(id uint64) { bitCopies.Delete(id) })
}

const (
	bitsCount = 8  // offset of the number of bits
	bitsLast  = 12 // offset of the last bit's number, -1 before the first
	maxWords  = 511
)

var (
	bitCopies   sync.Map // by number: []uint64
	bitCopiesID atomic.Uint64
)

// iterBitsNew copies a[2] words at a[1], which is any address.
func iterBitsNew(r *rt.Run, a *[12]uint64) uint64 {
	it, n := a[0], uint32(a[2])
	store64(it, 0)
	store32(it+bitsCount, 0)
	store32(it+bitsLast, ^uint32(0))
	switch {
	case a[1] == 0 || n == 0:
		return errno.EINVAL.R0()
	case n > maxWords:
		return errno.E2BIG.R0()
	}
	buf := make([]byte, 8*n)
	switch ok := probe(r, a[1], buf); {
	case !ok && n == 1:
		return errno.EFAULT.R0()
	case !ok:
		return noKernelMemory(a[1]).R0()
	}
	words := make([]uint64, n)
	for i := range words {
		words[i] = binary.NativeEndian.Uint64(buf[8*i:])
	}
	if n == 1 {
		store64(it, words[0])
	} else {
		id := bitCopiesID.Add(1)
		bitCopies.Store(id, words)
		r.Hold(rt.Held{Addr: id, Kind: rt.HeldBits})
		store64(it, id)
	}
	store32(it+bitsCount, 64*n)
	return 0
}

// iterBitsNext returns the address of the next bit's number, NULL if there is none.
func iterBitsNext(_ *rt.Run, a *[12]uint64) uint64 {
	it := a[0]
	n, next := load32(it+bitsCount), load32(it+bitsLast)+1
	if next >= n {
		return 0
	}
	words := []uint64{load64(it)}
	if n > 64 {
		v, ok := bitCopies.Load(words[0])
		if !ok {
			return 0
		}
		words = v.([]uint64)
	}
	for i := next / 64; i < n/64; i++ {
		w := words[i]
		if i == next/64 {
			w &= ^uint64(0) << (next % 64)
		}
		if w != 0 {
			store32(it+bitsLast, 64*i+uint32(bits.TrailingZeros64(w)))
			return it + bitsLast
		}
	}
	store32(it+bitsLast, n)
	return 0
}

func iterBitsDestroy(r *rt.Run, a *[12]uint64) uint64 {
	if load32(a[0]+bitsCount) > 64 {
		id := load64(a[0])
		r.GiveBack(id)
		bitCopies.Delete(id)
	}
	return 0
}
