package skep

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/ctype"
	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/lower"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/internal/progtype"
)

// This file compares a kfunc's C prototype, as the program's BTF has it, with the Go function that stands behind it.

// hasRuntime refuses kinds of arguments that are verified as the kernel's are, and that a function here could do nothing with: strings
// in memory that nobody may write to, maps, iterators, the program itself.
func hasRuntime(k *program.Kfunc) error {
	proto, ok := k.Type.Type.(*btf.FuncProto)
	if !ok {
		return nil
	}
	for _, p := range proto.Params {
		for _, s := range []string{"__str", "__map", "__iter", "__prog"} {
			if strings.HasSuffix(p.Name, s) {
				return fmt.Errorf("kfunc %s: parameter %s: %w", k.Name, p.Name, lower.ErrNoRuntime)
			}
		}
	}
	return nil
}

// kfuncExts returns how arguments and result are extended to 64 bits, and refuses what the C conventions place elsewhere than
// in one integer register or slot (stack_arguments.md section 4).
func kfuncExts(name string, proto *btf.FuncProto) (args []lower.Ext, result lower.Ext, err error) {
	if n := len(proto.Params); n > isa.MaxFuncArgs {
		//lint:ignore ST1005 the kernel's words
		return nil, result, fmt.Errorf("Function %s has %d > %d args", name, n, isa.MaxFuncArgs)
	}
	if err := notVariadic(name, proto); err != nil {
		return nil, result, err
	}
	for i, p := range proto.Params {
		e, err := extOf(p.Type)
		if err != nil {
			return nil, result, fmt.Errorf("kfunc %s: parameter %d (%s): %w", name, i+1, p.Name, err)
		}
		args = append(args, e)
	}
	if _, void := btf.UnderlyingType(proto.Return).(*btf.Void); void {
		return args, lower.Ext{Bytes: 8}, nil
	}
	if result, err = extOf(proto.Return); err != nil {
		return nil, result, fmt.Errorf("kfunc %s: result: %w", name, err)
	}
	return args, result, nil
}

// notVariadic refuses a prototype that ends in "...": for BTF a last parameter without name and type.
func notVariadic(name string, proto *btf.FuncProto) error {
	n := len(proto.Params)
	if n == 0 {
		return nil
	}
	if _, void := btf.UnderlyingType(proto.Params[n-1].Type).(*btf.Void); void {
		return fmt.Errorf("kfunc %s is variadic: a variable number of arguments, from parameter %d on, cannot be passed", name, n)
	}
	return nil
}

// extOf returns the width and signedness of a type that travels in one register.
func extOf(t btf.Type) (lower.Ext, error) {
	switch t := btf.UnderlyingType(t).(type) {
	case *btf.Int:
		switch {
		case t.Size > 8:
			return lower.Ext{}, fmt.Errorf("an integer of %d bits is wider than a register", t.Size*8)
		case t.Size != 1 && t.Size != 2 && t.Size != 4 && t.Size != 8:
			return lower.Ext{}, fmt.Errorf("an integer of %d bytes", t.Size)
		}
		return lower.Ext{Bytes: int(t.Size), Signed: t.Encoding == btf.Signed}, nil
	case *btf.Enum:
		if t.Size > 8 {
			return lower.Ext{}, fmt.Errorf("an enum of %d bits is wider than a register", t.Size*8)
		}
		return lower.Ext{Bytes: int(t.Size), Signed: t.Signed}, nil
	case *btf.Pointer:
		return lower.Ext{Bytes: 8}, nil
	case *btf.Float:
		return lower.Ext{}, fmt.Errorf("floating point travels in other registers")
	case *btf.Struct, *btf.Union:
		return lower.Ext{}, fmt.Errorf("%s by value: the C conventions place it elsewhere", ctype.Kind(t))
	}
	return lower.Ext{}, fmt.Errorf("%s cannot be passed in a register", ctype.Kind(t))
}

var (
	callerType = reflect.TypeFor[Caller]()
	bytesType  = reflect.TypeFor[[]byte]()
	objectType = reflect.TypeFor[objectResult]()
)

