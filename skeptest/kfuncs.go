package skeptest

//lint:file-ignore ST1005 errors begin with the name of a field of Case or Suite

import (
	"fmt"
	"math/bits"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/internal/kernelkfunc"
	"github.com/skep-bpf/skep/internal/program"
)

// stub is a kfunc as cases see it: a Go function, or only its type.
type stub struct {
	name  string
	typ   reflect.Type
	fn    reflect.Value // invalid: there is none
	flags []skep.KfuncFlags
}

// stubsOf lists the kfuncs that programs can call: those given, and those that the object declares and that take and return numbers.
func stubsOf(spec *ebpf.CollectionSpec, given map[string]any) ([]*stub, error) {
	var all []*stub
	for _, name := range sortedKeys(given) {
		s := &stub{name: name, fn: reflect.ValueOf(given[name])}
		if k, ok := given[name].(Kfunc); ok {
			s.fn, s.flags = reflect.ValueOf(k.Func), k.Flags
		}
		if s.fn.Kind() != reflect.Func || s.fn.IsNil() {
			return nil, fmt.Errorf("Kfuncs: %s: %T is not a function", name, given[name])
		}
		s.typ = s.fn.Type()
		all = append(all, s)
	}
	if spec.Types == nil {
		return all, nil
	}
	for t, err := range spec.Types.All() {
		if err != nil {
			return nil, err
		}
		fn, ok := t.(*btf.Func)
		if !ok || fn.Linkage != btf.ExternFunc || given[fn.Name] != nil || program.BuiltinKfunc(fn.Name) || kernelkfunc.Find(fn.Name) != nil ||
			slices.ContainsFunc(all, func(s *stub) bool { return s.name == fn.Name }) {
			continue
		}
		if proto, ok := fn.Type.(*btf.FuncProto); ok {
			if typ := stubType(proto); typ != nil {
				all = append(all, &stub{name: fn.Name, typ: typ})
			}
		}
	}
	return all, nil
}

// stubType is the type of a Go function for a prototype of numbers and addresses, nil for others.
func stubType(proto *btf.FuncProto) reflect.Type {
	var in, out []reflect.Type
	for _, p := range proto.Params {
		t := numberType(p.Type)
		if t == nil {
			return nil
		}
		in = append(in, t)
	}
	if _, void := btf.UnderlyingType(proto.Return).(*btf.Void); !void {
		t := numberType(proto.Return)
		if t == nil || t.Kind() == reflect.Uintptr {
			return nil
		}
		out = append(out, t)
	}
	return reflect.FuncOf(in, out, false)
}

// numberType is the Go type of a number of C, uintptr for an address; nil for what is neither.
func numberType(t btf.Type) reflect.Type {
	if t == nil {
		return nil
	}
	size, signed := uint32(0), false
	switch u := btf.UnderlyingType(t).(type) {
	case *btf.Pointer:
		return reflect.TypeFor[uintptr]()
	case *btf.Enum:
		size, signed = u.Size, u.Signed
	case *btf.Int:
		size, signed = u.Size, u.Encoding == btf.Signed
		if u.Encoding == btf.Bool {
			return reflect.TypeFor[bool]()
		}
	}
	types := []reflect.Type{reflect.TypeFor[uint8](), reflect.TypeFor[uint16](), reflect.TypeFor[uint32](), reflect.TypeFor[uint64]()}
	if signed {
		types = []reflect.Type{reflect.TypeFor[int8](), reflect.TypeFor[int16](), reflect.TypeFor[int32](), reflect.TypeFor[int64]()}
	}
	if size == 0 || size > 8 || size&(size-1) != 0 {
		return nil
	}
	return types[bits.TrailingZeros32(size)]
}

// calls are the kfunc calls of a step: those expected and those made.
type calls struct {
	mu   sync.Mutex
	want []KfuncCall // nil: any
	made []KfuncCall
	errs []string
}

// expect begins a step.
func (k *calls) expect(want []KfuncCall) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.want, k.made, k.errs = want, nil, nil
}

// register makes the kfuncs of a case.
func (k *calls) register(to *skep.Kfuncs, stubs []*stub) error {
	for _, s := range stubs {
		fn := reflect.MakeFunc(s.typ, func(in []reflect.Value) []reflect.Value { return k.call(s, in) })
		if err := to.Register(s.name, fn.Interface(), s.flags...); err != nil {
			return err
		}
	}
	return nil
}

