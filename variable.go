package skep

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/rt"
	"github.com/skep-bpf/skep/internal/sysenc"
	"github.com/skep-bpf/skep/maps"
)

// ErrReadOnly is wrapped by Variable.Set for constants.
var ErrReadOnly = errors.New("variable is read-only")

// Variable is a global variable of a collection's programs. Get and Set work on the memory that programs use.
type Variable struct {
	name         string
	offset, size uint32
	typ          *btf.Var
	m            *Map
	cleanup      runtime.Cleanup
	closed       atomic.Bool
}

func newVariable(vs *ebpf.VariableSpec, name string, m *Map) (*Variable, error) {
	if touchesField(vs, m) {
		return nil, fmt.Errorf("variable %s: a lock or a timer is in it: %w", name, ebpf.ErrNotSupported)
	}
	v := &Variable{name: name, offset: vs.Offset, size: vs.Size(), typ: vs.Type, m: m}
	if _, ok := maps.SideOf(m).Bytes(v.offset, v.size); !ok {
		return nil, fmt.Errorf("variable %s: offset %d(+%d) is out of bounds of %s", name, v.offset, v.size, m.Name())
	}
	if !maps.SideOf(m).HoldMemory() {
		return nil, fmt.Errorf("variable %s: %w", name, maps.ErrClosed)
	}
	// A variable keeps its memory without being closed itself, as with cilium/ebpf.
	v.cleanup = runtime.AddCleanup(v, unholdMap, m)
	return v, nil
}

// touchesField reports whether a variable is, in part, a special field: only programs touch those.
func touchesField(vs *ebpf.VariableSpec, m *Map) bool {
	return maps.SideOf(m).HasField(vs.Offset, vs.Size())
}

func unholdMap(m *Map) { rt.AfterRuns(func() { _ = maps.SideOf(m).Unhold() }) }

// release gives the memory up early, when the collection is closed.
func (v *Variable) release() {
	if !v.closed.Swap(true) {
		v.cleanup.Stop()
		unholdMap(v.m)
	}
}

var errNoVariable = errors.New("variable is nil: there is none of that name")

// use keeps the memory until the function it returns is called.
func (v *Variable) use() (func() error, error) {
	if v == nil || v.m == nil {
		return nil, errNoVariable
	}
	if v.closed.Load() || !maps.SideOf(v.m).HoldMemory() {
		return nil, fmt.Errorf("variable %s: %w", v.name, maps.ErrClosed)
	}
	return maps.SideOf(v.m).Unhold, nil
}

// Size returns the variable's size in bytes.
func (v *Variable) Size() uint32 { return v.size }

// ReadOnly reports whether the variable is a constant of its programs.
func (v *Variable) ReadOnly() bool { return v.m.Flags()&maps.FlagReadOnlyProg != 0 }

// Type returns the variable's type, nil if the object has none.
func (v *Variable) Type() *btf.Var { return v.typ }

// String describes the variable.
func (v *Variable) String() string { return fmt.Sprintf("%s (type=%v)", v.name, v.typ) }

// Set writes the variable. in has exactly its size as bytes, see Map.Put. A program that runs at the same time may see a part
// of the new value, unless it is an aligned integer.
func (v *Variable) Set(in any) error {
	if v == nil || v.m == nil {
		return errNoVariable
	}
	if v.ReadOnly() {
		return fmt.Errorf("variable %s: %w", v.name, ErrReadOnly)
	}
	done, err := v.use()
	if err != nil {
		return err
	}
	defer done()
	var buf sysenc.Buffer
	b, err := sysenc.Marshal(in, int(v.size), &buf)
	if err != nil {
		return fmt.Errorf("marshaling value %s: %w", v.name, err)
	}
	dst, _ := maps.SideOf(v.m).Bytes(v.offset, v.size)
	copy(dst, b)
	return nil
}

// Get reads the variable into out, a pointer to something of its size.
func (v *Variable) Get(out any) error {
	done, err := v.use()
	if err != nil {
		return err
	}
	defer done()
	src, _ := maps.SideOf(v.m).Bytes(v.offset, v.size)
	if err := sysenc.Unmarshal(out, src); err != nil {
		return fmt.Errorf("unmarshaling value %s: %w", v.name, err)
	}
	return nil
}
