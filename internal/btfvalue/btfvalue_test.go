package btfvalue

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
)

var (
	u8    = &btf.Int{Name: "unsigned char", Size: 1}
	char  = &btf.Int{Name: "char", Size: 1, Encoding: btf.Signed}
	u16   = &btf.Int{Name: "unsigned short", Size: 2}
	u32   = &btf.Int{Name: "unsigned int", Size: 4}
	s32   = &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}
	u64   = &btf.Int{Name: "unsigned long", Size: 8}
	flag  = &btf.Int{Name: "_Bool", Size: 1, Encoding: btf.Bool}
	be16  = &btf.Typedef{Name: "__be16", Type: u16}
	be32  = &btf.Typedef{Name: "__be32", Type: u32}
	state = &btf.Enum{Name: "state", Size: 4, Values: []btf.EnumValue{{Name: "CLOSED", Value: 0}, {Name: "OPEN", Value: 5}}}
	mac   = &btf.Array{Index: u32, Type: u8, Nelems: 6}
	name  = &btf.Array{Index: u32, Type: char, Nelems: 8}
	pair  = &btf.Struct{Name: "pair", Size: 4, Members: []btf.Member{{Name: "a", Type: u16}, {Name: "b", Type: be16, Offset: 16}}}
	pairs = &btf.Array{Index: u32, Type: pair, Nelems: 2}
	word4 = &btf.Union{Name: "w", Size: 4, Members: []btf.Member{{Name: "n", Type: u32}, {Name: "p", Type: pair}}}
	whole = &btf.Struct{Name: "whole", Size: 48, Members: []btf.Member{
		{Name: "state", Type: state}, {Name: "n", Type: &btf.Const{Type: s32}, Offset: 32}, {Name: "mac", Type: mac, Offset: 64},
		{Name: "ok", Type: flag, Offset: 112}, // one byte of padding behind it
		{Name: "name", Type: name, Offset: 128}, {Name: "pairs", Type: pairs, Offset: 192}, {Name: "addr", Type: be32, Offset: 256},
		{Name: "low", Type: u32, Offset: 288, BitfieldSize: 3}, {Name: "high", Type: s32, Offset: 291, BitfieldSize: 5},
		{Name: "u", Type: word4, Offset: 320}, {Name: "f", Type: &btf.Float{Name: "float", Size: 4}, Offset: 352},
	}}
)

// TestRoundTrip: what is written is what was read, and again.
func TestRoundTrip(t *testing.T) {
	for _, c := range []struct {
		typ       btf.Type
		size      int
		in, out   string
		wantBytes string // in hexadecimal digits, "" for what out says
	}{
		{u32, 4, "7", "7", "07000000"},
		{u32, 4, "-1", "4294967295", "ffffffff"},
		{s32, 4, "-2", "-2", "feffffff"},
		{u16, 2, "0xff", "255", "ff00"},
		{be16, 2, "be(443)", "be(443)", "01bb"},
		{be32, 4, "10.0.0.1", "10.0.0.1", "0a000001"},
		{u32, 4, "be(0x0a000001)", "16777226", "0a000001"},
		{flag, 1, "true", "true", "01"},
		{state, 4, "OPEN", "OPEN", "05000000"},
		{state, 4, "6", "6", "06000000"},
		{mac, 6, "02:00:00:00:00:ff", "hex(02 00 00 00 00 ff)", "0200000000ff"},
		{mac, 6, "{1, [4] = 2, 3}", "hex(01 00 00 00 02 03)", ""},
		{name, 8, `"eth0"`, `"eth0"`, "6574683000000000"},
		{name, 8, `hex(00 01 00 00 00 00 00 00)`, "hex(00 01 00 00 00 00 00 00)", ""},
		{pair, 4, "{1, be(2)}", "{.a = 1, .b = be(2)}", "01000002"},
		{pair, 4, "{.b=be(2),}", "{.a = 0, .b = be(2)}", ""},
		{pair, 4, " { } ", "{.a = 0, .b = be(0)}", ""},
		{pairs, 8, "{[1] = {3}}", "{{.a = 0, .b = be(0)}, {.a = 3, .b = be(0)}}", ""},
		{word4, 4, "{.p = {.a = 1}}", "hex(01 00 00 00)", ""},
		{nil, 4, "0x10", "16", "10000000"},
		{nil, 3, "hex(01:02:03)", "hex(01 02 03)", "010203"},
		{nil, 16, "2001:db8::1", "hex(20 01 0d b8 00 00 00 00 00 00 00 00 00 00 00 01)", ""},
		{
			whole, 48, `{OPEN, -1, .ok = 1, .name = "x", .low = 5, .high = -3, .u = hex(01 02 03 04), .f = 1.5}`,
			`{.state = OPEN, .n = -1, .mac = hex(00 00 00 00 00 00), .ok = true, .name = "x", .pairs = {{.a = 0, .b = be(0)}, ` +
				`{.a = 0, .b = be(0)}}, .addr = 0.0.0.0, .low = 5, .high = -3, .u = hex(01 02 03 04), .f = 1.5}`, "",
		},
	} {
		b, err := Parse(c.typ, c.size, c.in)
		if err != nil {
			t.Errorf("%s: %v", c.in, err)
			continue
		}
		if c.wantBytes != "" && binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
			if got := strings.ReplaceAll(scalar(&btf.Array{Type: u8}, b)[4:], " ", ""); got != c.wantBytes+")" {
				t.Errorf("%s: bytes %s, want %s", c.in, got, c.wantBytes)
			}
		}
		if got := Format(c.typ, b); got != c.out {
			t.Errorf("%s: %s\nwant %s", c.in, got, c.out)
		}
		if again, err := Parse(c.typ, c.size, Format(c.typ, b)); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%s: written and read again: % x, %v; want % x", c.in, again, err, b)
		}
	}
}

