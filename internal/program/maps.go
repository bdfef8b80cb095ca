package program

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/isa"
)

const flagReadOnlyProg = 1 << 7 // BPF_F_RDONLY_PROG

// kconfigMap is the name of the virtual map that holds extern __kconfig variables. It is in no collection: whoever
// makes the maps of a program makes it from program.Map.
const kconfigMap = ".kconfig"

// MapFromSpec describes a map of a collection to the verifier. name is its key in the collection; data sections take
// values from the collection's variables.
func MapFromSpec(cs *ebpf.CollectionSpec, name string) (Map, error) {
	spec := cs.Maps[name]
	if spec == nil {
		return Map{}, fmt.Errorf("map %s is not defined", name)
	}
	m := MapOf(WithTypes(cs.Types, spec), name)
	m.Frozen = strings.HasPrefix(name, ".rodata") || strings.HasPrefix(spec.Name, ".rodata")
	if m.Frozen && m.Flags&flagReadOnlyProg != 0 && len(spec.Contents) == 1 {
		data, err := SectionData(cs, name)
		if err != nil {
			return Map{}, err
		}
		m.Contents = data
	}
	return m, nil
}

// MapOf describes a map by its spec alone.
func MapOf(spec *ebpf.MapSpec, name string) Map {
	m := Map{
		Name: name, Type: spec.Type, KeySize: spec.KeySize, ValueSize: spec.ValueSize, MaxEntries: spec.MaxEntries,
		Flags: spec.Flags, Extra: spec.MapExtra, Key: spec.Key, Value: spec.Value,
	}
	if spec.InnerMap != nil {
		inner := MapOf(spec.InnerMap, spec.InnerMap.Name)
		m.Inner = &inner
	}
	return m
}

// WithTypes returns the spec of a map with the types of its values as they are in types: in a collection that was copied, types were, and
// the specs of its maps still name the first ones.
func WithTypes(types *btf.Spec, spec *ebpf.MapSpec) *ebpf.MapSpec {
	s := *spec
	if types != nil && s.Value != nil {
		if _, err := types.TypeID(s.Value); err != nil {
			if twin := twinOf(types, s.Value); twin != nil {
				s.Value = twin
			}
		}
	}
	if s.InnerMap != nil {
		s.InnerMap = WithTypes(types, s.InnerMap)
	}
	return &s
}

// Bind says that the map, and its template, exist with these types.
func (m *Map) Bind(types *btf.Spec) {
	m.Types, m.Bound = types, true
	if m.Inner != nil {
		m.Inner.Bind(types)
	}
}

// SectionData returns the bytes of a data section (.rodata, .data, .bss): the object's with the values of the
// collection's variables put in. The result is the caller's.
func SectionData(cs *ebpf.CollectionSpec, name string) ([]byte, error) {
	spec := cs.Maps[name]
	if spec == nil || len(spec.Contents) != 1 {
		return nil, fmt.Errorf("map %s is no data section", name)
	}
	data, ok := spec.Contents[0].Value.([]byte)
	if !ok || uint64(len(data)) != uint64(spec.ValueSize) {
		return nil, fmt.Errorf("map %s: contents are not %d bytes", name, spec.ValueSize)
	}
	data = append([]byte(nil), data...)
	for _, v := range cs.Variables {
		if v == nil || v.SectionName != name {
			continue
		}
		if uint64(v.Offset)+uint64(len(v.Value)) > uint64(len(data)) {
			return nil, fmt.Errorf("map %s: variable %s lies outside", name, v.Name)
		}
		copy(data[v.Offset:], v.Value)
	}
	return data, nil
}

