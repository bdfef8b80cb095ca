package asmtext

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/skep-bpf/skep/internal/isa"
)

// reg takes a register of the given kind: 'r', 'w' or 0 for either.
func (p *parser) reg(kind byte) (isa.Reg, error) {
	t := p.peek()
	k, r, ok := parseReg(t)
	if !ok || kind != 0 && k != kind {
		want := "a register"
		if kind != 0 {
			want = "register " + string(kind) + "N"
		}
		return 0, fmt.Errorf("expected %s, found %s", want, t)
	}
	p.pos++
	return r, nil
}

// parseReg reads rN or wN with N up to 15: numbers above 10 mean something only to the verifier.
func parseReg(t token) (kind byte, r isa.Reg, ok bool) {
	if t.kind != tokIdent || len(t.text) < 2 || len(t.text) > 3 || t.text[0] != 'r' && t.text[0] != 'w' {
		return 0, 0, false
	}
	n, err := strconv.ParseUint(t.text[1:], 10, 8)
	if err != nil || n > 15 {
		return 0, 0, false
	}
	return t.text[0], isa.Reg(n), true
}

// expr takes a constant: numbers and .equ names with + - * << and parentheses, of 64 bits.
func (p *parser) expr() (int64, error) {
	v, err := p.term()
	for err == nil {
		var w int64
		switch {
		case p.accept("+"):
			w, err = p.term()
			v += w
		case p.accept("-"):
			w, err = p.term()
			v -= w
		case p.accept("<<"):
			w, err = p.term()
			v <<= uint64(w) & 63
		case p.accept("|"):
			w, err = p.term()
			v |= w
		default:
			return v, nil
		}
	}
	return 0, err
}

func (p *parser) term() (int64, error) {
	v, err := p.unary()
	for err == nil && p.accept("*") {
		var w int64
		w, err = p.unary()
		v *= w
	}
	return v, err
}

func (p *parser) unary() (int64, error) {
	if p.depth++; p.depth > 100 {
		return 0, fmt.Errorf("expression nested too deeply")
	}
	defer func() { p.depth-- }()
	switch {
	case p.accept("-"):
		v, err := p.unary()
		return -v, err
	case p.accept("+"):
		return p.unary()
	case p.accept("~"):
		v, err := p.unary()
		return ^v, err
	case p.accept("("):
		v, err := p.expr()
		if err != nil {
			return 0, err
		}
		return v, p.expect(")")
	}
	switch t := p.peek(); t.kind {
	case tokNumber:
		p.pos++
		if v, err := strconv.ParseInt(t.text, 0, 64); err == nil {
			return v, nil
		}
		v, err := strconv.ParseUint(t.text, 0, 64)
		if err != nil {
			return 0, fmt.Errorf("bad number %s", t)
		}
		return int64(v), nil
	case tokIdent:
		if v, ok := p.equ[t.text]; ok {
			p.pos++
			return v, nil
		}
	}
	return 0, fmt.Errorf("expected a number, found %s", p.peek())
}

// imm32 takes values of -2^31 to 2^32-1: an immediate is written signed or as 32 bits.
func imm32(v int64) (int32, error) {
	if v < math.MinInt32 || v > math.MaxUint32 {
		return 0, fmt.Errorf("%d does not fit into 32 bits", v)
	}
	return int32(uint32(v)), nil
}

func (p *parser) immExpr() (int32, error) {
	v, err := p.expr()
	if err != nil {
		return 0, err
	}
	return imm32(v)
}

var sizeNames = map[string]struct {
	field  uint8
	signed bool
}{
	"u8": {isa.SizeB, false}, "u16": {isa.SizeH, false}, "u32": {isa.SizeW, false}, "u64": {isa.SizeDW, false},
	"s8": {isa.SizeB, true}, "s16": {isa.SizeH, true}, "s32": {isa.SizeW, true}, "s64": {isa.SizeDW, true},
}

// memOp is *(SIZE *)(REG + OFF), without the leading star.
type memOp struct {
	size   uint8
	signed bool
	base   isa.Reg
	off    int16
}

