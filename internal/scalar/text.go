package scalar

import (
	"fmt"
	"math"
	"strconv"
)

// AppendSigned adds a signed number as the kernel's log prints it: decimal within 16 bits, else hexadecimal.
func AppendSigned(dst []byte, v int64) []byte {
	if decimal(v) {
		return strconv.AppendInt(dst, v, 10)
	}
	return strconv.AppendUint(append(dst, "0x"...), uint64(v), 16)
}

// AppendUnsigned adds an unsigned number as the kernel's log prints it: decimal within 16 bits, else hexadecimal.
func AppendUnsigned(dst []byte, v uint64) []byte {
	if v <= math.MaxUint16 {
		return strconv.AppendUint(dst, v, 10)
	}
	return strconv.AppendUint(append(dst, "0x"...), v, 16)
}

func decimal(v int64) bool { return v >= math.MinInt16 && v <= math.MaxInt16 }

// bound is one of the eight bounds as the log has it.
type bound struct {
	name   string
	val    uint64
	signed bool
	omit   bool // no information, or printed with an earlier one
}

func (s *Scalar) bounds() [8]bound {
	// In hexadecimal a 32-bit number must not show the sign extension that decimals hide.
	low := func(v int32) uint64 {
		if decimal(int64(v)) {
			return uint64(int64(v))
		}
		return uint64(uint32(v))
	}
	return [8]bound{
		{"smin=", uint64(s.Smin), true, s.Smin == math.MinInt64},
		{"smax=", uint64(s.Smax), true, s.Smax == math.MaxInt64},
		{"umin=", s.Umin, false, s.Umin == 0},
		{"umax=", s.Umax, false, s.Umax == math.MaxUint64},
		{"smin32=", low(s.S32min), true, s.S32min == math.MinInt32},
		{"smax32=", low(s.S32max), true, s.S32max == math.MaxInt32},
		{"umin32=", uint64(s.U32min), false, s.U32min == 0},
		{"umax32=", uint64(s.U32max), false, s.U32max == math.MaxUint32},
	}
}

// AppendRanges adds the bounds that say something and then the tristate number, as the kernel's log has them in a
// register's parentheses (print_scalar_ranges): equal lower bounds share one number ("smin=umin=1"), and so do equal
// upper ones. A comma comes first unless dst ends in "(".
func (s *Scalar) AppendRanges(dst []byte) []byte {
	bs := s.bounds()
	for i := range bs {
		b := &bs[i]
		if b.omit {
			continue
		}
		neg := b.signed && int64(b.val) < 0
		dst = append(comma(dst), b.name...)
		for j := i + 2; j < len(bs); j += 2 {
			o := &bs[j]
			if o.omit || o.val != b.val || (o.signed && int64(o.val) < 0) != neg {
				continue
			}
			o.omit = true
			dst = append(dst, o.name...)
		}
		if b.signed {
			dst = AppendSigned(dst, int64(b.val))
		} else {
			dst = AppendUnsigned(dst, b.val)
		}
	}
	if !s.Var.IsUnknown() {
		dst = s.Var.Append(append(comma(dst), "var_off="...))
	}
	return dst
}

func comma(dst []byte) []byte {
	if n := len(dst); n > 0 && dst[n-1] != '(' {
		return append(dst, ',')
	}
	return dst
}

// String returns what the log shows for a scalar register without an id: a constant as a number, else
// "scalar(ranges)".
func (s *Scalar) String() string {
	if s.IsConst() {
		return string(AppendSigned(nil, int64(s.Var.Value)))
	}
	return string(append(s.AppendRanges([]byte("scalar(")), ')'))
}

// ViolationText is the kernel's message for what Violation found: where (such as "alu" or "true_reg1"), what, and
// every bound.
func (s *Scalar) ViolationText(where, what string) string {
	return fmt.Sprintf("REG INVARIANTS VIOLATION (%s): %s u64=[%#x, %#x] s64=[%#x, %#x] u32=[%#x, %#x] s32=[%#x, %#x] var_off=(%#x, %#x)",
		where, what, s.Umin, s.Umax, uint64(s.Smin), uint64(s.Smax), s.U32min, s.U32max, uint32(s.S32min), uint32(s.S32max),
		s.Var.Value, s.Var.Mask)
}
