package asmtext

import (
	"fmt"
	"strings"

	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/program"
)

// Text writes the instructions of a program in LLVM's syntax, with labels for functions and jump targets, so that
// Parse with the same maps and kfuncs gives the same instructions. What text cannot say stands as .raw. For the
// kernel log's syntax see isa.Format.
func Text(p *program.Program) string {
	t := &printer{p: p, insns: p.Insns, labels: map[int]string{}}
	t.findLabels()
	for pc := 0; pc < len(t.insns); pc += t.slots(pc) {
		if l := t.labels[pc]; l != "" {
			fmt.Fprintf(&t.b, "%s:\n", l)
		}
		t.b.WriteString("\t")
		t.insn(pc)
		t.b.WriteString("\n")
	}
	return t.b.String()
}

type printer struct {
	p      *program.Program
	insns  []isa.Insn
	labels map[int]string
	b      strings.Builder
}

// slots returns the width of what is printed at pc: a wide load whose second half is missing or odd is printed raw.
func (t *printer) slots(pc int) int {
	if t.whole(pc) {
		return t.insns[pc].Slots()
	}
	return 1
}

// whole reports whether the instruction at pc is complete and uses no field that its text does not show.
func (t *printer) whole(pc int) bool {
	in := t.insns[pc]
	end := pc + in.Slots()
	if end > len(t.insns) {
		return false
	}
	return isa.Check(t.insns[pc:end]) == nil && (!in.IsCall() || in.Off == 0 && in.Dst == 0 && in.Src <= isa.PseudoKfuncCall)
}

// findLabels names every target of a jump, call or function pointer.
func (t *printer) findLabels() {
	starts := map[int]bool{}
	for pc := 0; pc < len(t.insns); pc += t.slots(pc) {
		starts[pc] = true
	}
	for pc := 0; pc < len(t.insns); pc += t.slots(pc) {
		in, target := t.insns[pc], -1
		if in.IsJump() {
			target = in.JumpTarget(pc)
		} else if in.IsPseudoCall() || in.IsPseudoFunc() {
			target = pc + 1 + int(in.Imm)
		}
		if starts[target] && t.whole(pc) {
			t.labels[target] = fmt.Sprintf("L%d", target)
		}
	}
	for _, f := range t.p.Funcs {
		if t.labels[f.Start] != "" && f.Name != "" {
			t.labels[f.Start] = f.Name
		}
	}
}

func (t *printer) insn(pc int) {
	in := t.insns[pc]
	info := in.Info()
	raw := !t.whole(pc)
	if !raw {
		switch info.Kind {
		case isa.KindLdImm64:
			raw = !t.wide(pc)
		case isa.KindCall, isa.KindJump, isa.KindJumpIf, isa.KindMayGoto:
			raw = !t.jump(pc, info)
		default:
			t.simple(in, info)
		}
	}
	for i := 0; raw && i < t.slots(pc); i++ {
		in := t.insns[pc+i]
		if i > 0 {
			t.b.WriteString("; ")
		}
		fmt.Fprintf(&t.b, ".raw %#x, %d, %d, %d, %d", in.Op, in.Dst, in.Src, in.Off, in.Imm)
	}
}

// reg is rN, or wN where the instruction works on 32 bits.
func reg(r isa.Reg, is32 bool) string {
	if is32 {
		return fmt.Sprintf("w%d", r)
	}
	return fmt.Sprintf("r%d", r)
}

func operand(in isa.Insn, info isa.Info) string {
	if info.SrcReg {
		return reg(in.Src, info.Is32)
	}
	return fmt.Sprint(in.Imm)
}

// address is "rN + OFF" or "rN - OFF".
func address(r isa.Reg, off int16) string {
	if off < 0 {
		return fmt.Sprintf("r%d - %d", r, -int(off))
	}
	return fmt.Sprintf("r%d + %d", r, off)
}

func memory(kind byte, bits uint8, r isa.Reg, off int16) string {
	return fmt.Sprintf("(%c%d *)(%s)", kind, bits, address(r, off))
}

// simple prints instructions that refer to no place in the program.
func (t *printer) simple(in isa.Insn, info isa.Info) {
	dst := reg(in.Dst, info.Is32)
	w := func(format string, args ...any) { fmt.Fprintf(&t.b, format, args...) }
	switch info.Kind {
	case isa.KindALU:
		w("%s %s %s", dst, isa.AluText(info.Op, info.Signed), operand(in, info))
	case isa.KindMov:
		w("%s = %s", dst, operand(in, info))
	case isa.KindMovSX:
		w("%s = (s%d)%s", dst, info.From, reg(in.Src, info.Is32))
	case isa.KindAddrSpaceCast:
		w("%s = addr_space_cast(r%d, %d, %d)", dst, in.Src, uint32(in.Imm)>>16, uint16(in.Imm))
	case isa.KindNeg:
		w("%s = -%s", dst, dst)
	case isa.KindEndian, isa.KindBswap:
		name := "le"
		if info.Kind == isa.KindBswap {
			name = "bswap"
		} else if info.SrcReg {
			name = "be"
		}
		w("%s = %s%d %s", dst, name, info.Bits, dst)
	case isa.KindLdAbs:
		w("r0 = *(u%d *)skb[%d]", info.Bits, in.Imm)
	case isa.KindLdInd:
		w("r0 = *(u%d *)skb[r%d", info.Bits, in.Src)
		if in.Imm != 0 { // LLVM has no text for that
			w(" + %d", in.Imm)
		}
		w("]")
	case isa.KindLoad:
		w("%s = *%s", dst, memory('u', info.Bits, in.Src, in.Off))
	case isa.KindLoadSX:
		w("%s = *%s", dst, memory('s', info.Bits, in.Src, in.Off))
	case isa.KindStore:
		w("*%s = r%d", memory('u', info.Bits, in.Dst, in.Off), in.Src)
	case isa.KindStoreImm:
		w("*%s = %d", memory('u', info.Bits, in.Dst, in.Off), in.Imm)
	case isa.KindExit:
		w("exit")
	default:
		t.atomic(in, info)
	}
}

