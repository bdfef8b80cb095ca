// Package asmtext turns text into BPF instructions and back, in the syntax of LLVM's assembler and of the kernel's
// verifier log, so that tests read as programs do.
//
//	r1 = map[counters] ll                 // or: r1 = counters ll
//	r2 = r10
//	r2 += -8
//	*(u64 *)(r10 - 8) = 0
//	call bpf_map_lookup_elem              // or: call 1
//	if r0 == 0 goto out
//	lock *(u64 *)(r0 + 0) += r1
//	out: r0 = 0
//	exit
//
// A line holds statements separated by ';'. Comments are // and /* */; a line that begins with ';' or '#' is a comment.
// Lines of a kernel log are taken as well, "12: (bf) r1 = r2 ; R1=ctx()": there everything behind ';' is a comment and
// the opcode in parentheses is checked. Jumps go to labels ("out:", or local numeric ones, "goto 1f") or by slots
// ("goto +2", "goto pc+2"). What text cannot say ".raw OP, DST, SRC, OFF, IMM" says.
//
// Program adds directives that make a whole program of it.
package asmtext

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/skep-bpf/skep/internal/isa"
)

// Symbols is what text says beyond the instructions.
type Symbols struct {
	Labels map[string]int // label or function name to slot
	Lines  []int          // source line number, from 1, of each slot
	// Maps are loads of a map's address or of an address in its value by name: the instruction has PseudoMapFD or
	// PseudoMapValue and a zero immediate. Kfuncs are calls of functions that are no label and no helper: the
	// instruction has PseudoKfuncCall and a zero immediate.
	Maps, Kfuncs []Ref
}

// Ref is a reference by name at slot PC.
type Ref struct {
	PC   int
	Name string
}

// Parse assembles text. Names that are neither labels nor helpers are left in Symbols for the caller to resolve. The
// error names the line.
func Parse(src string) (insns []isa.Insn, syms Symbols, err error) {
	p := newParser()
	if err := p.parse(src); err != nil {
		return nil, Symbols{}, err
	}
	if err := p.resolve(); err != nil {
		return nil, Symbols{}, err
	}
	return p.insns, p.syms, nil
}

type fixKind uint8

const (
	fixJump fixKind = iota // off
	fixJumpL
	fixCall // imm: function, helper or kfunc
	fixLoad // ld_imm64: map or function by bare name
)

type fixup struct {
	pc   int
	name string
	kind fixKind
}

type parser struct {
	cursor
	line   int
	depth  int // of the expression being read
	insns  []isa.Insn
	syms   Symbols
	fixups []fixup
	equ    map[string]int64
	local  map[string][]int // numeric labels: all slots, ascending
	// isMap tells whether a bare name in "r1 = name ll" is a map.
	isMap func(name string) bool
	// isKfunc tells whether a called name is a kfunc, before helpers are looked at.
	isKfunc func(name string) bool
	// directive handles a line that begins with a name with a dot in front; nil where there are none.
	directive func(name string) (bool, error)
}

func newParser() *parser {
	return &parser{
		syms: Symbols{Labels: map[string]int{}}, equ: map[string]int64{}, local: map[string][]int{},
		isMap: func(string) bool { return false }, isKfunc: func(string) bool { return false },
	}
}

func (p *parser) parse(src string) error {
	for i, line := range strings.Split(src, "\n") {
		p.line = i + 1
		trimmed := strings.TrimSpace(line)
		if trimmed == "" || trimmed[0] == ';' || trimmed[0] == '#' {
			continue
		}
		toks, err := lex(line)
		if err == nil {
			p.toks, p.pos = toks, 0
			err = p.parseLine()
		}
		if err != nil {
			return fmt.Errorf("line %d: %w: %s", p.line, err, trimmed)
		}
	}
	return nil
}

func (p *parser) parseLine() error {
	if ok, err := p.logLine(); ok || err != nil {
		return err
	}
	for !p.done() {
		switch t := p.peek(); {
		case p.accept(";"):
		case t.kind != tokString && p.at(1).text == ":" && (t.kind == tokIdent || t.kind == tokNumber):
			p.pos += 2
			if err := p.label(t); err != nil {
				return err
			}
		case t.kind == tokIdent && t.text[0] == '.':
			p.pos++
			if err := p.anyDirective(t.text); err != nil {
				return err
			}
		default:
			if err := p.statement(); err != nil {
				return err
			}
			if !p.done() && p.peek().text != ";" {
				return fmt.Errorf("unexpected %s", p.peek())
			}
		}
	}
	return nil
}

// logLine takes a line of a kernel log: [N:] (OP) INSN [; state].
func (p *parser) logLine() (bool, error) {
	start := p.pos
	if p.peek().kind == tokNumber && p.at(1).text == ":" {
		if s := p.at(2); s.kind == tokIdent && len(s.text) > 1 && s.text[0] == 'R' && s.text[1] >= '0' && s.text[1] <= '9' {
			p.pos = len(p.toks) // the state before an instruction
			return true, nil
		}
		p.pos += 2
	}
	op, err := strconv.ParseUint(p.at(1).text, 16, 8)
	if p.peek().text != "(" || len(p.at(1).text) != 2 || err != nil || p.at(2).text != ")" {
		p.pos = start
		return false, nil
	}
	p.pos += 3
	pc := len(p.insns)
	if uint8(op) == isa.ClassLD|isa.ModeIMM|isa.SizeDW {
		err = p.logLdImm64()
	} else {
		err = p.statement()
	}
	if err != nil {
		return true, err
	}
	if !p.done() && p.peek().text != ";" {
		return true, fmt.Errorf("unexpected %s", p.peek())
	}
	p.pos = len(p.toks)
	if got := p.insns[pc].Op; got != uint8(op) {
		return true, fmt.Errorf("the opcode of this text is %02x", got)
	}
	return true, nil
}

