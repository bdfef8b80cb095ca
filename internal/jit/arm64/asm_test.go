package arm64

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/arch/arm64/arm64asm"

	"github.com/skep-bpf/skep/internal/jit/jittest"
)

// forms collects encodings.
type forms struct {
	a asm
	jittest.Forms
}

// r returns the name of register n as an operand of w bytes; 31 is zero.
func r(w int, n reg) string {
	s := "wx"[w>>3 : w>>3+1]
	if n == zr {
		return s + "zr"
	}
	return fmt.Sprintf("%s%d", s, n)
}

// rsp is r where 31 is the stack pointer.
func rsp(w int, n reg) string {
	switch {
	case n == sp && w == 8:
		return "sp"
	case n == sp:
		return "wsp"
	}
	return r(w, n)
}

func allForms() []jittest.Form {
	f := &forms{}
	f.Buf = &f.a.buf
	for x := range reg(32) {
		for y := range reg(32) {
			registerForms(f, x, y)
			memoryForms(f, x, y)
		}
		oneRegisterForms(f, x)
	}
	maskForms(f)
	f.a.ret()
	f.Add("ret")
	f.a.udf()
	f.Add("udf #0")
	f.a.dmb()
	f.Add("dmb ish")
	return f.List
}

// registerForms adds instructions on registers; z and k are a third register and a shift that go with x and y.
func registerForms(f *forms, x, y reg) {
	z, k := (x*7+y*3+5)%32, (x+y)%32
	for _, w := range []int{4, 8} {
		u := uint8(w)
		d, n, m := r(w, x), r(w, y), r(w, z)
		if y != zr && z != zr && x != zr && k != 0 { // LLVM has other names for what is done with zero
			for op, s := range map[uint32]string{opADD: "add", opADDS: "adds", opSUB: "sub", opSUBS: "subs"} {
				f.a.add(op, u, x, y, z, k)
				f.Add("%s %s, %s, %s, lsl #%d", s, d, n, m, k)
				f.a.add(op, u, x, y, z, 0)
				f.Add("%s %s, %s, %s", s, d, n, m)
			}
			for op, s := range map[uint32]string{opAND: "and", opORR: "orr", opEOR: "eor", opANDS: "ands", opAND | opNOT: "bic"} {
				f.a.logic(op, u, x, y, z)
				f.Add("%s %s, %s, %s", s, d, n, m)
			}
			for op, s := range map[uint32]string{opMADD: "madd", opMSUB: "msub"} {
				f.a.madd(op, u, x, y, z, x^1)
				if x^1 != zr {
					f.Add("%s %s, %s, %s, %s", s, d, n, m, r(w, x^1))
				} else {
					f.Add("%s %s, %s, %s", map[string]string{"madd": "mul", "msub": "mneg"}[s], d, n, m)
				}
			}
		}
		for op, s := range map[uint32]string{opUDIV: "udiv", opSDIV: "sdiv", opLSLV: "lsl", opLSRV: "lsr", opASRV: "asr"} {
			f.a.two(op, u, x, y, z)
			f.Add("%s %s, %s, %s", s, d, n, m)
		}
		f.a.mov(u, x, y)
		f.Add("mov %s, %s", d, n)
		f.a.rev(u, x, y)
		f.Add("rev %s, %s", d, n)
		if k != 0 {
			f.a.lslImm(u, x, y, k)
			f.Add("lsl %s, %s, #%d", d, n, k)
		}
		f.a.asrImm(u, x, y, k|16)
		f.Add("asr %s, %s, #%d", d, n, k|16)
		f.a.lsrImm(u, x, y, k|16)
		f.Add("lsr %s, %s, #%d", d, n, k|16)
		for i, s := range []string{"sxtb", "sxth", "sxtw"} {
			if 1<<i < w {
				f.a.sext(1<<i, u, x, y)
				f.Add("%s %s, %s", s, d, r(4, y))
			}
		}
		f.a.addImm(opADD, u, x, y, uint32(k)+1)
		f.Add("add %s, %s, #%d", rsp(w, x), rsp(w, y), k+1)
		f.a.addImm(opSUB, u, x, y, (uint32(k)+1)<<12)
		f.Add("sub %s, %s, #%d, lsl #12", rsp(w, x), rsp(w, y), k+1)
		if x != zr {
			f.a.addImm(opSUBS, u, x, y, 4095)
			f.Add("subs %s, %s, #4095", d, rsp(w, y))
		}
	}
	if x != zr {
		f.a.add(opADDS, 4, zr, y, x, 0)
		f.Add("cmn %s, %s", r(4, y), r(4, x))
	}
	f.a.zext(1, x, y)
	f.Add("uxtb %s, %s", r(4, x), r(4, y))
	f.a.zext(2, x, y)
	f.Add("uxth %s, %s", r(4, x), r(4, y))
	f.a.rev16(x, y)
	f.Add("rev16 %s, %s", r(4, x), r(4, y))
	f.a.addUXTW(x, y, z, k%5)
	if k%5 == 0 {
		f.Add("add %s, %s, %s, uxtw", rsp(8, x), rsp(8, y), r(4, z))
	} else {
		f.Add("add %s, %s, %s, uxtw #%d", rsp(8, x), rsp(8, y), r(4, z), k%5)
	}
	if z != zr {
		f.a.madd(opUMADDL, 8, x, y, z, z)
		f.Add("umaddl %s, %s, %s, %s", r(8, x), r(4, y), r(4, z), r(8, z))
	}
	f.a.bitfield(opUBFM, 8, x, y, 3, 7)
	f.Add("ubfx %s, %s, #3, #5", r(8, x), r(8, y))
	f.a.bitfield(opSBFM, 8, x, y, 60, 6)
	f.Add("sbfiz %s, %s, #4, #7", r(8, x), r(8, y))
}

