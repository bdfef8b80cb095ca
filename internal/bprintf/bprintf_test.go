package bprintf

import (
	"strings"
	"testing"

	"github.com/skep-bpf/skep/internal/errno"
)

func TestFormat(t *testing.T) {
	mem := map[uint64]string{0x1000: "hello\x00rest", 0x2000: "\x01\x02\x03\xff", 0x3000: "0123456789abcdef", 0x4000: "unterminated"}
	read := func(a uint64, n int) []byte { m := mem[a]; return []byte(m[:min(n, len(m))]) }
	minus := func(v int64) uint64 { return uint64(v) }
	for _, c := range []struct {
		format string
		args   []uint64
		want   string
		err    errno.Errno
	}{
		{"plain 100%%\n", nil, "plain 100%\n", 0},
		{"%d %u %x %X %i", []uint64{minus(-1), minus(-1), 255, 255, 7}, "-1 4294967295 ff FF 7", 0},
		{"%ld|%lld|%lu|%lx", []uint64{minus(-1), minus(-2), minus(-1), 1 << 40}, "-1|-2|18446744073709551615|10000000000", 0},
		{"[%5d|%-5d|%05d|%+d|% d|%-05d]", []uint64{42, 42, minus(-42), 42, 42, 42}, "[   42|42   |-0042|+42| 42|42   ]", 0},
		{"%+x % u", []uint64{1, 2}, "1 2", 0},
		{"<%s> <%8s> <%-8s> <%08s>", []uint64{0x1000, 0x1000, 0x1000, 0x1000}, "<hello> <   hello> <hello   > <   hello>", 0},
		{"%s", []uint64{0xdead}, "", 0},
		{"%s", []uint64{0x4000}, "", 0},
		{"%pks,%pus", []uint64{0x1000, 0x1000}, "hello,hello", 0},
		{"%c%3c", []uint64{'a', 'b'}, "a  b", 0},
		{"%px %px", []uint64{0xabc, 0}, "0000000000000abc 0000000000000000", 0},
		{"%p", []uint64{0}, "0000000000000000", 0},
		{"%pI4 %pi4 %pI4", []uint64{0x2000, 0x2000, 1}, "1.2.3.255 001.002.003.255 0.0.0.0", 0},
		{"%pI6 %pi6", []uint64{0x3000, 0x3000}, "3031:3233:3435:3637:3839:6162:6364:6566 30313233343536373839616263646566", 0},
		{"utf-8 \xc3\xa4", nil, "utf-8 \xc3\xa4", 0},
		{"bell \x07", nil, "", errno.EINVAL},
		{"%d", nil, "", errno.EINVAL},
		{"%", []uint64{1}, "", errno.EINVAL},
		{"%.3d", []uint64{1}, "", errno.EINVAL},
		{"%hd", []uint64{1}, "", errno.EINVAL},
		{"%llld", []uint64{1}, "", errno.EINVAL},
		{"%sx", []uint64{0x1000}, "", errno.EINVAL},
		{"%pq", []uint64{0x1000}, "", errno.EINVAL},
		{"%pI5", []uint64{0x1000}, "", errno.EINVAL},
		{"%n", []uint64{0x1000}, "", errno.EINVAL},
		{"%\xc3", []uint64{0x1000}, "", errno.EINVAL},
	} {
		buf := make([]byte, 200)
		n, e := Format(buf, []byte(c.format+"\x00"), c.args, read)
		if got := string(buf[:n]); e != c.err || got != c.want {
			t.Errorf("%q: %q, %v; want %q, %v", c.format, got, e, c.want, c.err)
		}
		if ce := Check([]byte(c.format+"\x00"), len(c.args)); ce != c.err {
			t.Errorf("Check(%q): %v", c.format, ce)
		}
	}
	if Check([]byte("no end"), 0) != errno.EINVAL {
		t.Error("a format without NUL passed")
	}
}

func TestFormatTruncates(t *testing.T) {
	buf := []byte("xxxxxxxx")
	n, e := Format(buf[:5], []byte("abc%1000000d\x00"), []uint64{1}, nil)
	if n != 1000003 || e != 0 || string(buf) != "abc \x00xxx" {
		t.Errorf("%d %v %q", n, e, buf)
	}
}

func TestPointersAreHashed(t *testing.T) {
	buf := make([]byte, 64)
	n, _ := Format(buf, []byte("%p\x00"), []uint64{0x7fff12345678}, nil)
	if got := string(buf[:n]); len(got) != 16 || strings.Contains(got, "12345678") {
		t.Error(got)
	}
}

func TestStoredArgumentsAreBounded(t *testing.T) {
	long := make([]byte, 400)
	for i := range long {
		long[i] = 'a'
	}
	long[399] = 0
	buf := make([]byte, 2000)
	n, e := Format(buf, []byte("%s%s\x00"), []uint64{1, 1}, func(_ uint64, n int) []byte { return long[:min(n, 400)] })
	if e != 0 || n != 399+111 {
		t.Errorf("%d %v", n, e)
	}
	if _, e = Format(buf, []byte("%s%s%d\x00"), []uint64{1, 1, 1}, func(_ uint64, n int) []byte { return long[:min(n, 400)] }); e != errno.ENOSPC {
		t.Error(e)
	}
}
