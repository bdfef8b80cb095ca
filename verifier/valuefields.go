package verifier

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/program"
)

// FieldKind is a kind of special field in a map's value that can exist at run time.
type FieldKind uint8

// The kinds.
const (
	SpinLockField  FieldKind = iota + 1 // struct bpf_spin_lock
	TimerField                          // struct bpf_timer
	WorkqueueField                      // struct bpf_wq
)

// ValueField is a special field of a map's values: bytes that nobody touches but helpers and kfuncs.
type ValueField struct {
	Kind      FieldKind
	Off, Size int
}

var runtimeKinds = map[fieldKind]FieldKind{fieldSpinLock: SpinLockField, fieldTimer: TimerField, fieldWorkqueue: WorkqueueField}

// Why a map cannot have the fields that the type of its values has.
var (
	ErrFieldFlags = errors.New("special fields in a map that programs cannot read or cannot write") // EACCES in Linux
	ErrFieldMap   = errors.New("special fields that maps of this type cannot have")                 // EOPNOTSUPP
)

// ValueFields returns the special fields that programs are proven to find in the values of m, in the order of their offsets; none where
// the kernel does not know its types. Kinds that only verify are an error that names one; so is what BPF_MAP_CREATE refuses
// (map_check_btf).
func ValueFields(m *program.Map) ([]ValueField, error) {
	e := &env{prog: &program.Program{}, maps: []program.Map{*m}, inner: []int32{0}}
	if err := e.readMapRecords(0); err != nil {
		return nil, err
	}
	rec := e.records[0].rec
	if rec == nil {
		return nil, e.refusedFields(m)
	}
	out := make([]ValueField, 0, len(rec.fields))
	for _, f := range rec.fields {
		kind := runtimeKinds[f.kind]
		if kind == 0 {
			return nil, fmt.Errorf("%s at offset %d has no runtime", f.kind, f.off)
		}
		out = append(out, ValueField{kind, f.off, f.size})
	}
	return out, nil
}

// refusedFields says why m has none of the fields that its type has, nil if the type has none.
func (e *env) refusedFields(m *program.Map) error {
	if !typesFit(m) {
		return nil
	}
	rec, err := e.parseRecord(btf.UnderlyingType(m.Value), mapFields, int(m.ValueSize))
	switch {
	case err != nil || rec == nil:
		return nil
	case m.Flags&(flagReadOnlyProg|flagWriteOnlyProg) != 0:
		return ErrFieldFlags
	}
	return ErrFieldMap
}
