package skep_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/internal/progtype"
)

// These tests hold the contexts of runs against what the verifier permits: compiled code has no checks of its own, so
// whatever may be accessed has to be there.

func engines() []skep.Engine { return []skep.Engine{skep.EngineAuto, skep.EngineInterpreter} }

// runKind is a program type that runs, with an attach type.
type runKind struct {
	typ    ebpf.ProgramType
	attach ebpf.AttachType
}

func (k runKind) String() string { return fmt.Sprintf("%v/%d", k.typ, uint32(k.attach)) }

func (k runKind) context() progtype.Context { return progtype.Of(k.typ, k.attach, runtime.GOARCH) }

// runKinds are all pairs of types that run and their attach types. Types that take any have those that some rule names.
func runKinds() []runKind {
	const lastAttach = 60 // beyond the attach types of 6.18
	var out []runKind
	for t := ebpf.UnspecifiedProgram + 1; t <= ebpf.Netfilter; t++ {
		switch {
		case !progtype.HasRuntime(t):
		case t == ebpf.Kprobe:
			out = append(out, runKind{t, 0}, runKind{t, ebpf.AttachTraceKprobeMulti}, runKind{t, ebpf.AttachTraceKprobeSession},
				runKind{t, ebpf.AttachTraceUprobeMulti})
		case progtype.AttachOK(t, lastAttach):
			out = append(out, runKind{t, 0})
		default:
			for at := ebpf.AttachType(0); at < lastAttach; at++ {
				if progtype.AttachOK(t, at) {
					out = append(out, runKind{t, at})
				}
			}
		}
	}
	return out
}

// access is one access of a context.
type access struct {
	off, size int
	op        progtype.Op
	field     progtype.Field
}

// accesses are all that the verifier permits; in contexts that are long and all alike, those at both ends.
func (k runKind) accesses() []access {
	const edge = 48
	c := k.context()
	var out []access
	for off := 0; off < c.Size() && off < 1<<15; off++ {
		if c.Size() > 1024 && off > edge && off < min(c.Size(), 1<<15)-edge {
			continue
		}
		for _, size := range []int{1, 2, 4, 8} {
			for _, op := range []progtype.Op{progtype.Read, progtype.ReadSigned, progtype.Write} {
				if op == progtype.ReadSigned && size == 8 {
					continue
				}
				if a := c.Access(off, size, op); a.OK {
					out = append(out, access{off, size, op, a.Field})
				}
			}
		}
	}
	return out
}

var asmSizes = map[int]asm.Size{1: asm.Byte, 2: asm.Half, 4: asm.Word, 8: asm.DWord}

// program makes a program that does a and leaves what it loaded in the first element of m.
func (k runKind) program(a access, m *skep.Map) (*ebpf.ProgramSpec, error) {
	do := asm.LoadMem(asm.R6, asm.R1, int16(a.off), asmSizes[a.size])
	switch a.op {
	case progtype.ReadSigned:
		do = asm.LoadMemSX(asm.R6, asm.R1, int16(a.off), asmSizes[a.size])
	case progtype.Write:
		do = asm.StoreMem(asm.R1, int16(a.off), asm.R6, asmSizes[a.size])
	}
	value := asm.LoadMapValue(asm.R7, 0, 0)
	if err := value.AssociateMap(m); err != nil {
		return nil, err
	}
	spec := &ebpf.ProgramSpec{Name: "access", Type: k.typ, AttachType: k.attach, License: "GPL", Instructions: asm.Instructions{
		asm.LoadImm(asm.R6, writtenValue, asm.DWord), do, value, asm.StoreMem(asm.R7, 0, asm.R6, asm.DWord), asm.Mov.Imm(asm.R0, 1), asm.Return(),
	}}
	if k.typ == ebpf.Syscall {
		spec.Flags = 1 << 4 // BPF_F_SLEEPABLE
	}
	return spec, nil
}

const writtenValue = 0x1122334455667788

// loaded is what a load of a gives from context b.
func (a access) loaded(b []byte) uint64 {
	var w [8]byte
	copy(w[:], b[a.off:a.off+a.size])
	v := binary.NativeEndian.Uint64(w[:])
	if shift := 64 - 8*a.size; a.op == progtype.ReadSigned {
		v = uint64(int64(v<<shift) >> shift)
	}
	return v
}

