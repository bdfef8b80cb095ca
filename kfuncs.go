package skep

import (
	"fmt"
	"reflect"
	"slices"
	"sync"

	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/ctype"
	"github.com/skep-bpf/skep/internal/lower"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/internal/rt"
)

// KfuncFlags say what a kfunc promises and demands, as the kernel's KF_* flags do.
type KfuncFlags uint32

// The flags of a kfunc.
const (
	// KfuncAcquire: the pointer it returns is a reference that the program must release.
	KfuncAcquire = KfuncFlags(program.KfuncAcquire)
	// KfuncRelease: it releases the reference that is its argument.
	KfuncRelease = KfuncFlags(program.KfuncRelease)
	// KfuncRetNull: the pointer it returns may be NULL; the program must check.
	KfuncRetNull = KfuncFlags(program.KfuncRetNull)
	// KfuncTrustedArgs: pointers to structs must come from a kfunc or the context, unchanged and not NULL. A struct that a
	// kfunc hands out must have the same Go type here; of parameters that are uintptr only the program's word is known.
	KfuncTrustedArgs = KfuncFlags(program.KfuncTrustedArgs)
	// KfuncSleepable: only sleepable programs may call it.
	KfuncSleepable = KfuncFlags(program.KfuncSleepable)
	// KfuncDestructive: it may do harm that the verifier cannot know of.
	KfuncDestructive = KfuncFlags(program.KfuncDestructive)
	// KfuncRCU: pointer arguments may be protected by RCU only.
	KfuncRCU = KfuncFlags(program.KfuncRCU)
)

// Kfuncs is a set of functions that programs can call by name: Go functions and native ones. The zero value is empty and
// ready. It can be used by many collections; what is registered after a load is not seen by it.
type Kfuncs struct {
	mu sync.RWMutex
	m  map[string]*kfunc
}

// kfunc is a registered function.
type kfunc struct {
	name   string
	flags  program.KfuncFlags
	fn     any       // a Go function, or nil
	native uintptr   // or the address of machine code
	proto  *btf.Func // of SetPrototype, or nil
}

// Register adds a Go function under the name that programs call it by. Its prototype is compared with the one the program
// declares when the program is loaded.
//
// Parameters of fn may be
//   - integers of any fixed width, for C integers and enums of the same width, and bool,
//   - *T, for a pointer to a struct (or integer) whose Go type T has the same layout: fields of the same names, offsets and
//     sizes, compared with the program's BTF; names are equal if they differ in case and underscores only, or by a
//     `btf:"name"` tag, and fields named _ are padding,
//   - []byte, for a pointer followed by a length parameter (named with __sz or __szk),
//   - uintptr, for any pointer, unchecked,
//   - a Caller as first parameter, which stands for no C parameter.
//
// The result is nothing, an integer, a bool, or *Object[T] for a pointer to a struct. Go pointers cannot be returned: programs
// hold addresses that the garbage collector does not see.
//
// Memory behind pointers and slices belongs to the program and may be used only during the call; many calls can happen at
// once. A call allocates nothing by itself. A function of the form func(a, b ... uint64) uint64 is called fastest.
func (k *Kfuncs) Register(name string, fn any, flags ...KfuncFlags) error {
	v := reflect.ValueOf(fn)
	if v.Kind() != reflect.Func {
		return fmt.Errorf("kfunc %s: %T is not a function", name, fn)
	}
	if v.IsNil() {
		return fmt.Errorf("kfunc %s: function is nil", name)
	}
	if err := checkGoFunc(v.Type()); err != nil {
		return fmt.Errorf("kfunc %s: %s: %w", name, v.Type(), err)
	}
	return k.add(&kfunc{name: name, fn: fn}, flags)
}

// RegisterNative adds a function in machine code by its address: C code, say, in a library that was loaded with
// ebitengine/purego. It is called by the platform's C convention with up to twelve integer or pointer arguments, each
// extended to 64 bits as its declared type says. It is trusted entirely, runs on the program's stack, of which it may use
// a few kilobytes, and must not call back into Go. The interpreter and machines without a compiler cannot call it.
//
// What its parameters are is what the program declares, unless SetPrototype says it: a program that declares a number where
// the function takes an address can pass any. Call SetPrototype where programs are not trusted.
func (k *Kfuncs) RegisterNative(name string, addr uintptr, flags ...KfuncFlags) error {
	if addr == 0 {
		return fmt.Errorf("kfunc %s: address is zero", name)
	}
	return k.add(&kfunc{name: name, native: addr}, flags)
}

