package amd64

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/arch/x86/x86asm"

	"github.com/skep-bpf/skep/internal/ir"
)

// listing disassembles code.
func listing(t *testing.T, code []byte) string {
	var s strings.Builder
	for pc := 0; pc < len(code); {
		in, err := x86asm.Decode(code[pc:], 64)
		if err != nil {
			t.Fatalf("% x: %v", code[pc:], err)
		}
		s.WriteString(x86asm.IntelSyntax(in, uint64(pc), nil) + "\n")
		pc += in.Len
	}
	return s.String()
}

func imm(op ir.Op, w, dst uint8, v int64) ir.Insn {
	return ir.Insn{Op: op, W: w, Dst: dst, Imm: v, Flag: ir.FlagImm}
}

func reg(op ir.Op, w, dst, src uint8) ir.Insn { return ir.Insn{Op: op, W: w, Dst: dst, Src: src} }

var exit = ir.Insn{Op: ir.Exit}

// TestCode pins the machine code of what the specification and the design ask for.
func TestCode(t *testing.T) {
	for _, c := range []struct {
		name  string
		funcs []ir.Func
		in    []ir.Insn
		maps  []ir.Map
		want  string
	}{{
		name:  "empty",
		funcs: []ir.Func{{End: 2}},
		in:    []ir.Insn{imm(ir.Mov, 8, 0, 0), exit},
		want:  "xor eax, eax; ret",
	}, {
		// stack_arguments.md section 5: a store to a slot is the store or move that the C convention asks for, the area is
		// reserved once, nothing is pushed around the call; rsp is 16-byte aligned (8 + 56 = 64).
		name:  "call of twelve",
		funcs: []ir.Func{{End: 11, OutArgs: 7, Stack: 0}},
		in: []ir.Insn{
			{Op: ir.ArgStore, Sub: 6, Imm: 6, Flag: ir.FlagImm}, {Op: ir.ArgStore, Sub: 7, Src: 6}, {Op: ir.ArgStore, Sub: 8, Imm: -8, Flag: ir.FlagImm},
			{Op: ir.ArgStore, Sub: 9, Src: 6}, {Op: ir.ArgStore, Sub: 10, Src: 6}, {Op: ir.ArgStore, Sub: 11, Src: 6}, {Op: ir.ArgStore, Sub: 12, Src: 6},
			{Op: ir.ArgExt, Sub: 6, W: 4}, {Op: ir.ArgExt, Sub: 12, W: 2, Flag: ir.FlagSigned},
			{Op: ir.CallNative, Imm: 0x7f0012345678, Sub: 12}, exit,
		},
		want: `sub rsp, 0x38; mov r9d, 0x6; mov qword ptr [rbp-0x38], rbx; mov qword ptr [rbp-0x30], -0x8;
			mov qword ptr [rbp-0x28], rbx; mov qword ptr [rbp-0x20], rbx; mov qword ptr [rbp-0x18], rbx; mov qword ptr [rbp-0x10], rbx;
			mov r9d, r9d; movsx r11, word ptr [rbp-0x10]; mov qword ptr [rbp-0x10], r11; mov rax, 0x7f0012345678; call rax;
			mov rsp, rbp; ret`,
	}, {
		name:  "function of twelve",
		funcs: []ir.Func{{End: 2, OutArgs: 7}, {Start: 2, End: 6, InArgs: 7}},
		in: []ir.Insn{
			{Op: ir.Call, Off: 1, Sub: 12}, exit,
			{Op: ir.ArgLoad, Dst: 0, Sub: 6}, {Op: ir.ArgLoad, Dst: 1, Sub: 7}, {Op: ir.ArgLoad, Dst: 2, Sub: 12}, exit,
		},
		want: `sub rsp, 0x38; call 0xd; mov rsp, rbp; ret;
			push rbp; mov rbp, rsp; mov rax, r9; mov rdi, qword ptr [rbp+0x10]; mov rsi, qword ptr [rbp+0x38]; pop rbp; ret`,
	}, {
		name:  "callee-saved registers",
		funcs: []ir.Func{{End: 2}, {Start: 2, End: 7, Stack: 8}},
		in: []ir.Insn{
			{Op: ir.Call, Off: 1}, exit,
			reg(ir.Mov, 8, 6, 1), reg(ir.Mov, 8, 9, 2), {Op: ir.Store, W: 8, Dst: 10, Src: 6, Off: -8}, {Op: ir.CallHost, Imm: 77, Sub: 3}, exit,
		},
		want: `push rax; call 0xa; mov rsp, rbp; ret;
			push rbp; mov rbp, rsp; push rax; push rbx; push r15; mov rbx, rdi; mov r15, rsi; mov qword ptr [rbp-0x8], rbx; mov eax, 0x4d;
			call qword ptr [r12+0x38]; pop r15; pop rbx; leave; ret`,
	}, {
		name:  "pairs",
		funcs: []ir.Func{{End: 13, Stack: 16}},
		in: []ir.Insn{
			reg(ir.Mov, 8, 2, 10), imm(ir.Add, 8, 2, -8), // lea
			reg(ir.Mov, 8, 3, 2), reg(ir.Add, 8, 3, 7), // lea
			reg(ir.Mov, 8, 4, 3), imm(ir.Lsh, 8, 4, 32), imm(ir.Rsh, 8, 4, 32), // mov r32
			{Op: ir.Load, W: 4, Dst: 0, Src: 1, Off: 4}, {Op: ir.Bswap, W: 4, Dst: 0}, // movbe
			imm(ir.And, 8, 0, 7), {Op: ir.Jcc, Sub: ir.EQ, W: 8, Dst: 0, Flag: ir.FlagImm, Off: 12}, // the flags tell
			reg(ir.Lsh, 8, 0, 2), exit,
		},
		want: `lea rsi, ptr [rbp-0x8]; lea rdx, ptr [rsi+r13]; mov ecx, edx; movbe eax, dword ptr [rdi+0x4]; and eax, 0x7; jz 0x19;
			shlx rax, rax, rsi; ret`,
	}, {
		name:  "lookup and null check",
		funcs: []ir.Func{{End: 4}},
		in:    []ir.Insn{{Op: ir.ArrayLookup, Src: 6, Flag: ir.FlagKeyReg}, {Op: ir.Jcc, Sub: ir.EQ, W: 8, Flag: ir.FlagImm, Off: 3}, {Op: ir.Load, W: 8, Src: 0}, exit},
		maps:  []ir.Map{{Kind: ir.MapArray, Base: 0x7f0000001000, Stride: 8, MaxEntries: 256}},
		want: `mov r10d, ebx; xor eax, eax; cmp r10d, 0x100; jnb 0x1f; mov rax, 0x7f0000001000; lea rax, ptr [rax+8*r10];
			mov rax, qword ptr [rax]; ret`,
	}, {
		name:  "loop",
		funcs: []ir.Func{{End: 4}},
		in:    []ir.Insn{{Op: ir.Yield}, imm(ir.Sub, 8, 1, 1), {Op: ir.Jcc, Sub: ir.NE, W: 8, Dst: 1, Flag: ir.FlagImm}, exit},
		want:  `cmp dword ptr [r12+0x28], 0x0; jnz 0xe; dec rdi; jnz 0x0; ret; call qword ptr [r12+0x48]; jmp 0x8`,
	}, {
		name:  "exceptions",
		funcs: []ir.Func{{End: 6}, {Start: 6, End: 8}},
		in: []ir.Insn{{Op: ir.Call, Off: 1}, {Op: ir.IfThrown, Off: 4}, imm(ir.Mov, 8, 0, 1), exit, {Op: ir.SetThrown}, exit,
			{Op: ir.SetThrown, Imm: 1}, exit},
		want: `push rax; call 0x24; cmp dword ptr [r12+0x34], 0x0; jnz 0x17; mov eax, 0x1; mov rsp, rbp; ret;
			mov dword ptr [r12+0x34], 0x0; mov rsp, rbp; ret; mov dword ptr [r12+0x34], 0x1; ret`,
	}, {
		name:  "what is held",
		funcs: []ir.Func{{End: 3}},
		in:    []ir.Insn{{Op: ir.Held, Dst: 3}, {Op: ir.Load, W: 8, Dst: 0, Src: 3, Flag: ir.FlagOwn}, exit},
		want:  `lea rdx, ptr [r12+0x100]; mov rax, qword ptr [rdx]; ret`,
	}} {
		p := &ir.Program{Name: c.name, Insns: c.in, Funcs: c.funcs, Maps: c.maps}
		code, err := Compile(p, Options{BMI2: true, MOVBE: true})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		got := listing(t, code.Text)
		var want strings.Builder
		for _, l := range strings.Split(c.want, ";") {
			want.WriteString(strings.Join(strings.Fields(l), " ") + "\n")
		}
		if d := cmp.Diff(want.String(), got); d != "" {
			t.Errorf("%s: % x\n%s", c.name, code.Text, d)
		}
	}
}
