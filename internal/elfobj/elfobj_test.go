package elfobj

import (
	"bytes"
	"debug/dwarf"
	"debug/elf"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
)

// machine is code for one machine: two functions that return 42 and 7.
type machine struct {
	elf.Machine
	code []byte
	off  [3]uint64 // where they start, and the end
}

var machines = []machine{
	{elf.EM_X86_64, []byte{0xb8, 42, 0, 0, 0, 0xc3, 0x6a, 7, 0x58, 0xc3}, [3]uint64{0, 6, 10}},
	{elf.EM_AARCH64, []byte{0x40, 0x05, 0x80, 0x52, 0xc0, 0x03, 0x5f, 0xd6, 0xe0, 0x00, 0x80, 0x52, 0xc0, 0x03, 0x5f, 0xd6}, [3]uint64{0, 8, 16}},
}

// rows are the lines of the functions: two files, a step back, and code from no line.
func (m *machine) rows() []Row {
	return []Row{
		{0, "/src/answer.c", 10, 3}, {m.off[1] - 1, "/src/answer.c", 200, 70}, {m.off[1], "/src/seven.h", 7, 1}, {m.off[2] - 1, "", 0, 0},
	}
}

// object is an object with everything.
func (m *machine) object() *Object {
	u := Unit{
		Name: "answer.o", Producer: "test", Size: uint64(len(m.code)), Rows: m.rows(),
		Funcs: []Func{{"answer", m.off[0], m.off[1] - m.off[0], true}, {"seven", m.off[1], m.off[2] - m.off[1], false}},
	}
	o := &Object{Machine: m.Machine, Sections: []Section{
		{Name: ".text", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_EXECINSTR, Align: 16, Data: m.code},
		{Name: ".note.GNU-stack", Type: elf.SHT_PROGBITS, Align: 1},
	}}
	o.Sections = append(o.Sections, u.Debug(len(o.Sections))...)
	for _, f := range u.Funcs {
		o.Symbols = append(o.Symbols, Symbol{Name: f.Name, Value: f.Off, Size: f.Size, Type: elf.STT_FUNC, Global: f.Global})
	}
	return o
}

func (m *machine) open(t *testing.T) *elf.File {
	t.Helper()
	b, err := m.object().Bytes()
	if err != nil {
		t.Fatal(err)
	}
	again, err := m.object().Bytes()
	if err != nil || !bytes.Equal(b, again) {
		t.Fatalf("a second object has other bytes (%v)", err)
	}
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestELF reads objects back with debug/elf.
func TestELF(t *testing.T) {
	for _, m := range machines {
		f := m.open(t)
		if f.Machine != m.Machine || f.Type != elf.ET_REL || f.Class != elf.ELFCLASS64 || f.Data != elf.ELFDATA2LSB {
			t.Errorf("%s: %+v", m.Machine, f.FileHeader)
		}
		var names []string
		for _, s := range f.Sections {
			names = append(names, s.Name)
			if s.Addralign > 1 && s.Offset%s.Addralign != 0 {
				t.Errorf("%s lies at %#x, its alignment is %d", s.Name, s.Offset, s.Addralign)
			}
		}
		want := " .text .note.GNU-stack .debug_abbrev .debug_info .debug_line .rela.debug_info .rela.debug_line .symtab .strtab .shstrtab"
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: sections %s, want %s", m.Machine, got, want)
		}
		text, err := f.Section(".text").Data()
		if err != nil || !bytes.Equal(text, m.code) || f.Section(".text").Flags != elf.SHF_ALLOC|elf.SHF_EXECINSTR {
			t.Errorf("%s: .text is % x, %s (%v)", m.Machine, text, f.Section(".text").Flags, err)
		}
		checkSymbols(t, &m, f)
	}
}

func checkSymbols(t *testing.T, m *machine, f *elf.File) {
	syms, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i, s := range syms {
		if local := elf.ST_BIND(s.Info) == elf.STB_LOCAL; local != (i+1 < int(f.Section(".symtab").Info)) {
			t.Errorf("%s: symbol %d, %s: local symbols end at %d", m.Machine, i+1, s.Name, f.Section(".symtab").Info)
		}
		if elf.ST_TYPE(s.Info) == elf.STT_FUNC {
			got = append(got, fmt.Sprintf("%s %s %d+%d in %s", s.Name, elf.ST_BIND(s.Info), s.Value, s.Size, f.Sections[s.Section].Name))
		}
	}
	want := []string{
		fmt.Sprintf("seven STB_LOCAL %d+%d in .text", m.off[1], m.off[2]-m.off[1]),
		fmt.Sprintf("answer STB_GLOBAL 0+%d in .text", m.off[1]),
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s: symbols %q, want %q", m.Machine, got, want)
	}
}

