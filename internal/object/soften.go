package object

import (
	"bytes"
	"debug/elf"
	"fmt"

	"github.com/cilium/ebpf/btf"
)

// Offsets in a 64-bit ELF file: the fields that are edited.
const (
	elfShoff       = 40 // of the section header table, in the file header
	elfSectionType = 4  // in a section header of elfSectionSize bytes
	elfSectionSize = 64
	elfSymbolInfo  = 4 // in a symbol of elfSymbolSize bytes
	elfSymbolSize  = 24
)

// soften edits the image so that cilium/ebpf v0.22 takes two things that it refuses and that are no obstacle here:
// weak maps, data, function addresses and kconfig variables (the binding becomes global; rawObject remembers), and the
// section .struct_ops, whose maps it cannot make (it is hidden and reported as ignored; the programs stay).
func (raw *rawObject) soften(image []byte) error {
	f, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return err
	}
	table := f.ByteOrder.Uint64(image[elfShoff:])
	for i, sec := range f.Sections {
		if sec.Name != ".struct_ops" || sec.Type != elf.SHT_PROGBITS {
			continue
		}
		at := table + uint64(i)*elfSectionSize + elfSectionType
		if at+4 > uint64(len(image)) {
			return fmt.Errorf("section header %d lies outside of the file", i)
		}
		f.ByteOrder.PutUint32(image[at:], uint32(elf.SHT_NOTE))
		raw.ignored = append(raw.ignored, sec.Name)
	}
	return softenSymbols(f, image)
}

func softenSymbols(f *elf.File, image []byte) error {
	symtab := f.SectionByType(elf.SHT_SYMTAB)
	symbols, err := f.Symbols()
	if symtab == nil || err != nil {
		return err
	}
	kconfig := kconfigNames(image)
	for i, s := range symbols {
		if elf.ST_BIND(s.Info) != elf.STB_WEAK || s.Section == elf.SHN_UNDEF && !kconfig[s.Name] {
			continue
		}
		at := symtab.Offset + uint64(i+1)*elfSymbolSize + elfSymbolInfo // Symbols leaves the null symbol out
		if at >= uint64(len(image)) {
			return fmt.Errorf("symbol %s lies outside of the file", s.Name)
		}
		image[at] = byte(elf.ST_INFO(elf.STB_GLOBAL, elf.ST_TYPE(s.Info)))
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
