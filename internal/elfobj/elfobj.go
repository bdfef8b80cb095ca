// Package elfobj writes relocatable ELF64 objects, little-endian, from values to bytes: sections, symbols, absolute
// relocations, and the DWARF line table that leads from an address to a source line. It knows no BPF and no instructions.
package elfobj

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"strings"
)

// Object is what an object file holds.
type Object struct {
	Machine  elf.Machine
	Sections []Section
	Symbols  []Symbol // in any order
}

// Section is a named run of bytes.
type Section struct {
	Name  string
	Type  elf.SectionType
	Flags elf.SectionFlag
	Align uint64 // a power of two
	Data  []byte
	// Relocs are the places in Data where an address goes when the object is linked.
	Relocs []Reloc
}

// Reloc puts the address of a section's start, plus Addend, into Size (4 or 8) bytes at Off.
type Reloc struct {
	Off     uint64
	Size    int
	Section int // index into Object.Sections
	Addend  int64
}

// Symbol names a part of a section.
type Symbol struct {
	Name        string
	Section     int // index into Object.Sections
	Value, Size uint64
	Type        elf.SymType
	Global      bool
}

// relocTypes are the numbers of the absolute relocations of 4 and 8 bytes, by machine.
var relocTypes = map[elf.Machine][2]uint32{
	elf.EM_X86_64:  {uint32(elf.R_X86_64_32), uint32(elf.R_X86_64_64)},
	elf.EM_AARCH64: {uint32(elf.R_AARCH64_ABS32), uint32(elf.R_AARCH64_ABS64)},
}

// Sizes of the structures of ELF64.
const (
	headerSize  = 64
	sectionSize = 64
	symbolSize  = 24
	relaSize    = 24
)

// Bytes returns the file. The order of its contents is: header, the sections, their relocations, the symbol table, the
// tables of names, the section headers.
func (o *Object) Bytes() ([]byte, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	w := writer{o: o, names: newNames(), out: make([]byte, headerSize)}
	w.section(elf.Section64{}, "", nil) // number 0 stands for no section
	for i := range o.Sections {
		s := &o.Sections[i]
		w.section(elf.Section64{Type: uint32(s.Type), Flags: uint64(s.Flags), Addralign: s.Align}, s.Name, s.Data)
	}
	symbols := w.symtab() // whose number the relocations name before it is written
	relocated := 0
	for i := range o.Sections {
		if len(o.Sections[i].Relocs) > 0 {
			relocated++
		}
	}
	symtab := uint32(1 + len(o.Sections) + relocated)
	for i := range o.Sections {
		w.relocs(i, symtab)
	}
	w.section(elf.Section64{
		Type: uint32(elf.SHT_SYMTAB), Link: symtab + 1, Info: symbols.locals, Addralign: 8, Entsize: symbolSize,
	}, ".symtab", symbols.table)
	w.section(elf.Section64{Type: uint32(elf.SHT_STRTAB), Addralign: 1}, ".strtab", symbols.names.data)
	return w.finish(), nil
}

// writer is a file that grows.
type writer struct {
	o       *Object
	out     []byte
	headers []elf.Section64
	names   names // of sections
}

// section appends a section's bytes, and its header with what h does not say yet.
func (w *writer) section(h elf.Section64, name string, data []byte) {
	if h.Addralign > 1 {
		w.pad(h.Addralign)
	}
	h.Name, h.Size = w.names.add(name), uint64(len(data))
	if h.Type != uint32(elf.SHT_NULL) {
		h.Off = uint64(len(w.out))
	}
	w.out = append(w.out, data...)
	w.headers = append(w.headers, h)
}

func (w *writer) pad(align uint64) {
	for uint64(len(w.out))%align != 0 {
		w.out = append(w.out, 0)
	}
}

// relocs appends the relocations of section i, if it has some.
func (w *writer) relocs(i int, symtab uint32) {
	s := &w.o.Sections[i]
	if len(s.Relocs) == 0 {
		return
	}
	types := relocTypes[w.o.Machine]
	var b bytes.Buffer
	for _, r := range s.Relocs {
		typ := types[0]
		if r.Size == 8 {
			typ = types[1]
		}
		// The symbol of section k stands at k+1 in the table.
		put(&b, elf.Rela64{Off: r.Off, Info: elf.R_INFO(uint32(r.Section+1), typ), Addend: r.Addend})
	}
	w.section(elf.Section64{
		Type: uint32(elf.SHT_RELA), Flags: uint64(elf.SHF_INFO_LINK), Link: symtab, Info: uint32(i + 1), Addralign: 8, Entsize: relaSize,
	}, ".rela"+s.Name, b.Bytes())
}

// symtab is a symbol table with its names. The first locals symbols are local, as the format asks.
type symtab struct {
	table  []byte
	names  names
	locals uint32
}

