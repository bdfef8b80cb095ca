package program

import (
	"reflect"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// cilium/ebpf's ELF reader leaves notes on instructions under keys that it does not export: which are kfuncs, kernel
// variables and kconfig variables, and whether the symbol is weak. This file reads the notes by reflection, without
// writing and without unsafe, so that collections which cilium itself loaded (bpf2go's) work too. TestCiliumNotes
// fails if an upgrade moves them.

// note is what cilium knows of an extern that an instruction refers to.
type note struct {
	kind   noteKind
	weak   bool
	offset uint32 // kconfig: offset in the virtual section
}

type noteKind uint8

const (
	noteNone noteKind = iota
	noteKfunc
	noteKsym
	noteKconfig
)

var noteKeys = map[string]noteKind{"ebpf.kfuncMetaKey": noteKfunc, "ebpf.ksymMetaKey": noteKsym, "ebpf.kconfigMetaKey": noteKconfig}

const bindWeak = 2 // STB_WEAK of ELF

// noteOf returns what cilium noted on ins; kind is noteNone if there is nothing.
func noteOf(ins *asm.Instruction) note {
	elem := reflect.ValueOf(&ins.Metadata).Elem().FieldByName("head")
	for elem.IsValid() && elem.Kind() == reflect.Pointer && !elem.IsNil() {
		e := elem.Elem()
		key, value := e.FieldByName("key"), e.FieldByName("value")
		if key.IsValid() && !key.IsNil() && value.IsValid() && !value.IsNil() {
			if kind := noteKeys[key.Elem().Type().String()]; kind != noteNone {
				return readNote(kind, value.Elem())
			}
		}
		elem = e.FieldByName("next")
	}
	return note{}
}

func readNote(kind noteKind, v reflect.Value) note {
	n := note{kind: kind}
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		return n
	}
	if b := v.Elem().FieldByName("Binding"); b.IsValid() && b.CanInt() {
		n.weak = b.Int() == bindWeak
	}
	if o := v.Elem().FieldByName("Offset"); o.IsValid() && o.CanUint() {
		n.offset = uint32(o.Uint())
	}
	return n
}

// datasec returns the virtual section of that name in the collection's types, nil if there is none.
func datasec(cs *ebpf.CollectionSpec, name string) *btf.Datasec {
	var ds *btf.Datasec
	if cs == nil || cs.Types == nil || cs.Types.TypeByName(name, &ds) != nil {
		return nil
	}
	return ds
}

// kfuncTypes returns the prototypes of the kfuncs that the collection declares, by name.
func kfuncTypes(cs *ebpf.CollectionSpec) map[string]*btf.Func {
	ds := datasec(cs, ".ksyms")
	if ds == nil {
		return nil
	}
	types := map[string]*btf.Func{}
	for _, v := range ds.Vars {
		if fn, ok := v.Type.(*btf.Func); ok {
			types[fn.Name] = fn
		}
	}
	return types
}

type weakKey struct{}

// MarkWeak notes that a symbol is weak: on the first instruction of a function that of the function, on the load of
// a kconfig variable that of the variable. internal/object calls it: cilium's reader does not keep either.
func MarkWeak(ins *asm.Instruction) { ins.Metadata.Set(weakKey{}, true) }

func isWeak(ins *asm.Instruction) bool { return ins.Metadata.Get(weakKey{}) != nil }

type typedKey struct{}

// MarkTyped notes that the variable of the kernel whose address an instruction loads is declared with a type.
func MarkTyped(ins *asm.Instruction) { ins.Metadata.Set(typedKey{}, true) }

func isTyped(ins *asm.Instruction) bool { return ins.Metadata.Get(typedKey{}) != nil }

type foreignKey struct{}

// MarkForeign notes that a map's number in an instruction comes from a file, which cannot know one of this process.
func MarkForeign(ins *asm.Instruction) { ins.Metadata.Set(foreignKey{}, true) }

func isForeign(ins *asm.Instruction) bool { return ins.Metadata.Get(foreignKey{}) != nil }

// KconfigOffset returns the offset of the kconfig variable whose address an instruction loads.
func KconfigOffset(ins *asm.Instruction) (offset uint32, ok bool) {
	n := noteOf(ins)
	return n.offset, n.kind == noteKconfig
}
