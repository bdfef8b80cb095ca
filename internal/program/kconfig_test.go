package program

import (
	"bytes"
	"testing"

	"github.com/cilium/ebpf/btf"
)

func TestPutKconfig(t *testing.T) {
	i4 := &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}
	char := &btf.Int{Name: "char", Size: 1, Encoding: btf.Char}
	boolean := &btf.Int{Name: "_Bool", Size: 1, Encoding: btf.Bool}
	tristate := &btf.Enum{Name: "libbpf_tristate", Size: 4}
	for _, c := range []struct {
		typ   btf.Type
		size  int
		value string
		want  []byte // nil: refused
	}{
		{i4, 4, "258", []byte{2, 1, 0, 0}},
		{&btf.Typedef{Name: "u32", Type: i4}, 4, "0x10", []byte{16, 0, 0, 0}},
		{i4, 4, "-2", []byte{0xfe, 0xff, 0xff, 0xff}},
		{i4, 4, "4294967296", nil},
		{i4, 4, "-2147483649", nil},
		{i4, 4, "y", nil},
		{boolean, 1, "y", []byte{1}},
		{boolean, 1, "n", []byte{0}},
		{boolean, 1, "m", nil},
		{char, 1, "m", []byte{'m'}},
		{char, 1, "300", nil},
		{tristate, 4, "m", []byte{2, 0, 0, 0}},
		{tristate, 4, "x", nil},
		{&btf.Enum{Name: "other", Size: 4}, 4, "y", nil},
		{&btf.Array{Type: char, Nelems: 4}, 4, `"ab"`, []byte{'a', 'b', 0, 0}},
		{&btf.Array{Type: char, Nelems: 2}, 2, `"abc"`, []byte{'a', 'b'}},
		{&btf.Array{Type: char, Nelems: 4}, 4, "ab", nil},
		{&btf.Pointer{Target: char}, 8, "1", nil},
	} {
		got := make([]byte, c.size)
		err := putKconfig(got, c.typ, c.value)
		if (err != nil) != (c.want == nil) || err == nil && !bytes.Equal(got, c.want) {
			t.Errorf("%v = %s: % x, %v, want % x", c.typ, c.value, got, err, c.want)
		}
	}
}
