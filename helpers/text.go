package helpers

import (
	"bytes"
	"strings"

	"github.com/skep-bpf/skep/internal/bprintf"
	"github.com/skep-bpf/skep/internal/errno"
	"github.com/skep-bpf/skep/internal/rt"
	"github.com/skep-bpf/skep/maps"
	"github.com/skep-bpf/skep/verifier"
)

// Text: printing and parsing.

var _ = define(
	// Arguments 3 to 5 are numbers of any kind, or nothing at all.
	Helper{Proto: proto{
		ID: 6, Name: "trace_printk", GPLOnly: true,
		Args: args{arg(verifier.ArgMem), arg(verifier.ArgConstSize)},
	}, Fn: tracePrintk},
	Helper{Proto: proto{
		ID: 165, Name: "snprintf", GPLOnly: true,
		Args: args{
			argNull(verifier.ArgWriteMem), arg(verifier.ArgConstSizeOrZero), arg(verifier.ArgConstStr),
			argNull(verifier.ArgMem), arg(verifier.ArgConstSizeOrZero),
		},
	}, Fn: snprintf},
	runs(traceVprintk, gpl(sig(177, "trace_vprintk", nil, aMem, aSize, aMemOrNull, aSizeOrZero))),
	runs(strncmp, sig(182, "strncmp", nil, aMem, aSize, aString)),
	Helper{Proto: proto{ID: 105, Name: "strtol", Args: strtoArgs}, Fn: strtol},
	Helper{Proto: proto{ID: 106, Name: "strtoul", Args: strtoArgs}, Fn: strtoul},
)

var strtoArgs = args{
	arg(verifier.ArgMem), arg(verifier.ArgConstSize), arg(verifier.ArgAnything),
	{Kind: verifier.ArgFixedUninitMem, Size: 8, Align: true},
}

// tracePrintk hands a line to Env.Printk and returns its length. The kernel's own buffer of 1024 bytes bounds it.
func tracePrintk(r *rt.Run, a *[12]uint64) uint64 {
	return printk(r, rt.Mem(a[0], int(uint32(a[1]))), a[2:5])
}

// printk formats a line and hands it over.
func printk(r *rt.Run, format []byte, vals []uint64) uint64 {
	var buf [bprintf.TraceSize]byte
	n, e := bprintf.Format(buf[:], format, vals, readerOf(r))
	if e != 0 {
		return e.R0()
	}
	if r.Env != nil && r.Env.Printk != nil {
		r.Env.Printk(strings.TrimSuffix(string(buf[:min(n, len(buf)-1)]), "\n"))
	}
	return uint64(n)
}

// traceVprintk is tracePrintk with its numbers in memory.
func traceVprintk(r *rt.Run, a *[12]uint64) uint64 {
	var buf [bprintf.MaxArgs]uint64
	vals, ok := numbersAt(&buf, a[2], uint32(a[3]))
	if !ok {
		return errno.EINVAL.R0()
	}
	return printk(r, rt.Mem(a[0], int(uint32(a[1]))), vals)
}

// numbersAt reads the numbers for a format, of n bytes in all; false if that cannot be.
func numbersAt(buf *[bprintf.MaxArgs]uint64, addr uint64, n uint32) ([]uint64, bool) {
	if n%8 != 0 || n > bprintf.MaxArgs*8 || n != 0 && addr == 0 {
		return nil, false
	}
	for i := range n / 8 {
		buf[i] = load64(addr + uint64(i)*8)
	}
	return buf[:n/8], true
}

// snprintf returns the length of the whole text with its NUL.
func snprintf(r *rt.Run, a *[12]uint64) uint64 {
	var buf [bprintf.MaxArgs]uint64
	vals, ok := numbersAt(&buf, a[3], uint32(a[4]))
	if !ok {
		return errno.EINVAL.R0()
	}
	n, e := bprintf.Format(rt.Mem(a[0], int(uint32(a[1]))), constString(a[2]), vals, readerOf(r))
	if e != 0 {
		return e.R0()
	}
	return uint64(n) + 1
}

// constString returns the string at an address that the verifier proved to be in a read-only map, with its NUL.
func constString(addr uint64) []byte {
	n := 0
	for rt.Mem(addr+uint64(n), 1)[0] != 0 {
		n++
	}
	return rt.Mem(addr, n+1)
}