func TestMalformed(t *testing.T) {
	for _, c := range []struct {
		typ  btf.Type
		size int
		in   string
		want string
	}{
		{u32, 4, "", "column 1: something is missing"},
		{u32, 4, "x", "column 1: x is no number"},
		{u32, 4, "1 2", `column 3: "2" behind the end`},
		{u16, 2, "65536", "column 1: 65536 does not fit into 2 bytes"},
		{u16, 2, "-32769", "column 1: -32769 does not fit into 2 bytes"},
		{u16, 2, "10.0.0.1", "column 1: 10.0.0.1 has 4 bytes, here are 2"},
		{u32, 4, "hex(1)", "column 1: hex(1): not pairs of hexadecimal digits"},
		{u32, 4, "hex(01 02)", "column 1: hex(01 02): 2 bytes where 4 should be"},
		{u32, 4, "hex(01", "column 5: ')' is missing"},
		{u32, 4, "le(1)", "column 1: there is no le(...); use hex(...) or be(...)"},
		{u16, 2, "be(70000)", "column 1: be(70000): does not fit into 2 bytes"},
		{u8, 1, "be(7)", "column 1: be(7): a number has 2, 4 or 8 bytes, here are 1"},
		{u32, 4, "{1}", "column 2: {...} where unsigned int (4 bytes) should be"},
		{u32, 4, `"x"`, "column 1: text where unsigned int (4 bytes) should be"},
		{name, 8, `"123456789"`, "column 1: 9 characters where 8 bytes are"},
		{name, 8, `"x`, "column 1: the text has no end"},
		{pair, 4, "1", `column 1: 1 where pair (4 bytes) should be: write {...}, "text" or hex(...)`},
		{pair, 4, "{.c = 1}", "column 2: no member c; there are: a, b"},
		{pair, 4, "{.a 1}", `column 5: '1' where '=' should be`},
		{pair, 4, "{1, 2, 3}", "column 8: more values than members (2)"},
		{pair, 4, "{1", "column 3: '}' is missing (of the '{' in column 1)"},
		{pair, 4, "{1 2}", "column 4: '2' where '}' should be (of the '{' in column 1)"},
		{pair, 4, "{", "column 2: something is missing"},
		{pairs, 8, "{[2] = {1}}", "column 2: element 2 of an array of 2"},
		{pairs, 8, "{[x] = {1}}", "column 2: [x] is no index"},
		{whole, 48, "{.low = 8}", "column 9: 8 is no number of 3 bits"},
		{nil, 3, "5", "column 1: 5 where 3 bytes are: write hex(...)"},
	} {
		if b, err := Parse(c.typ, c.size, c.in); err == nil || err.Error() != c.want {
			t.Errorf("%s: % x, %v\nwant %s", c.in, b, err, c.want)
		}
	}
}

func TestDiff(t *testing.T) {
	value := func(text string) []byte {
		b, err := Parse(whole, 48, text)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	padded := value("{}")
	padded[15] = 1
	for _, c := range []struct {
		got, want []byte
		lines     string
	}{
		{value("{}"), value("{}"), ""},
		{value("{.n = 1}"), value("{.n = 2}"), ".n: got 1, want 2 (bytes 4 to 7)"},
		{value(`{OPEN, .name = "a"}`), value(`{.name = "b"}`), `.state: got OPEN, want CLOSED (bytes 0 to 3); .name: got "a", want "b" (bytes 16 to 23)`},
		{value("{.pairs = {[1] = {.b = be(1)}}}"), value("{}"), ".pairs[1].b: got be(1), want be(0) (bytes 30 to 31)"},
		{value("{.low = 1}"), value("{}"), ".low: got 1, want 0 (byte 36)"},
		{value("{.high = 1}"), value("{}"), ".high: got 1, want 0 (byte 36)"},
		{padded, value("{}"), "padding: got 0x01, want 0x00 (byte 15)"},
		{value("{}")[:4], value("{}"), "got hex(00 00 00 00), want " + Format(whole, value("{}"))},
	} {
		if got := strings.Join(Diff(whole, c.got, c.want), "; "); got != c.lines {
			t.Errorf("%s\nwant %s", got, c.lines)
		}
	}
	if got := strings.Join(Diff(nil, []byte{1, 0}, []byte{2, 0}), "; "); got != "got 1, want 2 (bytes 0 to 1)" {
		t.Error(got)
	}
}

// FuzzParse: no text makes the parser panic, and what it takes it writes so that it takes it again.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"{", "{1, [0] = 2}", `{.name = "x"}`, "hex(00)", "be(1)", "{{{{", "{.pairs={[1]={.a=1}},.u={.n=3}}", "1.2.3.4"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, typ := range []btf.Type{whole, pairs, word4, name, u64, nil} {
			size := 8
			if typ != nil {
				size, _ = btf.Sizeof(typ)
			}
			b, err := Parse(typ, size, text)
			if err != nil {
				continue
			}
			if len(b) != size {
				t.Fatalf("%d bytes of %d", len(b), size)
			}
			out := Format(typ, b)
			again, err := Parse(typ, size, out)
			if err != nil {
				t.Fatalf("%q was read, and written as %s: %v", text, out, err)
			}
			if typ != whole && !bytes.Equal(again, b) { // a NaN may lose its payload
				t.Fatalf("%q: % x, then % x", text, b, again)
			}
		}
	})
}
