package verifier

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/program"
)

// FieldKind is a kind of special field in a map's value, or in an object of a program, that can exist at run time.
type FieldKind uint8

// The kinds.
const (
	SpinLockField  FieldKind = iota + 1 // struct bpf_spin_lock
	ResLockField                        // struct bpf_res_spin_lock
	TimerField                          // struct bpf_timer
	WorkqueueField                      // struct bpf_wq
	KptrField                           // a pointer that owns an object of a type of the program
	PlainKptrField                      // one that does not (__kptr_untrusted)
	ListField                           // struct bpf_list_head
	ListNodeField                       // struct bpf_list_node
	TreeField                           // struct bpf_rb_root
	TreeNodeField                       // struct bpf_rb_node
	CountField                          // struct bpf_refcount
)

// ValueField is a special field of a map's values or of objects: bytes that nobody touches but helpers and kfuncs.
type ValueField struct {
	Kind      FieldKind
	Off, Size int
	Target    *btf.Struct // what a pointer points to, or what a list or tree holds; nil for other kinds
	Node      int         // of lists and trees: the offset of the member that links what they hold
}

var runtimeKinds = map[fieldKind]FieldKind{
	fieldSpinLock: SpinLockField, fieldResSpinLock: ResLockField, fieldTimer: TimerField, fieldWorkqueue: WorkqueueField, fieldKptr: KptrField, fieldKptrPercpu: KptrField,
	fieldKptrUntrusted: PlainKptrField, fieldListHead: ListField, fieldListNode: ListNodeField, fieldRBRoot: TreeField,
	fieldRBNode: TreeNodeField, fieldRefcount: CountField,
}

// ObjectType is a type of objects that a program allocates.
type ObjectType struct {
	ID     uint64 // its number in the program's types
	Name   string
	Size   int // in bytes; of one copy
	PerCPU bool
	Fields []ValueField
}

// noteObject keeps a type that the program allocates.
func (e *env) noteObject(id uint64, s *btf.Struct, rec *record, perCPU bool) {
	for i := range e.objects {
		if o := &e.objects[i]; o.ID == id && o.PerCPU == perCPU {
			return
		}
	}
	o := ObjectType{ID: id, Name: s.Name, Size: int(s.Size), PerCPU: perCPU}
	if rec != nil {
		fields, err := runtimeFields(rec)
		if err != nil && e.kernelUsed == "" {
			e.kernelUsed = fmt.Sprintf("fields (struct %s: %v)", s.Name, err)
		}
		o.Fields = fields
	}
	e.objects = append(e.objects, o)
}

// runtimeFields are the fields of a record; an error names one that only verifies.
func runtimeFields(rec *record) ([]ValueField, error) {
	out := make([]ValueField, 0, len(rec.fields))
	for i := range rec.fields {
		f := &rec.fields[i]
		kind := runtimeKinds[f.kind]
		switch {
		case kind == 0:
			return nil, fmt.Errorf("%s at offset %d has no runtime", f.kind, f.off)
		case f.target != nil && !f.local:
			return nil, fmt.Errorf("%s at offset %d to struct %s of the kernel has no runtime", f.kind, f.off, f.target.Name)
		}
		out = append(out, ValueField{kind, f.off, f.size, f.target, f.node})
	}
	return out, nil
}

// Why a map cannot have the fields that the type of its values has.
var (
	ErrFieldFlags = errors.New("special fields in a map that programs cannot read or cannot write") // EACCES in Linux
	ErrFieldMap   = errors.New("special fields that maps of this type cannot have")                 // EOPNOTSUPP
)

// ValueFields returns the special fields that programs are proven to find in the values of m, in the order of their offsets; none where
// the kernel does not know its types. kernel gives the kernel's types, see Options.Kernel. Kinds that only verify are an error that names one; so is
// what BPF_MAP_CREATE refuses (map_check_btf).
func ValueFields(m *program.Map, kernel func() *btf.Spec) ([]ValueField, error) {
	e := &env{prog: &program.Program{}, maps: []program.Map{*m}, inner: []int32{0}, opt: Options{Kernel: kernel}}
	if err := e.readMapRecords(0); err != nil {
		return nil, err
	}
	rec := e.records[0].rec
	if rec == nil {
		return nil, e.refusedFields(m)
	}
	return runtimeFields(rec)
}

// refusedFields says why m has none of the fields that its type has, nil if the type has none.
func (e *env) refusedFields(m *program.Map) error {
	if !typesFit(m) {
		return nil
	}
	rec, err := e.parseRecord(btf.UnderlyingType(m.Value), e.typesOfMap(m), mapFields, int(m.ValueSize))
	switch {
	case err != nil || rec == nil:
		return nil
	case m.Flags&(flagReadOnlyProg|flagWriteOnlyProg) != 0:
		return ErrFieldFlags
	}
	return ErrFieldMap
}