// logLdImm64 takes "r1 = 0x..." or "r1 = map[name]", which in a log have no "ll".
func (p *parser) logLdImm64() error {
	r, err := p.reg('r')
	if err != nil {
		return err
	}
	if err := p.expect("="); err != nil {
		return err
	}
	if p.peek().text == "map" {
		return p.mapLoad(r)
	}
	v, err := p.expr()
	if err != nil {
		return err
	}
	p.emit64(isa.Insn{Op: isa.ClassLD | isa.ModeIMM | isa.SizeDW, Dst: r}, uint64(v))
	return nil
}

func (p *parser) label(t token) error {
	if t.kind == tokNumber {
		p.local[t.text] = append(p.local[t.text], len(p.insns))
		return nil
	}
	return p.define(t.text)
}

func (p *parser) define(name string) error {
	if _, dup := p.syms.Labels[name]; dup {
		return fmt.Errorf("label %s defined twice", name)
	}
	p.syms.Labels[name] = len(p.insns)
	return nil
}

// anyDirective handles .raw and .equ, and leaves the others to the hook.
func (p *parser) anyDirective(name string) error {
	switch name {
	case ".raw":
		return p.raw()
	case ".equ":
		sym, err := p.ident()
		if err != nil {
			return err
		}
		v, err := p.expr()
		p.equ[sym] = v
		return err
	}
	if p.directive != nil {
		if ok, err := p.directive(name); ok || err != nil {
			return err
		}
	}
	return fmt.Errorf("unknown directive %s", name)
}

// raw takes ".raw OP, DST, SRC, OFF, IMM": one slot, whatever it means.
func (p *parser) raw() error {
	var v [5]int64
	for i := range v {
		p.accept(",")
		var err error
		if v[i], err = p.expr(); err != nil {
			return err
		}
	}
	if v[0] < 0 || v[0] > 255 || v[1] < 0 || v[1] > 15 || v[2] < 0 || v[2] > 15 || v[3] != int64(int16(v[3])) {
		return fmt.Errorf(".raw OP, DST, SRC, OFF, IMM: value out of range")
	}
	imm, err := imm32(v[4])
	p.emit(isa.Insn{Op: uint8(v[0]), Dst: isa.Reg(v[1]), Src: isa.Reg(v[2]), Off: int16(v[3]), Imm: imm})
	return err
}

func (p *parser) emit(in isa.Insn) {
	p.insns = append(p.insns, in)
	p.syms.Lines = append(p.syms.Lines, p.line)
}

func (p *parser) emit64(in isa.Insn, v uint64) {
	in.Imm = int32(v)
	p.emit(in)
	p.emit(isa.Insn{Imm: int32(v >> 32)})
}

func (p *parser) fix(name string, kind fixKind) {
	p.fixups = append(p.fixups, fixup{len(p.insns) - 1, name, kind})
}

// resolve patches references to labels and sorts the others into Symbols.
func (p *parser) resolve() error {
	for _, f := range p.fixups {
		if err := p.resolveOne(f); err != nil {
			return fmt.Errorf("line %d: %w", p.syms.Lines[f.pc], err)
		}
	}
	return nil
}

func (p *parser) resolveOne(f fixup) error {
	in := &p.insns[f.pc]
	target, found := p.lookup(f)
	rel := target - f.pc - 1
	switch f.kind {
	case fixJump:
		if !found {
			return fmt.Errorf("no label %s", f.name)
		}
		if rel != int(int16(rel)) {
			return fmt.Errorf("label %s is %d slots away, use gotol", f.name, rel)
		}
		in.Off = int16(rel)
	case fixJumpL:
		if !found {
			return fmt.Errorf("no label %s", f.name)
		}
		in.Imm = int32(rel)
	case fixCall:
		if found {
			in.Src, in.Imm = isa.PseudoCall, int32(rel)
		} else if id, ok := isa.HelperID(f.name); ok && !p.isKfunc(f.name) {
			in.Imm = id
		} else {
			in.Src = isa.PseudoKfuncCall
			p.syms.Kfuncs = append(p.syms.Kfuncs, Ref{f.pc, f.name})
		}
	case fixLoad:
		if p.isMap(f.name) || !found {
			in.Src = isa.PseudoMapFD
			p.syms.Maps = append(p.syms.Maps, Ref{f.pc, f.name})
		} else {
			in.Src, in.Imm = isa.PseudoFunc, int32(rel)
		}
	}
	return nil
}

// lookup finds a label, or a local numeric one by its direction.
func (p *parser) lookup(f fixup) (int, bool) {
	if f.name[0] < '0' || f.name[0] > '9' {
		pc, ok := p.syms.Labels[f.name]
		return pc, ok
	}
	dir, slots := f.name[len(f.name)-1], p.local[f.name[:len(f.name)-1]]
	best, ok := 0, false
	for _, pc := range slots {
		if dir == 'b' && pc <= f.pc {
			best, ok = pc, true
		} else if dir == 'f' && pc > f.pc {
			return pc, true
		}
	}
	return best, ok
}