// call notes a call and answers it: as the case says, or else as the function does.
func (k *calls) call(s *stub, in []reflect.Value) []reflect.Value {
	made := KfuncCall{Name: s.name, Args: []any{}}
	for i, v := range in {
		if i > 0 || v.Type() != reflect.TypeFor[skep.Caller]() {
			made.Args = append(made.Args, copied(v))
		}
	}
	k.mu.Lock()
	n := len(k.made)
	k.made = append(k.made, made)
	var result any
	if n < len(k.want) && k.want[n].Name == s.name {
		result = k.want[n].Result
	}
	k.mu.Unlock()
	if result == nil && s.fn.IsValid() {
		return s.fn.Call(in)
	}
	out := make([]reflect.Value, s.typ.NumOut())
	for i := range out {
		out[i] = reflect.Zero(s.typ.Out(i))
	}
	if result != nil {
		if err := answer(s, result, out); err != nil {
			k.mu.Lock()
			k.errs = append(k.errs, fmt.Sprintf("kfunc call %d: %s: Result: %v", n, s.name, err))
			k.mu.Unlock()
		}
	}
	return out
}

// answer puts the result that a case gives into the results of a function.
func answer(s *stub, result any, out []reflect.Value) error {
	v := reflect.ValueOf(result)
	switch {
	case len(out) == 0:
		return fmt.Errorf("%v for a function without one", result)
	case v.Type() == out[0].Type():
		out[0] = v
		return nil
	}
	x, ok := toNumber(v)
	to := reflect.New(out[0].Type()).Elem()
	switch {
	case !ok || !(to.CanInt() || to.CanUint()):
		return fmt.Errorf("%T where %s is", result, to.Type())
	case to.CanInt():
		if to.SetInt(x.signed()); !x.same(to) {
			return fmt.Errorf("%v does not fit into %s", result, to.Type())
		}
	default:
		if to.SetUint(x.bits); !x.same(to) {
			return fmt.Errorf("%v does not fit into %s", result, to.Type())
		}
	}
	out[0] = to
	return nil
}

// copied is an argument that stays when the call is over, with what it points to.
func copied(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return copied(v.Elem())
	case reflect.Slice:
		return slices.Clone(v.Bytes())
	}
	return v.Interface()
}

// compare says how the calls differ from those expected.
func (k *calls) compare(failf func(string, ...any)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, e := range k.errs {
		failf("%s", e)
	}
	if k.want == nil {
		return
	}
	for i, want := range k.want {
		switch {
		case i >= len(k.made):
			failf("kfunc call %d: %s is missing", i, want)
		case want.Name != k.made[i].Name || !sameArgs(k.made[i].Args, want.Args):
			failf("kfunc call %d: got %s, want %s", i, k.made[i], want)
		}
	}
	for i := len(k.want); i < len(k.made); i++ {
		failf("kfunc call %d: %s is not expected", i, k.made[i])
	}
}

// String is name(arguments).
func (c KfuncCall) String() string {
	if c.Args == nil {
		return c.Name + "(...)"
	}
	var args []string
	for _, a := range c.Args {
		switch v := a.(type) {
		case anyArg:
			args = append(args, "any")
		case []byte:
			args = append(args, fmt.Sprintf("hex(% x)", v))
		case nil:
			args = append(args, "NULL")
		case uintptr:
			args = append(args, fmt.Sprintf("%#x", v))
		default:
			args = append(args, fmt.Sprintf("%+v", v))
		}
	}
	return c.Name + "(" + strings.Join(args, ", ") + ")"
}

func sameArgs(got, want []any) bool {
	return want == nil || slices.EqualFunc(got, want, sameArg)
}

// sameArg compares an argument with what a case says of it.
func sameArg(got, want any) bool {
	if _, any := want.(anyArg); any {
		return true
	}
	if got == nil || want == nil {
		return got == nil && want == nil
	}
	w := reflect.ValueOf(want)
	if w.Kind() == reflect.Pointer && !w.IsNil() {
		w = w.Elem()
	}
	g, ok := toNumber(reflect.ValueOf(got))
	if x, both := toNumber(w); ok && both {
		return g == x
	}
	return reflect.DeepEqual(got, w.Interface())
}

// integer is a number of 65 bits: a sign and 64 bits.
type integer struct {
	negative bool
	bits     uint64 // two's complement if it is negative
}

func (x integer) signed() int64 { return int64(x.bits) }

// same reports whether v is x.
func (x integer) same(v reflect.Value) bool {
	y, ok := toNumber(v)
	return ok && x == y
}

// toNumber returns an integer of any type.
func toNumber(v reflect.Value) (integer, bool) {
	switch {
	case !v.IsValid():
		return integer{}, false
	case v.CanInt():
		return integer{v.Int() < 0, uint64(v.Int())}, true
	case v.CanUint():
		return integer{false, v.Uint()}, true
	}
	return integer{}, false
}
