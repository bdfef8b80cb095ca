package arm64

import "math/bits"

// size is the field of a load or store that tells its width.
func size(w uint8) uint32 { return uint32(bits.TrailingZeros8(w)) << 30 }

// mem is a memory operand: base + disp, or base + index.
type mem struct {
	base  reg
	index reg // zr: none
	disp  int32
}

func at(base reg, disp int32) mem { return mem{base: base, index: zr, disp: disp} }

func indexed(base, index reg) mem { return mem{base: base, index: index} }

// fitsScaled reports whether an access of w bytes can have disp as a multiple of w in twelve bits.
func fitsScaled(w uint8, disp int32) bool {
	return disp >= 0 && disp%int32(w) == 0 && disp/int32(w) < 1<<12
}

// fitsUnscaled reports whether an access can have disp in nine bits with sign.
func fitsUnscaled(disp int32) bool { return disp >= -256 && disp < 256 }

// Kinds of access.
const (
	opSTR  = 0 << 22
	opLDR  = 1 << 22
	opLDRS = 2 << 22 // sign-extends to 64 bits
)

// access appends a load or store of w bytes; the operand must be encodable.
func (a *asm) access(op uint32, w uint8, t reg, m mem) {
	ins := 0x38000000 | size(w) | op | rn(m.base) | rd(t)
	switch {
	case m.index != zr:
		a.word(ins | 0x206800 | rm(m.index))
	case fitsScaled(w, m.disp):
		a.word(ins | 1<<24 | uint32(m.disp)/uint32(w)<<10)
	default:
		a.word(ins | uint32(m.disp)&0x1ff<<12)
	}
}

// loadScaled appends t = the 64-bit word at n + (the lower half of m << 3).
func (a *asm) loadScaled(t, n, m reg) { a.word(0xf8605800 | rm(m) | rn(n) | rd(t)) }

// Pairs of 64-bit registers. The displacement counts in words, -64..63.
const (
	opSTP     = 0xa9000000 // at n + disp
	opLDP     = 0xa9400000
	opSTPPre  = 0xa9800000 // n += disp first
	opLDPPost = 0xa8c00000 // n += disp afterwards
)

func (a *asm) pair(op uint32, t, u, n reg, disp int32) {
	a.word(op | uint32(disp/8)&0x7f<<15 | ra(u) | rn(n) | rd(t))
}

// ldar and stlr append a load with acquire and a store with release order.
func (a *asm) ldar(w uint8, t, n reg) { a.word(0x08dffc00 | size(w) | rn(n) | rd(t)) }

func (a *asm) stlr(w uint8, t, n reg) { a.word(0x089ffc00 | size(w) | rn(n) | rd(t)) }

// ldxr appends an exclusive load; stlxr an exclusive store with release order, s = 0 if it was done.
func (a *asm) ldxr(w uint8, t, n reg) { a.word(0x085f7c00 | size(w) | rn(n) | rd(t)) }

func (a *asm) stlxr(w uint8, s, t, n reg) { a.word(0x0800fc00 | size(w) | rm(s) | rn(n) | rd(t)) }

// Atomic operations of the Large System Extensions, with acquire and release order: t = old value, memory = old op s.
const (
	opLDADDAL = 0x38e00000
	opLDCLRAL = 0x38e01000 // clears the bits of s
	opLDEORAL = 0x38e02000
	opLDSETAL = 0x38e03000
	opSWPAL   = 0x38e08000
)

func (a *asm) atomicOp(op uint32, w uint8, s, t, n reg) {
	a.word(op | size(w) | rm(s) | rn(n) | rd(t))
}

// casal appends: if memory == s then memory = t; s = old value. Acquire and release order.
func (a *asm) casal(w uint8, s, t, n reg) {
	a.word(0x08e0fc00 | size(w) | rm(s) | rn(n) | rd(t))
}