func oneRegisterForms(f *forms, x reg) {
	f.a.br(x)
	f.Add("br %s", r(8, x))
	f.a.blr(x)
	f.Add("blr %s", r(8, x))
	for _, v := range []uint16{1, 0x1234, 0xfffe} {
		f.a.movWide(opMOVZ, 8, x, v, 1)
		f.Add("mov %s, #%d", r(8, x), uint64(v)<<16)
		f.a.movWide(opMOVZ, 4, x, v, 0)
		f.Add("mov %s, #%d", r(4, x), v)
		f.a.movWide(opMOVN, 8, x, v, 3)
		f.Add("mov %s, #%d", r(8, x), int64(^(uint64(v) << 48)))
		f.a.movWide(opMOVN, 4, x, v, 0)
		f.Add("mov %s, #%d", r(4, x), ^int32(v))
		f.a.movWide(opMOVK, 8, x, v, 2)
		f.Add("movk %s, #%d, lsl #32", r(8, x), v)
	}
}

// maskForms adds every bit mask there is.
func maskForms(f *forms) {
	for _, w := range []uint8{4, 8} {
		for v := range masks(int(8 * w)) {
			b, ok := bitmask(v, w)
			if !ok {
				f.Add("no encoding for %#x", v)
				continue
			}
			x, y := reg(v%31), reg(v>>7%31)
			f.a.logicImm(opEOR, w, x, y, b)
			f.Add("eor %s, %s, #%#x", r(int(w), x), r(int(w), y), v)
			f.a.logicImm(opANDS, w, zr, y, b)
			f.Add("tst %s, #%#x", r(int(w), y), v)
		}
	}
}

// masks returns all bit masks of so many bits: a run of ones in an element, rotated, repeated.
func masks(width int) map[uint64]bool {
	all := map[uint64]bool{}
	for n := 2; n <= width; n *= 2 {
		for ones := 1; ones < n; ones++ {
			for rot := range n {
				v := uint64(0)
				for i := range width {
					if (i+rot)%n < ones {
						v |= 1 << i
					}
				}
				all[v] = true
			}
		}
	}
	return all
}

