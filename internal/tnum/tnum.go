// Package tnum implements tristate numbers: 64-bit values of which each bit is known to be 0, known to be 1, or
// unknown. The verifier tracks every scalar and every pointer offset with one.
//
// The theorem. A Tnum (v, m) with v&m == 0 stands for the set γ(v, m) = { x : x &^ m == v }. For every binary operation
// f here with its concrete counterpart g, and for all x in γ(a), y in γ(b): g(x, y) is in γ(f(a, b)) (soundness).
// Add and Sub give the smallest such Tnum (optimality). The proofs, and the idea of multiplication as a sum of
// uncertain partial products, are in "Sound, Precise, and Fast Abstract Interpretation with Tristate Numbers"
// (Vishwanathan, Shachnai, Narayana, Nagarakatte, CGO 2022). Precision equals that of Linux 6.18 (kernel/bpf/tnum.c),
// bit by bit: the verifier's log shows these numbers. A Tnum with v&m != 0 stands for no set and is never made here.
package tnum

import (
	"math/bits"
	"strconv"
)

// Tnum is a tristate number: a bit is unknown where Mask has a 1, otherwise it is Value's bit. The zero Tnum is the
// constant 0.
type Tnum struct{ Value, Mask uint64 }

// Const returns the Tnum that stands for v alone.
func Const(v uint64) Tnum { return Tnum{Value: v} }

// Unknown returns the Tnum of which no bit is known.
func Unknown() Tnum { return Tnum{Mask: ^uint64(0)} }

// Range returns the smallest Tnum that holds all values from lo to hi, both included: the common leading bits of both
// are known, the rest is not. It wants lo <= hi.
func Range(lo, hi uint64) Tnum {
	n := bits.Len64(lo ^ hi)
	if n > 63 {
		return Unknown()
	}
	low := uint64(1)<<n - 1
	return Tnum{lo &^ low, low}
}

// IsConst reports whether a stands for one value.
func (a Tnum) IsConst() bool { return a.Mask == 0 }

// IsUnknown reports whether no bit of a is known.
func (a Tnum) IsUnknown() bool { return a.Mask == ^uint64(0) }

// SubregIsConst reports whether the low 32 bits are all known.
func (a Tnum) SubregIsConst() bool { return uint32(a.Mask) == 0 }

// Min returns the smallest member as an unsigned number, Max the largest.
func (a Tnum) Min() uint64 { return a.Value }

// Max returns the largest member as an unsigned number.
func (a Tnum) Max() uint64 { return a.Value | a.Mask }

// Contains reports whether x is in γ(a).
func (a Tnum) Contains(x uint64) bool { return x&^a.Mask == a.Value }

// Lshift shifts left by a known number of bits; from 64 on nothing is left.
func (a Tnum) Lshift(n uint8) Tnum { return Tnum{a.Value << n, a.Mask << n} }

// Rshift shifts right logically by a known number of bits.
func (a Tnum) Rshift(n uint8) Tnum { return Tnum{a.Value >> n, a.Mask >> n} }

// Arshift shifts right arithmetically by a known number of bits. With width 32 the operand is the low half and the
// result has a zero upper half; with any other width it is the whole number.
func (a Tnum) Arshift(n uint8, width int) Tnum {
	if width == 32 {
		return Tnum{uint64(uint32(int32(a.Value) >> n)), uint64(uint32(int32(a.Mask) >> n))}
	}
	return Tnum{uint64(int64(a.Value) >> n), uint64(int64(a.Mask) >> n)}
}

// Add adds modulo 2^64. A result bit is unknown where an operand's is, or where the carry into it differs between the
// smallest and the largest sum.
func (a Tnum) Add(b Tnum) Tnum {
	lo := a.Value + b.Value
	hi := lo + (a.Mask + b.Mask)
	mu := lo ^ hi | a.Mask | b.Mask
	return Tnum{lo &^ mu, mu}
}

// Sub subtracts modulo 2^64, with borrows treated as Add does carries.
func (a Tnum) Sub(b Tnum) Tnum {
	d := a.Value - b.Value
	mu := (d + a.Mask) ^ (d - b.Mask) | a.Mask | b.Mask
	return Tnum{d &^ mu, mu}
}

// Neg negates modulo 2^64.
func (a Tnum) Neg() Tnum { return Const(0).Sub(a) }

// And is the bitwise and.
func (a Tnum) And(b Tnum) Tnum {
	v := a.Value & b.Value
	return Tnum{v, (a.Value | a.Mask) & (b.Value | b.Mask) &^ v}
}

// Or is the bitwise or.
func (a Tnum) Or(b Tnum) Tnum {
	v := a.Value | b.Value
	return Tnum{v, (a.Mask | b.Mask) &^ v}
}

// Xor is the bitwise exclusive or.
func (a Tnum) Xor(b Tnum) Tnum {
	mu := a.Mask | b.Mask
	return Tnum{(a.Value ^ b.Value) &^ mu, mu}
}

