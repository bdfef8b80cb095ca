package scalar

import (
	"math"
	"math/bits"

	"github.com/skep-bpf/skep/internal/isa"
)

// ALU applies an arithmetic operation (isa.AluADD.. without the source bit) to d with the right operand src, 64 bits
// wide or, with is32, on the low halves with a zero upper half as result (adjust_scalar_min_max_vals). Neg ignores src.
// Where the kernel does not track an operation (division, modulo, a shift by anything but a constant in range) the
// result is unknown. Moves and byte swaps have their own functions.
func (d *Scalar) ALU(op uint8, src Scalar, is32 bool) {
	if !tracked(op, &src, is32) {
		*d = Unknown()
		return
	}
	switch op {
	case isa.AluADD:
		d.addBounds(&src)
		d.Var = d.Var.Add(src.Var)
	case isa.AluSUB:
		d.subBounds(&src)
		d.Var = d.Var.Sub(src.Var)
	case isa.AluNEG:
		src = *d
		d.SetConst(0)
		d.subBounds(&src)
		d.Var = src.Var.Neg()
	case isa.AluMUL:
		d.Var = d.Var.Mul(src.Var)
		d.U32min, d.U32max, d.S32min, d.S32max = mulBounds(d.U32min, d.U32max, d.S32min, d.S32max,
			src.U32min, src.U32max, src.S32min, src.S32max)
		d.Umin, d.Umax, d.Smin, d.Smax = mulBounds(d.Umin, d.Umax, d.Smin, d.Smax,
			src.Umin, src.Umax, src.Smin, src.Smax)
	case isa.AluAND, isa.AluOR, isa.AluXOR:
		d.bitwise(op, &src)
	case isa.AluLSH:
		d.lsh(uint8(src.Umin), is32)
	case isa.AluRSH:
		d.rsh(uint8(src.Umin), is32)
	case isa.AluARSH:
		d.arsh(uint8(src.Umin), is32)
	}
	if is32 {
		d.assign32()
	}
	d.Sync()
}

// tracked reports whether the result of an operation is computed at all (is_safe_to_compute_dst_reg_range).
func tracked(op uint8, src *Scalar, is32 bool) bool {
	switch op {
	case isa.AluADD, isa.AluSUB, isa.AluAND, isa.AluXOR, isa.AluOR, isa.AluMUL, isa.AluNEG:
		return true
	case isa.AluLSH, isa.AluRSH, isa.AluARSH:
		if is32 {
			return src.SubregIsConst() && src.S32min == src.S32max && src.U32min == src.U32max && src.Umax < 32
		}
		return src.IsConst() && src.Smin == src.Smax && src.Umin == src.Umax && src.Umax < 64
	}
	return false
}

func (d *Scalar) addBounds(src *Scalar) {
	d.U32min, d.U32max, d.S32min, d.S32max = addBounds(d.U32min, d.U32max, d.S32min, d.S32max,
		src.U32min, src.U32max, src.S32min, src.S32max)
	d.Umin, d.Umax, d.Smin, d.Smax = addBounds(d.Umin, d.Umax, d.Smin, d.Smax,
		src.Umin, src.Umax, src.Smin, src.Smax)
}

func (d *Scalar) subBounds(src *Scalar) {
	d.U32min, d.U32max, d.S32min, d.S32max = subBounds(d.U32min, d.U32max, d.S32min, d.S32max,
		src.U32min, src.U32max, src.S32min, src.S32max)
	d.Umin, d.Umax, d.Smin, d.Smax = subBounds(d.Umin, d.Umax, d.Smin, d.Smax,
		src.Umin, src.Umax, src.Smin, src.Smax)
}

// addBounds adds two pairs of ranges (scalar_min_max_add and its 32-bit form). An unsigned sum is a range if none or
// all of the sums wrap; a signed one if neither end overflows.
func addBounds[U unsigned, S signed](umin, umax U, smin, smax S, bumin, bumax U, bsmin, bsmax S) (U, U, S, S) {
	lo, hi := smin+bsmin, smax+bsmax
	if addOverflows(smin, bsmin, lo) || addOverflows(smax, bsmax, hi) {
		lo, hi = extremes[S]()
	}
	ulo, uhi := umin+bumin, umax+bumax
	if ulo >= umin && uhi < umax {
		ulo, uhi = 0, ^U(0)
	}
	return ulo, uhi, lo, hi
}

// subBounds is addBounds for differences (scalar_min_max_sub).
func subBounds[U unsigned, S signed](umin, umax U, smin, smax S, bumin, bumax U, bsmin, bsmax S) (U, U, S, S) {
	lo, hi := smin-bsmax, smax-bsmin
	if subOverflows(smin, bsmax, lo) || subOverflows(smax, bsmin, hi) {
		lo, hi = extremes[S]()
	}
	ulo, uhi := umin-bumax, umax-bumin
	if umin < bumax && umax >= bumin {
		ulo, uhi = 0, ^U(0)
	}
	return ulo, uhi, lo, hi
}

