package ctype

import (
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
)

func TestType(t *testing.T) {
	char := &btf.Int{Name: "char", Size: 1}
	ptr := func(t btf.Type) btf.Type { return &btf.Pointer{Target: t} }
	for _, c := range []struct {
		t    btf.Type
		want string
	}{
		{&btf.Void{}, "void"},
		{char, "char"},
		{ptr(char), "char *"},
		{ptr(ptr(char)), "char **"},
		{ptr(ptr(ptr(&btf.Void{}))), "void ***"},
		{ptr(&btf.Const{Type: char}), "const char *"},
		{&btf.Const{Type: ptr(char)}, "char * const"},
		{ptr(&btf.Const{Type: ptr(&btf.Const{Type: char})}), "const char * const *"},
		{&btf.Volatile{Type: char}, "volatile char"},
		{&btf.TypeTag{Type: char}, "char"},
		{&btf.Typedef{Name: "u8", Type: char}, "u8"},
		{ptr(&btf.Struct{Name: "xdp_md"}), "struct xdp_md *"},
		{ptr(&btf.Fwd{Name: "sk_buff"}), "struct sk_buff *"},
		{&btf.Enum{Name: "e"}, "enum e"},
		{&btf.Union{Name: "u"}, "union u"},
	} {
		if got := Type(c.t); got != c.want {
			t.Errorf("%v: %q, want %q", c.t, got, c.want)
		}
	}
	circle := &btf.Pointer{}
	circle.Target = circle
	if got := Type(circle); !strings.HasSuffix(got, "*") || len(got) > 1000 {
		t.Errorf("a pointer to itself: %q", got)
	}
	proto := &btf.FuncProto{Return: &btf.Void{}, Params: []btf.FuncParam{{Name: "a", Type: ptr(char)}, {Type: char}}}
	if got := Proto("f", proto); got != "void f(char *a, char)" {
		t.Error(got)
	}
	proto.Return = ptr(char)
	if got := Proto("f", proto); got != "char *f(char *a, char)" {
		t.Error(got)
	}
}
