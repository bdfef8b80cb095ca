package program

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/kernelkfunc"
)

// Options supply what a program needs from outside its object. The zero value works for programs without externs.
type Options struct {
	// KernelTypes is the BTF that CO-RE relocations are resolved against; nil means the host's. ExtraTypes are looked
	// through as well (modules, contexts of hooks).
	KernelTypes *btf.Spec
	ExtraTypes  []*btf.Spec
	// Kfuncs finds a kfunc by name. If it is nil, all kfuncs stay unresolved; if not, one that it does not know is an
	// error unless it is weak, or the kernel's own, which stays unresolved: the verifier knows it.
	Kfuncs func(name string) (KfuncFlags, bool)
	// Ksyms keeps loads of addresses of the kernel's variables, for a program that is only verified; without, they are errors.
	Ksyms bool
	// Kconfig finds the value of an extern __kconfig variable: y, n, m, a number, or a string in quotes. If it is nil,
	// the host's configuration is read where there is one.
	Kconfig func(name string) (value string, ok bool)
	// Map describes the map that an instruction loads when it refers to none of the collection by name: a file
	// descriptor in its constant, or asm.Instruction.Map.
	Map func(ins *asm.Instruction) (Map, bool)
}

// FromSpec builds the program of that name of a collection. Every error names the program, and the instruction if one
// is at fault. cs is not changed.
func FromSpec(cs *ebpf.CollectionSpec, name string, opt Options) (*Program, error) {
	if cs == nil || cs.Programs[name] == nil {
		return nil, fmt.Errorf("program %s: not in the collection", name)
	}
	return fromSpec(cs.Programs[name], cs, name, opt)
}

// FromProgramSpec builds a program from instructions made in Go: a function begins at an instruction with a symbol
// (asm.Instruction.WithSymbol) that is called or has a prototype (btf.WithFuncMetadata). A kfunc call has
// asm.PseudoKfuncCall as source and the name as reference; btf.WithFuncMetadata on it gives the prototype.
func FromProgramSpec(ps *ebpf.ProgramSpec, opt Options) (*Program, error) {
	if ps == nil {
		return nil, errors.New("program: no spec")
	}
	return fromSpec(ps, nil, ps.Name, opt)
}

func fromSpec(ps *ebpf.ProgramSpec, cs *ebpf.CollectionSpec, name string, opt Options) (p *Program, err error) {
	defer func() {
		if r := recover(); r != nil {
			p, err = nil, fmt.Errorf("program %s: malformed: %v", name, r)
		}
	}()
	b := &builder{ps: ps, cs: cs, opt: opt, insns: append(asm.Instructions(nil), ps.Instructions...), kfuncTypes: kfuncTypes(cs)}
	if ps.SectionName != "" {
		b.insns = libbpfOrder(b.insns)
	}
	b.p = &Program{
		Name: name, Type: ps.Type, AttachType: ps.AttachType, AttachTo: ps.AttachTo, Section: ps.SectionName,
		Flags: ps.Flags, License: ps.License,
	}
	if cs != nil {
		b.p.Types = cs.Types
	}
	if err := b.build(); err != nil {
		var at *InsnError
		if errors.As(err, &at) {
			return nil, err
		}
		return nil, fmt.Errorf("program %s: %w", name, err)
	}
	return New(b.p)
}

type builder struct {
	ps         *ebpf.ProgramSpec
	cs         *ebpf.CollectionSpec // nil for a program made in Go
	opt        Options
	insns      asm.Instructions // own copy
	offsets    []int            // slot of each instruction
	symbols    map[string]int   // slot
	isFunc     map[string]bool  // symbols that are called or pointed to
	kfuncTypes map[string]*btf.Func
	noKconfig  map[uint32]string // kconfig variables without a value, by offset
	p          *Program
}

func (b *builder) build() error {
	if len(b.insns) == 0 {
		return errors.New("no instructions")
	}
	if len(b.insns) > isa.MaxInsns {
		return fmt.Errorf("%d instructions, the limit is %d", len(b.insns), int(isa.MaxInsns))
	}
	if o := b.ps.ByteOrder; o != nil && o.Uint16([]byte{0, 1}) != binary.NativeEndian.Uint16([]byte{0, 1}) {
		return fmt.Errorf("compiled for %v, this machine has the other byte order", o)
	}
	if err := b.relocateTypes(); err != nil {
		return err
	}
	if err := b.layout(); err != nil {
		return err
	}
	for i := range b.insns {
		if err := b.insn(i); err != nil {
			var at *InsnError
			if errors.As(err, &at) {
				at.Program, at.Insn = b.p.Name, b.offsets[i]
				return at
			}
			return fmt.Errorf("insn %d: %w", b.offsets[i], err)
		}
	}
	b.functions()
	return nil
}

