// Package export makes of the machine code of programs what other tools read: objects for linkers, disassemblers and
// debuggers. It knows no instructions.
package export

import (
	"debug/elf"
	"fmt"

	"github.com/skep-bpf/skep/internal/elfobj"
	"github.com/skep-bpf/skep/internal/listing"
	"github.com/skep-bpf/skep/internal/program"
)

// Program is a program with its machine code.
type Program struct {
	*program.Program
	Code *listing.Code
}

// machines are the numbers that ELF gives the targets, and the byte that fills the gaps between programs: code that faults.
var machines = map[string]struct {
	number elf.Machine
	fill   byte
}{
	"amd64": {elf.EM_X86_64, 0xcc},
	"arm64": {elf.EM_AARCH64, 0},
}

const (
	textAlign = 16
	textIndex = 0 // of .text among the sections
)

// Object returns a relocatable object with the code of programs, all for one target: a global symbol for each program, a local
// one for each of its other functions, and a line table if any of them has source lines.
func Object(progs []Program) ([]byte, error) {
	if len(progs) == 0 {
		return nil, fmt.Errorf("no programs")
	}
	target := progs[0].Code.Target
	m, ok := machines[target.Name]
	if !ok {
		return nil, fmt.Errorf("there are no objects for %s", target.Name)
	}
	o := elfobj.Object{Machine: m.number}
	u := elfobj.Unit{Section: textIndex, Producer: "skep"}
	var text []byte
	for _, p := range progs {
		for len(text)%textAlign != 0 {
			text = append(text, m.fill)
		}
		p.add(&o, &u, uint64(len(text)))
		text = append(text, p.Code.Text...)
	}
	o.Sections = []elfobj.Section{
		{Name: ".text", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_EXECINSTR, Align: textAlign, Data: text},
		{Name: ".note.GNU-stack", Type: elf.SHT_PROGBITS, Align: 1}, // there, it says that the stack need not be executable
	}
	for _, r := range u.Rows {
		if r.Line != 0 {
			u.Name, u.Size = r.File, uint64(len(text))
			o.Sections = append(o.Sections, u.Debug(len(o.Sections))...)
			break
		}
	}
	return o.Bytes()
}

// add adds the symbols and lines of a program whose code begins at base.
func (p *Program) add(o *elfobj.Object, u *elfobj.Unit, base uint64) {
	for _, f := range p.Code.Funcs {
		name := f.Name
		if f.Entry {
			name = p.Name
		}
		off, size := base+uint64(f.Off), uint64(f.Size)
		o.Symbols = append(o.Symbols, elfobj.Symbol{
			Name: name, Section: textIndex, Value: off, Size: size, Type: elf.STT_FUNC, Global: f.Entry,
		})
		u.Funcs = append(u.Funcs, elfobj.Func{Name: name, Off: off, Size: size, Global: f.Entry})
		u.Rows = append(u.Rows, p.rows(f, base)...)
	}
	if n := len(u.Rows); n > 0 && u.Rows[n-1].Line != 0 {
		u.Rows = append(u.Rows, elfobj.Row{Off: base + uint64(len(p.Code.Text))}) // what fills the gap is nobody's
	}
}

// rows returns the source lines of a function. What belongs to no instruction belongs to the line of the first that does: it
// is the prologue.
func (p *Program) rows(f listing.Func, base uint64) []elfobj.Row {
	var rows []elfobj.Row
	first := -1
	for off := f.Off; off < f.Off+f.Size && first < 0; off++ {
		first = p.Code.PCAt(off)
	}
	for off := f.Off; off < f.Off+f.Size; off++ {
		pc := p.Code.PCAt(off)
		if pc < 0 {
			pc = first
		}
		r := elfobj.Row{Off: base + uint64(off)}
		if l := p.LineAt(pc); l != nil && pc >= 0 {
			r.File, r.Line, r.Column = l.File, l.Number, l.Column
		}
		if n := len(rows); n == 0 || !sameLine(rows[n-1], r) {
			rows = append(rows, r)
		}
	}
	return rows
}

func sameLine(a, b elfobj.Row) bool {
	return a.File == b.File && a.Line == b.Line && a.Column == b.Column
}
