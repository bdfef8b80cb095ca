package main

import (
	"bytes"
	"debug/elf"
	"flag"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/elfobj"
)

// typeOf is what -type says: a section's name, by which libbpf knows a program's type, its attach type, what it attaches to and whether it
// sleeps.
type typeOf struct{ like *ebpf.ProgramSpec }

// typeFlag adds -type, the section that programs are taken to be in.
func typeFlag(fs *flag.FlagSet) *typeOf {
	t := new(typeOf)
	fs.Func("type", "", func(section string) (err error) {
		t.like, err = programIn(section)
		return err
	})
	return t
}

// apply changes the type of one program, or of all that are no functions for others.
func (t *typeOf) apply(spec *ebpf.CollectionSpec, prog string) {
	if t.like == nil {
		return
	}
	for name, p := range spec.Programs {
		if name == prog || prog == "" && p.SectionName != ".text" {
			p.Type, p.AttachType, p.AttachTo = t.like.Type, t.like.AttachType, t.like.AttachTo
			p.Flags, p.SectionName = t.like.Flags, t.like.SectionName
		}
	}
}

// programIn asks cilium/ebpf, whose table of sections cannot be read, what it makes of an object with one program in a section of that name.
func programIn(section string) (*ebpf.ProgramSpec, error) {
	exit := []byte{0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0} // r0 = 0; exit
	o := elfobj.Object{
		Machine: elf.EM_BPF,
		Sections: []elfobj.Section{
			{Name: section, Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_EXECINSTR, Align: 8, Data: exit},
			{Name: "license", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_WRITE, Align: 1, Data: []byte("GPL\x00")},
		},
		Symbols: []elfobj.Symbol{{Name: "p", Size: uint64(len(exit)), Type: elf.STT_FUNC, Global: true}},
	}
	b, err := o.Bytes()
	if err != nil {
		return nil, err
	}
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	if p := spec.Programs["p"]; p != nil && p.Type != ebpf.UnspecifiedProgram {
		return p, nil
	}
	return nil, fmt.Errorf("no type of programs goes by %q; write it like a section: xdp, tc, kprobe, cgroup/connect4, tp_btf/sched_switch", section)
}
