package object

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"

	"github.com/skep-bpf/skep/internal/isa"
)

// rawObject is what the ELF pass finds.
type rawObject struct {
	functions []Function
	undefined []Extern
	// padded are the program sections whose functions do not follow each other without gaps: there cilium/ebpf
	// v0.22 counts instructions wrongly.
	padded  map[string]bool
	ignored []string          // see soften
	renamed map[string]string // old names of sections by the new ones, see soften
	ops     opsVariables
	typed   map[string]bool // variables of the kernel that had a type, see soften
	shown   bool            // .text has another name, see showText
}

// readELF checks the limits that keep later stages from using unbounded memory, and collects functions and externs.
func readELF(data []byte, opt Options) (*rawObject, error) {
	if err := checkImage(data); err != nil {
		return nil, err
	}
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, headerError(data, err)
	}
	if f.Type != elf.ET_REL {
		return nil, fmt.Errorf("ELF type %v: not a relocatable object", f.Type)
	}
	if f.Machine != elf.EM_BPF && f.Machine != elf.EM_NONE {
		return nil, fmt.Errorf("ELF machine %v: not BPF", f.Machine)
	}
	if err := checkSections(f, opt); err != nil {
		return nil, err
	}
	symbols, err := f.Symbols()
	if err != nil {
		return nil, fmt.Errorf("symbols: %w", err)
	}
	raw := &rawObject{padded: map[string]bool{}}
	bySection, relocated := functionSymbols(symbols), relocations(f)
	for i, sec := range f.Sections {
		if sec.Type == elf.SHT_PROGBITS && sec.Flags&elf.SHF_EXECINSTR != 0 && sec.Size > 0 {
			index := elf.SectionIndex(i)
			if err := raw.addSection(f, sec, bySection[index], relocated[index]); err != nil {
				return nil, fmt.Errorf("section %s: %w", sec.Name, err)
			}
		}
	}
	for _, s := range symbols {
		if s.Section == elf.SHN_UNDEF && s.Name != "" {
			raw.undefined = append(raw.undefined, Extern{Name: s.Name, Weak: elf.ST_BIND(s.Info) == elf.STB_WEAK})
		}
	}
	return raw, raw.checkFlattened()
}

func checkSections(f *elf.File, opt Options) error {
	zeroed := uint64(0)
	for _, sec := range f.Sections {
		if strings.HasPrefix(sec.Name, ".addr_space.") && sec.Name != arenaSection {
			return fmt.Errorf("section %s: arenas have their data in %s", sec.Name, arenaSection)
		}
		if sec.Flags&elf.SHF_COMPRESSED != 0 && !strings.HasPrefix(sec.Name, ".debug") {
			return fmt.Errorf("section %s: compressed", sec.Name)
		}
		if sec.Type == elf.SHT_NOBITS {
			zeroed += min(sec.Size, 1<<40)
		}
		if zeroed > uint64(opt.MaxData) {
			return fmt.Errorf("section %s: %d bytes of zeroed data, the limit is %d", sec.Name, zeroed, opt.MaxData)
		}
	}
	return nil
}

// functionSymbols returns the symbols of functions by section.
func functionSymbols(symbols []elf.Symbol) map[elf.SectionIndex][]elf.Symbol {
	out := map[elf.SectionIndex][]elf.Symbol{}
	for _, s := range symbols {
		if s.Name != "" && isFunction(s) {
			out[s.Section] = append(out[s.Section], s)
		}
	}
	return out
}

