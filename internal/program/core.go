package program

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// relocateTypes resolves CO-RE relocations against the BTF of the options or of the host. A relocation without a
// counterpart there poisons its instruction, as libbpf does: the verifier rejects it where it is reached.
func (b *builder) relocateTypes() error {
	var relos []*btf.CORERelocation
	var at []*asm.Instruction
	for i := range b.insns {
		if r := btf.CORERelocationMetadata(&b.insns[i]); r != nil {
			relos, at = append(relos, r), append(at, &b.insns[i])
		}
	}
	if len(relos) == 0 {
		return nil
	}
	specs := slices.Clone(b.opt.ExtraTypes)
	switch kernel, err := b.kernelTypes(); {
	case err == nil:
		specs = slices.Insert(specs, 0, kernel)
	case len(specs) == 0:
		return fmt.Errorf("%d CO-RE relocations and no BTF of a kernel to resolve them by: none was given and this host has none: %w", len(relos), err)
	}
	order := b.ps.ByteOrder
	if order == nil {
		order = hostOrder()
	}
	fixups, err := btf.CORERelocate(relos, specs, order, localTypeIDs(b.cs))
	if err != nil {
		return fmt.Errorf("CO-RE: %w", err)
	}
	if len(fixups) != len(at) {
		return errors.New("CO-RE: relocations and results differ in number")
	}
	for i := range fixups {
		notes := at[i].Metadata
		if err := fixups[i].Apply(at[i]); err != nil {
			return fmt.Errorf("CO-RE: %v: %w", relos[i], err)
		}
		at[i].Metadata = notes // a poisoned instruction loses its symbol otherwise
	}
	return nil
}

// kernelTypes are the types of the kernel that were given, or the host's.
func (b *builder) kernelTypes() (*btf.Spec, error) {
	if b.opt.KernelTypes != nil {
		return b.opt.KernelTypes, nil
	}
	return hostTypes()
}

// foreignTypes is where the numbers of types begin that are not in the collection's BTF, so that no such number is taken for another type's.
const foreignTypes = 1 << 28

// localTypeIDs numbers local types for relocations that ask for them: by the collection's BTF, else by order of use.
func localTypeIDs(cs *ebpf.CollectionSpec) func(btf.Type) (btf.TypeID, error) {
	var fresh btf.Builder
	return func(t btf.Type) (btf.TypeID, error) {
		if cs == nil || cs.Types == nil {
			return fresh.Add(t)
		}
		if id, err := cs.Types.TypeID(t); err == nil {
			return id, nil
		}
		if twin := twinOf(cs.Types, t); twin != nil {
			return cs.Types.TypeID(twin)
		}
		id, err := fresh.Add(t)
		return foreignTypes + id, err
	}
}

// twinOf finds the one type that is t in another copy of its BTF: in that of a collection that was copied, while the notes on its
// instructions were not.
func twinOf(types *btf.Spec, t btf.Type) btf.Type {
	if t.TypeName() == "" {
		return nil
	}
	all, err := types.AnyTypesByName(t.TypeName())
	if err != nil {
		return nil
	}
	var twin btf.Type
	for _, c := range all {
		if reflect.TypeOf(c) != reflect.TypeOf(t) || c.TypeName() != t.TypeName() {
			continue
		}
		x, ok := c.(*btf.Struct)
		if ok && !sameMembers(x, t.(*btf.Struct)) {
			continue
		}
		if twin != nil {
			return nil
		}
		twin = c
	}
	return twin
}

func sameMembers(a, b *btf.Struct) bool {
	return a.Size == b.Size && slices.EqualFunc(a.Members, b.Members, func(x, y btf.Member) bool {
		return x.Name == y.Name && x.Offset == y.Offset && x.BitfieldSize == y.BitfieldSize && reflect.TypeOf(x.Type) == reflect.TypeOf(y.Type)
	})
}

// hostOrder is the host's byte order as one of the two values that cilium/ebpf compares with.
func hostOrder() binary.ByteOrder {
	if binary.NativeEndian.Uint16([]byte{0, 1}) == 1 {
		return binary.BigEndian
	}
	return binary.LittleEndian
}
