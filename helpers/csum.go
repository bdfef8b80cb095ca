package helpers

import (
	"encoding/binary"

	"github.com/skep-bpf/skep/internal/rt"
	"github.com/skep-bpf/skep/verifier"
)

// Internet checksums (RFC 1071, RFC 1624): ones' complement sums of words, which do not depend on the byte order as long as
// all words are read in the same one.

var _ = define(Helper{Proto: proto{
	ID: 28, Name: "csum_diff", PktAccess: true, ProgTypes: types(tcTypes, xdpTypes, lwtTypes),
	Args: args{
		argNull(verifier.ArgMem), arg(verifier.ArgConstSizeOrZero), argNull(verifier.ArgMem), arg(verifier.ArgConstSizeOrZero),
		arg(verifier.ArgAnything),
	},
}, Fn: csumDiff})

// csumDiff returns the 16-bit sum of what replaces from by to, on top of a seed.
func csumDiff(_ *rt.Run, a *[12]uint64) uint64 {
	nFrom, nTo, seed := uint32(a[1]), uint32(a[3]), uint32(a[4])
	switch {
	case nFrom != 0 && nTo != 0:
		seed = sub32(partial(rt.Mem(a[2], int(nTo)), seed), partial(rt.Mem(a[0], int(nFrom)), 0))
	case nTo != 0:
		seed = partial(rt.Mem(a[2], int(nTo)), seed)
	case nFrom != 0:
		seed = ^partial(rt.Mem(a[0], int(nFrom)), ^seed)
	}
	return uint64(fold32(seed))
}

// partial adds the words of b to sum (csum_partial); a rest of less than a word is filled with zeros.
func partial(b []byte, sum uint32) uint32 {
	s := uint64(sum)
	for ; len(b) >= 4; b = b[4:] {
		s += uint64(binary.NativeEndian.Uint32(b))
	}
	if len(b) > 0 {
		var w [4]byte
		copy(w[:], b)
		s += uint64(binary.NativeEndian.Uint32(w[:]))
	}
	for s>>32 != 0 {
		s = s&0xffffffff + s>>32
	}
	return uint32(s)
}

// add32 adds with the carry brought back (csum_add), sub32 subtracts.
func add32(a, b uint32) uint32 {
	s := uint64(a) + uint64(b)
	return uint32(s) + uint32(s>>32)
}

func sub32(a, b uint32) uint32 { return add32(a, ^b) }

// fold32 brings 32 bits to 16 without complement (csum_from32to16).
func fold32(s uint32) uint16 {
	s = s&0xffff + s>>16
	return uint16(s + s>>16)
}

// replace4 updates a checksum for a 32-bit field (csum_replace4).
func replace4(sum uint16, from, to uint32) uint16 {
	return ^fold32(add32(sub32(uint32(^sum), from), to))
}

// replace2 updates a checksum for a 16-bit field (csum_replace2).
func replace2(sum, from, to uint16) uint16 {
	return ^add16(add16(^sum, ^from), to)
}

func add16(a, b uint16) uint16 {
	s := uint32(a) + uint32(b)
	return uint16(s) + uint16(s>>16)
}

// replaceByDiff updates a checksum by a difference of sums (csum_replace_by_diff).
func replaceByDiff(sum uint16, diff uint32) uint16 {
	return ^fold32(add32(diff, uint32(^sum)))
}
