package object_test

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"runtime"
	"strings"
	"testing"

	"github.com/skep-bpf/skep/internal/object"
)

// Offsets in ELF's structures, as far as these tests edit them.
const (
	hdrShoff, hdrShnum, hdrShstrndx = 40, 60, 62
	shName, shOffset, shSize, shLen = 0, 24, 32, 64
	symLen                          = 24
)

var le = binary.LittleEndian

// longNames is a table of strings with one of a megabyte, at offset 1.
func longNames() []byte {
	return append(append([]byte{0}, bytes.Repeat([]byte{'n'}, 1<<20)...), 0)
}

// moveSection gives a section other contents, at the end of the file.
func moveSection(t *testing.T, b []byte, name string, contents []byte) []byte {
	b = editSection(t, b, name, shSize, uint64(len(contents)))
	b = editSection(t, b, name, shOffset, uint64(len(b)))
	return append(b, contents...)
}

// contentsOf returns what a section holds.
func contentsOf(t *testing.T, b []byte, name string) []byte {
	t.Helper()
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	data, err := f.Section(name).Data()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// manySections adds section headers that all have the name of a megabyte.
func manySections(t *testing.T, b []byte) []byte {
	old, n := le.Uint64(b[hdrShoff:]), int(le.Uint16(b[hdrShnum:]))
	names := longNames()
	at := uint64(len(b))
	b = append(b, names...)
	headers := bytes.Clone(b[old : old+uint64(n)*shLen])
	strtab := headers[int(le.Uint16(b[hdrShstrndx:]))*shLen:]
	le.PutUint64(strtab[shOffset:], at)
	le.PutUint64(strtab[shSize:], uint64(len(names)))
	for i := range n {
		le.PutUint32(headers[i*shLen+shName:], 1)
	}
	for len(headers) < 60000*shLen {
		headers = append(headers, headers[:shLen]...)
	}
	le.PutUint64(b[hdrShoff:], uint64(len(b)))
	le.PutUint16(b[hdrShnum:], uint16(len(headers)/shLen))
	return append(b, headers...)
}

// manySymbols adds symbols that all have the name of a megabyte. Symbols and sections have one table of names.
func manySymbols(t *testing.T, b []byte) []byte {
	text, symbols := contentsOf(t, b, ".strtab"), contentsOf(t, b, ".symtab")
	sym := bytes.Clone(symbols[symLen : 2*symLen])
	le.PutUint32(sym, uint32(len(text)+1))
	symbols = append(bytes.Clone(symbols), bytes.Repeat(sym, 100000)...)
	b = moveSection(t, b, ".symtab", symbols)
	return moveSection(t, b, ".strtab", append(text, longNames()...))
}

// overlap makes every program section as large as the file.
func overlap(t *testing.T, b []byte) []byte {
	for _, name := range []string{"socket", ".text", ".rodata"} {
		if f, _ := elf.NewFile(bytes.NewReader(b)); f.Section(name) != nil {
			b = editSection(t, b, name, shOffset, 0)
			b = editSection(t, b, name, shSize, uint64(len(b)))
		}
	}
	return b
}

// overlappingFunctions gives a section a hundred functions, each of which reaches to its end.
func overlappingFunctions(t *testing.T, b []byte) []byte {
	symbols := bytes.Clone(contentsOf(t, b, ".symtab"))
	f, _ := elf.NewFile(bytes.NewReader(b))
	named, _ := f.Symbols()
	for i, s := range named {
		if elf.ST_TYPE(s.Info) != elf.STT_FUNC {
			continue
		}
		sym := bytes.Clone(symbols[(i+1)*symLen : (i+2)*symLen])
		for at := uint64(8); at < s.Size; at += 8 {
			le.PutUint64(sym[8:], s.Value+at)
			le.PutUint64(sym[16:], s.Size-at)
			symbols = append(symbols, sym...)
		}
		break
	}
	return moveSection(t, b, ".symtab", symbols)
}

// memberNames gives BTF a structure of 60,000 members, all with the name of a megabyte.
func memberNames(t *testing.T, b []byte) []byte {
	old := contentsOf(t, b, ".BTF")
	hdr := bytes.Clone(old[:24])
	types := bytes.Clone(old[24+le.Uint32(hdr[8:]):][:le.Uint32(hdr[12:])])
	text := bytes.Clone(old[24+le.Uint32(hdr[16:]):][:le.Uint32(hdr[20:])])
	name := uint32(len(text) + 1)
	text = append(text, longNames()...)
	types = le.AppendUint32(types, 0)
	types = le.AppendUint32(types, 4<<24|60000)
	types = le.AppendUint32(types, 4)
	for range 60000 {
		types = le.AppendUint32(le.AppendUint32(le.AppendUint32(types, name), 1), 0)
	}
	return moveSection(t, b, ".BTF", joinBTF(hdr, types, text))
}

func joinBTF(hdr, types, text []byte) []byte {
	for i, v := range []int{0, len(types), len(types), len(text)} {
		le.PutUint32(hdr[8+4*i:], uint32(v))
	}
	return append(append(hdr, types...), text...)
}

// longPaths gives .BTF.ext 50,000 CO-RE relocations whose path has a megabyte.
func longPaths(t *testing.T, b []byte) []byte {
	old := contentsOf(t, b, ".BTF")
	hdr := bytes.Clone(old[:24])
	types := bytes.Clone(old[24+le.Uint32(hdr[8:]):][:le.Uint32(hdr[12:])])
	text := bytes.Clone(old[24+le.Uint32(hdr[16:]):][:le.Uint32(hdr[20:])])
	section := uint32(bytes.Index(text, []byte("socket\x00")))
	path := uint32(len(text) + 1)
	text = append(text, longNames()...)
	ext := contentsOf(t, b, ".BTF.ext")
	recs := le.AppendUint32(nil, 16)
	recs = le.AppendUint32(le.AppendUint32(recs, section), 50000)
	for range 50000 {
		recs = append(recs, make([]byte, 4)...)
		recs = le.AppendUint32(le.AppendUint32(le.AppendUint32(recs, 1), path), 0)
	}
	ext = bytes.Clone(ext)
	le.PutUint32(ext[24:], uint32(len(ext))-le.Uint32(ext[4:]))
	le.PutUint32(ext[28:], uint32(len(recs)))
	b = moveSection(t, b, ".BTF.ext", append(ext, recs...))
	return moveSection(t, b, ".BTF", joinBTF(hdr, types, text))
}

// TestAmplification: files of some megabytes that make their readers copy gigabytes.
func TestAmplification(t *testing.T) {
	for name, c := range map[string]struct {
		file string
		edit func(*testing.T, []byte) []byte
		want string
	}{
		"section names":         {"globals.o", manySections, "section header 55: more than 67108864 bytes of names"},
		"symbol names":          {"globals.o", manySymbols, "bytes of names"},
		"overlapping sections":  {"globals.o", overlap, "or overlap"},
		"overlapping functions": {"globals.o", overlappingFunctions, "section socket: function use at offset 8 overlaps the one before it"},
		"names of members":      {"globals.o", memberNames, "section .BTF: type at offset"},
		"paths of relocations":  {"core.o", longPaths, "section .BTF.ext: more than 67108864 bytes of names"},
	} {
		b := c.edit(t, bytes.Clone(fixtures(t)[c.file]))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := object.Load(bytes.NewReader(b), object.Options{})
		runtime.ReadMemStats(&after)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %s", name, err, c.want)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > 64<<20 {
			t.Errorf("%s: %d bytes allocated for a file of %d", name, used, len(b))
		}
	}
}
