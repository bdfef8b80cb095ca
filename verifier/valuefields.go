package verifier

import (
	"fmt"

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

// ValueFields returns the special fields that programs are proven to find in the values of m, in the order of their offsets; none where
// the kernel would take m without its types. Kinds that only verify are an error that names one.
func ValueFields(m *program.Map) ([]ValueField, error) {
	e := &env{prog: &program.Program{}, maps: []program.Map{*m}, inner: []int32{0}}
	if err := e.readMapRecords(0); err != nil {
		return nil, err
	}
	rec := e.records[0].rec
	if rec == nil {
		return nil, nil
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
