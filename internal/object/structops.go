package object

import (
	"cmp"
	"debug/elf"
	"maps"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// Programs for structures of the kernel say by their place in an initialised structure which method they are. cilium/ebpf reads that
// for the section .struct_ops.link only; this file does so for the older .struct_ops, which is hidden from it (soften).

const structOpsSection = ".struct_ops"

// opsVariables are the structures in the section .struct_ops.
type opsVariables struct {
	at    map[string]uint64 // where each variable starts
	funcs map[uint64]string // the functions whose addresses belong at an offset
}

func readStructOps(f *elf.File) (o opsVariables) {
	index := -1
	for i, sec := range f.Sections {
		if sec.Name == structOpsSection {
			index = i
		}
	}
	symbols, err := f.Symbols()
	if index < 0 || err != nil {
		return o
	}
	o.at, o.funcs = map[string]uint64{}, map[uint64]string{}
	for _, s := range symbols {
		if int(s.Section) == index && s.Name != "" && elf.ST_TYPE(s.Info) == elf.STT_OBJECT {
			o.at[s.Name] = s.Value
		}
	}
	for _, sec := range f.Sections {
		if sec.Type != elf.SHT_REL || int(sec.Info) != index {
			continue
		}
		data, err := sec.Data()
		if err != nil {
			return opsVariables{}
		}
		for ; len(data) >= 16; data = data[16:] {
			// symbol numbers count from 1, and Symbols leaves out number 0
			if n := f.ByteOrder.Uint64(data[8:]) >> 32; n >= 1 && n <= uint64(len(symbols)) {
				o.funcs[f.ByteOrder.Uint64(data)] = symbols[n-1].Name
			}
		}
	}
	return o
}

// attach notes on programs which method of which structure they are, "structure:member", unless the reader did.
func (o *opsVariables) attach(spec *ebpf.CollectionSpec) {
	if spec.Types == nil {
		return
	}
	names := slices.SortedFunc(maps.Keys(o.at), func(a, b string) int { return cmp.Compare(o.at[a], o.at[b]) })
	for _, name := range names { // of several structures with a method the first counts
		start := o.at[name]
		var v *btf.Var
		if spec.Types.TypeByName(name, &v) != nil {
			continue
		}
		s, ok := btf.UnderlyingType(v.Type).(*btf.Struct)
		if !ok {
			continue
		}
		for _, m := range s.Members {
			ps := spec.Programs[o.funcs[start+uint64(m.Offset/8)]]
			if ps != nil && ps.Type == ebpf.StructOps && ps.AttachTo == "" {
				ps.AttachTo = s.Name + ":" + m.Name
			}
		}
	}
}