// TestDWARF reads lines and functions back with debug/dwarf.
func TestDWARF(t *testing.T) {
	for _, m := range machines {
		d, err := m.open(t).DWARF()
		if err != nil {
			t.Fatal(err)
		}
		r := d.Reader()
		unit, err := r.Next()
		if err != nil || unit == nil || unit.Tag != dwarf.TagCompileUnit || unit.Val(dwarf.AttrName) != "answer.o" {
			t.Fatalf("%s: unit %v, %v", m.Machine, unit, err)
		}
		var funcs []string
		for {
			e, err := r.Next()
			if err != nil {
				t.Fatal(err)
			}
			if e == nil || e.Tag == 0 {
				break
			}
			funcs = append(funcs, fmt.Sprint(e.Tag, e.Val(dwarf.AttrName), e.Val(dwarf.AttrExternal), e.Val(dwarf.AttrLowpc), e.Val(dwarf.AttrHighpc)))
		}
		want := []string{
			fmt.Sprint(dwarf.TagSubprogram, "answer", true, uint64(0), int64(m.off[1])),
			fmt.Sprint(dwarf.TagSubprogram, "seven", false, m.off[1], int64(m.off[2]-m.off[1])),
		}
		if !slices.Equal(funcs, want) {
			t.Errorf("%s: functions %q, want %q", m.Machine, funcs, want)
		}
		checkLines(t, &m, d, unit)
	}
}

func checkLines(t *testing.T, m *machine, d *dwarf.Data, unit *dwarf.Entry) {
	lr, err := d.LineReader(unit)
	if err != nil {
		t.Fatal(err)
	}
	want := m.rows()
	for i := 0; ; i++ {
		var e dwarf.LineEntry
		if err := lr.Next(&e); err == io.EOF {
			t.Fatalf("%s: no end of the sequence", m.Machine)
		} else if err != nil {
			t.Fatal(err)
		}
		if e.EndSequence {
			if i != len(want) || e.Address != uint64(len(m.code)) {
				t.Errorf("%s: %d rows up to %#x", m.Machine, i, e.Address)
			}
			return
		}
		if i >= len(want) {
			t.Fatalf("%s: more than %d rows", m.Machine, len(want))
		}
		r := Row{e.Address, e.File.Name, uint32(e.Line), uint32(e.Column)}
		if want[i].Line == 0 {
			r.File = ""
		}
		if r != want[i] {
			t.Errorf("%s: row %d is %+v, want %+v", m.Machine, i, r, want[i])
		}
	}
}

// TestRefused: what the format cannot hold is an error that names it.
func TestRefused(t *testing.T) {
	for _, c := range []struct {
		change func(*Object)
		want   string
	}{
		{func(o *Object) { o.Symbols[0].Name = "a\x00b" }, `"a\x00b" is no name`},
		{func(o *Object) { o.Symbols[0].Name = "" }, `"" is no name`},
		{func(o *Object) { o.Symbols[0].Section = 99 }, "symbol answer: no section 99"},
		{func(o *Object) { o.Symbols[0].Size = 1 << 40 }, "symbol answer is not inside"},
		{func(o *Object) { o.Symbols[0].Value = 1<<64 - 1 }, "symbol answer is not inside"},
		{func(o *Object) { o.Symbols[1].Name, o.Symbols[1].Global = "answer", true }, "two global symbols answer"},
		{func(o *Object) { o.Sections[0].Name = "" }, "no name"},
		{func(o *Object) { o.Sections[0].Align = 3 }, `section ".text": alignment 3`},
		{func(o *Object) { o.Sections[3].Relocs[0].Off = 1 << 30 }, `section ".debug_info": relocation of 4 bytes at 1073741824`},
		{func(o *Object) { o.Sections[3].Relocs[0].Size = 2 }, "relocation of 2 bytes"},
		{func(o *Object) { o.Sections[3].Relocs[0].Section = -1 }, "against section -1"},
		{func(o *Object) { o.Machine = elf.EM_VAX }, "no relocations are known for EM_VAX"},
		{func(o *Object) { o.Sections = make([]Section, 1<<16) }, "object of 65536 sections"},
	} {
		o := machines[0].object()
		c.change(o)
		if _, err := o.Bytes(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
}

// TestSLEB: signed numbers as DWARF 4 has them in figure 23 (section 7.6), and where their length changes.
func TestSLEB(t *testing.T) {
	for _, c := range []struct {
		v    int64
		want []byte
	}{{0, []byte{0}}, {63, []byte{63}}, {64, []byte{0xc0, 0}}, {-64, []byte{0x40}}, {-65, []byte{0xbf, 0x7f}}, {128, []byte{0x80, 1}}, {-128, []byte{0x80, 0x7f}}} {
		var tab table
		if tab.sleb(c.v); !bytes.Equal(tab.b, c.want) {
			t.Errorf("%d: % x, want % x", c.v, tab.b, c.want)
		}
	}
}