func (p *parser) mem() (m memOp, err error) {
	if err := p.expect("("); err != nil {
		return m, err
	}
	name, err := p.ident()
	if err != nil {
		return m, err
	}
	s, ok := sizeNames[name]
	if !ok {
		return m, fmt.Errorf("unknown access size %s", name)
	}
	m.size, m.signed = s.field, s.signed
	if err := p.expect("*", ")"); err != nil {
		return m, err
	}
	m.base, m.off, err = p.addr()
	return m, err
}

// addr takes (REG), (REG + OFF) or (REG - OFF), with the sign also stuck to the number.
func (p *parser) addr() (r isa.Reg, off int16, err error) {
	if err = p.expect("("); err != nil {
		return
	}
	r, off, err = p.regOff()
	if err != nil {
		return
	}
	return r, off, p.expect(")")
}

func (p *parser) regOff() (r isa.Reg, off int16, err error) {
	if r, err = p.reg('r'); err != nil {
		return
	}
	if t := p.peek().text; t == "+" || t == "-" {
		var v int64
		if v, err = p.expr(); err != nil {
			return
		}
		if v != int64(int16(v)) {
			return 0, 0, fmt.Errorf("offset %d does not fit into 16 bits", v)
		}
		off = int16(v)
	}
	return
}

// statement takes one instruction.
func (p *parser) statement() error {
	switch t := p.peek(); t.text {
	case "exit":
		p.pos++
		p.emit(isa.Insn{Op: isa.ClassJMP | isa.JmpEXIT})
		return nil
	case "goto", "gotol", "may_goto":
		p.pos++
		return p.jump(t.text)
	case "if":
		p.pos++
		return p.jumpIf()
	case "call":
		p.pos++
		return p.call()
	case "lock":
		p.pos++
		return p.lock()
	case "*":
		p.pos++
		return p.store()
	case "store_release":
		p.pos++
		return p.storeRelease()
	case "nospec":
		return fmt.Errorf("nospec is no instruction of programs")
	}
	kind, dst, ok := parseReg(p.peek())
	if !ok {
		return fmt.Errorf("expected an instruction, found %s", p.peek())
	}
	p.pos++
	if p.accept("=") {
		return p.assign(kind, dst)
	}
	return p.alu(kind, dst)
}

func aluClass(kind byte) uint8 {
	if kind == 'w' {
		return isa.ClassALU
	}
	return isa.ClassALU64
}

var aluOps = map[string]uint8{
	"+=": isa.AluADD, "-=": isa.AluSUB, "*=": isa.AluMUL, "/=": isa.AluDIV, "|=": isa.AluOR, "&=": isa.AluAND,
	"<<=": isa.AluLSH, ">>=": isa.AluRSH, "%=": isa.AluMOD, "^=": isa.AluXOR,
}

func (p *parser) alu(kind byte, dst isa.Reg) error {
	signed := p.accept("s")
	t := p.next()
	op, ok := aluOps[t.text]
	in := isa.Insn{Dst: dst}
	if signed && ok {
		switch op {
		case isa.AluRSH:
			op = isa.AluARSH
		case isa.AluDIV, isa.AluMOD:
			in.Off = 1
		default:
			ok = false
		}
	}
	if !ok || t.kind != tokPunct {
		return fmt.Errorf("unknown operator %s", t)
	}
	in.Op = aluClass(kind) | op
	return p.operand(in, kind)
}

// operand takes a register of the given kind or an immediate as second operand, and emits.
func (p *parser) operand(in isa.Insn, kind byte) error {
	var err error
	if _, _, ok := parseReg(p.peek()); ok {
		in.Op |= isa.SrcX
		in.Src, err = p.reg(kind)
	} else {
		in.Imm, err = p.immExpr()
	}
	p.emit(in)
	return err
}

