package asmtext

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"

	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/program"
)

func dump(p *program.Program) string {
	var b strings.Builder
	for pc := 0; pc < len(p.Insns); pc += p.Insns[pc].Slots() {
		for _, f := range p.Funcs {
			if f.Start == pc {
				fmt.Fprintf(&b, "%s/%d:\n", f.Name, f.Params())
			}
		}
		fmt.Fprintf(&b, "%d: %s\n", pc, isa.AppendText(nil, p.Insns, pc, p.Names()))
	}
	return b.String()
}

func TestProgram(t *testing.T) {
	p, err := Program(`
	.type xdp
	.license GPL
	.map counts array 4 8 16 rdonly_prog
	.map jumps prog_array 4 4 8
	.struct inner { char c; short s; }
	.struct foo { int a; long b[2]; struct inner i; unsigned x:3; unsigned y:30; struct foo *next; }
	.kfunc long sum(u8 a, struct foo *b, const void *mem, unsigned int mem__sz) acquire ret_null
	r1 = counts ll
	r2 = map[jumps] ll
	call sum
	*(u64 *)(r11 - 8) = 6
	call many
	r3 = many ll
	call helper
	exit
	.func many args=6
	r0 = *(u64 *)(r11 + 8)
	exit
	.func int checked(struct foo *p, unsigned long n) global
	exit
helper:	exit`, ProgramOptions{Name: "entry"})
	if err != nil {
		t.Fatal(err)
	}
	want := `entry/-1:
0: (18) r1 = map[counts]
2: (18) r2 = map[jumps]
4: (85) call sum#0
5: (7a) *(u64 *)(r11 -8) = 6
6: (85) call pc+4
7: (18) r3 = 0x3
9: (85) call pc+4
10: (95) exit
many/6:
11: (79) r0 = *(u64 *)(r11 +8)
12: (95) exit
checked/2:
13: (95) exit
helper/-1:
14: (95) exit
`
	if diff := cmp.Diff(want, dump(p)); diff != "" {
		t.Error(diff)
	}
	if p.Type != ebpf.XDP || p.License != "GPL" || p.Maps[0].Flags != 0x80 || p.Maps[1].Type != ebpf.ProgramArray {
		t.Errorf("directives: %+v", p)
	}
	k := p.Kfuncs[0]
	if k.Flags != program.KfuncAcquire|program.KfuncRetNull || !k.Resolved || len(k.Type.Type.(*btf.FuncProto).Params) != 4 {
		t.Errorf("kfunc: %+v", k)
	}
	foo := k.Type.Type.(*btf.FuncProto).Params[1].Type.(*btf.Pointer).Target.(*btf.Struct)
	var layout []string
	for _, m := range foo.Members {
		layout = append(layout, fmt.Sprintf("%s %d:%d", m.Name, m.Offset, m.BitfieldSize))
	}
	if diff := cmp.Diff([]string{"a 0:0", "b 64:0", "i 192:0", "x 224:3", "y 256:30", "next 320:0"}, layout); diff != "" || foo.Size != 48 {
		t.Errorf("size %d, layout %s", foo.Size, diff)
	}
	if !p.Funcs[2].Global || p.Funcs[1].Global {
		t.Errorf("linkage: %+v", p.Funcs)
	}
}

func TestOldDialect(t *testing.T) {
	p, err := Program(`
	*(u64 *)(r12 - 8) = 6
	call eight
	exit
	.func eight args=8
	r6 = *(u64 *)(r12 - 24)
	*(u64 *)(r12 - 32) = r6
	*(u64 *)(r12 - 40) = 1
	call eight
	exit`, ProgramOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := `prog/-1:
0: (7a) *(u64 *)(r11 -8) = 6
1: (85) call pc+1
2: (95) exit
eight/8:
3: (79) r6 = *(u64 *)(r11 +24)
4: (7b) *(u64 *)(r11 -8) = r6
5: (7a) *(u64 *)(r11 -16) = 1
6: (85) call pc-4
7: (95) exit
`
	if diff := cmp.Diff(want, dump(p)); diff != "" || !p.OldDialect {
		t.Errorf("old %v: %s", p.OldDialect, diff)
	}
	for text, want := range map[string]string{
		"*(u32 *)(r12 - 8) = 1":                         "stack arg write must be 8 bytes, got 4",
		"r1 = *(u16 *)(r12 - 8)":                        "stack arg read must be 8 bytes, got 2",
		"*(u64 *)(r12 - 12) = 1":                        "stack arg write offset -12 not aligned to 8",
		"r1 = *(u64 *)(r12 - 8)":                        "invalid read from stack arg off -8 depth 0",
		"*(u64 *)(r12 - 8) = 1; r1 = *(u64 *)(r11 + 8)": "r12 and r11 (insn 1) in one program: the two dialects of stack arguments do not mix",
	} {
		_, err := Program(text+"\nexit", ProgramOptions{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %s", text, err, want)
		}
	}
}

func TestProgramErrors(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"call nothing\nexit", "line 1: no function, helper or kfunc nothing"},
		{"r1 = nothing ll", "line 1: no map, label or function nothing"},
		{".type wrong\nexit", "line 1: unknown program type wrong: .type wrong"},
		{".map m array 4 8", "line 1: expected a number, found end of line: .map m array 4 8"},
		{".struct s { wrong x; }\nexit", "line 1: expected a type, found 'wrong': .struct s { wrong x; }"},
		{".struct s { int a; struct s b; }\nexit", "line 1: member b: its type is not defined yet: .struct s { int a; struct s b; }"},
		{"r1 = " + strings.Repeat("(", 200), "line 1: expression nested too deeply: r1 = " + strings.Repeat("(", 200)},
		{"", "program prog: no instructions"},
	} {
		_, err := Program(c.text, ProgramOptions{})
		if err == nil || err.Error() != c.want {
			t.Errorf("%q: error %v, want %s", c.text, err, c.want)
		}
	}
}
