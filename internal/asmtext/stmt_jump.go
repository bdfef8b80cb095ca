package asmtext

import (
	"fmt"
	"strings"

	"github.com/skep-bpf/skep/internal/isa"
)

// target takes where a jump goes: pc+N, +N, -N, or a label, which gets a fix-up once the jump was emitted.
func (p *parser) target() (rel int64, label string, err error) {
	t := p.peek()
	if t.text == "pc" && (p.at(1).text == "+" || p.at(1).text == "-") {
		p.pos++
		t = p.peek()
	}
	if t.text == "+" || t.text == "-" {
		rel, err = p.expr()
		return rel, "", err
	}
	p.pos++
	if t.kind == tokIdent {
		return 0, t.text, nil
	}
	if n := len(t.text); t.kind == tokNumber && n > 1 && (t.text[n-1] == 'f' || t.text[n-1] == 'b') && !strings.HasPrefix(t.text, "0x") {
		return 0, t.text, nil
	}
	return 0, "", fmt.Errorf("expected a jump target, found %s", t)
}

func (p *parser) jump(word string) error {
	rel, label, err := p.target()
	if err != nil {
		return err
	}
	in, kind := isa.Insn{Op: isa.ClassJMP | isa.JmpJA}, fixJump
	switch word {
	case "gotol":
		in.Op, kind = isa.ClassJMP32|isa.JmpJA, fixJumpL
		in.Imm, err = imm32(rel)
	case "may_goto":
		in.Op = isa.ClassJMP | isa.JmpJCOND
		in.Off, err = off16(rel)
	default:
		in.Off, err = off16(rel)
	}
	p.emit(in)
	if label != "" {
		p.fix(label, kind)
	}
	return err
}

func off16(v int64) (int16, error) {
	if v != int64(int16(v)) {
		return 0, fmt.Errorf("offset %d does not fit into 16 bits", v)
	}
	return int16(v), nil
}

var jumpOps = map[string][2]uint8{ // unsigned, signed
	"==": {isa.JmpJEQ}, "!=": {isa.JmpJNE}, "&": {isa.JmpJSET},
	">": {isa.JmpJGT, isa.JmpJSGT}, ">=": {isa.JmpJGE, isa.JmpJSGE}, "<": {isa.JmpJLT, isa.JmpJSLT}, "<=": {isa.JmpJLE, isa.JmpJSLE},
}

func (p *parser) jumpIf() error {
	kind := byte('r')
	if k, _, ok := parseReg(p.peek()); ok {
		kind = k
	}
	dst, err := p.reg(kind)
	if err != nil {
		return err
	}
	signed := 0
	if p.accept("s") {
		signed = 1
	}
	t := p.next()
	op := jumpOps[t.text][signed]
	if op == 0 || t.kind != tokPunct {
		return fmt.Errorf("unknown comparison %s", t)
	}
	in := isa.Insn{Op: isa.ClassJMP | op, Dst: dst}
	if kind == 'w' {
		in.Op = isa.ClassJMP32 | op
	}
	if err := p.operand(in, kind); err != nil {
		return err
	}
	if err := p.expect("goto"); err != nil {
		return err
	}
	rel, label, err := p.target()
	if err != nil {
		return err
	}
	last := &p.insns[len(p.insns)-1]
	if label != "" {
		p.fix(label, fixJump)
		return nil
	}
	last.Off, err = off16(rel)
	return err
}

// call takes a helper's number, pc+N, a name, or a name with a number behind # as the log prints it.
func (p *parser) call() error {
	in := isa.Insn{Op: isa.ClassJMP | isa.JmpCALL}
	t := p.peek()
	if t.text == "pc" && p.at(1).kind == tokPunct {
		p.pos++
		v, err := p.immExpr()
		in.Src, in.Imm = isa.PseudoCall, v
		p.emit(in)
		return err
	}
	if t.kind == tokIdent {
		p.pos++
		p.emit(in)
		if p.accept("#") {
			id, err := p.immExpr()
			if err != nil {
				return err
			}
			if isa.HelperName(id) == t.text || t.text == "unknown" {
				p.insns[len(p.insns)-1].Imm = id
				return nil
			}
		}
		p.fix(t.text, fixCall)
		return nil
	}
	v, err := p.immExpr()
	in.Imm = v
	p.emit(in)
	return err
}

// atomicForms are the functions of atomic instructions: LLVM's and the kernel log's names.
var atomicForms = func() map[string]struct {
	imm  int32
	size uint8
} {
	type form = struct {
		imm  int32
		size uint8
	}
	const any = 0xff // the size stands with the address
	m := map[string]form{"load_acquire": {isa.AtomicLoadAcq, any},
		"xchg_64": {isa.AtomicXCHG, isa.SizeDW}, "xchg32_32": {isa.AtomicXCHG, isa.SizeW},
		"cmpxchg_64": {isa.AtomicCMPXCHG, isa.SizeDW}, "cmpxchg32_32": {isa.AtomicCMPXCHG, isa.SizeW}}
	for name, imm := range map[string]int32{"fetch_add": isa.AtomicADD | isa.AtomicFETCH, "fetch_or": isa.AtomicOR | isa.AtomicFETCH,
		"fetch_and": isa.AtomicAND | isa.AtomicFETCH, "fetch_xor": isa.AtomicXOR | isa.AtomicFETCH, "xchg": isa.AtomicXCHG, "cmpxchg": isa.AtomicCMPXCHG} {
		m["atomic_"+name], m["atomic64_"+name] = form{imm, any}, form{imm, isa.SizeDW}
	}
	return m
}()

// atomic takes NAME((u64 *)(rN + OFF), ...) or NAME(rN + OFF, ...).
func (p *parser) atomic(kind byte, dst isa.Reg, name string) error {
	f, ok := atomicForms[name]
	if !ok {
		return fmt.Errorf("unknown operation '%s'", name)
	}
	if err := p.expect("("); err != nil {
		return err
	}
	m := memOp{size: f.size}
	var err error
	if p.peek().text == "(" {
		m, err = p.mem()
	} else {
		m.base, m.off, err = p.regOff()
	}
	if err != nil {
		return err
	}
	if m.size == 0xff || f.size != 0xff && m.size != f.size {
		return fmt.Errorf("size of the address does not fit '%s'", name)
	}
	in := isa.Insn{Op: isa.ClassSTX | isa.ModeATOMIC | m.size, Dst: m.base, Off: m.off, Imm: f.imm}
	if f.imm == isa.AtomicLoadAcq {
		in.Dst, in.Src = dst, m.base
		p.emit(in)
		return p.expect(")")
	}
	regs := []isa.Reg{}
	for p.accept(",") {
		r, err := p.reg(kind)
		if err != nil {
			return err
		}
		regs = append(regs, r)
	}
	if cmp := f.imm == isa.AtomicCMPXCHG; cmp && (len(regs) != 2 || regs[0] != isa.R0 || dst != isa.R0) {
		return fmt.Errorf("compare and exchange is r0 = %s(ADDR, r0, rN)", name)
	} else if !cmp && (len(regs) != 1 || regs[0] != dst) {
		return fmt.Errorf("'%s' has one register: rN = %s(ADDR, rN)", name, name)
	}
	in.Src = regs[len(regs)-1]
	p.emit(in)
	return p.expect(")")
}