// mapLoad points the load of a map's address, or of an address in its value, at its entry in Maps.
func (b *builder) mapLoad(ins *asm.Instruction, slots *[2]isa.Insn) error {
	ref := ins.Reference()
	var m Map
	switch {
	case ref != "" && b.cs != nil && b.cs.Maps[ref] != nil:
		if i, ok := b.mapIndex(ref, nil); ok {
			slots[0].Imm = i
			return nil
		}
		var err error
		if m, err = MapFromSpec(b.cs, ref); err != nil {
			return err
		}
	default:
		ok := false
		if b.opt.Map != nil && !isForeign(ins) {
			m, ok = b.opt.Map(ins)
		}
		if !ok && ref != "" {
			return fmt.Errorf("map %s is not defined", ref)
		} else if !ok {
			return &InsnError{Text: fmt.Sprintf("fd %d is not pointing to valid bpf_map", int32(ins.Constant))}
		}
	}
	slots[0].Imm = b.addMap(m)
	return nil
}

func (b *builder) mapIndex(name string, source any) (int32, bool) {
	for i := range b.p.Maps {
		if b.p.Maps[i].Name == name && b.p.Maps[i].Source == source {
			return int32(i), true
		}
	}
	return 0, false
}

func (b *builder) addMap(m Map) int32 {
	if i, ok := b.mapIndex(m.Name, m.Source); ok {
		return i
	}
	b.p.Maps = append(b.p.Maps, m)
	return int32(len(b.p.Maps) - 1)
}

// kconfig points the load of a kconfig variable's address into the virtual map. A weak variable without a value is
// zero.
func (b *builder) kconfig(ins *asm.Instruction, offset uint32, slots *[2]isa.Insn) error {
	i, ok := b.mapIndex(kconfigMap, nil)
	if !ok {
		ds := datasec(b.cs, kconfigMap)
		if ds == nil {
			return errors.New("kconfig variable without a .kconfig section in the types")
		}
		lookup := b.opt.Kconfig
		if lookup == nil {
			lookup = hostKconfig
		}
		data, missing, err := kconfigData(ds, lookup)
		if err != nil {
			return err
		}
		b.noKconfig = missing
		i = b.addMap(Map{
			Name: kconfigMap, Type: ebpf.Array, KeySize: 4, ValueSize: uint32(len(data)), MaxEntries: 1,
			Flags: flagReadOnlyProg, Frozen: true, Contents: data, Value: ds,
		})
	}
	if name := b.noKconfig[offset]; name != "" && !isWeak(ins) {
		return fmt.Errorf("kconfig variable %s has no value", name)
	}
	slots[0].Src, slots[0].Imm, slots[1].Imm = isa.PseudoMapValue, i, int32(offset)
	return nil
}

// kconfigData lays the variables of the section out with their values. missing names those without one by offset.
func kconfigData(ds *btf.Datasec, lookup func(string) (string, bool)) (data []byte, missing map[uint32]string, err error) {
	if ds.Size > 1<<20 {
		return nil, nil, fmt.Errorf("section .kconfig of %d bytes", ds.Size)
	}
	data, missing = make([]byte, ds.Size), map[uint32]string{}
	for _, vsi := range ds.Vars {
		v, ok := vsi.Type.(*btf.Var)
		if !ok || uint64(vsi.Offset)+uint64(vsi.Size) > uint64(len(data)) {
			return nil, nil, fmt.Errorf("section .kconfig: malformed variable at offset %d", vsi.Offset)
		}
		value, ok := lookup(v.Name)
		if !ok {
			missing[vsi.Offset] = v.Name
			continue
		}
		if err := putKconfig(data[vsi.Offset:][:vsi.Size], v.Type, value); err != nil {
			return nil, nil, fmt.Errorf("kconfig variable %s: %w", v.Name, err)
		}
	}
	return data, missing, nil
}

// putUint stores v in the host's byte order in a field of 1, 2, 4 or 8 bytes, refusing values that do not fit.
func putUint(b []byte, v uint64) error {
	if len(b) < 8 && v>>(8*len(b)) != 0 {
		return fmt.Errorf("%d does not fit into %d bytes", v, len(b))
	}
	switch len(b) {
	case 1:
		b[0] = byte(v)
	case 2:
		binary.NativeEndian.PutUint16(b, uint16(v))
	case 4:
		binary.NativeEndian.PutUint32(b, uint32(v))
	case 8:
		binary.NativeEndian.PutUint64(b, v)
	default:
		return fmt.Errorf("integer of %d bytes", len(b))
	}
	return nil
}
