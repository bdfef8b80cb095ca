package arm64

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/arch/arm64/arm64asm"

	"github.com/skep-bpf/skep/internal/ir"
)

// listing disassembles code; branches show their distance.
func listing(t *testing.T, code []byte) string {
	var s strings.Builder
	for ; len(code) > 0; code = code[4:] {
		in, err := arm64asm.Decode(code)
		if err != nil {
			t.Fatalf("% x: %v", code[:4], err)
		}
		s.WriteString(arm64asm.GNUSyntax(in) + "\n")
	}
	return s.String()
}

func imm(op ir.Op, w, dst uint8, v int64) ir.Insn {
	return ir.Insn{Op: op, W: w, Dst: dst, Imm: v, Flag: ir.FlagImm}
}

func op2(op ir.Op, w, dst, src uint8) ir.Insn { return ir.Insn{Op: op, W: w, Dst: dst, Src: src} }

func jcc(cond uint8, w, dst uint8, v int64, to int32) ir.Insn {
	return ir.Insn{Op: ir.Jcc, Sub: cond, W: w, Dst: dst, Imm: v, Flag: ir.FlagImm, Off: to}
}

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
		want:  "mov w8, #0x0; mov x0, x8; ret",
	}, {
		// stack_arguments.md section 5: immediates go straight into x5..x7, only memory slots use a temporary; one sub sp.
		name:  "call of twelve",
		funcs: []ir.Func{{End: 12, OutArgs: 7, Stack: 16}},
		in: []ir.Insn{
			{Op: ir.Store, W: 8, Dst: 10, Off: -16, Src: 6},
			{Op: ir.ArgStore, Sub: 6, Imm: 6, Flag: ir.FlagImm}, {Op: ir.ArgStore, Sub: 7, Src: 6}, {Op: ir.ArgStore, Sub: 8, Imm: -8, Flag: ir.FlagImm},
			{Op: ir.ArgStore, Sub: 9, Src: 6}, {Op: ir.ArgStore, Sub: 10, Imm: 10, Flag: ir.FlagImm}, {Op: ir.ArgStore, Sub: 11, Flag: ir.FlagImm}, {Op: ir.ArgStore, Sub: 12, Src: 6},
			{Op: ir.ArgExt, Sub: 6, W: 4}, {Op: ir.ArgExt, Sub: 12, W: 2, Flag: ir.FlagSigned},
			{Op: ir.CallNative, Imm: 0x7f0012345678, Sub: 12}, exit,
		},
		want: `str x30, [x29,#8]; sub sp, sp, #0x30; str x19, [sp,#32]; mov w5, #0x6; mov x6, x19; mov x7, #0xfffffffffffffff8;
			str x19, [sp]; mov w16, #0xa; str x16, [sp,#8]; str xzr, [sp,#16]; str x19, [sp,#24];
			mov w5, w5; ldrsh x16, [sp,#24]; str x16, [sp,#24]; mov x16, #0x5678; movk x16, #0x1234, lsl #16; movk x16, #0x7f00, lsl #32;
			blr x16; mov x8, x0; mov x0, x8; mov sp, x29; ldr x30, [x29,#8]; ret`,
	}, {
		name:  "function of twelve",
		funcs: []ir.Func{{End: 2, OutArgs: 7}, {Start: 2, End: 7, InArgs: 7}},
		in: []ir.Insn{
			{Op: ir.Call, Off: 1, Sub: 12}, exit,
			{Op: ir.ArgLoad, Dst: 0, Sub: 6}, {Op: ir.ArgLoad, Dst: 1, Sub: 8}, {Op: ir.ArgLoad, Dst: 2, Sub: 9}, {Op: ir.ArgLoad, Dst: 3, Sub: 12}, exit,
		},
		want: `str x30, [x29,#8]; sub sp, sp, #0x20; bl .+0x18; mov x8, x0; mov x0, x8; mov sp, x29; ldr x30, [x29,#8]; ret;
			stp x29, x30, [sp,#-16]!; mov x29, sp; mov x8, x5; mov x0, x7; ldr x1, [x29,#16]; ldr x2, [x29,#40]; mov x0, x8; ldp x29, x30, [sp],#16; ret`,
	}, {
		name:  "callee-saved registers",
		funcs: []ir.Func{{End: 2}, {Start: 2, End: 7, Stack: 512}},
		in: []ir.Insn{
			{Op: ir.Call, Off: 1}, exit,
			op2(ir.Mov, 8, 6, 1), op2(ir.Mov, 8, 9, 2), {Op: ir.Store, W: 8, Dst: 10, Src: 6, Off: -512}, {Op: ir.CallHost, Imm: 77, Sub: 3}, exit,
		},
		want: `str x30, [x29,#8]; bl .+0x14; mov x8, x0; mov x0, x8; ldr x30, [x29,#8]; ret;
			stp x29, x30, [sp,#-16]!; mov x29, sp; sub sp, sp, #0x210; stp x19, x22, [sp]; mov x19, x0; mov x22, x1; str x19, [sp,#16]; mov w8, #0x4d;
			ldr x16, [x23,#56]; blr x16; mov x0, x8; ldp x19, x22, [sp]; mov sp, x29; ldp x29, x30, [sp],#16; ret`,
	}, {
		name:  "pairs",
		funcs: []ir.Func{{End: 22, Stack: 16}},
		in: []ir.Insn{
			op2(ir.Mov, 8, 2, 10), imm(ir.Add, 8, 2, -8), // an operand from elsewhere
			op2(ir.Mov, 8, 3, 2), op2(ir.Add, 8, 3, 7),
			op2(ir.Mov, 8, 4, 3), imm(ir.Lsh, 8, 4, 32), imm(ir.Rsh, 8, 4, 32), // the lower half
			imm(ir.Lsh, 8, 4, 56), imm(ir.Arsh, 8, 4, 60), // a field
			op2(ir.Mul, 8, 4, 3), op2(ir.Add, 8, 4, 2), // madd
			op2(ir.Mod, 4, 4, 3),
			imm(ir.Lsh, 8, 2, 3), op2(ir.Add, 8, 3, 2), // a shifted operand
			op2(ir.Add, 8, 1, 3), {Op: ir.Load, W: 2, Dst: 1, Src: 1}, {Op: ir.Bswap, W: 2, Dst: 1}, // an index
			jcc(ir.SET, 8, 1, 0x80, 21), jcc(ir.SLT, 4, 1, 0, 21), jcc(ir.EQ, 8, 1, 0, 21), jcc(ir.GT, 8, 1, -5, 21), exit,
		},
		want: `sub x1, x29, #0x8; add x2, x1, x20; mov w3, w2; sbfx x3, x3, #4, #4; madd x3, x3, x2, x1; udiv w17, w3, w2; msub w3, w17, w2, w3;
			add x2, x2, x1, lsl #3; ldrh w0, [x0,x2]; rev16 w0, w0; tbnz w0, #7, .+0x14; tbnz w0, #31, .+0x10; cbz x0, .+0xc; cmn x0, #0x5; b.hi .+0x4;
			mov x0, x8; ret`,
	}, {
		name:  "lookup and null check",
		funcs: []ir.Func{{End: 4}},
		in:    []ir.Insn{{Op: ir.ArrayLookup, Src: 6, Flag: ir.FlagKeyReg}, jcc(ir.EQ, 8, 0, 0, 3), {Op: ir.Load, W: 8, Src: 0}, exit},
		maps:  []ir.Map{{Kind: ir.MapArray, Base: 0x7f0000000000, Stride: 8, MaxEntries: 256}},
		want: `mov w8, #0x0; cmp w19, #0x100; b.cs .+0x10; mov x8, #0x7f0000000000; add x8, x8, w19, uxtw #3;
			ldr x8, [x8]; mov x0, x8; ret`,
	}, {
		name:  "loop",
		funcs: []ir.Func{{End: 4}},
		in:    []ir.Insn{{Op: ir.Yield}, imm(ir.Sub, 8, 1, 1), jcc(ir.NE, 8, 1, 0, 0), exit},
		want: `str x30, [x29,#8]; ldr w16, [x23,#40]; cbnz w16, .+0x18; sub x0, x0, #0x1; cbnz x0, .+0xfffffffffffffff4; mov x0, x8; ldr x30, [x29,#8]; ret;
			ldr x16, [x23,#72]; blr x16; b .+0xffffffffffffffe4`,
	}, {
		name:  "exceptions",
		funcs: []ir.Func{{End: 6}, {Start: 6, End: 8}},
		in: []ir.Insn{{Op: ir.Call, Off: 1}, {Op: ir.IfThrown, Off: 4}, imm(ir.Mov, 8, 0, 1), exit, {Op: ir.SetThrown}, exit,
			{Op: ir.SetThrown, Imm: 1}, exit},
		want: `str x30, [x29,#8]; bl .+0x28; mov x8, x0; ldr w16, [x23,#52]; cbnz w16, .+0xc; mov w8, #0x1; b .+0x8;
			str wzr, [x23,#52]; mov x0, x8; ldr x30, [x29,#8]; ret; mov w16, #0x1; str w16, [x23,#52]; mov x0, x8; ret`,
	}, {
		name:  "what is held",
		funcs: []ir.Func{{End: 3}},
		in:    []ir.Insn{{Op: ir.Held, Dst: 3}, {Op: ir.Load, W: 8, Dst: 0, Src: 3, Flag: ir.FlagOwn}, exit},
		want:  `add x2, x23, #0x100; ldr x8, [x2]; mov x0, x8; ret`,
	}} {
		p := &ir.Program{Name: c.name, Insns: c.in, Funcs: c.funcs, Maps: c.maps}
		code, err := Compile(p, Options{LSE: true})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var want strings.Builder
		for _, l := range strings.Split(c.want, ";") {
			want.WriteString(strings.Join(strings.Fields(l), " ") + "\n")
		}
		if d := cmp.Diff(want.String(), listing(t, code.Text)); d != "" {
			t.Errorf("%s: % x\n%s", c.name, code.Text, d)
		}
	}
}