// checkGoFunc refuses Go functions that no prototype can fit.
func checkGoFunc(t reflect.Type) error {
	if t.IsVariadic() {
		return fmt.Errorf("variadic functions cannot be kfuncs")
	}
	n := 0
	for i := range t.NumIn() {
		p := t.In(i)
		switch {
		case p == callerType && i == 0:
		case p == bytesType:
			n += 2
		case isScalar(p) || p.Kind() == reflect.Uintptr:
			n++
		case p.Kind() == reflect.Pointer:
			if err := checkPointee(p.Elem()); err != nil {
				return fmt.Errorf("parameter %d: %w", i+1, err)
			}
			n++
		default:
			return fmt.Errorf("parameter %d: %s cannot stand for a C parameter", i+1, p)
		}
	}
	if n > isa.MaxFuncArgs {
		return fmt.Errorf("%d arguments, kfuncs take at most %d", n, isa.MaxFuncArgs)
	}
	return checkGoResult(t)
}

func checkGoResult(t reflect.Type) error {
	switch {
	case t.NumOut() == 0:
		return nil
	case t.NumOut() > 1:
		return fmt.Errorf("%d results, a C function has at most one", t.NumOut())
	case isScalar(t.Out(0)), t.Out(0).Implements(objectType):
		return nil
	case t.Out(0).Kind() == reflect.Pointer:
		return fmt.Errorf("result %s: a program cannot hold a Go pointer; return a *skep.Object made with skep.NewObject", t.Out(0))
	}
	return fmt.Errorf("result %s cannot stand for a C result", t.Out(0))
}

func isScalar(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Bool, reflect.Int8, reflect.Uint8, reflect.Int16, reflect.Uint16, reflect.Int32, reflect.Uint32, reflect.Int64,
		reflect.Uint64:
		return true
	}
	return false
}

// checkPointee refuses types that hold Go pointers: the memory is the program's.
func checkPointee(t reflect.Type) error {
	switch t.Kind() {
	case reflect.Bool, reflect.Int8, reflect.Uint8, reflect.Int16, reflect.Uint16, reflect.Int32, reflect.Uint32, reflect.Int64,
		reflect.Uint64, reflect.Uintptr, reflect.Float32, reflect.Float64:
		return nil
	case reflect.Array:
		return checkPointee(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if err := checkPointee(t.Field(i).Type); err != nil {
				return fmt.Errorf("field %s: %w", t.Field(i).Name, err)
			}
		}
		return nil
	}
	return fmt.Errorf("%s cannot lie in a program's memory", t)
}

// matchParam compares Go parameter t with C parameter i and returns how many C parameters it stands for.
func matchParam(t reflect.Type, proto *btf.FuncProto, i int) (int, error) {
	if i >= len(proto.Params) {
		return 0, fmt.Errorf("the Go function has more parameters than C's %d", len(proto.Params))
	}
	p := proto.Params[i]
	under := btf.UnderlyingType(p.Type)
	ptr, isPtr := under.(*btf.Pointer)
	switch {
	case t == bytesType:
		return 2, matchBytes(proto, i)
	case t.Kind() == reflect.Uintptr:
		if !isPtr {
			return 0, fmt.Errorf("parameter %s is %s, Go's uintptr stands for a pointer", p.Name, ctype.Type(p.Type))
		}
		return 1, nil
	case t.Kind() == reflect.Pointer:
		if !isPtr {
			return 0, fmt.Errorf("parameter %s is %s, Go has %s", p.Name, ctype.Type(p.Type), t)
		}
		if err := matchLayout(t.Elem(), ptr.Target, 0); err != nil {
			return 0, fmt.Errorf("parameter %s: %w", p.Name, err)
		}
		return 1, matchContext(t.Elem(), ptr.Target)
	case isPtr:
		return 0, fmt.Errorf("parameter %s is %s, Go has %s", p.Name, ctype.Type(p.Type), t)
	}
	return 1, matchScalar("parameter "+p.Name, t, p.Type)
}

// contextSizes are the structures by whose name a parameter is the program's context, with their sizes. Behind them lies
// what is not the kfunc's.
var contextSizes = map[string]uintptr{
	"xdp_md": progtype.XDPSize, "__sk_buff": progtype.SkbSize, "bpf_raw_tracepoint_args": 8 * progtype.MaxTracepointArgs,
}

