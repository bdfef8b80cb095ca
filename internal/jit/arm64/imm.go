package arm64

import "math/bits"

// Constants. A bit mask, the immediate of a logical instruction, is an element of 2, 4, 8, 16, 32 or 64 bits, repeated over the
// register; the element is a run of ones, rotated (Arm ARM, DecodeBitMasks).

// bitmask returns the thirteen bits N:immr:imms that stand for v as an operand of w bytes, false if none do.
func bitmask(v uint64, w uint8) (uint32, bool) {
	if w == 4 {
		v = v&0xffffffff | v<<32
	}
	if v == 0 || v == ^uint64(0) {
		return 0, false
	}
	n := 64 // size of the element
	for n > 2 && v == bits.RotateLeft64(v, n/2) {
		n /= 2
	}
	elem := v & (^uint64(0) >> (64 - n))
	ones := bits.OnesCount64(elem)
	start := bits.TrailingZeros64(elem) // of the run of ones
	if elem&1 != 0 {                    // it may go round the end: then the zeros are a run
		start = bits.TrailingZeros64(^elem)
		start = (start + n - ones) % n
	}
	run := uint64(1)<<ones - 1
	r := (n - start) % n // the element is the run, rotated right by r
	if (run>>r|run<<(n-r))&(^uint64(0)>>(64-n)) != elem {
		return 0, false
	}
	imms := uint32(^(n*2-1))&0x3f | uint32(ones-1)
	return uint32(n>>6)<<12 | uint32(r)<<6 | imms, true
}

// half returns bits 16*h.. of v.
func half(v uint64, h int) uint16 { return uint16(v >> (16 * h)) }

// withHalf returns v with bits 16*h.. replaced.
func withHalf(v uint64, h int, x uint16) uint64 { return v&^(0xffff<<(16*h)) | uint64(x)<<(16*h) }

// movImm appends the loading of a constant, in the fewest instructions; flags are kept.
func (a *asm) movImm(d reg, v uint64) {
	if a.movOne(d, v) {
		return
	}
	zeros, ones := 0, 0
	for h := range 4 {
		switch half(v, h) {
		case 0:
			zeros++
		case 0xffff:
			ones++
		}
	}
	plain := 4 - max(zeros, ones) // instructions without bit masks
	for n := 1; n < plain-1; n++ {
		if a.movPatched(d, v, v, 0, n) {
			return
		}
	}
	a.movHalves(d, v, ones > zeros)
}

// movHalves loads v half by half, into zeros or into ones.
func (a *asm) movHalves(d reg, v uint64, intoOnes bool) {
	first, skip, op, flip := true, uint16(0), uint32(opMOVZ), uint16(0)
	if intoOnes {
		skip, op, flip = 0xffff, opMOVN, 0xffff
	}
	for h := range 4 {
		x := half(v, h)
		switch {
		case x == skip:
		case first:
			a.movWide(op, wide(v), d, x^flip, uint8(h))
			first = false
		default:
			a.movWide(opMOVK, wide(v), d, x, uint8(h))
		}
	}
}

// movOne loads v if one instruction can.
func (a *asm) movOne(d reg, v uint64) bool {
	for h := range 4 {
		only := uint64(0xffff) << (16 * h)
		switch {
		case v&^only == 0:
			a.movWide(opMOVZ, wide(v), d, half(v, h), uint8(h))
		case ^v&^only == 0:
			a.movWide(opMOVN, 8, d, ^half(v, h), uint8(h))
		case v>>32 == 0 && h < 2 && uint32(^v)&^uint32(only) == 0:
			a.movWide(opMOVN, 4, d, ^half(v, h), uint8(h))
		default:
			continue
		}
		return true
	}
	if b, ok := bitmask(v, 8); ok {
		a.logicImm(opORR, 8, d, zr, b)
		return true
	}
	if b, ok := bitmask(v, 4); ok && v>>32 == 0 {
		a.logicImm(opORR, 4, d, zr, b)
		return true
	}
	return false
}

// wide is the operand size of a move to zero-extend: the shorter name where both do the same.
func wide(v uint64) uint8 {
	if v>>32 == 0 {
		return 4
	}
	return 8
}

// movPatched loads v by one instruction that makes base with n of its halves, from h on, replaced by others, and a movk for each
// of those; false if none does.
func (a *asm) movPatched(d reg, v, base uint64, h, n int) bool {
	if n == 0 {
		return a.movOne(d, base)
	}
	for ; h <= 4-n; h++ {
		for _, x := range [...]uint16{0, 0xffff, half(v, (h+1)&3), half(v, (h+2)&3), half(v, (h+3)&3)} {
			if x != half(v, h) && a.movPatched(d, v, withHalf(base, h, x), h+1, n-1) {
				a.movWide(opMOVK, wide(v), d, half(v, h), uint8(h))
				return true
			}
		}
	}
	return false
}

// addConst appends d = n + v, through temporary t where v is no immediate; n may be the stack pointer, d may not. Flags are kept.
func (a *asm) addConst(w uint8, d, n, t reg, v int64) {
	op, u := uint32(opADD), uint64(v)
	if v < 0 {
		op, u = opSUB, uint64(-v)
	}
	switch {
	case u == 0 && d == n && w == 8:
	case fitsAdd(u):
		a.addImm(op, w, d, n, uint32(u))
	case u < 1<<24 && (n == sp || words(u) > 1):
		a.addImm(op, w, d, n, uint32(u&^0xfff))
		a.addImm(op, w, d, d, uint32(u&0xfff))
	default:
		a.constant(w, t, v)
		a.add(opADD, w, d, n, t, 0)
	}
}

// words returns how many instructions load v.
func words(v uint64) int {
	var buf [16]byte
	a := asm{buf: buf[:0]}
	a.movImm(zr, v)
	return len(a.buf) / 4
}

// constant appends t = v, of which only the lower w bytes will be read.
func (a *asm) constant(w uint8, t reg, v int64) {
	u := uint64(v)
	if w == 4 {
		u = uint64(uint32(v))
	}
	a.movImm(t, u)
}