// readerOf reads what a program may see: its packet, context memory and stack, and maps. The address behind a %s is any
// number the program likes, so nothing else may be touched; the kernel reads all of its memory there.
func readerOf(r *rt.Run) bprintf.Reader {
	return func(addr uint64, n int) []byte {
		if g, ok := owned(r, addr); ok {
			return rt.Mem(addr, int(min(uint64(n), g.Base+g.Size-addr)))
		}
		return maps.CopyAt(addr, n)
	}
}

// owned finds the region of the run that holds addr.
func owned(r *rt.Run, addr uint64) (rt.Region, bool) {
	if r.Stack.Contains(addr, 1) {
		return r.Stack, true
	}
	if p := r.Packet; p != nil {
		if g := (rt.Region{Base: uint64(p.Head), Size: uint64(p.DataEnd - p.Head)}); g.Contains(addr, 1) {
			return g, true
		}
	}
	for _, g := range r.Mem() {
		if g.Contains(addr, 1) {
			return g, true
		}
	}
	return rt.Region{}, false
}

// parseUint is __bpf_strtoull: it returns the number, whether a minus stood before it, and the bytes consumed or an error.
func parseUint(s []byte, flags uint64) (v uint64, neg bool, n int, e errno.Errno) {
	const baseMask = 0x1f
	base := flags & baseMask
	if len(s) == 0 || flags&^baseMask != 0 || base != 0 && base != 8 && base != 10 && base != 16 {
		return 0, false, 0, errno.EINVAL
	}
	for n < len(s) && isSpace(s[n]) {
		n++
	}
	if n < len(s) && s[n] == '-' {
		neg = true
		n++
	}
	if n == len(s) {
		return 0, neg, 0, errno.EINVAL
	}
	digits := s[n:min(len(s), n+63)] // the kernel copies to a buffer of 64 bytes
	skip := 0
	if len(digits) >= 2 && digits[0] == '0' && digits[1]|0x20 == 'x' {
		if base == 16 || base == 0 && len(digits) > 2 && digit(digits[2]) < 16 {
			base, skip = 16, 2
		}
	}
	if base == 0 {
		base = 10
		if digits[0] == '0' {
			base = 8
		}
	}
	i, over := skip, false
	for ; i < len(digits) && uint64(digit(digits[i])) < base; i++ {
		d := uint64(digit(digits[i]))
		over = over || v > (^uint64(0)-d)/base
		v = v*base + d
	}
	switch {
	case over:
		return 0, neg, 0, errno.ERANGE
	case i == skip:
		return 0, neg, 0, errno.EINVAL
	}
	return v, neg, n + i, 0
}

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' || c == 0xa0 }

// digit returns a hexadecimal digit's value, 255 for anything else.
func digit(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10
	}
	return 255
}

// strtol returns the bytes consumed; the result is zero on an error.
func strtol(_ *rt.Run, a *[12]uint64) uint64 {
	store64(a[3], 0)
	v, neg, n, e := parseUint(rt.Mem(a[0], int(uint32(a[1]))), a[2])
	switch {
	case e != 0:
		return e.R0()
	case neg && int64(-v) > 0, !neg && int64(v) < 0:
		return errno.ERANGE.R0()
	case neg:
		v = -v
	}
	store64(a[3], v)
	return uint64(n)
}

func strtoul(_ *rt.Run, a *[12]uint64) uint64 {
	store64(a[3], 0)
	v, neg, n, e := parseUint(rt.Mem(a[0], int(uint32(a[1]))), a[2])
	switch {
	case e != 0:
		return e.R0()
	case neg:
		return errno.EINVAL.R0()
	}
	store64(a[3], v)
	return uint64(n)
}

// strncmp compares at most so many bytes of a string with a constant one: -1, 0 or 1.
func strncmp(_ *rt.Run, a *[12]uint64) uint64 {
	x, y := rt.Mem(a[0], int(uint32(a[1]))), constString(a[2])
	if i := bytes.IndexByte(x, 0); i >= 0 {
		x = x[:i+1]
	}
	n := min(len(x), len(y))
	return uint64(int64(bytes.Compare(x[:n], y[:n])))
}