// far makes a program that branches in several ways over so many instructions to its end, and back over as many.
func far(n int) *ir.Program {
	in := []ir.Insn{jcc(ir.SET, 8, 1, 4, int32(n+5)), jcc(ir.EQ, 8, 1, 0, int32(n+5)), jcc(ir.GT, 8, 1, 1000, int32(n+5)), {Op: ir.FuncAddr, Dst: 2, Off: 1}}
	for range n {
		in = append(in, op2(ir.Xor, 8, 3, 4))
	}
	in = append(in, jcc(ir.NSET, 8, 1, 4, 1), exit)
	end := len(in)
	in = append(in, exit)
	return &ir.Program{Name: "far", Insns: in, Funcs: []ir.Func{{End: end}, {Start: end, End: end + 1}}}
}

// TestFarBranches: where a target is out of reach, the branch is turned round over one that reaches; adr becomes a sum.
func TestFarBranches(t *testing.T) {
	for _, n := range []int{100, 8180, 8185, 8186, 8187, 8188, 8189, 8190, 8191, 8192, 9000, 262130, 262136, 262137, 262138, 262139, 262140, 262141, 262142, 262150, 300000} {
		p := far(n)
		code, err := Compile(p, Options{})
		if err != nil {
			t.Fatal(err)
		}
		w := func(i int) uint32 { return binary.LittleEndian.Uint32(code.Text[4*i:]) }
		words := len(code.Text) / 4
		end := words - 4 // the first epilogue: mov, ret; then the function's
		for i := range words {
			in, err := arm64asm.Decode(code.Text[4*i:])
			if err != nil {
				t.Fatalf("%d: %#x: %v", n, w(i), err)
			}
			for _, a := range in.Args {
				rel, ok := a.(arm64asm.PCRel)
				if !ok {
					continue
				}
				switch to := i + int(rel)/4; {
				case rel == 8: // over the branch that follows
					if next, _ := arm64asm.Decode(code.Text[4*i+4:]); next.Op != arm64asm.B {
						t.Errorf("%d: %v at %d leads over %v", n, in, i, next)
					}
				case in.Op == arm64asm.ADR && rel == 0:
					d := int32(w(i+1)>>5&0xffff | w(i+2)>>5&0xffff<<16)
					if i+int(d)/4 != end+2 {
						t.Errorf("%d: the function is taken to be at %d", n, i+int(d)/4)
					}
				case in.Op == arm64asm.ADR && to != end+2, in.Op != arm64asm.ADR && i < 20 && to != end, i > 20 && (to < 1 || to > 2):
					t.Errorf("%d: %v at %d leads to %d, not to %d", n, in, i, to, end)
				}
			}
		}
		if code.PCAt(0) != 0 || code.Funcs[1] != 4*(end+2) {
			t.Errorf("%d: function at %d", n, code.Funcs[1])
		}
	}
}

// TestWrongSlot: an argument outside of the frame's area is an internal error that names the instruction, not a store elsewhere.
func TestWrongSlot(t *testing.T) {
	p := &ir.Program{Name: "wrong", Insns: []ir.Insn{{Op: ir.ArgStore, Sub: 10, Src: 1}, exit}, Funcs: []ir.Func{{End: 2, OutArgs: 4}}}
	if _, err := Compile(p, Options{}); err == nil || !strings.Contains(err.Error(), "ir 0: arg_store") {
		t.Errorf("Compile: %v", err)
	}
	c := &compiler{p: p, out: 4} // as if the check had not been made
	c.arg(&p.Insns[0])
	if c.err == nil || !strings.Contains(c.err.Error(), "ir 0: arg_store") || len(c.buf) != 0 {
		t.Errorf("%v, % x", c.err, c.buf)
	}
}