// Mul multiplies modulo 2^64. For each bit of a the accumulator either gains b shifted (bit 1), stays (bit 0), or
// becomes the union of both (bit unknown): the algorithm of Linux 6.18. It is sound, and neither optimal nor
// commutative in its precision.
func (a Tnum) Mul(b Tnum) Tnum {
	var acc Tnum
	for a.Value|a.Mask != 0 {
		switch {
		case a.Value&1 != 0:
			acc = acc.Add(b)
		case a.Mask&1 != 0:
			acc = acc.Union(acc.Add(b))
		}
		a, b = a.Rshift(1), b.Lshift(1)
	}
	return acc
}

// Intersect returns a Tnum for the values in both. Where a knows 0 and b knows 1 there are none, and the bit comes out
// as 1: call Overlap first where that matters.
func (a Tnum) Intersect(b Tnum) Tnum {
	mu := a.Mask & b.Mask
	return Tnum{(a.Value | b.Value) &^ mu, mu}
}

// Union returns the smallest Tnum that holds the values of both.
func (a Tnum) Union(b Tnum) Tnum {
	mu := a.Value ^ b.Value | a.Mask | b.Mask
	return Tnum{a.Value & b.Value &^ mu, mu}
}

// Overlap reports whether some value is in both.
func (a Tnum) Overlap(b Tnum) bool { return (a.Value^b.Value)&^(a.Mask|b.Mask) == 0 }

// In reports whether every value of b is in a (the kernel's tnum_in(a, b)).
func (a Tnum) In(b Tnum) bool { return b.Mask&^a.Mask == 0 && b.Value&^a.Mask == a.Value }

// IsAligned reports whether every value is a multiple of size, a power of two; all are where size is 0.
func (a Tnum) IsAligned(size uint64) bool { return size == 0 || (a.Value|a.Mask)&(size-1) == 0 }

// Cast keeps the low size bytes (0 to 8) and clears the rest.
func (a Tnum) Cast(size int) Tnum {
	keep := uint64(1)<<(8*size) - 1
	return Tnum{a.Value & keep, a.Mask & keep}
}

// Subreg keeps the low 32 bits and clears the rest.
func (a Tnum) Subreg() Tnum { return a.Cast(4) }

// ClearSubreg clears the low 32 bits: they are known zeros.
func (a Tnum) ClearSubreg() Tnum { return Tnum{a.Value >> 32 << 32, a.Mask >> 32 << 32} }

// WithSubreg replaces the low 32 bits of a by those of sub.
func (a Tnum) WithSubreg(sub Tnum) Tnum { return a.ClearSubreg().Or(sub.Subreg()) }

// ConstSubreg replaces the low 32 bits of a by v.
func (a Tnum) ConstSubreg(v uint32) Tnum { return a.WithSubreg(Const(uint64(v))) }

// Next returns the smallest member that is greater than z, and Max if there is none (the kernel's tnum_step).
func (a Tnum) Next(z uint64) uint64 {
	if z >= a.Max() {
		return a.Max()
	}
	if z < a.Value {
		return a.Value
	}
	y := z + 1
	wrong := (y ^ a.Value) &^ a.Mask
	if wrong == 0 {
		return y
	}
	// Below the highest known bit that y has wrong, the member has its smallest bits. Where y has 0 instead of 1 there,
	// the member exceeds y already; otherwise the next unknown 0 above has to become 1.
	k := 63 - bits.LeadingZeros64(wrong)
	if y>>k&1 != 0 {
		k = bits.TrailingZeros64(a.Mask &^ y &^ (1<<k - 1))
		return y>>k<<k | 1<<k | a.Value&(1<<k-1)
	}
	return y>>k<<k | a.Value&(2<<k-1)
}

// Bswap reverses the bytes of the low size bytes (2, 4 or 8) and clears the rest.
func (a Tnum) Bswap(size int) Tnum {
	n := 64 - 8*size
	return Tnum{bits.ReverseBytes64(a.Value) >> n, bits.ReverseBytes64(a.Mask) >> n}
}

// Append adds the text that the kernel's log has for a: a constant as a number (hexadecimal above 65535), else
// "(value; mask)" in hexadecimal.
func (a Tnum) Append(dst []byte) []byte {
	if a.IsConst() {
		if a.Value <= 0xffff {
			return strconv.AppendUint(dst, a.Value, 10)
		}
		return appendHex(dst, a.Value)
	}
	dst = append(dst, '(')
	dst = appendHex(dst, a.Value)
	dst = append(dst, "; "...)
	dst = appendHex(dst, a.Mask)
	return append(dst, ')')
}

// String returns the text of Append.
func (a Tnum) String() string { return string(a.Append(nil)) }

func appendHex(dst []byte, v uint64) []byte {
	return strconv.AppendUint(append(dst, "0x"...), v, 16)
}
