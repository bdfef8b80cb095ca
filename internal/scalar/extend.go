package scalar

import (
	"math"

	"github.com/skep-bpf/skep/internal/tnum"
)

// Truncate keeps the low size bytes (1, 2 or 4) and zeroes the rest: what a narrow load leaves of a number
// (coerce_reg_to_size).
func (s *Scalar) Truncate(size int) {
	mask := uint64(1)<<(8*size) - 1
	s.Var = s.Var.Cast(size)
	if s.Umin&^mask == s.Umax&^mask {
		s.Umin, s.Umax = s.Umin&mask, s.Umax&mask
	} else {
		s.Umin, s.Umax = 0, mask
	}
	s.Smin, s.Smax = int64(s.Umin), int64(s.Umax)
	if size < 4 {
		s.forget32()
	}
	s.Sync()
}

// SignExtend extends the low size bytes (1, 2 or 4) to 64 bits (coerce_reg_to_size_sx). Without a synchronisation
// at its end, as the kernel.
func (s *Scalar) SignExtend(size int) {
	if s.IsConst() {
		s.SetConst(uint64(sext(s.Var.Value, size)))
		return
	}
	n := 8 * size
	if uint64(s.Smax)>>n == uint64(s.Smin)>>n {
		a, b := sext(uint64(s.Smin), size), sext(uint64(s.Smax), size)
		lo, hi := min(a, b), max(a, b)
		if (lo >= 0) == (hi >= 0) {
			s.Smin, s.Smax, s.S32min, s.S32max = lo, hi, int32(lo), int32(hi)
			s.Umin, s.Umax, s.U32min, s.U32max = uint64(lo), uint64(hi), uint32(lo), uint32(hi)
			s.Var = tnum.Range(s.Umin, s.Umax)
			return
		}
	}
	*s = Unknown()
	s.Smin, s.Smax = sextBounds(size)
	s.S32min, s.S32max = int32(s.Smin), int32(s.Smax)
}

// SignExtendLow is SignExtend by what is known of the low half, as kernels after 6.18 do it: what needs no extension keeps its range.
func (s *Scalar) SignExtendLow(size int) {
	least, most := sextBounds(size)
	lo, hi := int64(s.S32min), int64(s.S32max)
	if s.IsConst() || lo < least || hi > most {
		s.SignExtend(size)
		return
	}
	s.Smin, s.Smax, s.Umin, s.Umax = lo, hi, 0, math.MaxUint64
	s.Var = tnum.Range(uint64(lo), uint64(hi))
	s.Sync()
}

// SignExtend32 extends the low size bytes (1 or 2) to 32 bits and zeroes the upper half: the 32-bit sign-extending
// move (coerce_subreg_to_size_sx, zext_32_to_64, reg_bounds_sync).
func (s *Scalar) SignExtend32(size int) {
	s.signExtendLow(size)
	s.Zext32()
}

func (s *Scalar) signExtendLow(size int) {
	if s.IsConst() {
		v := uint32(sext(s.Var.Value, size))
		s.Var = tnum.Const(uint64(sext(s.Var.Value, size)))
		s.S32min, s.S32max, s.U32min, s.U32max = int32(v), int32(v), v, v
		return
	}
	n := 8 * size
	if uint32(s.S32max)>>n == uint32(s.S32min)>>n {
		a, b := int32(sext(uint64(s.S32min), size)), int32(sext(uint64(s.S32max), size))
		lo, hi := min(a, b), max(a, b)
		if (lo >= 0) == (hi >= 0) {
			s.S32min, s.S32max, s.U32min, s.U32max = lo, hi, uint32(lo), uint32(hi)
			s.Var = tnum.Range(uint64(int64(lo)), uint64(int64(hi))).Subreg()
			return
		}
	}
	lo, hi := sextBounds(size)
	s.S32min, s.S32max = int32(lo), int32(hi)
	s.U32min, s.U32max = 0, math.MaxUint32
	s.Var = tnum.Unknown().Subreg()
}

// ByteSwap is the byte-order instruction on the low size bytes (2, 4 or 8): with swap they are reversed; the bytes above
// become zero (scalar_byte_swap). Of the bounds, a swap leaves what the bits tell.
func (s *Scalar) ByteSwap(size int, swap bool) {
	if swap {
		s.Var = s.Var.Bswap(size)
		s.Forget()
	}
	if size < 8 {
		s.Truncate(size)
	}
	s.Sync()
}

// sext sign-extends the low size bytes of v.
func sext(v uint64, size int) int64 {
	n := 64 - 8*size
	return int64(v<<n) >> n
}

func sextBounds(size int) (int64, int64) {
	lo := int64(-1) << (8*size - 1)
	return lo, ^lo
}