func memText(m mem) string {
	switch {
	case m.index != zr:
		return fmt.Sprintf("[%s, %s]", rsp(8, m.base), r(8, m.index))
	case m.disp != 0:
		return fmt.Sprintf("[%s, #%d]", rsp(8, m.base), m.disp)
	}
	return fmt.Sprintf("[%s]", rsp(8, m.base))
}

func memoryForms(f *forms, x, y reg) {
	suffix := map[uint8]string{1: "b", 2: "h", 4: "", 8: ""}
	for _, w := range []uint8{1, 2, 4, 8} {
		t := r(4, x)
		if w == 8 {
			t = r(8, x)
		}
		ops := []mem{at(y, 0), at(y, int32(w)), at(y, 4095*int32(w)), at(y, -1), at(y, -256), at(y, 255), indexed(y, (x+y)%31)}
		for _, m := range ops {
			u := ""
			if m.index == zr && !fitsScaled(w, m.disp) {
				u = "u"
			}
			f.a.access(opSTR, w, x, m)
			f.Add("st%sr%s %s, %s", u, suffix[w], t, memText(m))
			f.a.access(opLDR, w, x, m)
			f.Add("ld%sr%s %s, %s", u, suffix[w], t, memText(m))
			if w < 8 {
				f.a.access(opLDRS, w, x, m)
				f.Add("ld%srs%s %s, %s", u, map[uint8]string{1: "b", 2: "h", 4: "w"}[w], r(8, x), memText(m))
			}
		}
		f.a.ldar(w, x, y)
		f.Add("ldar%s %s, [%s]", suffix[w], t, rsp(8, y))
		f.a.stlr(w, x, y)
		f.Add("stlr%s %s, [%s]", suffix[w], t, rsp(8, y))
		if w >= 4 {
			atomicForms(f, w, x, y)
		}
	}
	f.a.loadScaled(x, y, x)
	f.Add("ldr %s, [%s, %s, uxtw #3]", r(8, x), rsp(8, y), r(4, x))
	pairForms(f, x, y)
}

func pairForms(f *forms, x, y reg) {
	t, u, b := r(8, x), r(8, x^1), rsp(8, y)
	if x == y || x^1 == y {
		return // writeback of a register that is loaded
	}
	f.a.pair(opSTP, x, x^1, y, 16)
	f.Add("stp %s, %s, [%s, #16]", t, u, b)
	f.a.pair(opLDP, x, x^1, y, -512)
	f.Add("ldp %s, %s, [%s, #-512]", t, u, b)
	f.a.pair(opSTPPre, x, x^1, y, -16)
	f.Add("stp %s, %s, [%s, #-16]!", t, u, b)
	f.a.pair(opLDPPost, x, x^1, y, 504)
	f.Add("ldp %s, %s, [%s], #504", t, u, b)
}

func atomicForms(f *forms, w uint8, x, y reg) {
	s := (x + 1) % 31
	t, old := r(int(w), x), r(int(w), s)
	for op, n := range map[uint32]string{opLDADDAL: "ldaddal", opLDCLRAL: "ldclral", opLDEORAL: "ldeoral", opLDSETAL: "ldsetal", opSWPAL: "swpal"} {
		f.a.atomicOp(op, w, x, s, y)
		f.Add("%s %s, %s, [%s]", n, t, old, rsp(8, y))
	}
	f.a.casal(w, x, s, y)
	f.Add("casal %s, %s, [%s]", t, old, rsp(8, y))
	f.a.ldxr(w, x, y)
	f.Add("ldxr %s, [%s]", t, rsp(8, y))
	if s != y && s != x {
		f.a.stlxr(w, s, x, y)
		f.Add("stlxr %s, %s, [%s]", r(4, s), t, rsp(8, y))
	}
}

