package object

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/program"
)

// records are the .BTF.ext records of one section by slot.
type records struct {
	funcs map[uint64]*btf.Func
	lines map[uint64]*btf.Line
	relos map[uint64]*btf.CORERelocation
}

// repair puts what the ELF pass found into the spec: records of padded sections on the right instructions, hidden
// functions as static ones (they are not visible to other objects, so libbpf and we verify them with their callers),
// marks of weak functions and of loads of map numbers. It also finds each function's BTF.
func (o *Object) repair(data []byte, raw *rawObject) error {
	recs, err := o.readRecords(data, raw)
	if err != nil {
		return err
	}
	for i := range o.Functions {
		f := &o.Functions[i]
		if r := recs[f.Section]; r != nil {
			f.Type = r.funcs[f.Offset/asm.InstructionSize]
		}
		if f.Type != nil && f.Hidden && f.Type.Linkage == btf.GlobalFunc {
			static := *f.Type
			static.Linkage = btf.StaticFunc
			f.Type = &static
		}
	}
	weak := o.weakKconfig()
	for _, ps := range o.Spec.Programs {
		o.repairProgram(ps.Instructions, raw, recs)
		for i := range ps.Instructions {
			ins := &ps.Instructions[i]
			if ins.IsLoadFromMap() && ins.Reference() == "" {
				program.MarkForeign(ins)
			}
			if raw.typed[ins.Reference()] && ins.OpCode.IsDWordLoad() {
				program.MarkTyped(ins)
			}
			if len(weak) == 0 || !ins.OpCode.IsDWordLoad() {
				continue
			}
			if off, ok := program.KconfigOffset(ins); ok && weak[off] {
				program.MarkWeak(ins)
			}
		}
	}
	return nil
}

// weakKconfig returns the offsets of kconfig variables that need not have a value.
func (o *Object) weakKconfig() map[uint32]bool {
	weak := map[string]bool{}
	for _, e := range o.Externs {
		if e.Kind == ExternKconfig && e.Weak {
			weak[e.Name] = true
		}
	}
	var ds *btf.Datasec
	if len(weak) == 0 || o.Spec.Types.TypeByName(".kconfig", &ds) != nil {
		return nil
	}
	offsets := map[uint32]bool{}
	for _, v := range ds.Vars {
		if weak[v.Type.TypeName()] {
			offsets[v.Offset] = true
		}
	}
	return offsets
}

// repairProgram walks the functions of a linked program.
func (o *Object) repairProgram(insns asm.Instructions, raw *rawObject, recs map[string]*records) {
	var f *Function
	slot := uint64(0)
	for i := range insns {
		ins := &insns[i]
		if s := ins.Symbol(); s != "" {
			f = o.Function(s)
			slot = 0
			if f != nil && f.Type != nil {
				*ins = btf.WithFuncMetadata(*ins, f.Type)
			}
			if f != nil && f.Weak {
				program.MarkWeak(ins)
			}
		}
		if f != nil && raw.padded[f.Section] {
			place(ins, recs[f.Section], f.Offset/asm.InstructionSize+slot, slot == 0)
		}
		slot += uint64(ins.Width())
	}
}

// place replaces the records on an instruction by those of its slot in the section.
func place(ins *asm.Instruction, r *records, slot uint64, first bool) {
	if r == nil {
		return
	}
	if !first && btf.FuncMetadata(ins) != nil {
		*ins = btf.WithFuncMetadata(*ins, nil)
	}
	if l := r.lines[slot]; l != nil {
		*ins = ins.WithSource(l)
	} else {
		*ins = ins.WithSource(nil)
	}
	if c := r.relos[slot]; c != nil || btf.CORERelocationMetadata(ins) != nil {
		*ins = btf.WithCORERelocationMetadata(*ins, c)
	}
}

// readRecords reads .BTF.ext again, for the function records of all sections and all records of padded ones. Types
// come from the spec's BTF, so that a type is one value everywhere.
func (o *Object) readRecords(data []byte, raw *rawObject) (map[string]*records, error) {
	if o.Spec.Types == nil {
		return nil, nil
	}
	types, ext, err := btf.LoadSpecAndExtInfosFromReader(bytes.NewReader(data))
	if errors.Is(err, btf.ErrNotFound) || errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("section .BTF.ext: %w", err)
	}
	out := map[string]*records{}
	for i := range o.Functions {
		section := o.Functions[i].Section
		if out[section] != nil {
			continue
		}
		r := &records{map[uint64]*btf.Func{}, map[uint64]*btf.Line{}, map[uint64]*btf.CORERelocation{}}
		out[section] = r
		funcs, lines, relos := ext.Section(raw.extSection(section))
		for _, f := range funcs {
			id, err := types.TypeID(f.Func)
			if err != nil {
				return nil, fmt.Errorf("section %s: function %s: %w", section, f.Func.Name, err)
			}
			if t, err := o.Spec.Types.TypeByID(id); err == nil {
				r.funcs[uint64(f.Offset)], _ = t.(*btf.Func)
			}
		}
		if !raw.padded[section] {
			continue
		}
		for _, l := range lines {
			r.lines[uint64(l.Offset)] = l.Line
		}
		for _, c := range relos {
			r.relos[uint64(c.Offset)] = c.Relo
		}
	}
	return out, nil
}
