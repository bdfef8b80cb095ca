package elfobj

import (
	"debug/dwarf"
	"debug/elf"
	"encoding/binary"
	"slices"
	"strings"
)

// Unit is what a debugger is to know of the code in one section: DWARF 4, the version that every tool reads.
type Unit struct {
	Name     string // of the source or object it comes from
	Producer string
	Section  int    // index of the section with the code
	Size     uint64 // of that section
	Funcs    []Func
	Rows     []Row // ascending by Off
}

// Func is one function for the debugger.
type Func struct {
	Name      string
	Off, Size uint64
	Global    bool
}

// Row says that the code from Off on, up to the next Row, comes from that line; line 0 means from none.
type Row struct {
	Off          uint64
	File         string
	Line, Column uint32
}

// Debug returns the sections .debug_abbrev, .debug_info and .debug_line, which are to follow first sections of an object.
func (u *Unit) Debug(first int) []Section {
	abbrev, line := first, first+2
	section := func(name string, data []byte, relocs []Reloc) Section {
		return Section{Name: name, Type: elf.SHT_PROGBITS, Align: 1, Data: data, Relocs: relocs}
	}
	info, infoRelocs := u.info(abbrev, line)
	lines, lineRelocs := u.lines()
	return []Section{
		section(".debug_abbrev", abbrevs(), nil), section(".debug_info", info, infoRelocs), section(".debug_line", lines, lineRelocs),
	}
}

const dwarfVersion = 4

// The forms of attributes that are used (DWARF 4, section 7.5.4). Package dwarf has names for tags and attributes only.
const (
	formAddr      = 0x01
	formData2     = 0x05
	formData8     = 0x07
	formString    = 0x08
	formFlag      = 0x0c
	formSecOffset = 0x17
)

// Codes of the two abbreviations.
const (
	abbrevUnit = 1 + iota
	abbrevFunc
)

const langC99 = 0x0c

// abbrevs says which attributes the entries of .debug_info have, in which order and form.
func abbrevs() []byte {
	var b []byte
	entry := func(code byte, tag dwarf.Tag, children byte, attrs ...uint64) {
		b = append(b, code, byte(tag), children)
		for _, a := range attrs {
			b = binary.AppendUvarint(b, a)
		}
		b = append(b, 0, 0)
	}
	entry(abbrevUnit, dwarf.TagCompileUnit, 1,
		uint64(dwarf.AttrProducer), formString, uint64(dwarf.AttrLanguage), formData2, uint64(dwarf.AttrName), formString,
		uint64(dwarf.AttrLowpc), formAddr, uint64(dwarf.AttrHighpc), formData8, uint64(dwarf.AttrStmtList), formSecOffset)
	entry(abbrevFunc, dwarf.TagSubprogram, 0,
		uint64(dwarf.AttrName), formString, uint64(dwarf.AttrExternal), formFlag,
		uint64(dwarf.AttrLowpc), formAddr, uint64(dwarf.AttrHighpc), formData8)
	return append(b, 0)
}

// table is a section of DWARF that grows, with its relocations.
type table struct {
	b      []byte
	relocs []Reloc
}

func (t *table) u8(v ...byte)   { t.b = append(t.b, v...) }
func (t *table) u16(v uint16)   { t.b = binary.LittleEndian.AppendUint16(t.b, v) }
func (t *table) u32(v uint32)   { t.b = binary.LittleEndian.AppendUint32(t.b, v) }
func (t *table) u64(v uint64)   { t.b = binary.LittleEndian.AppendUint64(t.b, v) }
func (t *table) uleb(v uint64)  { t.b = binary.AppendUvarint(t.b, v) }
func (t *table) length(at int)  { binary.LittleEndian.PutUint32(t.b[at:], uint32(len(t.b)-at-4)) }
func (t *table) open() (at int) { at = len(t.b); t.u32(0); return at }

// str appends a string up to its first zero byte, where a reader ends. An empty one would end a list.
func (t *table) str(s string) {
	if s, _, _ = strings.Cut(s, "\x00"); s == "" {
		s = "?"
	}
	t.b = append(append(t.b, s...), 0)
}