// input makes options of a run: a context of random bytes with NULL for its pointers, where the type takes one, and a packet.
// seen is what the program sees, nil where that is not the context as it is.
func (k runKind) input(rng *rand.Rand) (o *ebpf.RunOptions, seen []byte) {
	c := k.context()
	switch progtype.InputOf(k.typ) {
	case progtype.InputBytes, progtype.InputFields:
		b := make([]byte, c.Size())
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		c.ClearPointers(b)
		o = &ebpf.RunOptions{Context: bytes.Clone(b)}
		if k.typ != ebpf.RawTracepoint && k.typ != ebpf.RawTracepointWritable {
			o.ContextOut = make([]byte, len(b))
		}
		return o, b
	case progtype.InputSocketLookup:
		b := make([]byte, c.Size())
		for i := 12; i < 64; i++ { // from protocol on, up to what cannot be set
			b[i] = byte(rng.Uint32())
		}
		b[8] = 2      // family: AF_INET
		clear(b[62:]) // the port's upper half
		o = &ebpf.RunOptions{Context: bytes.Clone(b), ContextOut: make([]byte, len(b))}
		return o, nil
	}
	return &ebpf.RunOptions{Data: bytes.Repeat([]byte{0x45}, 64), DataOut: make([]byte, 128)}, nil
}

// TestPermittedAccesses makes every access that the verifier permits, of every type that runs, a program each, on the
// interpreter, which checks it, and as compiled code. Loads give the context's bytes, and stores come back.
func TestPermittedAccesses(t *testing.T) {
	for _, k := range runKinds() {
		t.Run(k.String(), func(t *testing.T) {
			m, err := skep.NewMap(&ebpf.MapSpec{Name: "seen", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			ran := 0
			for _, a := range k.accesses() {
				if k.try(t, a, m) {
					ran++
				}
			}
			if ran == 0 {
				t.Error("no access ran")
			}
		})
	}
}

// try makes one access on all engines and reports whether it could.
func (k runKind) try(t *testing.T, a access, m *skep.Map) bool {
	t.Helper()
	spec, err := k.program(a, m)
	if err != nil {
		t.Fatal(err)
	}
	o, seen := k.input(rand.New(rand.NewPCG(uint64(a.off), uint64(a.size))))
	var first *accessed
	for _, e := range engines() {
		got, err := k.runOn(e, spec, *o, m)
		if !a.field.Loadable() {
			if !errors.Is(err, ebpf.ErrNotSupported) {
				t.Errorf("%+v on %v: a pointer to what is not here: %v", a, e, err)
			}
			return false
		}
		if err == nil {
			err = got.check(a, seen)
		}
		if err != nil {
			t.Errorf("%+v on %v: %v", a, e, err)
			continue
		}
		if first == nil {
			first = got
		} else if a.field == progtype.FieldScalar && (first.value != got.value || !bytes.Equal(first.context, got.context)) {
			t.Errorf("%+v: %#x and %#x, contexts %x and %x", a, first.value, got.value, first.context, got.context)
		}
	}
	return true
}

// accessed is what the run of one access left.
type accessed struct {
	value   uint64 // loaded, or stored
	context []byte // nil if the type gives none back
}

// runOn loads and runs a program that program made.
func (k runKind) runOn(e skep.Engine, spec *ebpf.ProgramSpec, o ebpf.RunOptions, m *skep.Map) (*accessed, error) {
	p, err := skep.NewProgramWithOptions(spec, skep.Options{Engine: e})
	if err != nil {
		return nil, err
	}
	defer p.Close()
	if err := m.Put(uint32(0), uint64(0)); err != nil {
		return nil, err
	}
	var got accessed
	if o.ContextOut != nil {
		got.context = make([]byte, len(o.ContextOut.([]byte)))
		o.ContextOut = got.context
	}
	if ret, err := p.Run(&o); err != nil || ret != 1 {
		return nil, fmt.Errorf("returned %d: %w", ret, err)
	}
	return &got, m.Lookup(uint32(0), &got.value)
}

// check compares what a run left with the context that its program saw, if that is known.
func (x *accessed) check(a access, seen []byte) error {
	want := bytes.Clone(seen)
	switch {
	case a.field == progtype.FieldSockCommonOrNull || a.field == progtype.FieldSocketOrNull:
		// A packet of a test run has a socket, and nothing else has.
		if hasSocket := a.off == 168; (x.value != 0) != hasSocket {
			return fmt.Errorf("a pointer to a socket that is %#x", x.value)
		}
	case seen == nil || a.field != progtype.FieldScalar:
	case a.op == progtype.Write:
		var w [8]byte
		binary.NativeEndian.PutUint64(w[:], writtenValue)
		copy(want[a.off:], w[:a.size])
	case x.value != a.loaded(seen):
		return fmt.Errorf("loaded %#x, the context has %#x", x.value, a.loaded(seen))
	}
	if x.context != nil && !bytes.Equal(x.context, want) && seen != nil {
		return fmt.Errorf("context afterwards %x, want %x", x.context, want)
	}
	return nil
}