// matchContext refuses a Go type larger than the context that the verifier passes for a C type of that name, whatever
// layout the program declares for it.
func matchContext(t reflect.Type, c btf.Type) error {
	s, ok := btf.UnderlyingType(c).(*btf.Struct)
	if !ok {
		return nil
	}
	if n, ok := contextSizes[s.Name]; ok && t.Size() > n {
		return fmt.Errorf("struct %s is a context of %d bytes, Go's %s has %d", s.Name, n, t, t.Size())
	}
	return nil
}

func matchBytes(proto *btf.FuncProto, i int) error {
	p := proto.Params[i]
	if _, ok := btf.UnderlyingType(p.Type).(*btf.Pointer); !ok {
		return fmt.Errorf("parameter %s is %s, Go has []byte", p.Name, ctype.Type(p.Type))
	}
	if i+1 >= len(proto.Params) || !isSizeParam(proto.Params[i+1]) {
		return fmt.Errorf("parameter %s: []byte needs a length parameter behind the pointer, named with __sz or __szk", p.Name)
	}
	return nil
}

// isSizeParam reports whether a parameter is a length by its name, or, since compilers leave the names of declarations out,
// could be one.
func isSizeParam(p btf.FuncParam) bool {
	if p.Name == "" {
		_, err := extOf(p.Type)
		_, isPtr := btf.UnderlyingType(p.Type).(*btf.Pointer)
		return err == nil && !isPtr
	}
	return strings.HasSuffix(p.Name, "__sz") || strings.HasSuffix(p.Name, "__szk")
}

// goNames returns the prototype with the parameter names that the Go function stands for. A name tells the verifier what to
// check (__sz, __ign, rdwr_buf_size and so on), and a program can declare any: so the declared ones count only where they
// say what the Go function says too. SetPrototype is how the host gives names with a meaning.
func goNames(fn *btf.Func, proto *btf.FuncProto, t reflect.Type) *btf.Func {
	named := &btf.FuncProto{Return: proto.Return, Params: append([]btf.FuncParam(nil), proto.Params...)}
	ps := named.Params
	size := false // the parameter before is an address that the Go function does not look behind by itself
	for i, c := 0, 0; i < t.NumIn() && c < len(ps); i++ {
		p := t.In(i)
		if p == callerType {
			continue
		}
		if !size || !isSizeParam(ps[c]) {
			ps[c].Name = noMeaning(ps[c].Name, c)
		}
		if p == bytesType {
			if c++; c < len(ps) && ps[c].Name == "" {
				ps[c].Name = fmt.Sprintf("mem%d__sz", c)
			}
			if c < len(ps) && !isSizeParam(ps[c]) {
				ps[c].Name = noMeaning(ps[c].Name, c)
			}
		}
		size = p.Kind() == reflect.Uintptr
		c++
	}
	return &btf.Func{Name: fn.Name, Type: named, Linkage: fn.Linkage, Tags: fn.Tags}
}

// noMeaning returns a parameter's name if the verifier sees nothing in it, else another.
func noMeaning(name string, i int) string {
	if strings.Contains(name, "__") || strings.HasSuffix(name, "_buf_size") {
		return fmt.Sprintf("p%d", i+1)
	}
	return name
}

// sameProto reports how two prototypes differ as far as calls go.
func sameProto(a, b *btf.FuncProto) error {
	if len(a.Params) != len(b.Params) {
		return fmt.Errorf("%d and %d parameters", len(b.Params), len(a.Params))
	}
	for i := range a.Params {
		if x, y := ctype.Type(a.Params[i].Type), ctype.Type(b.Params[i].Type); x != y {
			return fmt.Errorf("parameter %d is %s and %s", i+1, y, x)
		}
	}
	if x, y := ctype.Type(a.Return), ctype.Type(b.Return); x != y {
		return fmt.Errorf("result is %s and %s", y, x)
	}
	return nil
}

func matchScalar(what string, t reflect.Type, c btf.Type) error {
	e, err := extOf(c)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if e.Bytes != int(t.Size()) {
		return fmt.Errorf("%s is %s of %d bytes, Go has %s of %d", what, ctype.Type(c), e.Bytes, t, t.Size())
	}
	return nil
}