// layout finds the slot of each instruction and of each symbol, and which symbols are functions.
func (b *builder) layout() error {
	b.offsets = make([]int, len(b.insns))
	b.symbols, b.isFunc = map[string]int{}, map[string]bool{}
	slot := 0
	for i := range b.insns {
		ins := &b.insns[i]
		b.offsets[i] = slot
		if s := ins.Symbol(); s != "" {
			if _, dup := b.symbols[s]; dup {
				return fmt.Errorf("insn %d: symbol %s stands twice", slot, s)
			}
			b.symbols[s] = slot
			if btf.FuncMetadata(ins) != nil {
				b.isFunc[s] = true
			}
		}
		if ins.IsFunctionReference() && ins.Reference() != "" {
			b.isFunc[ins.Reference()] = true
		}
		slot += int(ins.Width())
	}
	return nil
}

// insn encodes one instruction and resolves what it refers to.
func (b *builder) insn(i int) error {
	ins := &b.insns[i]
	slots, n, err := encode(ins)
	if err != nil {
		return err
	}
	if err := b.resolve(ins, b.offsets[i], &slots); err != nil {
		return err
	}
	b.p.Insns = append(b.p.Insns, slots[:n]...)
	b.line(ins, b.offsets[i])
	return nil
}

// resolve patches the slots of an instruction at slot pc that refers to a function, label, map or extern.
func (b *builder) resolve(ins *asm.Instruction, pc int, slots *[2]isa.Insn) error {
	in, ref := &slots[0], ins.Reference()
	if !in.IsLdImm64() {
		return b.resolveJump(ins, pc, in)
	}
	switch n := noteOf(ins); {
	case n.kind == noteKconfig:
		return b.kconfig(ins, n.offset, slots)
	case n.kind == noteKsym:
		if !n.weak && b.opt.Ksyms {
			in.Src, in.Imm, slots[1].Imm = isa.PseudoBTFID, b.ksym(ref, isTyped(ins)), 0
			return nil
		}
		if !n.weak {
			return fmt.Errorf("kernel variable %s: there are no kernel variables in user space (a weak one reads as NULL): %w", ref, ebpf.ErrNotSupported)
		}
		in.Src, in.Imm, slots[1].Imm = 0, 0, 0
	case ins.IsFunctionReference():
		if ref == "" || ins.Constant != -1 {
			return nil // already relative
		}
		target, err := b.label(ref)
		in.Imm, slots[1].Imm = int32(target-pc-1), 0
		return err
	case ins.IsLoadFromMap():
		return b.mapLoad(ins, slots)
	case ref != "" && in.Src == 0:
		return b.externLoad(ins, slots)
	}
	return nil
}

// ksym returns the index of a variable of the kernel, adding it if it is new.
func (b *builder) ksym(name string, typed bool) int32 {
	for i := range b.p.Ksyms {
		if b.p.Ksyms[i].Name == name {
			return int32(i)
		}
	}
	b.p.Ksyms = append(b.p.Ksyms, Ksym{name, typed})
	return int32(len(b.p.Ksyms) - 1)
}

// resolveJump patches a call or jump by name.
func (b *builder) resolveJump(ins *asm.Instruction, pc int, in *isa.Insn) error {
	ref := ins.Reference()
	switch {
	case ins.IsKfuncCall():
		return b.kfuncCall(ins, in)
	case ins.IsFunctionReference() && ref != "" && ins.Constant == -1:
		target, err := b.label(ref)
		in.Imm = int32(target - pc - 1)
		return err
	case in.Op == isa.ClassJMP32|isa.JmpJA && ref != "" && ins.Constant == -1:
		target, err := b.label(ref)
		in.Imm = int32(target - pc - 1)
		return err
	case in.IsJump() && ref != "" && ins.Offset == -1:
		target, err := b.label(ref)
		rel := target - pc - 1
		if err == nil && rel != int(int16(rel)) {
			err = fmt.Errorf("jump to %s is %d slots long", ref, rel)
		}
		in.Off = int16(rel)
		return err
	}
	return nil
}

