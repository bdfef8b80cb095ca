package object

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// Offsets in a 64-bit ELF file: the fields that are edited.
const (
	elfShoff         = 40 // of the section header table, in the file header
	elfSectionName   = 0  // in a section header of elfSectionSize bytes
	elfSectionType   = 4
	elfSectionLink   = 40
	elfSectionOffset = 24
	elfSectionLen    = 32
	elfSectionSize   = 64
	elfShstrndx      = 62 // number of the section of section names, in the file header
	elfSymbolInfo    = 4  // in a symbol of elfSymbolSize bytes
	elfSymbolSize    = 24
)

// image is a whole object as bytes, and what debug/elf says of them.
type image struct {
	bytes []byte
	elf   *elf.File
	order binary.ByteOrder
}

// soften edits the object so that cilium/ebpf v0.22 takes what it refuses and what is no obstacle here:
//   - weak maps, data, function addresses and kconfig variables: the binding becomes global, and rawObject remembers;
//   - the section .struct_ops, whose maps it cannot make: it is hidden and reported as ignored; the programs stay;
//   - kernel variables with a type: the type goes, and the instructions that load their addresses are marked; a program that uses one
//     can be verified, and does not run;
//   - sections .bss.NAME and .addr_space.1: they become .data.bss.NAME and .data.addr_space.1, see restore and arena.go;
//   - .text, where programs have exception callbacks: see showText.
//
// It returns the edited bytes.
func (raw *rawObject) soften(data []byte) ([]byte, error) {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	im := &image{data, f, f.ByteOrder}
	if err := im.checkTypes(); err != nil {
		return nil, err
	}
	raw.ops = readStructOps(f)
	for i, sec := range f.Sections {
		if sec.Name != structOpsSection || sec.Type != elf.SHT_PROGBITS {
			continue
		}
		if err := im.setHeader(i, elfSectionType, uint64(elf.SHT_NOTE), 4); err != nil {
			return nil, err
		}
		raw.ignored = append(raw.ignored, sec.Name)
	}
	if err := im.symbols(); err != nil {
		return nil, err
	}
	if raw.typed, err = im.kernelVariables(); err != nil {
		return nil, err
	}
	if raw.renamed, err = im.renameSections(); err != nil {
		return nil, err
	}
	if raw.shown, err = im.showText(raw); err != nil {
		return nil, err
	}
	return im.bytes, nil
}

// setHeader changes a field of a section header, of 4 or 8 bytes.
func (im *image) setHeader(section, field int, value uint64, size int) error {
	at := im.order.Uint64(im.bytes[elfShoff:]) + uint64(section)*elfSectionSize + uint64(field)
	if at > uint64(len(im.bytes)) || uint64(len(im.bytes))-at < uint64(size) {
		return fmt.Errorf("section header %d lies outside of the file", section)
	}
	if size == 4 {
		im.order.PutUint32(im.bytes[at:], uint32(value))
	} else {
		im.order.PutUint64(im.bytes[at:], value)
	}
	return nil
}

// symbols makes weak symbols global.
func (im *image) symbols() error {
	symtab := im.elf.SectionByType(elf.SHT_SYMTAB)
	symbols, err := im.elf.Symbols()
	if symtab == nil || err != nil {
		return err
	}
	kconfig := kconfigNames(im.bytes)
	for i, s := range symbols {
		if elf.ST_BIND(s.Info) != elf.STB_WEAK || s.Section == elf.SHN_UNDEF && !kconfig[s.Name] {
			continue
		}
		at := symtab.Offset + uint64(i+1)*elfSymbolSize + elfSymbolInfo // Symbols leaves the null symbol out
		if at >= uint64(len(im.bytes)) {
			return fmt.Errorf("symbol %s lies outside of the file", s.Name)
		}
		im.bytes[at] = byte(elf.ST_INFO(elf.STB_GLOBAL, elf.ST_TYPE(s.Info)))
	}
	return nil
}

// kconfigNames returns the names of the variables in the virtual section .kconfig; nil if there is no readable BTF,
// which later stages report.
func kconfigNames(image []byte) map[string]bool {
	types, err := btf.LoadSpecFromReader(bytes.NewReader(image))
	if err != nil {
		return nil
	}
	var ds *btf.Datasec
	if types.TypeByName(".kconfig", &ds) != nil {
		return nil
	}
	names := map[string]bool{}
	for _, v := range ds.Vars {
		names[v.Type.TypeName()] = true
	}
	return names
}

