package listing

import (
	"errors"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/program"
)

var (
	long = &btf.Int{Name: "long", Size: 8, Encoding: btf.Signed}
	pair = &btf.Struct{Name: "pair", Size: 16}
)

func function(name string, ret btf.Type, params ...btf.FuncParam) *btf.Func {
	return &btf.Func{Name: name, Type: &btf.FuncProto{Return: ret, Params: params}}
}

// TestABI: functions with types, without them, and with what cannot be passed; of kfuncs only those that are called.
func TestABI(t *testing.T) {
	load := func(off int16) isa.Insn {
		return isa.Insn{Op: isa.ClassLDX | isa.ModeMEM | isa.SizeDW, Src: isa.RParams, Off: off}
	}
	call := func(k int32) isa.Insn {
		return isa.Insn{Op: isa.ClassJMP | isa.JmpCALL, Src: isa.PseudoKfuncCall, Imm: k}
	}
	exit := isa.Insn{Op: isa.ClassJMP | isa.JmpEXIT}
	many := make([]btf.FuncParam, 13)
	for i := range many {
		many[i].Type = long
	}
	p := &program.Program{
		Insns: []isa.Insn{call(2), call(0), call(2), exit, load(16), exit, exit, exit, exit},
		Funcs: []program.Func{
			{Name: "main", Start: 0, End: 4}, {Name: "untyped", Start: 4, End: 6},
			{Name: "big", Start: 6, End: 7, Type: function("big", long, btf.FuncParam{Name: "a", Type: long}, btf.FuncParam{Name: "b", Type: pair})},
			{Name: "many", Start: 7, End: 8, Type: function("many", long, many...)},
			{Name: "none", Start: 8, End: 9, Type: function("none", &btf.Void{}, many[:9]...)},
		},
		Kfuncs: []program.Kfunc{
			{Name: "bare"}, {Name: "unused"}, {Name: "get", Type: function("get", &btf.Pointer{Target: pair}, many[:6]...)},
		},
	}
	var b strings.Builder
	err := ABI(&b, p, func(t btf.Type) error {
		if t == btf.Type(pair) {
			return errors.New("by value")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := b.String(); got != abiText {
		t.Errorf("got:\n%s\nwant:\n%s", got, abiText)
	}
}

const abiText = `program main
  without types (BTF); arguments by its code: 1
  argument   BPF   amd64   arm64   riscv64
   1         r1    rdi     x0      a0
  result     r0    rax     x0      a0

BPF function untyped
  without types (BTF); arguments by its code: 7
  argument   BPF                   amd64                arm64   riscv64
   1         r1                    rdi                  x0      a0
   2         r2                    rsi                  x1      a1
   3         r3                    rdx                  x2      a2
   4         r4                    rcx                  x3      a3
   5         r5                    r8                   x4      a4
   6         [r11-8] / [r11+8]     r9                   x5      a5
   7         [r11-16] / [r11+16]   [rsp+0] / [rbp+16]   x6      a6
  result     r0                    rax                  x0      a0

BPF function big
  long big(long a, struct pair b)
  not placed by this convention: parameter 2 (struct pair b): by value

BPF function many
  long many(long, long, long, long, long, long, long, long, long, long, long, long, long)
  not placed by this convention: it has 13 parameters, 12 can be passed

BPF function none
  void none(long, long, long, long, long, long, long, long, long)
  argument   BPF                   amd64                 arm64              riscv64
   1 long    r1                    rdi                   x0                 a0
   2 long    r2                    rsi                   x1                 a1
   3 long    r3                    rdx                   x2                 a2
   4 long    r4                    rcx                   x3                 a3
   5 long    r5                    r8                    x4                 a4
   6 long    [r11-8] / [r11+8]     r9                    x5                 a5
   7 long    [r11-16] / [r11+16]   [rsp+0] / [rbp+16]    x6                 a6
   8 long    [r11-24] / [r11+24]   [rsp+8] / [rbp+24]    x7                 a7
   9 long    [r11-32] / [r11+32]   [rsp+16] / [rbp+32]   [sp+0] / [fp+16]   [sp+0] / [s0+0]
  no result

kfunc get
  struct pair *get(long, long, long, long, long, long)
  argument               BPF       amd64   arm64   riscv64
   1 long                r1        rdi     x0      a0
   2 long                r2        rsi     x1      a1
   3 long                r3        rdx     x2      a2
   4 long                r4        rcx     x3      a3
   5 long                r5        r8      x4      a4
   6 long                [r11-8]   r9      x5      a5
  result struct pair *   r0        rax     x0      a0

kfunc bare
  without types (BTF): where its arguments are cannot be known

`
