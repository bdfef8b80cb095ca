// Package object reads BPF object files. cilium/ebpf's reader does most of the work and its CollectionSpec is the
// result; a pass over the same bytes with debug/elf supplies what that reader loses: raw instructions, weak and hidden
// functions, names and binding of externs, and records of .BTF.ext that it puts on the wrong instruction where
// functions in a section are padded.
//
// Input may be hostile: every error names the place, nothing panics, and memory is bounded by the size of the file
// and the limits of Options.
package object

//go:generate ../../testdata/build.sh

import (
	"bytes"
	"fmt"
	"io"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/isa"
)

// Options bound what Load accepts. Zero values mean the defaults.
type Options struct {
	MaxSize int64 // bytes of the file: 64 MiB
	MaxData int64 // bytes of all zero-initialised data sections: 64 MiB
}

const (
	defaultMaxSize = 64 << 20
	defaultMaxData = 64 << 20
	// maxFlattened bounds the instructions of all programs together when each has its own copy of all functions.
	maxFlattened = 1 << 24
)

// Object is a parsed object file. Spec is ready for use; its other fields are what Spec cannot hold.
type Object struct {
	Spec *ebpf.CollectionSpec
	// Functions are all functions of all program sections in file order, also those that no program uses.
	Functions []Function
	Externs   []Extern
	// Ignored are sections that were left out: their programs load, what else they hold does not.
	Ignored []string

	byName map[string]int // into Functions
}

// Function is a function as the file has it, before linking: calls and map references are not resolved.
type Function struct {
	Name, Section string
	Offset        uint64 // bytes, in the section
	Insns         []isa.Insn
	Global        bool // symbol binding; false for static functions
	Weak, Hidden  bool
	Type          *btf.Func // nil without BTF
	// Relocated are the slots that a relocation changes.
	Relocated map[int]bool
}

// Extern is an undefined symbol.
type Extern struct {
	Name string
	Kind ExternKind
	Weak bool
}

// ExternKind says what an extern is, by the section its BTF declares it in.
type ExternKind uint8

// The kinds of externs. ExternFunc is everything that BTF does not place: a function of another object.
const (
	ExternFunc ExternKind = iota
	ExternKfunc
	ExternKsym
	ExternKconfig
)

// Load reads an object. The error names section and offset where there is one to name.
func Load(r io.ReaderAt, opt Options) (o *Object, err error) {
	defer func() {
		if p := recover(); p != nil {
			o, err = nil, fmt.Errorf("object: malformed: %v", p)
		}
	}()
	if opt.MaxSize <= 0 {
		opt.MaxSize = defaultMaxSize
	}
	if opt.MaxData <= 0 {
		opt.MaxData = defaultMaxData
	}
	data, err := io.ReadAll(io.NewSectionReader(r, 0, opt.MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("object: %w", err)
	}
	if int64(len(data)) > opt.MaxSize {
		return nil, fmt.Errorf("object: larger than %d bytes", opt.MaxSize)
	}
	raw, err := readELF(data, opt)
	if err != nil {
		return nil, fmt.Errorf("object: %w", err)
	}
	if data, err = raw.soften(data); err != nil {
		return nil, fmt.Errorf("object: %w", err)
	}
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("object: %w", err)
	}
	raw.restore(spec)
	if err := arenaData(spec); err != nil {
		return nil, fmt.Errorf("object: %w", err)
	}
	raw.appendCallbacks(spec)
	o = &Object{Spec: spec, Functions: raw.functions, Ignored: raw.ignored}
	o.byName = make(map[string]int, len(o.Functions))
	for i := range o.Functions {
		o.byName[o.Functions[i].Name] = i
	}
	o.externs(raw)
	if err := o.repair(data, raw); err != nil {
		return nil, fmt.Errorf("object: %w", err)
	}
	raw.ops.attach(spec)
	return o, nil
}

// Programs returns the names of the programs in file order. A function in .text is no program.
func (o *Object) Programs() []string {
	var names []string
	for i := range o.Functions {
		if n := o.Functions[i].Name; o.Spec.Programs[n] != nil {
			names = append(names, n)
		}
	}
	return names
}

// Function returns the function of that name, or nil.
func (o *Object) Function(name string) *Function {
	if i, ok := o.byName[name]; ok {
		return &o.Functions[i]
	}
	return nil
}

// Tags returns the BTF declaration tags of a function in the order in which the compiler wrote them, nil if there is
// no such function or it has none.
func (o *Object) Tags(name string) []string {
	if f := o.Function(name); f != nil && f.Type != nil {
		return slices.Clone(f.Type.Tags)
	}
	return nil
}

// externs sorts undefined symbols by what BTF says of them.
func (o *Object) externs(raw *rawObject) {
	kinds := map[string]ExternKind{}
	for section, kind := range map[string]ExternKind{".ksyms": ExternKsym, ".kconfig": ExternKconfig} {
		var ds *btf.Datasec
		if o.Spec.Types == nil || o.Spec.Types.TypeByName(section, &ds) != nil {
			continue
		}
		for _, v := range ds.Vars {
			if _, fn := v.Type.(*btf.Func); fn {
				kinds[v.Type.TypeName()] = ExternKfunc
			} else {
				kinds[v.Type.TypeName()] = kind
			}
		}
	}
	for _, e := range raw.undefined {
		e.Kind = kinds[e.Name]
		o.Externs = append(o.Externs, e)
	}
}