func same(llvm, ours string) bool { return llvm == ours }

// TestFormsLLVM disassembles every form with LLVM and compares the text.
func TestFormsLLVM(t *testing.T) {
	jittest.CheckLLVM(t, allForms(), same, "-triple=aarch64", "-mattr=+lse")
}

// TestFormsGolden compares some forms with a table that LLVM has confirmed, on machines without LLVM as well.
func TestFormsGolden(t *testing.T) { jittest.CheckGolden(t, allForms(), "testdata/forms.txt", 64) }

// TestForms decodes every form with golang.org/x/arch, which must find the same instruction; it does not know those of LSE.
func TestForms(t *testing.T) {
	for _, f := range allForms() {
		op, _, _ := strings.Cut(f.Text, " ")
		in, err := arm64asm.Decode(f.Code)
		if err != nil {
			if !strings.HasSuffix(op, "al") && op != "udf" {
				t.Errorf("% x: %s: %v", f.Code, f.Text, err)
			}
			continue
		}
		if got, _, _ := strings.Cut(arm64asm.GNUSyntax(in), " "); got != op {
			t.Errorf("% x: %s is decoded as %s", f.Code, f.Text, arm64asm.GNUSyntax(in))
		}
	}
}

// TestMovImm runs what loads a constant and counts its instructions.
func TestMovImm(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	count := map[int]int{}
	check := func(v uint64, most int) {
		a := &asm{}
		a.movImm(x5, v)
		if got := loaded(t, a.buf); got != v {
			t.Fatalf("%#x: % x loads %#x", v, a.buf, got)
		}
		n := len(a.buf) / 4
		if count[n]++; n > most {
			t.Errorf("%#x takes %d instructions, %d are enough", v, n, most)
		}
	}
	for v := range masks(64) {
		check(v, 1)
	}
	for v := range masks(32) {
		check(v, 1)
	}
	for v := range masks(64) {
		check(withHalf(v, rnd.IntN(4), uint16(rnd.Uint32())), 2)
	}
	for range 20000 {
		v, n := uint64(0), 0
		for h := range 4 {
			if rnd.IntN(2) == 0 {
				v = withHalf(v, h, uint16(1+rnd.IntN(0xffff)))
				n++
			}
		}
		check(v, max(n, 1))
		check(^v, max(n, 1))
		check(rnd.Uint64(), 4)
		check(uint64(rnd.Uint32()), 2)
	}
	check(0x00007f1234560000, 2)
	check(0xffffffff80000000, 1)
	t.Log(count)
}

// loaded follows moves into one register.
func loaded(t *testing.T, code []byte) (v uint64) {
	for ; len(code) > 0; code = code[4:] {
		w := uint32(code[0]) | uint32(code[1])<<8 | uint32(code[2])<<16 | uint32(code[3])<<24
		imm, sh, wide := uint64(w>>5&0xffff), w>>21&3*16, w>>31 != 0
		switch w & 0x7f800000 {
		case opMOVZ:
			v = imm << sh
		case opMOVN:
			v = ^(imm << sh)
		case opMOVK:
			v = v&^(0xffff<<sh) | imm<<sh
		case 0x32000000:
			v = maskValue(w >> 10 & 0x1fff)
		default:
			t.Fatalf("unexpected instruction %#x", w)
		}
		if !wide {
			v &= 0xffffffff
		}
	}
	return v
}

// maskValue decodes N:immr:imms as the manual says (DecodeBitMasks).
func maskValue(b uint32) (v uint64) {
	n, immr, imms := b>>12, b>>6&63, b&63
	size := uint32(64)
	if n == 0 {
		for size = 32; imms&size != 0; size /= 2 {
		}
	}
	ones := imms&(size-1) + 1
	for i := range uint32(64) {
		if (i+immr)%size < ones {
			v |= 1 << i
		}
	}
	return v
}