func (k *Kfuncs) add(f *kfunc, flags []KfuncFlags) error {
	for _, fl := range flags {
		f.flags |= program.KfuncFlags(fl)
	}
	if f.name == "" {
		return fmt.Errorf("kfunc without a name")
	}
	if program.BuiltinKfunc(f.name) {
		return fmt.Errorf("kfunc %s is there already: every program has it", f.name)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.m[f.name]; ok {
		return fmt.Errorf("kfunc %s is registered already", f.name)
	}
	if k.m == nil {
		k.m = map[string]*kfunc{}
	}
	k.m[f.name] = f
	return nil
}

func (k *Kfuncs) find(name string) (*kfunc, bool) {
	if k == nil {
		return nil, false
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	f, ok := k.m[name]
	return f, ok
}

// describe completes the prototype that an object declares for a kfunc. Compilers leave the names of a declaration's
// parameters out, and the names are what tells a length from a number (Documentation/bpf/kfuncs.rst): a Go function with a
// []byte says it, and SetPrototype does for the others.
func (k *Kfuncs) describe(name string, declared *btf.Func) (*btf.Func, error) {
	f, ok := k.find(name)
	if !ok || declared == nil {
		return declared, nil
	}
	proto, ok := declared.Type.(*btf.FuncProto)
	if !ok {
		return declared, nil
	}
	if !wholeProto(proto) {
		return nil, fmt.Errorf("kfunc %s: the program's prototype lacks a type", name)
	}
	if f.proto != nil {
		if err := sameProto(f.proto.Type.(*btf.FuncProto), proto); err != nil {
			return nil, fmt.Errorf("kfunc %s: %w\n\tthe program declares: %s\n\tSetPrototype said:    %s", name, err,
				ctype.Proto(name, proto), ctype.Proto(name, f.proto.Type.(*btf.FuncProto)))
		}
		return f.proto, nil
	}
	if f.fn == nil {
		return declared, nil
	}
	return goNames(declared, proto, reflect.TypeOf(f.fn)), nil
}

// wholeProto reports whether a prototype has all its types; one made in Go may not.
func wholeProto(p *btf.FuncProto) bool {
	whole := func(t btf.Type) bool {
		ptr, ok := t.(*btf.Pointer)
		return t != nil && (!ok || ptr.Target != nil)
	}
	return whole(p.Return) && !slices.ContainsFunc(p.Params, func(a btf.FuncParam) bool { return !whole(a.Type) })
}

// SetPrototype gives the C prototype of a kfunc that is registered already, with parameter names: __sz behind a name marks a
// length, __k a constant, __ign an argument that is not looked at, and so on, as in the kernel. A program's own declaration
// must agree in all types.
func (k *Kfuncs) SetPrototype(fn *btf.Func) error {
	if fn == nil {
		return fmt.Errorf("kfunc prototype is nil")
	}
	if proto, ok := fn.Type.(*btf.FuncProto); !ok {
		return fmt.Errorf("kfunc %s: %T is no prototype", fn.Name, fn.Type)
	} else if !wholeProto(proto) {
		return fmt.Errorf("kfunc %s: the prototype lacks a type", fn.Name)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	f, ok := k.m[fn.Name]
	if !ok {
		return fmt.Errorf("kfunc %s is not registered", fn.Name)
	}
	g := *f
	g.proto = fn
	k.m[fn.Name] = &g
	return nil
}

// takesAddress reports whether f works on memory that it is given, or may do so.
func (f *kfunc) takesAddress() bool {
	if f.fn == nil {
		return true
	}
	t := reflect.TypeOf(f.fn)
	for i := range t.NumIn() {
		if p := t.In(i); p != callerType && !isScalar(p) {
			return true
		}
	}
	return false
}

// lookup is program.Options.Kfuncs.
func (k *Kfuncs) lookup(name string) (program.KfuncFlags, bool) {
	f, ok := k.find(name)
	if !ok {
		return 0, false
	}
	return f.flags, true
}

// prepare matches f with the prototype that a program declares for it. call is nil for a native function.
func (f *kfunc) prepare(fn *btf.Func) (b lower.KfuncBinding, call rt.Func, err error) {
	proto, ok := fn.Type.(*btf.FuncProto)
	if !ok {
		return b, nil, fmt.Errorf("kfunc %s: the object declares no prototype", f.name)
	}
	if b.Args, b.Result, err = kfuncExts(f.name, proto); err != nil {
		return b, nil, err
	}
	if f.native != 0 {
		b.Native = f.native
		return b, nil, nil
	}
	call, err = f.adapt(proto, b.Result)
	return b, call, err
}

// matches says what is wrong with a prototype before the verifier looks at it.
func (f *kfunc) matches(fn *btf.Func) error {
	if f.native == 0 {
		_, _, err := f.prepare(fn)
		return err
	}
	if proto, ok := fn.Type.(*btf.FuncProto); ok {
		return notVariadic(f.name, proto)
	}
	return nil
}

// bind makes f callable by a program that declares it with prototype fn.
func (f *kfunc) bind(fn *btf.Func) (lower.KfuncBinding, error) {
	b, call, err := f.prepare(fn)
	if err == nil && call != nil {
		b.Handle = rt.Register(call)
	}
	return b, err
}

// Caller is what a kfunc can know of the run that calls it, if its first parameter is a Caller. It is valid during the call.
type Caller struct{ r *rt.Run }

// CPU returns the slot number of the run, the index of its values in per-CPU maps.
func (c Caller) CPU() int { return c.r.CPU }

// Stop ends the run with an error once the kfunc returns.
func (c Caller) Stop(err error) { c.r.Err = err }
