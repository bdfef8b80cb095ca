package object

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
)

// This file bounds what a file can make its readers build: debug/elf and cilium/ebpf copy a name for everything that
// has one, and a small file can give a long name to a million things. Honest objects stay far below these limits.

// maxNames bounds the bytes of all names together, each as often as something has it.
const maxNames = 64 << 20

// nameCount adds up lengths of names.
type nameCount struct{ left int }

func (c *nameCount) add(table []byte, at uint32) bool {
	if uint64(at) >= uint64(len(table)) {
		return true // refused by the reader
	}
	part := table[at:]
	if len(part) > c.left {
		part = part[:c.left+1]
	}
	n := bytes.IndexByte(part, 0)
	if n < 0 {
		n = len(part)
	}
	c.left -= n
	return c.left >= 0
}

// rawSection is a section header's fields.
type rawSection struct {
	name, typ, link uint32
	offset, size    uint64
}

// checkImage looks at an ELF file's tables before anybody makes anything of them.
func checkImage(data []byte) error {
	if len(data) < elfHeader || string(data[:len(elf.ELFMAG)]) != elf.ELFMAG {
		return nil // debug/elf says so
	}
	if class := elf.Class(data[elf.EI_CLASS]); class != elf.ELFCLASS64 {
		return fmt.Errorf("ELF class %v: BPF objects are 64-bit", class)
	}
	sections, names, err := rawSections(data)
	if err != nil {
		return err
	}
	count := &nameCount{maxNames}
	used := uint64(0)
	for i, s := range sections {
		if !count.add(names, s.name) {
			return fmt.Errorf("section header %d: more than %d bytes of names", i, maxNames)
		}
		if elf.SectionType(s.typ) == elf.SHT_NOBITS || elf.SectionType(s.typ) == elf.SHT_NULL {
			continue
		}
		if used += min(s.size, 1<<40); used > uint64(len(data)) {
			return fmt.Errorf("section header %d: the sections are larger than the file of %d bytes, or overlap", i, len(data))
		}
		if elf.SectionType(s.typ) != elf.SHT_SYMTAB || uint64(s.link) >= uint64(len(sections)) {
			continue
		}
		text := part(data, sections[s.link].offset, sections[s.link].size)
		for table := part(data, s.offset, s.size); len(table) >= elfSymbolSize; table = table[elfSymbolSize:] {
			if !count.add(text, byteOrder(data).Uint32(table)) {
				return fmt.Errorf("symbols at offset %d: more than %d bytes of names", s.offset, maxNames)
			}
		}
	}
	return nil
}

const (
	elfHeader    = 64
	elfShentsize = 58 // in the file header: bytes of a section header
	elfShnum     = 60 // and how many there are
)

func byteOrder(data []byte) binary.ByteOrder {
	if elf.Data(data[elf.EI_DATA]) == elf.ELFDATA2MSB {
		return binary.BigEndian
	}
	return binary.LittleEndian
}

// part returns a piece of the file, nil if it does not lie inside.
func part(data []byte, offset, size uint64) []byte {
	if offset > uint64(len(data)) || size > uint64(len(data))-offset {
		return nil
	}
	return data[offset : offset+size]
}

// rawSections returns the section headers and the table of their names; none if they do not lie inside of the file,
// which debug/elf reports.
func rawSections(data []byte) (sections []rawSection, names []byte, err error) {
	order := byteOrder(data)
	at, count := order.Uint64(data[elfShoff:]), int(order.Uint16(data[elfShnum:]))
	if at == 0 {
		return nil, nil, nil
	}
	if size := order.Uint16(data[elfShentsize:]); size != elfSectionSize {
		return nil, nil, fmt.Errorf("ELF header at offset %d: section headers of %d bytes, not %d", elfShentsize, size, elfSectionSize)
	}
	if count == 0 {
		return nil, nil, fmt.Errorf("ELF header at offset %d: no sections, or too many to be counted there", elfShnum)
	}
	table := part(data, at, uint64(count)*elfSectionSize)
	for ; len(table) > 0; table = table[elfSectionSize:] {
		sections = append(sections, rawSection{
			name: order.Uint32(table[elfSectionName:]), typ: order.Uint32(table[elfSectionType:]), link: order.Uint32(table[elfSectionLink:]),
			offset: order.Uint64(table[elfSectionOffset:]), size: order.Uint64(table[elfSectionLen:]),
		})
	}
	if i := int(order.Uint16(data[elfShstrndx:])); i < len(sections) {
		names = part(data, sections[i].offset, sections[i].size)
	}
	return sections, names, nil
}

// checkTypes bounds the names in BTF: those of types, of members, of sections with records, and the paths of CO-RE
// relocations.
func (im *image) checkTypes() error {
	b, _, err := im.btf()
	if b == nil {
		return err
	}
	count := &nameCount{maxNames}
	for _, at := range b.kinds {
		ok := count.add(b.strings, b.u32(b.types, at))
		if tail := btfTail[b.kind(at)]; tail.each != 0 && b.kind(at) != btfKindDatasec {
			for i := 0; ok && i < b.members(at); i++ {
				ok = count.add(b.strings, b.u32(b.types, at+btfTypeHead+i*tail.each))
			}
		}
		if !ok {
			return fmt.Errorf("section .BTF: type at offset %d: more than %d bytes of names", at, maxNames)
		}
	}
	for _, sec := range im.elf.Sections {
		if sec.Name == ".BTF.ext" && !b.countRecords(part(im.bytes, sec.Offset, sec.FileSize), count) {
			return fmt.Errorf("section .BTF.ext: more than %d bytes of names", maxNames)
		}
	}
	return nil
}

// Offsets in .BTF.ext: its header's length, and there the places of three tables; in a CO-RE record.
const (
	extHdrLen  = 4
	extTables  = 8
	extCORE    = 2 // the third table
	corePath   = 8
	coreRecord = 16
)

// countRecords counts the names in .BTF.ext; false if they are too long. What is malformed the reader reports.
func (b *btfImage) countRecords(ext []byte, count *nameCount) bool {
	for table := range 3 {
		at := extTables + 8*table
		if len(ext) < at+8 {
			break
		}
		recs := part(ext, uint64(b.u32(ext, extHdrLen))+uint64(b.u32(ext, at)), uint64(b.u32(ext, at+4)))
		if len(recs) < 4 {
			continue
		}
		size := uint64(b.u32(recs, 0))
		for recs = recs[4:]; len(recs) >= 8; {
			n := uint64(b.u32(recs, 4))
			if !count.add(b.strings, b.u32(recs, 0)) {
				return false
			}
			here := part(recs, 8, min(n*size, uint64(len(recs)-8)))
			recs = recs[8+len(here):]
			for ; table == extCORE && size >= coreRecord && uint64(len(here)) >= size; here = here[size:] {
				if !count.add(b.strings, b.u32(here, corePath)) {
					return false
				}
			}
		}
	}
	return true
}
