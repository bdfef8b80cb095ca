// Package listing writes programs as text: BPF instructions in the words of the kernel's log, source lines from BTF between
// them, machine code below each instruction.
package listing

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/program"
)

// BPF writes the program's instructions with their source lines.
func BPF(w io.Writer, p *program.Program) error { return Mixed(w, p, nil) }

// Mixed writes the program's instructions with their source lines and, if code is not nil, the machine code of each behind it.
// Instructions without machine code were found dead or were folded into another.
func Mixed(w io.Writer, p *program.Program, code *Code) error {
	b := bufio.NewWriter(w)
	l := lister{w: b, p: p, names: p.Names()}
	if code != nil {
		l.split(code)
	}
	for pc := 0; pc < len(p.Insns); pc++ {
		l.insn(pc)
		if p.Insns[pc].IsLdImm64() {
			pc++
		}
	}
	return b.Flush()
}

type lister struct {
	w     *bufio.Writer
	p     *program.Program
	names *isa.Names
	line  *program.Line
	lines map[int][]string // machine code by BPF instruction
	pro   map[int][]string // prologues, by the first instruction of their function
	text  []byte
}

// insn writes one instruction with what stands around it.
func (l *lister) insn(pc int) {
	if f := l.p.FuncAt(pc); f >= 0 && l.p.Funcs[f].Start == pc {
		if pc > 0 {
			fmt.Fprintln(l.w)
		}
		fmt.Fprintf(l.w, "%s:\n", l.p.Funcs[f].Name)
		for _, s := range l.pro[pc] {
			fmt.Fprintln(l.w, s)
		}
	}
	if s := l.p.LineAt(pc); !sameLine(s, l.line) {
		l.line = s
		if s != nil && strings.TrimSpace(s.Text) != "" {
			fmt.Fprintf(l.w, "; %s @ %s:%d\n", strings.TrimSpace(s.Text), base(s.File), s.Number)
		}
	}
	l.text = isa.AppendText(l.text[:0], l.p.Insns, pc, l.names)
	fmt.Fprintf(l.w, "%4d: %s\n", pc, l.text)
	for _, s := range l.lines[pc] {
		fmt.Fprintln(l.w, s)
	}
}

// sameLine compares source lines; their columns do not matter here.
func sameLine(a, b *program.Line) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Number == b.Number && a.File == b.File
}

func base(file string) string { return file[strings.LastIndexByte(file, '/')+1:] }

// split disassembles the code and sorts its lines by BPF instruction.
func (l *lister) split(code *Code) {
	l.lines, l.pro = map[int][]string{}, map[int][]string{}
	var waiting []string // a prologue, whose function is known with the next instruction
	for off := 0; off < len(code.Text); {
		text, n := code.Target.Disassemble(code.Text[off:], uint64(off))
		hex := fmt.Sprintf("% x", code.Text[off:off+n])
		s := fmt.Sprintf("      %04x: %-30s %s", off, hex, text)
		pc := code.PCAt(off)
		off += n
		if pc < 0 {
			waiting = append(waiting, s)
			continue
		}
		if len(waiting) > 0 {
			at := pc
			if f := l.p.FuncAt(pc); f >= 0 {
				at = l.p.Funcs[f].Start
			}
			l.pro[at] = append(l.pro[at], waiting...)
			waiting = nil
		}
		l.lines[pc] = append(l.lines[pc], s)
	}
}
