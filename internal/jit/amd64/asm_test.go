package amd64

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/arch/x86/x86asm"

	"github.com/skep-bpf/skep/internal/jit/jittest"
)

// forms collects encodings.
type forms struct {
	a asm
	jittest.Forms
}

var names = map[int][]string{
	8: {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"},
	4: {"eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "r8d", "r9d", "r10d", "r11d", "r12d", "r13d", "r14d", "r15d"},
	2: {"ax", "cx", "dx", "bx", "sp", "bp", "si", "di", "r8w", "r9w", "r10w", "r11w", "r12w", "r13w", "r14w", "r15w"},
	1: {"al", "cl", "dl", "bl", "spl", "bpl", "sil", "dil", "r8b", "r9b", "r10b", "r11b", "r12b", "r13b", "r14b", "r15b"},
}

var sizes = map[int]string{8: "qword ptr ", 4: "dword ptr ", 2: "word ptr ", 1: "byte ptr "}

func name(w int, r uint8) string { return names[w][r] }

// memText prints a memory operand as LLVM does.
func memText(m mem) string {
	s := "[" + name(8, m.base)
	if m.index != noIndex {
		s += " + "
		if m.scale > 0 {
			s += fmt.Sprintf("%d*", 1<<m.scale)
		}
		s += name(8, m.index)
	}
	switch {
	case m.disp > 0:
		s += fmt.Sprintf(" + %d", m.disp)
	case m.disp < 0:
		s += fmt.Sprintf(" - %d", -int64(m.disp))
	}
	return s + "]"
}

// operands are memory operands of every kind.
func operands() (ms []mem) {
	for base := range uint8(16) {
		for _, d := range []int32{0, 1, -1, 127, 128, -128, -129, 1 << 30} {
			ms = append(ms, at(base, d))
		}
		for index := range uint8(16) {
			if index != noIndex {
				ms = append(ms, mem{base: base, index: index, scale: index & 3, disp: []int32{0, 8, 1000}[index%3]})
			}
		}
	}
	return ms
}

func allForms() []jittest.Form {
	f := &forms{}
	f.Buf = &f.a.buf
	registerForms(f)
	immediateForms(f)
	memoryForms(f)
	return f.List
}

func registerForms(f *forms) {
	for x := range uint8(16) {
		for y := range uint8(16) {
			for _, w := range []uint8{4, 8} {
				d, s := name(int(w), x), name(int(w), y)
				for op, n := range map[uint8]string{aluADD: "add", aluOR: "or", aluAND: "and", aluSUB: "sub", aluXOR: "xor", aluCMP: "cmp"} {
					f.a.alu(op, w, x, y)
					f.Add("%s %s, %s", n, d, s)
				}
				f.a.mov(w, x, y)
				f.Add("mov %s, %s", d, s)
				f.a.test(w, x, y)
				f.Add("test %s, %s", d, s)
				f.a.imul(w, x, y)
				f.Add("imul %s, %s", d, s)
				for op, n := range map[uint8]string{shSHL: "shlx", shSHR: "shrx", shSAR: "sarx"} {
					f.a.shiftX(op, w, x, y, y^5)
					f.Add("%s %s, %s, %s", n, d, s, name(int(w), y^5))
				}
				for _, n := range []uint8{1, 2} {
					f.a.movsx(n, w, x, y)
					f.Add("movsx %s, %s", d, name(int(n), y))
				}
			}
			for _, n := range []uint8{1, 2} {
				f.a.movzx(n, x, y)
				f.Add("movzx %s, %s", name(4, x), name(int(n), y))
			}
			f.a.movsx(4, 8, x, y)
			f.Add("movsxd %s, %s", name(8, x), name(4, y))
		}
		oneRegisterForms(f, x)
	}
	f.a.ret()
	f.Add("ret")
	f.a.leave()
	f.Add("leave")
	f.a.hlt()
	f.Add("hlt")
}

func oneRegisterForms(f *forms, x uint8) {
	for _, w := range []uint8{4, 8} {
		d := name(int(w), x)
		for op, n := range map[uint8]string{unNOT: "not", unNEG: "neg", unDIV: "div", unIDIV: "idiv"} {
			f.a.unary(op, w, x)
			f.Add("%s %s", n, d)
		}
		f.a.inc(w, x)
		f.Add("inc %s", d)
		f.a.dec(w, x)
		f.Add("dec %s", d)
		f.a.bswap(w, x)
		f.Add("bswap %s", d)
		for op, n := range map[uint8]string{shSHL: "shl", shSHR: "shr", shSAR: "sar"} {
			f.a.shiftImm(op, w, x, 1)
			f.Add("%s %s", n, d)
			f.a.shiftImm(op, w, x, 8*w-1)
			f.Add("%s %s, %d", n, d, 8*w-1)
			f.a.shiftCL(op, w, x)
			f.Add("%s %s, cl", n, d)
		}
	}
	f.a.push(x)
	f.Add("push %s", name(8, x))
	f.a.pop(x)
	f.Add("pop %s", name(8, x))
	f.a.callReg(x)
	f.Add("call %s", name(8, x))
	f.a.jmpReg(x)
	f.Add("jmp %s", name(8, x))
}

func immediateForms(f *forms) {
	for x := range uint8(16) {
		for _, imm := range []int32{1, -1, 127, -128, 128, -129, 1<<31 - 1, -1 << 31} {
			for _, w := range []uint8{4, 8} {
				d := name(int(w), x)
				for op, n := range map[uint8]string{aluADD: "add", aluOR: "or", aluAND: "and", aluSUB: "sub", aluXOR: "xor", aluCMP: "cmp"} {
					f.a.aluImm(op, w, x, imm)
					f.Add("%s %s, %d", n, d, imm)
				}
				f.a.imulImm(w, x, x^9, imm)
				f.Add("imul %s, %s, %d", d, name(int(w), x^9), imm)
				tw := int(w)
				if imm >= 0 {
					if tw = 4; imm <= 127 {
						tw = 1
					}
				}
				f.a.testImm(w, x, imm)
				f.Add("test %s, %d", name(tw, x), imm)
			}
			f.a.movImm(x, uint64(uint32(imm)))
			f.Add("mov %s, %d", name(4, x), imm)
			if imm < 0 {
				f.a.movImm(x, uint64(int64(imm)))
				f.Add("mov %s, %d", name(8, x), imm)
			}
		}
		f.a.movImm(x, 0)
		f.Add("xor %s, %s", name(4, x), name(4, x))
		f.a.movImm(x, 0x123456789abcdef0)
		f.Add("movabs %s, %d", name(8, x), 0x123456789abcdef0)
	}
}

func memoryForms(f *forms) {
	for i, m := range operands() {
		t, r := memText(m), uint8(i%16)
		for _, n := range []uint8{1, 2} {
			f.a.load(n, r, m)
			f.Add("movzx %s, %s%s", name(4, r), sizes[int(n)], t)
			f.a.loadSigned(n, r, m)
			f.Add("movsx %s, %s%s", name(8, r), sizes[int(n)], t)
		}
		f.a.loadSigned(4, r, m)
		f.Add("movsxd %s, dword ptr %s", name(8, r), t)
		for _, n := range []uint8{4, 8} {
			f.a.load(n, r, m)
			f.Add("mov %s, %s%s", name(int(n), r), sizes[int(n)], t)
			f.a.loadSwapped(n, r, m)
			f.Add("movbe %s, %s%s", name(int(n), r), sizes[int(n)], t)
			f.a.lea(n, r, m)
			f.Add("lea %s, %s", name(int(n), r), t)
			f.a.xadd(n, m, r)
			f.Add("xadd %s%s, %s", sizes[int(n)], t, name(int(n), r))
			f.a.xchg(n, m, r)
			f.Add("xchg %s%s, %s", sizes[int(n)], t, name(int(n), r))
			f.a.cmpxchg(n, m, r)
			f.Add("cmpxchg %s%s, %s", sizes[int(n)], t, name(int(n), r))
			f.a.aluMemImm(aluCMP, n, m, -5)
			f.Add("cmp %s%s, -5", sizes[int(n)], t)
		}
		for _, n := range []uint8{1, 2, 4, 8} {
			f.a.store(n, m, r)
			f.Add("mov %s%s, %s", sizes[int(n)], t, name(int(n), r))
			f.a.storeImm(n, m, 77)
			f.Add("mov %s%s, 77", sizes[int(n)], t)
		}
		f.a.callMem(m)
		f.Add("call qword ptr %s", t)
	}
}

// TestForms decodes every form with golang.org/x/arch: it must be one whole instruction with the right name.
func TestForms(t *testing.T) {
	for _, f := range allForms() {
		in, err := x86asm.Decode(f.Code, 64)
		op, _, _ := strings.Cut(f.Text, " ")
		switch op {
		case "movabs":
			op = "mov"
		}
		if err != nil || in.Len != len(f.Code) || strings.ToLower(in.Op.String()) != op {
			t.Errorf("%s: % x: decoded as %v, %v", f.Text, f.Code, in, err)
		}
	}
}

// sameText compares two instructions; LLVM prints immediates of 32-bit operations without sign.
func sameText(a, b string) bool {
	if a == b {
		return true
	}
	i, k := strings.LastIndexByte(a, ' ')+1, strings.LastIndexByte(b, ' ')+1
	x, err1 := strconv.ParseInt(a[i:], 10, 64)
	y, err2 := strconv.ParseInt(b[k:], 10, 64)
	return err1 == nil && err2 == nil && a[:i] == b[:k] && y < 0 && x == y+1<<32
}

// TestFormsLLVM disassembles every form with LLVM and compares the text.
func TestFormsLLVM(t *testing.T) {
	jittest.CheckLLVM(t, allForms(), sameText, "-triple=x86_64", "-mattr=+bmi2,+movbe", "--output-asm-variant=1")
}

// TestFormsGolden compares some forms with a table that LLVM has confirmed, on machines without LLVM as well.
func TestFormsGolden(t *testing.T) { jittest.CheckGolden(t, allForms(), "testdata/forms.txt", 16) }