// addSection collects the functions of one program section.
func (raw *rawObject) addSection(f *elf.File, sec *elf.Section, symbols []elf.Symbol, relocated map[uint64]bool) error {
	code, err := sec.Data()
	if err != nil {
		return err
	}
	byOffset := map[uint64]elf.Symbol{} // of two symbols at one place the later one counts, as cilium has it
	for _, s := range symbols {
		byOffset[s.Value] = s
	}
	syms := make([]elf.Symbol, 0, len(byOffset))
	for _, s := range byOffset {
		syms = append(syms, s)
	}
	sort.Slice(syms, func(i, j int) bool { return syms[i].Value < syms[j].Value })
	next := uint64(0)
	for _, s := range syms {
		if s.Value > uint64(len(code)) || s.Size > uint64(len(code))-s.Value {
			return fmt.Errorf("function %s: [%d, +%d) lies outside of %d bytes", s.Name, s.Value, s.Size, len(code))
		}
		if s.Value < next {
			return fmt.Errorf("function %s at offset %d overlaps the one before it", s.Name, s.Value)
		}
		insns, err := isa.Decode(code[s.Value:s.Value+s.Size], f.ByteOrder)
		if err != nil {
			return fmt.Errorf("function %s at offset %d: %w", s.Name, s.Value, err)
		}
		if s.Value != next {
			raw.padded[sec.Name] = true
		}
		next = s.Value + s.Size
		raw.functions = append(raw.functions, function(s, sec.Name, insns, relocated))
	}
	return nil
}

// isFunction tells functions from labels: old compilers give both no type.
func isFunction(s elf.Symbol) bool {
	switch elf.ST_TYPE(s.Info) {
	case elf.STT_FUNC:
		return true
	case elf.STT_NOTYPE:
		return elf.ST_BIND(s.Info) != elf.STB_LOCAL
	}
	return false
}

func function(s elf.Symbol, section string, insns []isa.Insn, relocated map[uint64]bool) Function {
	bind, vis := elf.ST_BIND(s.Info), elf.ST_VISIBILITY(s.Other)
	fn := Function{
		Name: s.Name, Section: section, Offset: s.Value, Insns: insns,
		Global: bind != elf.STB_LOCAL, Weak: bind == elf.STB_WEAK,
		Hidden:    vis == elf.STV_HIDDEN || vis == elf.STV_INTERNAL,
		Relocated: map[int]bool{},
	}
	for slot := range insns {
		if relocated[s.Value+uint64(slot)*isa.InsnSize] {
			fn.Relocated[slot] = true
		}
	}
	return fn
}

// relocations returns, for each section, the offsets in it that relocations patch.
func relocations(f *elf.File) map[elf.SectionIndex]map[uint64]bool {
	out := map[elf.SectionIndex]map[uint64]bool{}
	for _, sec := range f.Sections {
		if sec.Type != elf.SHT_REL {
			continue
		}
		data, err := sec.Data()
		if err != nil {
			continue // cilium's reader reports it
		}
		index := elf.SectionIndex(sec.Info)
		if out[index] == nil {
			out[index] = map[uint64]bool{}
		}
		for ; len(data) >= 16; data = data[16:] {
			out[index][f.ByteOrder.Uint64(data)] = true
		}
	}
	return out
}

// checkFlattened bounds the work of linking: each program gets a copy of every function that it reaches, so that a
// small file with many programs and much shared code could ask for any amount of memory.
func (raw *rawObject) checkFlattened() error {
	programs, insns := 0, 0
	for i := range raw.functions {
		insns += len(raw.functions[i].Insns)
		if raw.functions[i].Section != ".text" {
			programs++
		}
	}
	if programs*insns > maxFlattened {
		return fmt.Errorf("%d programs that may share %d instructions: more than %d together", programs, insns, maxFlattened)
	}
	return nil
}

// headerError says where a file ends that is too short for its own headers; debug/elf says no more than EOF.
func headerError(data []byte, err error) error {
	switch {
	case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		return err
	case len(data) < elfHeader:
		return fmt.Errorf("the ELF header ends at offset %d, the file at %d: %w", elfHeader, len(data), io.ErrUnexpectedEOF)
	}
	table := byteOrder(data).Uint64(data[elfShoff:])
	return fmt.Errorf("the section headers at offset %d are not whole, the file ends at %d: %w", table, len(data), io.ErrUnexpectedEOF)
}