// matchLayout compares a Go type with the C type it is laid over.
func matchLayout(t reflect.Type, c btf.Type, depth int) error {
	c = btf.UnderlyingType(c)
	if depth > 16 {
		return fmt.Errorf("%s: nested too deeply", t)
	}
	switch c := c.(type) {
	case *btf.Struct:
		if t.Kind() == reflect.Struct {
			return matchStruct(t, c, depth)
		}
	case *btf.Array:
		if t.Kind() == reflect.Array {
			if t.Len() != int(c.Nelems) {
				return fmt.Errorf("it is an array of %d in C, %s in Go", c.Nelems, t)
			}
			return matchLayout(t.Elem(), c.Type, depth+1)
		}
	case *btf.Int, *btf.Enum, *btf.Float:
		size, err := btf.Sizeof(c)
		if err == nil && t.Kind() != reflect.Struct && t.Kind() != reflect.Array {
			if size != int(t.Size()) {
				return fmt.Errorf("it is %s of %d bytes in C, %s of %d in Go", ctype.Kind(c), size, t, t.Size())
			}
			return nil
		}
	case *btf.Pointer:
		if t.Kind() == reflect.Uintptr || t.Kind() == reflect.Uint64 {
			return nil
		}
	case *btf.Union:
		if t.Size() == uintptr(c.Size) {
			return nil // any view of the union will do
		}
	case *btf.Fwd:
		return fmt.Errorf("the object only declares struct %s, so its layout cannot be compared; use uintptr", c.Name)
	case *btf.Void:
		return fmt.Errorf("it is void * in C, *%s in Go; use []byte or uintptr", t)
	}
	return fmt.Errorf("it is %s in C, %s in Go", ctype.Type(c), t)
}

// matchStruct compares fields by name, offset and size.
func matchStruct(t reflect.Type, c *btf.Struct, depth int) error {
	fields := map[string]reflect.StructField{}
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Name == "_" {
			continue
		}
		name := f.Tag.Get("btf")
		if name == "" {
			name = f.Name
		}
		fields[plainName(name)] = f
	}
	for _, m := range c.Members {
		f, ok := fields[plainName(m.Name)]
		if !ok {
			return fmt.Errorf("%s has no field for %s of struct %s", t, m.Name, c.Name)
		}
		delete(fields, plainName(m.Name))
		if m.BitfieldSize != 0 {
			return fmt.Errorf("struct %s: field %s is a bit field, which Go does not have", c.Name, m.Name)
		}
		if off := m.Offset.Bytes(); uintptr(off) != f.Offset {
			return fmt.Errorf("struct %s: field %s is at offset %d, Go's %s.%s at %d", c.Name, m.Name, off, t, f.Name, f.Offset)
		}
		if err := matchLayout(f.Type, m.Type, depth+1); err != nil {
			return fmt.Errorf("struct %s: field %s: %w", c.Name, m.Name, err)
		}
	}
	for _, f := range fields {
		return fmt.Errorf("struct %s has no field for %s.%s", c.Name, t, f.Name)
	}
	if uintptr(c.Size) != t.Size() {
		return fmt.Errorf("struct %s has %d bytes, Go's %s %d", c.Name, c.Size, t, t.Size())
	}
	return nil
}

func plainName(s string) string { return strings.ToLower(strings.ReplaceAll(s, "_", "")) }

// matchResult compares the results.
func matchResult(t reflect.Type, proto *btf.FuncProto) error {
	under := btf.UnderlyingType(proto.Return)
	_, void := under.(*btf.Void)
	ptr, isPtr := under.(*btf.Pointer)
	switch {
	case t.NumOut() == 0 && !void:
		return fmt.Errorf("result is %s, Go has none", ctype.Type(proto.Return))
	case t.NumOut() == 0:
		return nil
	case void:
		return fmt.Errorf("result is void, Go has %s", t.Out(0))
	case t.Out(0).Implements(objectType):
		if !isPtr {
			return fmt.Errorf("result is %s, Go has %s", ctype.Type(proto.Return), t.Out(0))
		}
		elem := reflect.Zero(t.Out(0)).Interface().(objectResult).objectElem()
		if err := matchLayout(elem, ptr.Target, 0); err != nil {
			return fmt.Errorf("result: %w", err)
		}
		return nil
	case isPtr:
		return fmt.Errorf("result is %s, Go has %s", ctype.Type(proto.Return), t.Out(0))
	}
	return matchScalar("result", t.Out(0), proto.Return)
}