// btf returns the section .BTF and its number; nil if there is none.
func (im *image) btf() (b *btfImage, number int, err error) {
	for i, sec := range im.elf.Sections {
		if sec.Name != ".BTF" || sec.Size == 0 {
			continue
		}
		if b != nil {
			return nil, 0, fmt.Errorf("section .BTF: there are two, numbers %d and %d", number, i)
		}
		bytes := part(im.bytes, sec.Offset, sec.Size)
		if bytes == nil || sec.Type == elf.SHT_NOBITS {
			return nil, 0, fmt.Errorf("section .BTF: [%d, +%d) lies outside of the file", sec.Offset, sec.Size)
		}
		if b, err = newBTFImage(bytes, im.order); err != nil {
			return nil, 0, err
		}
		number = i
	}
	return b, number, nil
}

// kernelVariables takes the types from the variables in the virtual section .ksyms, and returns the names of those that had one.
func (im *image) kernelVariables() (typed map[string]bool, err error) {
	b, _, err := im.btf()
	if b == nil {
		return nil, err
	}
	typed = map[string]bool{}
	b.sections(func(at int, name string) {
		if name == ".ksyms" {
			b.untype(at, func(variable string) { typed[variable] = true })
		}
	})
	return typed, nil
}

// renamedPrefix makes a name for data of .bss.NAME.
const renamedPrefix = ".data"

// renameSections renames sections that the reader does not take for data, in the table of sections and in BTF, and returns the old names by
// the new.
func (im *image) renameSections() (old map[string]string, err error) {
	names := map[string]string{}
	old = map[string]string{}
	taken := map[string]bool{}
	for _, sec := range im.elf.Sections {
		taken[sec.Name] = true
	}
	table := int(im.order.Uint16(im.bytes[elfShstrndx:]))
	if table <= 0 || table >= len(im.elf.Sections) {
		return nil, nil
	}
	text, err := im.elf.Sections[table].Data()
	if err != nil {
		return nil, nil // the reader will say so
	}
	for i, sec := range im.elf.Sections {
		if sec.Name != arenaSection && (sec.Type != elf.SHT_NOBITS || !strings.HasPrefix(sec.Name, ".bss.")) {
			continue
		}
		to := renamedPrefix + sec.Name
		if taken[to] {
			return nil, fmt.Errorf("section %s: there is a section %s, too, or another of the name", sec.Name, to)
		}
		taken[to], names[sec.Name], old[to] = true, to, sec.Name
		if err := im.setHeader(i, elfSectionName, uint64(len(text)), 4); err != nil {
			return nil, err
		}
		text = append(append(text, to...), 0)
	}
	if len(names) == 0 {
		return nil, nil
	}
	if err := im.replace(table, text); err != nil {
		return nil, err
	}
	b, section, err := im.btf()
	if b == nil {
		return old, err
	}
	types, err := b.rename(names)
	if err != nil {
		return nil, err
	}
	return old, im.replace(section, types)
}

// replace gives a section other contents, at the end of the file.
func (im *image) replace(section int, contents []byte) error {
	at := uint64(len(im.bytes)+7) &^ 7
	im.bytes = append(append(im.bytes, make([]byte, at-uint64(len(im.bytes)))...), contents...)
	if err := im.setHeader(section, elfSectionOffset, at, 8); err != nil {
		return err
	}
	return im.setHeader(section, elfSectionLen, uint64(len(contents)), 8)
}

// restore gives sections that soften renamed their names again.
func (raw *rawObject) restore(spec *ebpf.CollectionSpec) {
	for name, was := range raw.renamed {
		m := spec.Maps[name]
		if m == nil {
			continue
		}
		delete(spec.Maps, name)
		spec.Maps[was] = m
		m.Name = was
		if ds, ok := m.Value.(*btf.Datasec); ok {
			ds.Name = was
		}
	}
	if len(raw.renamed) == 0 {
		return
	}
	for _, v := range spec.Variables {
		if was := raw.renamed[v.SectionName]; was != "" {
			v.SectionName = was
		}
	}
	for _, p := range spec.Programs {
		for i := range p.Instructions {
			ins := &p.Instructions[i]
			if was := raw.renamed[ins.Reference()]; was != "" {
				*ins = ins.WithReference(was)
			}
		}
	}
}
