package object

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// Exception callbacks are functions that no instruction refers to: a tag of a program's main function names one, and libbpf appends it
// to the program. cilium/ebpf v0.22 forgets functions of .text that nothing calls. So the section gets another name where there are such
// tags; its functions are programs then, and what they are to others is put right when the object has been read.

const (
	textSection  = ".text"
	shownSection = ".texx" // of the same length: the name is edited in place
	exceptionTag = "exception_callback:"
)

// showText gives .text its other name if the object has exception callbacks, and reports whether it did.
func (im *image) showText(raw *rawObject) (bool, error) {
	if !bytes.Contains(im.bytes, []byte(exceptionTag)) {
		return false, nil
	}
	text := im.elf.Section(textSection)
	if text == nil {
		return false, nil
	}
	insns := 0
	for i := range raw.functions {
		insns += len(raw.functions[i].Insns)
	}
	if n := len(raw.functions); n*insns > maxFlattened {
		return false, fmt.Errorf("%d functions that may share %d instructions: more than %d together", n, insns, maxFlattened)
	}
	names := im.elf.Sections[im.order.Uint16(im.bytes[elfShstrndx:])]
	for i, sec := range im.elf.Sections {
		if sec.Name != textSection {
			continue
		}
		header := im.order.Uint64(im.bytes[elfShoff:]) + uint64(i)*elfSectionSize
		if err := im.editName(names.Offset + uint64(im.order.Uint32(im.bytes[header+elfSectionName:]))); err != nil {
			return false, err
		}
	}
	return true, im.editBTFName()
}

// editName changes the name that stands at an offset.
func (im *image) editName(at uint64) error {
	if n := uint64(len(im.bytes)); at > n || n-at < uint64(len(textSection)) || string(im.bytes[at:at+uint64(len(textSection))]) != textSection {
		return fmt.Errorf("the name of section %s lies elsewhere", textSection)
	}
	copy(im.bytes[at:], shownSection)
	return nil
}

// editBTFName changes the name by which .BTF.ext knows the section.
func (im *image) editBTFName() error {
	sec := im.elf.Section(".BTF")
	if sec == nil || sec.Offset > uint64(len(im.bytes)) || uint64(len(im.bytes))-sec.Offset < sec.FileSize {
		return nil
	}
	if i := bytes.Index(im.bytes[sec.Offset:sec.Offset+sec.FileSize], []byte("\x00"+textSection+"\x00")); i >= 0 {
		return im.editName(sec.Offset + uint64(i) + 1)
	}
	return nil
}

// extSection is the name of a section in .BTF.ext.
func (raw *rawObject) extSection(name string) string {
	if raw.shown && name == textSection {
		return shownSection
	}
	return name
}

// appendCallbacks takes the functions of .text off the list of programs again, and appends exception callbacks to the programs that name
// them, with what they refer to.
func (raw *rawObject) appendCallbacks(spec *ebpf.CollectionSpec) {
	if !raw.shown {
		return
	}
	text := map[string]asm.Instructions{}
	for name, p := range spec.Programs {
		if p.SectionName == shownSection {
			text[name] = p.Instructions
			delete(spec.Programs, name)
		}
	}
	for _, p := range spec.Programs {
		if name := exceptionCallback(p); text[name] != nil {
			p.Instructions = appendFunctions(p.Instructions, text[name], text)
		}
	}
}

// exceptionCallback is the name of a program's exception callback, "" if it has none.
func exceptionCallback(p *ebpf.ProgramSpec) string {
	if len(p.Instructions) == 0 {
		return ""
	}
	fn := btf.FuncMetadata(&p.Instructions[0])
	if fn == nil {
		return ""
	}
	for _, tag := range fn.Tags {
		if name, ok := strings.CutPrefix(tag, exceptionTag); ok {
			return name
		}
	}
	return ""
}

// appendFunctions appends those functions of more to a program that are not in it. A function begins where its symbol is one of text.
func appendFunctions(insns, more asm.Instructions, text map[string]asm.Instructions) asm.Instructions {
	have := map[string]bool{}
	for i := range insns {
		have[insns[i].Symbol()] = true
	}
	out := append(asm.Instructions(nil), insns...)
	skip := true
	for i := range more {
		if s := more[i].Symbol(); text[s] != nil {
			skip = have[s]
		}
		if !skip {
			out = append(out, more[i])
		}
	}
	return out
}