// mulBounds multiplies two pairs of ranges (scalar_min_max_mul): the products of the ends, unless one overflows.
func mulBounds[U unsigned, S signed](umin, umax U, smin, smax S, bumin, bumax U, bsmin, bsmax S) (U, U, S, S) {
	ulo, uhi := umin*bumin, umax*bumax
	if umax != 0 && uhi/umax != bumax {
		ulo, uhi = 0, ^U(0)
	}
	p := [4]S{smin * bsmin, smin * bsmax, smax * bsmin, smax * bsmax}
	lo, hi := min(p[0], p[1], p[2], p[3]), max(p[0], p[1], p[2], p[3])
	if mulOverflows(smin, bsmin) || mulOverflows(smin, bsmax) || mulOverflows(smax, bsmin) || mulOverflows(smax, bsmax) {
		lo, hi = extremes[S]()
	}
	return ulo, uhi, lo, hi
}

func addOverflows[S signed](a, b, sum S) bool  { return (a^sum)&(b^sum) < 0 }
func subOverflows[S signed](a, b, diff S) bool { return (a^b)&(a^diff) < 0 }

func mulOverflows[S signed](a, b S) bool {
	lo, _ := extremes[S]()
	switch {
	case a == 0 || b == 0:
		return false
	case a == -1:
		return b == lo
	case b == -1:
		return a == lo
	}
	return (a*b)/b != a
}

// extremes returns the smallest and the largest number of a signed type.
func extremes[S signed]() (S, S) {
	lo := S(-1)
	for lo<<1 < lo {
		lo <<= 1
	}
	return lo, ^lo
}

// bitwise applies and, or, xor: the tristate number first, then bounds from it and from the operands'
// (scalar_min_max_and, _or, _xor and their 32-bit forms).
func (d *Scalar) bitwise(op uint8, src *Scalar) {
	switch op {
	case isa.AluAND:
		d.Var = d.Var.And(src.Var)
	case isa.AluOR:
		d.Var = d.Var.Or(src.Var)
	default:
		d.Var = d.Var.Xor(src.Var)
	}
	if d.SubregIsConst() && src.SubregIsConst() {
		d.SetConst32(uint32(d.Var.Value))
	} else {
		low := d.Var.Subreg()
		d.U32min, d.U32max, d.S32min, d.S32max = bitBounds[uint32, int32](op, uint32(low.Min()), uint32(low.Max()),
			d.U32min, d.U32max, src.U32min, src.U32max)
	}
	if d.IsConst() && src.IsConst() {
		d.SetConst(d.Var.Value)
		return
	}
	d.Umin, d.Umax, d.Smin, d.Smax = bitBounds[uint64, int64](op, d.Var.Min(), d.Var.Max(),
		d.Umin, d.Umax, src.Umin, src.Umax)
	d.boundsFromVar()
}

// bitBounds returns the bounds after and, or, xor of two unsigned ranges where the result's tristate number spans
// [lo, hi]. An and is at most either operand, an or at least either.
func bitBounds[U unsigned, S signed](op uint8, lo, hi, umin, umax, bumin, bumax U) (U, U, S, S) {
	switch op {
	case isa.AluAND:
		hi = min(umax, bumax)
	case isa.AluOR:
		lo = max(umin, bumin)
	}
	if S(lo) <= S(hi) {
		return lo, hi, S(lo), S(hi)
	}
	smin, smax := extremes[S]()
	return lo, hi, smin, smax
}

// lsh shifts left by a constant (scalar_min_max_lsh, scalar32_min_max_lsh).
func (d *Scalar) lsh(n uint8, is32 bool) {
	if is32 {
		d.lshBounds32(n)
		d.Var = d.Var.Subreg().Lshift(n).Subreg()
		d.forget64()
		d.boundsFromVar32()
		return
	}
	// A shift by 32 is the first half of a compiler's sign extension: the low half's sign becomes the number's.
	if n == 32 {
		d.Smin, d.Smax = int64(d.S32min)<<32, int64(d.S32max)<<32
	} else {
		d.Smin, d.Smax = math.MinInt64, math.MaxInt64
	}
	if d.Umax > 1<<(63-n) {
		d.Umin, d.Umax = 0, math.MaxUint64
	} else {
		d.Umin, d.Umax = d.Umin<<n, d.Umax<<n
	}
	d.lshBounds32(n)
	d.Var = d.Var.Lshift(n)
	d.boundsFromVar()
}

