package skep_test

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep"
)

// TestNoPanic calls every function and method of the API with zero values, nil pointers and nil slices: on things that are
// open and closed, and, where there is an error to return, on nil pointers and on values that nobody made. Whatever is wrong
// with a call, there is no panic.
func TestNoPanic(t *testing.T) {
	open := load(t, "counter.o", skep.Options{}, "count")
	closed := load(t, "counter.o", skep.Options{}, "count")
	variable := load(t, "globals.o", skep.Options{}, "use").Variables["runs"]
	prog, m := closed.Programs["count"], closed.Maps["by_protocol"]
	closed.Close()
	object, err := skep.NewObject[stackThing]()
	if err != nil {
		t.Fatal(err)
	}
	_, rejection := skep.Verify(loadSpec(t, "counter.o"), "unchecked", skep.Options{})
	for _, v := range []any{
		open, closed, open.Programs["count"], prog, open.Maps["by_protocol"], open.Maps["per_cpu"], open.Maps["totals"], m,
		open.Maps["by_protocol"].Iterate(), variable, &skep.Kfuncs{}, object, rejection, skep.Options{}, skep.Engine(9),
		skep.KfuncFlags(1 << 30), &skep.Fault{},
	} {
		callMethods(t, v, func(reflect.Method) bool { return true })
	}
	for _, v := range []any{
		(*skep.Collection)(nil), &skep.Collection{}, (*skep.Program)(nil), &skep.Program{}, (*skep.Map)(nil), &skep.Map{},
		(*skep.MapIterator)(nil), &skep.MapIterator{}, (*skep.Variable)(nil), &skep.Variable{}, (*skep.Kfuncs)(nil), skep.Caller{},
	} {
		callMethods(t, v, func(m reflect.Method) bool {
			n := m.Type.NumOut()
			return n > 0 && m.Type.Out(n-1) == reflect.TypeFor[error]()
		})
	}
	for name, f := range map[string]any{
		"DisassembleSpec": skep.DisassembleSpec, "LoadAndAssign": skep.LoadAndAssign, "LoadCollectionSpec": skep.LoadCollectionSpec,
		"LoadCollectionSpecFromReader": skep.LoadCollectionSpecFromReader, "RunBytecode": skep.RunBytecode,
		"LoadCollection":            skep.LoadCollection,
		"LoadCollectionWithOptions": skep.LoadCollectionWithOptions, "NewCollection": skep.NewCollection,
		"NewCollectionWithOptions": skep.NewCollectionWithOptions, "NewMap": skep.NewMap, "NewProgram": skep.NewProgram,
		"NewProgramWithOptions": skep.NewProgramWithOptions, "Verify": skep.Verify, "NewObject": skep.NewObject[struct{}],
	} {
		callEmpty(t, name, reflect.ValueOf(f))
	}
	empty := &ebpf.CollectionSpec{
		Maps: map[string]*ebpf.MapSpec{"m": nil}, Programs: map[string]*ebpf.ProgramSpec{"p": nil},
		Variables: map[string]*ebpf.VariableSpec{"v": nil},
	}
	for name, f := range map[string]func(){
		"NewCollection": func() { _, _ = skep.NewCollection(empty) },
		"Verify":        func() { _, _ = skep.Verify(empty, "p", skep.Options{}) },
		"LoadAndAssign": func() {
			_ = skep.LoadAndAssign(empty, &struct {
				P *skep.Program `ebpf:"p"`
			}{})
		},
		"DisassembleSpec": func() { _ = skep.DisassembleSpec(nil, empty, "p") },
	} {
		callEmpty(t, name+" of nil members", reflect.ValueOf(f))
	}
}

// callMethods calls those methods of v that are wanted, the ones that end it last and twice.
func callMethods(t *testing.T, v any, want func(reflect.Method) bool) {
	t.Helper()
	typ := reflect.TypeOf(v)
	for _, last := range []bool{false, true, true} {
		for i := range typ.NumMethod() {
			m := typ.Method(i)
			if m.Name == "Format" || m.Name == "Unhold" || !want(m) {
				continue // fmt calls the one, and the other belongs to a Hold
			}
			if ends := m.Name == "Close" || m.Name == "Free"; ends == last {
				callEmpty(t, fmt.Sprintf("%T.%s", v, m.Name), reflect.ValueOf(v).Method(i))
			}
		}
	}
}

// callEmpty calls f with the zero value of each parameter.
func callEmpty(t *testing.T, name string, f reflect.Value) {
	t.Helper()
	defer func() {
		if p := recover(); p != nil {
			t.Errorf("%s: panic: %v", name, p)
		}
	}()
	var args []reflect.Value
	for i := range f.Type().NumIn() {
		if !f.Type().IsVariadic() || i < f.Type().NumIn()-1 {
			args = append(args, reflect.Zero(f.Type().In(i)))
		}
	}
	f.Call(args)
}