// assign takes what stands behind "rN =".
func (p *parser) assign(kind byte, dst isa.Reg) error {
	t, t1 := p.peek(), p.at(1)
	_, _, isReg := parseReg(t)
	_, _, negReg := parseReg(t1)
	switch {
	case isReg:
		src, err := p.reg(kind)
		p.emit(isa.Insn{Op: aluClass(kind) | isa.AluMOV | isa.SrcX, Dst: dst, Src: src})
		return err
	case t.text == "-" && negReg:
		p.pos++
		if r, err := p.reg(kind); err != nil || r != dst {
			return fmt.Errorf("negation has one register")
		}
		p.emit(isa.Insn{Op: aluClass(kind) | isa.AluNEG, Dst: dst})
		return nil
	case t.text == "*":
		p.pos++
		return p.load(dst)
	case t.text == "(" && sizeNames[t1.text].signed:
		return p.movsx(kind, dst)
	case t.text == "map" && t1.text == "[":
		return p.mapLoad(dst)
	case t.kind == tokIdent && t1.text == "ll":
		p.pos += 2
		p.emit64(isa.Insn{Op: isa.ClassLD | isa.ModeIMM | isa.SizeDW, Dst: dst}, 0)
		p.fixups = append(p.fixups, fixup{len(p.insns) - 2, t.text, fixLoad})
		return nil
	case t.kind == tokIdent:
		if _, equ := p.equ[t.text]; !equ {
			return p.named(kind, dst)
		}
	}
	v, err := p.expr()
	if err != nil {
		return err
	}
	if p.accept("ll") {
		p.emit64(isa.Insn{Op: isa.ClassLD | isa.ModeIMM | isa.SizeDW, Dst: dst}, uint64(v))
		return nil
	}
	imm, err := imm32(v)
	p.emit(isa.Insn{Op: aluClass(kind) | isa.AluMOV, Dst: dst, Imm: imm})
	return err
}

func (p *parser) movsx(kind byte, dst isa.Reg) error {
	p.pos++
	bits := map[string]int16{"s8": 8, "s16": 16, "s32": 32}[p.next().text]
	if err := p.expect(")"); err != nil {
		return err
	}
	src, err := p.reg(kind)
	p.emit(isa.Insn{Op: aluClass(kind) | isa.AluMOV | isa.SrcX, Dst: dst, Src: src, Off: bits})
	return err
}

// mapLoad takes map[NAME] [ll] or map[NAME][0]+OFF [ll].
func (p *parser) mapLoad(dst isa.Reg) error {
	if err := p.expect("map", "["); err != nil {
		return err
	}
	name := p.next().text
	if err := p.expect("]"); err != nil {
		return err
	}
	in, off := isa.Insn{Op: isa.ClassLD | isa.ModeIMM | isa.SizeDW, Dst: dst, Src: isa.PseudoMapFD}, int64(0)
	if p.accept("[") {
		in.Src = isa.PseudoMapValue
		if err := p.expect("0", "]"); err != nil {
			return err
		}
		if t := p.peek().text; t == "+" || t == "-" {
			var err error
			if off, err = p.expr(); err != nil {
				return err
			}
		}
	}
	p.accept("ll")
	p.syms.Maps = append(p.syms.Maps, Ref{len(p.insns), name})
	p.emit64(in, uint64(off)<<32)
	return nil
}

func (p *parser) load(dst isa.Reg) error {
	if p.at(3).text == ")" && p.at(4).text == "skb" {
		return p.loadSkb(dst)
	}
	m, err := p.mem()
	mode := uint8(isa.ModeMEM)
	if m.signed {
		mode = isa.ModeMEMSX
	}
	p.emit(isa.Insn{Op: isa.ClassLDX | mode | m.size, Dst: dst, Src: m.base, Off: m.off})
	return err
}