func (d *Scalar) lshBounds32(n uint8) {
	d.S32min, d.S32max = math.MinInt32, math.MaxInt32
	if n > 31 || d.U32max > 1<<(31-n) {
		d.U32min, d.U32max = 0, math.MaxUint32
	} else {
		d.U32min, d.U32max = d.U32min<<n, d.U32max<<n
	}
}

// rsh shifts right logically by a constant (scalar_min_max_rsh, scalar32_min_max_rsh).
func (d *Scalar) rsh(n uint8, is32 bool) {
	if is32 {
		d.S32min, d.S32max = math.MinInt32, math.MaxInt32
		d.Var = d.Var.Subreg().Rshift(n)
		d.U32min, d.U32max = d.U32min>>n, d.U32max>>n
		d.forget64()
		d.boundsFromVar32()
		return
	}
	d.Smin, d.Smax = math.MinInt64, math.MaxInt64
	d.Var = d.Var.Rshift(n)
	d.Umin, d.Umax = d.Umin>>n, d.Umax>>n
	d.forget32()
	d.boundsFromVar()
}

// arsh shifts right arithmetically by a constant (scalar_min_max_arsh, scalar32_min_max_arsh).
func (d *Scalar) arsh(n uint8, is32 bool) {
	if is32 {
		d.S32min, d.S32max = d.S32min>>n, d.S32max>>n
		d.Var = d.Var.Arshift(n, 32)
		d.U32min, d.U32max = 0, math.MaxUint32
		d.forget64()
		d.boundsFromVar32()
		return
	}
	d.Smin, d.Smax = d.Smin>>n, d.Smax>>n
	d.Var = d.Var.Arshift(n, 64)
	d.Umin, d.Umax = 0, math.MaxUint64
	d.forget32()
	d.boundsFromVar()
}

// assign32 clears the upper half: the 64-bit bounds become the low half's (zext_32_to_64).
func (d *Scalar) assign32() {
	d.Var = d.Var.Subreg()
	d.Umin, d.Umax = uint64(d.U32min), uint64(d.U32max)
	if d.S32min >= 0 && d.S32max >= 0 {
		d.Smin, d.Smax = int64(d.S32min), int64(d.S32max)
	} else {
		d.Smin, d.Smax = 0, math.MaxUint32
	}
}

// Zext32 is a 32-bit move: the upper half becomes zero.
func (d *Scalar) Zext32() {
	d.assign32()
	d.Sync()
}

// Forks reports whether the kernel splits the path at an and or an or of d with a constant, because d is a mask that is
// either 0 or all ones (maybe_fork_scalars). Both paths walk the instruction again, one with d zero and one with d all
// ones; with is32 that holds for the low half only.
func (d *Scalar) Forks() (is32, forks bool) {
	switch {
	case d.Smin == -1 && d.Smax == 0:
		return false, true
	case d.S32min == -1 && d.S32max == 0:
		return true, true
	}
	return false, false
}

// AddOffset adds the scalar off to a pointer's variable offset d, SubOffset subtracts it (adjust_ptr_min_max_vals):
// 64-bit bounds by themselves, each pair dropped where an end overflows; the low half's are derived anew.
func (d *Scalar) AddOffset(off *Scalar) {
	d.forget32()
	lo, hi := d.Smin+off.Smin, d.Smax+off.Smax
	if addOverflows(d.Smin, off.Smin, lo) || addOverflows(d.Smax, off.Smax, hi) {
		lo, hi = math.MinInt64, math.MaxInt64
	}
	d.Smin, d.Smax = lo, hi
	ulo, c1 := bits.Add64(d.Umin, off.Umin, 0)
	uhi, c2 := bits.Add64(d.Umax, off.Umax, 0)
	if c1|c2 != 0 {
		ulo, uhi = 0, math.MaxUint64
	}
	d.Umin, d.Umax = ulo, uhi
	d.Var = d.Var.Add(off.Var)
	d.Sync()
}

// SubOffset subtracts the scalar off from a pointer's variable offset d; see AddOffset.
func (d *Scalar) SubOffset(off *Scalar) {
	d.forget32()
	lo, hi := d.Smin-off.Smax, d.Smax-off.Smin
	if subOverflows(d.Smin, off.Smax, lo) || subOverflows(d.Smax, off.Smin, hi) {
		lo, hi = math.MinInt64, math.MaxInt64
	}
	d.Smin, d.Smax = lo, hi
	if d.Umin < off.Umax {
		d.Umin, d.Umax = 0, math.MaxUint64
	} else {
		d.Umin, d.Umax = d.Umin-off.Umax, d.Umax-off.Umin
	}
	d.Var = d.Var.Sub(off.Var)
	d.Sync()
}