// sleb appends a signed LEB128 number, which is not Go's signed varint.
func (t *table) sleb(v int64) {
	for v < -64 || v > 63 {
		t.b = append(t.b, byte(v)|0x80)
		v >>= 7
	}
	t.b = append(t.b, byte(v)&0x7f)
}

// addr appends the address of a place in a section; size is 8, or 4 for an offset into a section of DWARF.
func (t *table) addr(section, size int, off uint64) {
	t.relocs = append(t.relocs, Reloc{Off: uint64(len(t.b)), Size: size, Section: section, Addend: int64(off)})
	t.b = append(t.b, make([]byte, size)...)
}

// info makes .debug_info: the unit and its functions.
func (u *Unit) info(abbrev, line int) ([]byte, []Reloc) {
	var t table
	start := t.open()
	t.u16(dwarfVersion)
	t.addr(abbrev, 4, 0)
	t.u8(8) // bytes of an address
	t.u8(abbrevUnit)
	t.str(u.Producer)
	t.u16(langC99)
	t.str(u.Name)
	t.addr(u.Section, 8, 0)
	t.u64(u.Size)
	t.addr(line, 4, 0)
	for _, f := range u.Funcs {
		t.u8(abbrevFunc)
		t.str(f.Name)
		if f.Global {
			t.u8(1)
		} else {
			t.u8(0)
		}
		t.addr(u.Section, 8, f.Off)
		t.u64(f.Size)
	}
	t.u8(0) // no more children
	t.length(start)
	return t.b, t.relocs
}

// Instructions of the line program (DWARF 4, section 6.2.5).
const (
	lnsCopy        = 1
	lnsAdvancePC   = 2
	lnsAdvanceLine = 3
	lnsSetFile     = 4
	lnsSetColumn   = 5
	lneEndSequence = 1
	lneSetAddress  = 2
)

// operands is how many operands the standard instructions 1 to 12 take.
var operands = []byte{0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1}

// lines makes .debug_line: one sequence over the whole section.
func (u *Unit) lines() ([]byte, []Reloc) {
	var t table
	start := t.open()
	t.u16(dwarfVersion)
	header := t.open()
	t.u8(1, 1, 1) // smallest instruction, operations in one, every row is a statement
	t.u8(0xff, 1) // lineBase -1 and lineRange 1: special opcodes are not used
	t.u8(byte(len(operands) + 1))
	t.u8(operands...)
	t.u8(0) // no directories
	files := u.files()
	for _, f := range files {
		t.str(f)
		t.u8(0, 0, 0) // directory, time, length
	}
	t.u8(0)
	t.length(header)

	t.u8(0, 9, lneSetAddress)
	t.addr(u.Section, 8, 0)
	at := Row{Line: 1}
	if len(files) > 0 {
		at.File = files[0]
	}
	for _, r := range u.Rows {
		t.row(&at, r, files)
	}
	t.u8(lnsAdvancePC)
	t.uleb(u.Size - at.Off)
	t.u8(0, 1, lneEndSequence)
	t.length(start)
	return t.b, t.relocs
}

// row goes from one row to the next.
func (t *table) row(at *Row, r Row, files []string) {
	if r.Line == 0 {
		r.File = at.File
	}
	if r.File != at.File {
		t.u8(lnsSetFile)
		t.uleb(uint64(slices.Index(files, r.File) + 1))
	}
	if r.Column != at.Column {
		t.u8(lnsSetColumn)
		t.uleb(uint64(r.Column))
	}
	if r.Line != at.Line {
		t.u8(lnsAdvanceLine)
		t.sleb(int64(r.Line) - int64(at.Line))
	}
	if r.Off != at.Off {
		t.u8(lnsAdvancePC)
		t.uleb(r.Off - at.Off)
	}
	t.u8(lnsCopy)
	*at = r
}

// files lists the files of the rows, in the order of their first mention.
func (u *Unit) files() []string {
	var out []string
	for _, r := range u.Rows {
		if r.Line != 0 && !slices.Contains(out, r.File) {
			out = append(out, r.File)
		}
	}
	return out
}