// loadSkb takes (u8 *)skb[IMM] or (u8 *)skb[rN + IMM].
func (p *parser) loadSkb(dst isa.Reg) error {
	s, ok := sizeNames[p.at(1).text]
	if dst != isa.R0 || !ok || s.signed || p.at(2).text != "*" {
		return fmt.Errorf("packet loads are r0 = *(u8|u16|u32 *)skb[...]")
	}
	p.pos += 5
	if err := p.expect("["); err != nil {
		return err
	}
	in := isa.Insn{Op: isa.ClassLD | isa.ModeABS | s.field}
	var err error
	if _, _, reg := parseReg(p.peek()); reg {
		in.Op = isa.ClassLD | isa.ModeIND | s.field
		in.Src, _ = p.reg('r')
		if p.peek().text != "]" {
			in.Imm, err = p.immExpr()
		}
	} else {
		in.Imm, err = p.immExpr()
	}
	p.emit(in)
	if err != nil {
		return err
	}
	return p.expect("]")
}

func (p *parser) store() error {
	m, err := p.mem()
	if err != nil {
		return err
	}
	if m.signed {
		return fmt.Errorf("stores are unsigned")
	}
	if err := p.expect("="); err != nil {
		return err
	}
	in := isa.Insn{Op: isa.ModeMEM | m.size, Dst: m.base, Off: m.off}
	if _, _, ok := parseReg(p.peek()); ok {
		in.Op |= isa.ClassSTX
		in.Src, err = p.reg(0) // LLVM writes wN for narrow stores
	} else {
		in.Op |= isa.ClassST
		in.Imm, err = p.immExpr()
	}
	p.emit(in)
	return err
}

func (p *parser) storeRelease() error {
	if err := p.expect("("); err != nil {
		return err
	}
	m, err := p.mem()
	if err != nil {
		return err
	}
	if err := p.expect(","); err != nil {
		return err
	}
	src, err := p.reg(0)
	p.emit(isa.Insn{Op: isa.ClassSTX | isa.ModeATOMIC | m.size, Dst: m.base, Src: src, Off: m.off, Imm: isa.AtomicStoreRel})
	if err != nil {
		return err
	}
	return p.expect(")")
}

func (p *parser) lock() error {
	if err := p.expect("*"); err != nil {
		return err
	}
	m, err := p.mem()
	if err != nil {
		return err
	}
	t := p.next()
	op, ok := map[string]int32{"+=": isa.AtomicADD, "|=": isa.AtomicOR, "&=": isa.AtomicAND, "^=": isa.AtomicXOR}[t.text]
	if !ok {
		return fmt.Errorf("no atomic operation %s", t)
	}
	src, err := p.reg(0)
	p.emit(isa.Insn{Op: isa.ClassSTX | isa.ModeATOMIC | m.size, Dst: m.base, Src: src, Off: m.off, Imm: op})
	return err
}

// named takes the forms that begin with a name: byte order and atomics.
func (p *parser) named(kind byte, dst isa.Reg) error {
	name, err := p.ident()
	if err != nil {
		return err
	}
	for prefix, op := range map[string]uint8{
		"le": isa.ClassALU | isa.AluEND, "be": isa.ClassALU | isa.AluEND | isa.SrcX, "bswap": isa.ClassALU64 | isa.AluEND,
	} {
		if n, ok := strings.CutPrefix(name, prefix); ok && (n == "16" || n == "32" || n == "64") {
			bits, _ := strconv.Atoi(n)
			src, err := p.reg('r')
			if err == nil && src != dst {
				err = fmt.Errorf("%s has one register", name)
			}
			p.emit(isa.Insn{Op: op, Dst: dst, Imm: int32(bits)})
			return err
		}
	}
	if name == "addr_space_cast" {
		return p.addrSpaceCast(dst)
	}
	return p.atomic(kind, dst, name)
}

func (p *parser) addrSpaceCast(dst isa.Reg) error {
	if err := p.expect("("); err != nil {
		return err
	}
	src, err := p.reg('r')
	if err != nil {
		return err
	}
	var as [2]int64
	for i := range as {
		if err := p.expect(","); err != nil {
			return err
		}
		if as[i], err = p.expr(); err != nil {
			return err
		}
	}
	p.emit(isa.Insn{Op: isa.ClassALU64 | isa.AluMOV | isa.SrcX, Dst: dst, Src: src, Off: 1, Imm: int32(as[0]<<16 | as[1]&0xffff)})
	return p.expect(")")
}