func (t *printer) atomic(in isa.Insn, info isa.Info) {
	w := func(format string, args ...any) { fmt.Fprintf(&t.b, format, args...) }
	src, suffix := reg(in.Src, info.Is32), "_64"
	if info.Is32 {
		suffix = "32_32"
	}
	names := map[uint8]string{isa.AtomicADD: "add", isa.AtomicOR: "or", isa.AtomicAND: "and", isa.AtomicXOR: "xor"}
	switch info.Kind {
	case isa.KindAtomic:
		w("lock *%s %s %s", memory('u', info.Bits, in.Dst, in.Off), isa.AluText(info.Op, false), src)
	case isa.KindAtomicFetch:
		w("%s = atomic_fetch_%s(%s, %s)", src, names[info.Op], memory('u', info.Bits, in.Dst, in.Off), src)
	case isa.KindXchg:
		w("%s = xchg%s(%s, %s)", src, suffix, address(in.Dst, in.Off), src)
	case isa.KindCmpxchg:
		r0 := reg(isa.R0, info.Is32)
		w("%s = cmpxchg%s(%s, %s, %s)", r0, suffix, address(in.Dst, in.Off), r0, src)
	case isa.KindLoadAcquire:
		w("%s = load_acquire(%s)", reg(in.Dst, info.Bits < 64), memory('u', info.Bits, in.Src, in.Off))
	case isa.KindStoreRelease:
		w("store_release(%s, %s)", memory('u', info.Bits, in.Dst, in.Off), reg(in.Src, info.Bits < 64))
	}
}

// wide prints a 64-bit immediate load; false if it has no text.
func (t *printer) wide(pc int) bool {
	in := t.insns[pc]
	imm := isa.Imm64(in, t.insns[pc+1])
	i := int(in.Imm)
	switch in.Src {
	case 0:
		fmt.Fprintf(&t.b, "r%d = %#x ll", in.Dst, imm)
	case isa.PseudoFunc:
		l := t.labels[pc+1+i]
		if l == "" || imm>>32 != 0 {
			return false
		}
		fmt.Fprintf(&t.b, "r%d = %s ll", in.Dst, l)
	case isa.PseudoMapFD, isa.PseudoMapValue:
		if i < 0 || i >= len(t.p.Maps) || in.Src == isa.PseudoMapFD && imm>>32 != 0 {
			return false
		}
		fmt.Fprintf(&t.b, "r%d = map[%s]", in.Dst, t.p.Maps[i].Name)
		if in.Src == isa.PseudoMapValue {
			fmt.Fprintf(&t.b, "[0]+%d", imm>>32)
		}
		t.b.WriteString(" ll")
	default:
		return false
	}
	return true
}

// jump prints a jump or call; false if its target has no label or name.
func (t *printer) jump(pc int, info isa.Info) bool {
	in := t.insns[pc]
	if info.Kind == isa.KindCall {
		return t.call(pc)
	}
	label := t.labels[in.JumpTarget(pc)]
	if label == "" {
		return false
	}
	switch {
	case info.Kind == isa.KindJumpIf:
		fmt.Fprintf(&t.b, "if %s %s %s ", reg(in.Dst, info.Is32), isa.JumpText(info.Op), operand(in, info))
	case info.Kind == isa.KindMayGoto:
		t.b.WriteString("may_")
	}
	t.b.WriteString("goto")
	if in.IsJump32() && info.Kind == isa.KindJump {
		t.b.WriteString("l")
	}
	t.b.WriteString(" " + label)
	return true
}

func (t *printer) call(pc int) bool {
	in := t.insns[pc]
	switch {
	case in.IsHelperCall():
		fmt.Fprintf(&t.b, "call %d", in.Imm)
	case in.IsPseudoCall():
		l := t.labels[pc+1+int(in.Imm)]
		if l == "" {
			return false
		}
		t.b.WriteString("call " + l)
	default:
		if in.Imm < 0 || int(in.Imm) >= len(t.p.Kfuncs) {
			return false
		}
		t.b.WriteString("call " + t.p.Kfuncs[in.Imm].Name)
	}
	return true
}
