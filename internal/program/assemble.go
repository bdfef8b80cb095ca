package program

import (
	"fmt"
	"sort"

	"github.com/skep-bpf/skep/internal/isa"
)

// New completes a program whose Insns, Maps and Kfuncs are given and whose functions are known by start (Funcs with
// Start, Name, Type): it adds functions that are only known as targets of calls or function pointers, sets their ends
// and turns the older stack-argument dialect into the r11 form. References that point outside are left to the
// verifier. It changes p.
func New(p *Program) (*Program, error) {
	if len(p.Insns) == 0 {
		return nil, fmt.Errorf("program %s: no instructions", p.Name)
	}
	if len(p.Insns) > isa.MaxInsns {
		return nil, fmt.Errorf("program %s: %d instructions, the limit is %d", p.Name, len(p.Insns), int(isa.MaxInsns))
	}
	if err := layoutFuncs(p); err != nil {
		return nil, err
	}
	sort.SliceStable(p.Lines, func(i, j int) bool { return p.Lines[i].Insn < p.Lines[j].Insn })
	if err := convertDialect(p); err != nil {
		return nil, err
	}
	return p, nil
}

// layoutFuncs sorts p.Funcs, adds the entry and call targets, and sets ends.
func layoutFuncs(p *Program) error {
	have := make(map[int]bool, len(p.Funcs)+1)
	for _, f := range p.Funcs {
		if f.Start < 0 || f.Start >= len(p.Insns) {
			return fmt.Errorf("program %s: function %s starts at %d, outside of %d instructions", p.Name, f.Name, f.Start, len(p.Insns))
		}
		if have[f.Start] {
			return fmt.Errorf("program %s: two functions start at %d", p.Name, f.Start)
		}
		have[f.Start] = true
	}
	add := func(pc int, name string) {
		if pc >= 0 && pc < len(p.Insns) && !have[pc] {
			have[pc] = true
			p.Funcs = append(p.Funcs, Func{Name: name, Start: pc})
		}
	}
	add(0, p.Name)
	eachInsn(p.Insns, func(pc int, in isa.Insn) {
		if in.IsPseudoCall() || in.IsPseudoFunc() {
			t := pc + 1 + int(in.Imm)
			add(t, fmt.Sprintf("sub_%d", t))
		}
	})
	sort.Slice(p.Funcs, func(i, j int) bool { return p.Funcs[i].Start < p.Funcs[j].Start })
	for i := range p.Funcs {
		p.Funcs[i].End = len(p.Insns)
		if i+1 < len(p.Funcs) {
			p.Funcs[i].End = p.Funcs[i+1].Start
		}
	}
	return nil
}

// Names returns the names that disassembly needs: kfuncs by name, maps as bpftool prints them (map[name],
// map[name][0]+8 for an address inside value 0).
func (p *Program) Names() *isa.Names {
	return &isa.Names{
		Kfunc: func(in isa.Insn) string {
			if i := int(in.Imm); i >= 0 && i < len(p.Kfuncs) {
				return p.Kfuncs[i].Name
			}
			return ""
		},
		Imm: func(in isa.Insn, imm uint64) string {
			i := int(int32(imm))
			if in.Src != isa.PseudoMapFD && in.Src != isa.PseudoMapValue || i < 0 || i >= len(p.Maps) {
				return ""
			}
			if in.Src == isa.PseudoMapFD {
				return "map[" + p.Maps[i].Name + "]"
			}
			return fmt.Sprintf("map[%s][0]+%d", p.Maps[i].Name, imm>>32)
		},
	}
}
