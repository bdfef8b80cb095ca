// Package bprintf formats text for bpf_trace_printk and bpf_snprintf by the kernel's rules: which conversions a program
// may use (kernel/bpf/helpers.c, bpf_bprintf_prepare, 6.18) and how they print (lib/vsprintf.c, bstr_printf).
//
// It knows no programs: arguments are numbers, and memory behind an address is read through a function.
package bprintf

import (
	"bytes"
	"hash/maphash"
	"strconv"

	"github.com/skep-bpf/skep/internal/errno"
)

// Limits of the kernel.
const (
	MaxArgs   = 12  // MAX_BPRINTF_VARARGS
	binArgs   = 512 // MAX_BPRINTF_BIN_ARGS: room for the arguments in their stored form
	maxWidth  = 1<<23 - 1
	TraceSize = 1024 // MAX_BPRINTF_BUF
)

// Reader reads up to n bytes at an address; fewer if the readable memory ends before, none if addr is not readable.
type Reader func(addr uint64, n int) []byte

// spec is one conversion.
type spec struct {
	left, plus, space, zero bool
	width                   int
	conv                    byte   // d u x X c s p
	size                    int    // 4 or 8 bytes, of d u x X
	ptr                     string // behind p: "", K, x, s, S, B, i4, I4, i6, I6
}

// Check reports what is wrong with a format for n arguments: 0, EINVAL. The format ends at its first NUL; without one it
// is invalid.
func Check(format []byte, n int) errno.Errno {
	_, e := Format(nil, format, make([]uint64, min(n, MaxArgs)), nil)
	if e == errno.ENOSPC {
		return 0 // depends on the arguments
	}
	return e
}

// Format writes the text to buf, ended by a NUL, as far as there is room, and returns the length of the whole text without
// NUL. read gives memory behind %s and %pi4 arguments; nil reads nothing.
func Format(buf, format []byte, args []uint64, read Reader) (int, errno.Errno) {
	end := bytes.IndexByte(format, 0)
	if end < 0 {
		return 0, errno.EINVAL
	}
	p := printer{out: out{buf: buf}, args: args, read: read, room: binArgs}
	if p.read == nil {
		p.read = func(uint64, int) []byte { return nil }
	}
	if e := p.run(format[:end+1]); e != 0 {
		return 0, e
	}
	if len(buf) > 0 {
		buf[min(p.out.n, len(buf)-1)] = 0
	}
	return p.out.n, 0
}

type printer struct {
	out  out
	args []uint64
	read Reader
	room int // bytes left for stored arguments
	num  int // arguments used
}

// run walks the format, whose last byte is the NUL.
func (p *printer) run(f []byte) errno.Errno {
	for i := 0; f[i] != 0; i++ {
		c := f[i]
		if c < 0x80 && !isPrint(c) && !isSpace(c) {
			return errno.EINVAL
		}
		if c != '%' {
			p.out.byte(c)
			continue
		}
		if f[i+1] == '%' {
			p.out.byte('%')
			i++
			continue
		}
		if p.num >= len(p.args) {
			return errno.EINVAL
		}
		s, n, e := parse(f[i+1:])
		if e != 0 {
			return e
		}
		i += n
		if e := p.convert(s, p.args[p.num]); e != 0 {
			return e
		}
		p.num++
	}
	return 0
}

// parse reads a conversion behind its % and returns its length. f ends with a NUL.
func parse(f []byte) (s spec, n int, e errno.Errno) {
	for ; f[n] == '0' || f[n] == '+' || f[n] == '-' || f[n] == ' '; n++ {
		s.zero = s.zero || f[n] == '0'
		s.plus = s.plus || f[n] == '+'
		s.left = s.left || f[n] == '-'
		s.space = s.space || f[n] == ' '
	}
	for ; isDigit(f[n]); n++ {
		s.width = min(s.width*10+int(f[n]-'0'), maxWidth)
	}
	s.size = 4
	switch f[n] {
	case 'p':
		s.conv = 'p'
		return parsePointer(s, f, n+1)
	case 's':
		s.conv = 's'
		if !ends(f[n+1]) {
			return s, 0, errno.EINVAL
		}
		return s, n + 1, 0
	case 'c':
		s.conv = 'c'
		return s, n + 1, 0
	}
	for range 2 {
		if f[n] == 'l' {
			s.size = 8
			n++
		}
	}
	switch f[n] {
	case 'i', 'd':
		s.conv = 'd'
	case 'u', 'x', 'X':
		s.conv = f[n]
	default:
		return s, 0, errno.EINVAL
	}
	return s, n + 1, 0
}

// parsePointer reads what follows %p.
func parsePointer(s spec, f []byte, n int) (spec, int, errno.Errno) {
	c := f[n]
	switch {
	case ends(c):
		return s, n, 0
	case (c == 'k' || c == 'u') && f[n+1] == 's':
		s.conv = 's'
		if !ends(f[n+2]) {
			return s, 0, errno.EINVAL
		}
		return s, n + 2, 0
	case c == 'K' || c == 'x' || c == 's' || c == 'S' || c == 'B':
		s.ptr = string(c)
		return s, n + 1, 0
	case (c == 'i' || c == 'I') && (f[n+1] == '4' || f[n+1] == '6'):
		s.ptr = string(f[n : n+2])
		return s, n + 2, 0
	}
	return s, 0, errno.EINVAL
}

// ends reports whether c can follow %p and %s: anything that would extend them cannot.
func ends(c byte) bool { return c == 0 || isSpace(c) || isPunct(c) }

// take accounts for n bytes of stored argument, aligned to 4 if the kernel aligns it.
func (p *printer) take(n int, align bool) errno.Errno {
	if align {
		p.room &^= 3
	}
	if p.room < n {
		return errno.ENOSPC
	}
	p.room -= n
	return 0
}