func (b *builder) label(name string) (int, error) {
	target, ok := b.symbols[name]
	if !ok {
		return 0, fmt.Errorf("symbol %s is not defined", name)
	}
	return target, nil
}

// kfuncCall points a kfunc call at its entry in Kfuncs.
func (b *builder) kfuncCall(ins *asm.Instruction, in *isa.Insn) error {
	name := ins.Reference()
	if name == "" {
		return errors.New("kfunc call without a name: a BTF id of some kernel has no meaning here")
	}
	k, err := b.kfunc(name, noteOf(ins).weak, btf.FuncMetadata(ins))
	in.Imm, in.Off = int32(k), 0
	return err
}

// kfunc returns the index of a kfunc, adding it if it is new.
func (b *builder) kfunc(name string, weak bool, typ *btf.Func) (int, error) {
	for i := range b.p.Kfuncs {
		if b.p.Kfuncs[i].Name == name {
			return i, nil
		}
	}
	k := Kfunc{Name: name, Type: b.kfuncTypes[name], Weak: weak}
	if k.Type == nil {
		k.Type = typ
	}
	switch {
	case BuiltinKfunc(name):
		k.Resolved = true
	case b.opt.Kfuncs != nil:
		if k.Flags, k.Resolved = b.opt.Kfuncs(name); !k.Resolved && !weak && kernelkfunc.Find(name) == nil {
			return 0, fmt.Errorf("kfunc %s is not registered", name)
		}
	}
	b.p.Kfuncs = append(b.p.Kfuncs, k)
	return len(b.p.Kfuncs) - 1, nil
}

// externLoad resolves the load of the address of an undefined symbol. Programs do this to kfuncs to see whether they
// exist: the result is 0, or 1 for one that does.
func (b *builder) externLoad(ins *asm.Instruction, slots *[2]isa.Insn) error {
	name, n := ins.Reference(), noteOf(ins)
	if n.kind != noteKfunc && b.kfuncTypes[name] == nil {
		if ins.Constant != 0 {
			return nil // the user of the spec has put a value in (cilium's way for symbols of inline assembly)
		}
		return fmt.Errorf("symbol %s is not defined", name)
	}
	k, err := b.kfunc(name, n.weak, nil)
	if err != nil {
		return err
	}
	slots[0].Imm, slots[1].Imm = 0, 0
	if b.p.Kfuncs[k].Resolved {
		slots[0].Imm = 1
	}
	return nil
}

// line adds the source line of an instruction to the table.
func (b *builder) line(ins *asm.Instruction, pc int) {
	switch src := ins.Source().(type) {
	case nil:
	case *btf.Line:
		if src != nil {
			b.p.Lines = append(b.p.Lines, Line{Insn: pc, File: src.FileName(), Text: src.Line(), Number: src.LineNumber(), Column: src.LineColumn()})
		}
	default:
		b.p.Lines = append(b.p.Lines, Line{Insn: pc, Text: src.String()})
	}
}

// functions fills in Funcs from symbols and BTF.
func (b *builder) functions() {
	for i := range b.insns {
		ins := &b.insns[i]
		sym, fn := ins.Symbol(), btf.FuncMetadata(ins)
		if ins.IsKfuncCall() {
			fn = nil // there it is the callee's prototype
		}
		if i != 0 && !b.isFunc[sym] {
			continue
		}
		f := Func{Name: sym, Start: b.offsets[i], Type: b.checkedType(sym, fn), Weak: isWeak(ins)}
		if f.Name == "" && f.Type != nil {
			f.Name = f.Type.Name
		}
		if f.Name == "" {
			f.Name = b.p.Name
		}
		f.Global = f.Type != nil && f.Type.Linkage == btf.GlobalFunc
		b.p.Funcs = append(b.p.Funcs, f)
	}
}

// checkedType returns the BTF function of a symbol. cilium/ebpf v0.22 places records on the wrong instruction where
// functions in a section are padded: a record of another name gives way to the type of the right name.
func (b *builder) checkedType(sym string, fn *btf.Func) *btf.Func {
	if sym == "" || fn != nil && fn.Name == sym || b.cs == nil || b.cs.Types == nil {
		return fn
	}
	types, err := b.cs.Types.AnyTypesByName(sym)
	if err != nil {
		return fn
	}
	for _, t := range types {
		if named, ok := t.(*btf.Func); ok && named.Linkage != btf.ExternFunc {
			return named
		}
	}
	return fn
}
