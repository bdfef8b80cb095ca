// Package cover says which lines of C ran: it maps counts of BPF instructions to source positions by the line records of BTF and
// writes them as a profile of Go's cover tool. It knows nothing of how instructions are counted.
//
// A block of the profile is what one line record stands for: it begins at the record's line and column, which is often an operator in the
// middle of a statement, so the first of a line begins with the line's text; and ends where the next record of that line begins, or with
// the line. An instruction belongs to the last record at or before it. A block counts as often as that of its
// instructions which ran most often in a program, in all programs together: the compiler may have spread a block over several places
// (unrolled loops, inlined functions), so that a sum would count one passage several times.
package cover

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/skep-bpf/skep/internal/program"
)

// Program is a program and how often each of its instructions ran, and each of its conditional jumps jumped.
type Program struct {
	*program.Program
	Ran, Taken []uint64
}

// pos is where a block begins.
type pos struct {
	file         string
	line, column uint32
}

func (a pos) compare(b pos) int {
	return cmp.Or(strings.Compare(a.file, b.file), cmp.Compare(a.line, b.line), cmp.Compare(a.column, b.column))
}

// block is a block of a profile.
type block struct {
	pos
	text  uint32 // column where the line's text begins
	end   uint32 // column behind it
	count uint64
}

// each calls f with every instruction, but for second slots, and its line record, nil if it has none.
func (p *Program) each(f func(pc int, l *program.Line)) {
	next := 0
	var line *program.Line
	for pc := 0; pc < len(p.Insns); pc++ {
		for next < len(p.Lines) && p.Lines[next].Insn <= pc {
			line = &p.Lines[next]
			next++
		}
		if line != nil && line.Number != 0 { // 0: made by the compiler
			f(pc, line)
		} else {
			f(pc, nil)
		}
		if p.Insns[pc].IsLdImm64() {
			pc++
		}
	}
}

// posOf is where a record's block begins: at its column, or without one where the line's text does.
func posOf(l *program.Line) pos { return pos{l.File, l.Number, cmp.Or(l.Column, textColumn(l))} }

// textColumn is where a line's text begins.
func textColumn(l *program.Line) uint32 {
	return uint32(len(l.Text)-len(strings.TrimLeft(l.Text, " \t"))) + 1
}

// blocks returns the blocks of programs in the order of their places.
func blocks(programs []*Program) []block {
	all := map[pos]*block{}
	for _, p := range programs {
		most := map[pos]uint64{}
		p.each(func(pc int, l *program.Line) {
			if l == nil {
				return
			}
			at := posOf(l)
			most[at] = max(most[at], p.Ran[pc])
			if all[at] == nil {
				end := max(uint32(len(strings.TrimRight(l.Text, " \t\r\n")))+1, at.column+1)
				all[at] = &block{pos: at, text: min(textColumn(l), at.column), end: end}
			}
		})
		for at, n := range most {
			all[at].count += n
		}
	}
	var out []block
	for _, at := range slices.SortedFunc(maps.Keys(all), pos.compare) {
		b := *all[at]
		if n := len(out) - 1; n >= 0 && out[n].file == at.file && out[n].line == at.line {
			out[n].end = at.column
		} else {
			b.column = b.text
		}
		out = append(out, b)
	}
	return out
}

// WriteProfile writes a profile that golang.org/x/tools/cover reads. Mode set has 1 for what ran, mode count how often it did. rename,
// unless it is nil, says what a file is called in the profile.
func WriteProfile(w io.Writer, mode string, programs []*Program, rename func(file string) string) error {
	if mode != "set" && mode != "count" {
		return fmt.Errorf("there is no coverage mode %q; use set or count", mode)
	}
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "mode: %s\n", mode)
	for _, k := range blocks(programs) {
		if mode == "set" {
			k.count = min(k.count, 1)
		}
		if rename != nil {
			k.file = rename(k.file)
		}
		fmt.Fprintf(b, "%s:%d.%d,%d.%d 1 %d\n", k.file, k.line, k.column, k.line, k.end, k.count)
	}
	return b.Flush()
}

// Function is how much of one function of a program ran. What was inlined into it is part of it.
type Function struct {
	Program, Name string
	File          string // of the function's first line record, "" if it has none
	Line          int
	Blocks        int // parts of source lines, see package cover
	Covered       int // those that ran
	Directions    int // of conditional jumps: two each
	Taken         int // those that were taken
}

// Functions lists the functions of programs, in the order of the programs and of their code.
func Functions(programs []*Program) []Function {
	var out []Function
	for _, p := range programs {
		first := len(out)
		ran := make([]map[pos]bool, len(p.Funcs))
		for i := range p.Funcs {
			out = append(out, Function{Program: p.Name, Name: p.Funcs[i].Name})
			ran[i] = map[pos]bool{}
		}
		p.each(func(pc int, l *program.Line) {
			i := p.FuncAt(pc)
			f := &out[first+i]
			if p.Insns[pc].IsConditional() {
				f.Directions += 2
				f.Taken += directions(p.Ran[pc], p.Taken[pc])
			}
			if l == nil {
				return
			}
			if f.File == "" {
				f.File, f.Line = l.File, int(l.Number)
			}
			at := posOf(l)
			ran[i][at] = ran[i][at] || p.Ran[pc] > 0
		})
		for i, blocks := range ran {
			f := &out[first+i]
			for _, yes := range blocks {
				f.Blocks++
				if yes {
					f.Covered++
				}
			}
		}
	}
	return out
}

// directions is how many ways a jump went that ran and jumped so often.
func directions(ran, taken uint64) int {
	n := 0
	if taken > 0 {
		n++
	}
	if ran > taken {
		n++
	}
	return n
}