func (p *printer) convert(s spec, arg uint64) errno.Errno {
	switch s.conv {
	case 'c':
		if e := p.take(1, false); e != 0 {
			return e
		}
		p.text(s, []byte{byte(arg)})
		return 0
	case 's':
		return p.str(s, arg)
	case 'p':
		return p.pointer(s, arg)
	}
	if e := p.take(s.size, true); e != 0 {
		return e
	}
	p.number(s, arg)
	return 0
}

// str prints the string at arg; unreadable memory prints as nothing.
func (p *printer) str(s spec, arg uint64) errno.Errno {
	if p.room == 0 {
		return errno.ENOSPC
	}
	b := p.read(arg, p.room)
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	} else if len(b) == p.room {
		b = b[:len(b)-1]
	} else {
		b = nil // readable memory ended before the string did
	}
	p.room -= len(b) + 1
	p.text(s, b)
	return 0
}

// text prints b in a field of the given width.
func (p *printer) text(s spec, b []byte) {
	pad := s.width - len(b)
	if !s.left {
		p.out.pad(' ', pad)
	}
	p.out.bytes(b)
	if s.left {
		p.out.pad(' ', pad)
	}
}

func (p *printer) number(s spec, arg uint64) {
	var sign byte
	if s.size == 4 {
		arg = uint64(uint32(arg))
	}
	base := 16
	if s.conv == 'd' || s.conv == 'u' {
		base = 10
	}
	if s.conv == 'd' {
		v := int64(arg)
		if s.size == 4 {
			v = int64(int32(arg))
		}
		switch {
		case v < 0:
			sign, arg = '-', uint64(-v)
		case s.plus:
			sign, arg = '+', uint64(v)
		case s.space:
			sign, arg = ' ', uint64(v)
		default:
			arg = uint64(v)
		}
	}
	var tmp [24]byte
	digits := strconv.AppendUint(tmp[:0], arg, base)
	if s.conv == 'X' {
		digits = bytes.ToUpper(digits)
	}
	pad := s.width - len(digits)
	if sign != 0 {
		pad--
	}
	switch {
	case s.left:
	case s.zero:
		defer p.out.bytes(digits)
		if sign != 0 {
			p.out.byte(sign)
		}
		p.out.pad('0', pad)
		return
	default:
		p.out.pad(' ', pad)
	}
	if sign != 0 {
		p.out.byte(sign)
	}
	p.out.bytes(digits)
	if s.left {
		p.out.pad(' ', pad)
	}
}

var hashSeed = maphash.MakeSeed()

// pointer prints %p: hashed, so that a text does not tell addresses; %px as it is. There are no symbols here, so %ps, %pS
// and %pB print as the kernel prints an address without one.
func (p *printer) pointer(s spec, arg uint64) errno.Errno {
	switch s.ptr {
	case "i4", "I4", "i6", "I6":
		return p.ip(s, arg)
	case "s", "S", "B":
		if e := p.take(8, s.ptr != "B"); e != 0 {
			return e
		}
		p.text(s, append([]byte("0x"), strconv.AppendUint(nil, arg, 16)...))
		return 0
	}
	if e := p.take(8, true); e != 0 {
		return e
	}
	// NULL and error values print as they are.
	if s.ptr != "x" && arg != 0 && arg < 1<<64-4095 {
		arg = uint64(uint32(maphash.Comparable(hashSeed, arg)))
	}
	if s.width == 0 {
		s.width, s.zero = 16, true
	}
	s.conv, s.size = 'x', 8
	p.number(s, arg)
	return 0
}

// ip prints the address at arg: %pI4 1.2.3.4, %pi4 001.002.003.004, %pI6 with colons, %pi6 without.
func (p *printer) ip(s spec, arg uint64) errno.Errno {
	n := 4
	if s.ptr[1] == '6' {
		n = 16
	}
	if p.room < n {
		return errno.ENOSPC
	}
	b := make([]byte, n)
	if m := p.read(arg, n); len(m) == n {
		copy(b, m)
	}
	var t []byte
	for i, v := range b {
		switch {
		case n == 4:
			if i > 0 {
				t = append(t, '.')
			}
			if s.ptr == "i4" {
				t = append(t, '0'+v/100, '0'+v/10%10, '0'+v%10)
			} else {
				t = strconv.AppendUint(t, uint64(v), 10)
			}
		default:
			if i > 0 && i%2 == 0 && s.ptr == "I6" {
				t = append(t, ':')
			}
			const hex = "0123456789abcdef"
			t = append(t, hex[v>>4], hex[v&15])
		}
	}
	p.room -= min(p.room, len(t)+1)
	p.text(s, t)
	return 0
}

// out counts what is written and keeps what fits.
type out struct {
	buf []byte
	n   int
}

func (o *out) byte(c byte) {
	if o.n < len(o.buf) {
		o.buf[o.n] = c
	}
	o.n++
}

func (o *out) bytes(b []byte) {
	for _, c := range b {
		o.byte(c)
	}
}

func (o *out) pad(c byte, n int) {
	for n > 0 && o.n < len(o.buf) {
		o.byte(c)
		n--
	}
	o.n += max(n, 0)
}

// The kernel's <linux/ctype.h>, for ASCII.
func isDigit(c byte) bool { return c >= '0' && c <= '9' }
func isPrint(c byte) bool { return c >= 0x20 && c < 0x7f }
func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }
func isPunct(c byte) bool {
	return isPrint(c) && c != ' ' && !isDigit(c) && (c|0x20 < 'a' || c|0x20 > 'z')
}