// symtab makes the table: nothing, a symbol for each section, the local ones, the global ones.
func (w *writer) symtab() symtab {
	t := symtab{names: newNames()}
	var b bytes.Buffer
	put(&b, elf.Sym64{})
	for i := range w.o.Sections {
		put(&b, elf.Sym64{Info: elf.ST_INFO(elf.STB_LOCAL, elf.STT_SECTION), Shndx: uint16(i + 1)})
	}
	t.locals = uint32(1 + len(w.o.Sections))
	for _, global := range []bool{false, true} {
		bind := elf.STB_LOCAL
		if global {
			bind = elf.STB_GLOBAL
		}
		for _, s := range w.o.Symbols {
			if s.Global != global {
				continue
			}
			put(&b, elf.Sym64{
				Name: t.names.add(s.Name), Info: elf.ST_INFO(bind, s.Type), Shndx: uint16(s.Section + 1), Value: s.Value, Size: s.Size,
			})
			if !global {
				t.locals++
			}
		}
	}
	t.table = b.Bytes()
	return t
}

// finish appends the names of the sections and the section headers, and fills in the file's header.
func (w *writer) finish() []byte {
	const own = ".shstrtab"
	w.names.add(own) // the table holds its own name
	w.section(elf.Section64{Type: uint32(elf.SHT_STRTAB), Addralign: 1}, own, w.names.data)
	w.pad(8)
	h := elf.Header64{
		Ident: [elf.EI_NIDENT]byte{
			0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT), byte(elf.ELFOSABI_NONE),
		},
		Type: uint16(elf.ET_REL), Machine: uint16(w.o.Machine), Version: uint32(elf.EV_CURRENT), Ehsize: headerSize,
		Shoff: uint64(len(w.out)), Shentsize: sectionSize, Shnum: uint16(len(w.headers)), Shstrndx: uint16(len(w.headers) - 1),
	}
	var b bytes.Buffer
	put(&b, h)
	copy(w.out, b.Bytes())
	b.Reset()
	put(&b, w.headers)
	return append(w.out, b.Bytes()...)
}

// names is a table of strings that end in a zero byte; the empty one is at 0.
type names struct {
	data []byte
	at   map[string]uint32
}

func newNames() names { return names{data: []byte{0}, at: map[string]uint32{"": 0}} }

func (n *names) add(s string) uint32 {
	at, ok := n.at[s]
	if !ok {
		at = uint32(len(n.data))
		n.at[s] = at
		n.data = append(append(n.data, s...), 0)
	}
	return at
}

// put appends a structure of package elf.
func put(b *bytes.Buffer, v any) {
	if err := binary.Write(b, binary.LittleEndian, v); err != nil {
		panic(err) // impossible: all of them have a fixed size
	}
}

// check refuses what the format cannot hold.
func (o *Object) check() error {
	if len(o.Sections) >= int(elf.SHN_LORESERVE)/2-8 { // each may have relocations
		return fmt.Errorf("object of %d sections", len(o.Sections))
	}
	for i := range o.Sections {
		if err := o.checkSection(&o.Sections[i]); err != nil {
			return fmt.Errorf("section %q: %w", o.Sections[i].Name, err)
		}
	}
	globals := map[string]bool{}
	for _, s := range o.Symbols {
		switch {
		case s.Name == "" || strings.ContainsRune(s.Name, 0):
			return fmt.Errorf("%q is no name for a symbol", s.Name)
		case s.Section < 0 || s.Section >= len(o.Sections):
			return fmt.Errorf("symbol %s: no section %d", s.Name, s.Section)
		case outside(s.Value, s.Size, o.Sections[s.Section].Data):
			return fmt.Errorf("symbol %s is not inside of its section", s.Name)
		case s.Global && globals[s.Name]:
			return fmt.Errorf("two global symbols %s", s.Name)
		}
		globals[s.Name] = globals[s.Name] || s.Global
	}
	return nil
}

func (o *Object) checkSection(s *Section) error {
	if s.Name == "" || strings.ContainsRune(s.Name, 0) {
		return fmt.Errorf("that is no name")
	}
	if s.Align == 0 || s.Align&(s.Align-1) != 0 {
		return fmt.Errorf("alignment %d", s.Align)
	}
	for _, r := range s.Relocs {
		if _, ok := relocTypes[o.Machine]; !ok {
			return fmt.Errorf("no relocations are known for %s", o.Machine)
		}
		if r.Size != 4 && r.Size != 8 || outside(r.Off, uint64(r.Size), s.Data) || r.Section < 0 || r.Section >= len(o.Sections) {
			return fmt.Errorf("relocation of %d bytes at %d against section %d", r.Size, r.Off, r.Section)
		}
	}
	return nil
}

// outside reports whether [off, off+size) leaves data.
func outside(off, size uint64, data []byte) bool {
	return off > uint64(len(data)) || size > uint64(len(data))-off
}
