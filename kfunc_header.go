package skep

import (
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"unicode"

	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/cheader"
	"github.com/skep-bpf/skep/internal/program"
)

// This file gives the authors of programs what they need to call registered kfuncs: C declarations and BTF. matchParam and its kin,
// which compare a program's declaration with a Go function, go the other way; what is made here passes them.

// WriteKfuncHeader writes a C header that declares all kfuncs of k, in the order of their names, as weak symbols: those of more than
// five parameters with the macros of include/skep/bpf_stack_args.h. It defines the structures that they point to; contexts
// (struct xdp_md and others) and structures behind pointers inside of others it only names.
//
// A prototype is the one that SetPrototype gave, or is made of the Go function: integers become C's of the same width, *T a
// pointer to a structure named as T is, in snake case, []byte a void * and its length, uintptr a void *. A native kfunc without
// SetPrototype is an error.
func WriteKfuncHeader(w io.Writer, k *Kfuncs) error {
	protos, err := k.Prototypes()
	if err != nil {
		return err
	}
	funcs := make([]cheader.Func, len(protos))
	for i, fn := range protos {
		f, _ := k.find(fn.Name)
		funcs[i] = cheader.Func{Func: fn, Comment: flagComment(f.flags)}
	}
	return cheader.Write(w, funcs, IsContextStruct)
}

// WriteDeclaredKfuncs writes the header for prototypes from elsewhere, an object's BTF for example.
func WriteDeclaredKfuncs(w io.Writer, protos []*btf.Func) error {
	funcs := make([]cheader.Func, len(protos))
	for i, fn := range protos {
		if fn == nil {
			return fmt.Errorf("kfunc prototype is nil")
		}
		if proto, ok := fn.Type.(*btf.FuncProto); !ok || !wholeProto(proto) {
			return fmt.Errorf("kfunc %s: no prototype, or one that lacks a type", fn.Name)
		}
		funcs[i].Func = fn
	}
	return cheader.Write(w, funcs, IsContextStruct)
}

// IsContextStruct reports whether a structure of that name is a program's context, which headers of kfuncs do not define.
func IsContextStruct(name string) bool {
	_, ok := contextSizes[name]
	return ok
}

// WriteKfuncBTF writes raw BTF with the functions of protos, tagged bpf_kfunc as the kernel's own are, and all their types.
func WriteKfuncBTF(w io.Writer, protos []*btf.Func) error {
	types := make([]btf.Type, len(protos))
	for i, fn := range protos {
		if fn == nil {
			return fmt.Errorf("kfunc prototype is nil")
		}
		if !complete(fn.Type, map[btf.Type]bool{}) {
			return fmt.Errorf("kfunc %s: the prototype lacks a type", fn.Name)
		}
		types[i] = &btf.Func{Name: fn.Name, Type: fn.Type, Linkage: btf.StaticFunc, Tags: []string{"bpf_kfunc"}}
	}
	b, err := btf.NewBuilder(types, nil)
	if err != nil {
		return err
	}
	raw, err := b.Marshal(nil, nil)
	if err != nil {
		return err
	}
	_, err = w.Write(raw)
	return err
}

// complete reports whether nothing is missing in a type; what is made in Go can have holes.
func complete(t btf.Type, seen map[btf.Type]bool) bool {
	if t == nil || seen[t] {
		return t != nil
	}
	seen[t] = true
	members := func(ms []btf.Member) bool {
		return !slices.ContainsFunc(ms, func(m btf.Member) bool { return !complete(m.Type, seen) })
	}
	switch t := t.(type) {
	case *btf.Pointer:
		return complete(t.Target, seen)
	case *btf.Array:
		return complete(t.Index, seen) && complete(t.Type, seen)
	case *btf.Struct:
		return members(t.Members)
	case *btf.Union:
		return members(t.Members)
	case *btf.FuncProto:
		missing := func(p btf.FuncParam) bool { return !complete(p.Type, seen) }
		return complete(t.Return, seen) && !slices.ContainsFunc(t.Params, missing)
	case *btf.Const:
		return complete(t.Type, seen)
	case *btf.Volatile:
		return complete(t.Type, seen)
	case *btf.Restrict:
		return complete(t.Type, seen)
	case *btf.TypeTag:
		return complete(t.Type, seen)
	case *btf.Typedef:
		return complete(t.Type, seen)
	}
	return true
}

// Prototypes returns the C prototypes of all kfuncs of k, in the order of their names, as WriteKfuncHeader describes them.
func (k *Kfuncs) Prototypes() ([]*btf.Func, error) {
	if k == nil {
		return nil, nil
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	names := make([]string, 0, len(k.m))
	for name := range k.m {
		names = append(names, name)
	}
	slices.Sort(names)
	ts := &goTypes{made: map[reflect.Type]btf.Type{}, names: map[string]int{}}
	protos := make([]*btf.Func, len(names))
	for i, name := range names {
		f := k.m[name]
		switch {
		case f.proto != nil:
			protos[i] = f.proto
		case f.fn == nil:
			return nil, fmt.Errorf("kfunc %s: only SetPrototype can say what a native function takes", name)
		default:
			protos[i] = &btf.Func{Name: name, Type: ts.proto(reflect.TypeOf(f.fn)), Linkage: btf.ExternFunc}
		}
	}
	return protos, nil
}

// flagComment says what a program has to do about a kfunc's flags.
func flagComment(flags program.KfuncFlags) string {
	var says []string
	for _, f := range []struct {
		flag program.KfuncFlags
		says string
	}{
		{program.KfuncAcquire, "returns a reference that must be released"},
		{program.KfuncRelease, "releases a reference"},
		{program.KfuncRetNull, "may return NULL"},
		{program.KfuncTrustedArgs, "takes trusted pointers only"},
		{program.KfuncSleepable, "for sleepable programs"},
		{program.KfuncDestructive, "destructive"},
		{program.KfuncRCU, "takes pointers under RCU"},
	} {
		if flags&f.flag != 0 {
			says = append(says, f.says)
		}
	}
	return strings.Join(says, "; ")
}

// goTypes makes C types of Go's: one for each Go type, so that two Go types never share a name (see handedOut).
type goTypes struct {
	made  map[reflect.Type]btf.Type
	names map[string]int
}

// proto is the prototype that a Go function stands for. Parameters have no names in Go.
func (ts *goTypes) proto(t reflect.Type) *btf.FuncProto {
	proto := &btf.FuncProto{Return: &btf.Void{}}
	add := func(suffix string, c btf.Type) {
		proto.Params = append(proto.Params, btf.FuncParam{Name: fmt.Sprintf("p%d%s", len(proto.Params)+1, suffix), Type: c})
	}
	for i := range t.NumIn() {
		switch p := t.In(i); {
		case p == callerType:
		case p == bytesType:
			add("", &btf.Pointer{Target: &btf.Void{}})
			add("__sz", ts.scalar(reflect.Uint32))
		case p.Kind() == reflect.Uintptr:
			add("", &btf.Pointer{Target: &btf.Void{}})
		case p.Kind() == reflect.Pointer:
			add("", &btf.Pointer{Target: ts.of(p.Elem())})
		default:
			add("", ts.of(p))
		}
	}
	if t.NumOut() > 0 {
		proto.Return = ts.of(t.Out(0))
		if t.Out(0).Implements(objectType) {
			elem := reflect.Zero(t.Out(0)).Interface().(objectResult).objectElem()
			proto.Return = &btf.Pointer{Target: ts.of(elem)}
		}
	}
	return proto
}

// of makes the C type that lies where the Go type does. checkPointee has refused all others.
func (ts *goTypes) of(t reflect.Type) btf.Type {
	switch t.Kind() {
	case reflect.Struct:
		return ts.structure(t)
	case reflect.Array:
		return &btf.Array{Index: ts.scalar(reflect.Uint32), Type: ts.of(t.Elem()), Nelems: uint32(t.Len())}
	}
	return ts.scalar(t.Kind())
}

// cScalars are C's names of Go's types, with what clang writes of them to BTF.
var cScalars = map[reflect.Kind]btf.Type{
	reflect.Bool:    &btf.Int{Name: "_Bool", Size: 1, Encoding: btf.Bool},
	reflect.Int8:    &btf.Int{Name: "signed char", Size: 1, Encoding: btf.Signed},
	reflect.Uint8:   &btf.Int{Name: "unsigned char", Size: 1},
	reflect.Int16:   &btf.Int{Name: "short", Size: 2, Encoding: btf.Signed},
	reflect.Uint16:  &btf.Int{Name: "unsigned short", Size: 2},
	reflect.Int32:   &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed},
	reflect.Uint32:  &btf.Int{Name: "unsigned int", Size: 4},
	reflect.Int64:   &btf.Int{Name: "long long", Size: 8, Encoding: btf.Signed},
	reflect.Uint64:  &btf.Int{Name: "unsigned long long", Size: 8},
	reflect.Uintptr: &btf.Int{Name: "unsigned long long", Size: 8},
	reflect.Float32: &btf.Float{Name: "float", Size: 4},
	reflect.Float64: &btf.Float{Name: "double", Size: 8},
}

func (ts *goTypes) scalar(k reflect.Kind) btf.Type { return cScalars[k] }

func (ts *goTypes) structure(t reflect.Type) btf.Type {
	if made, ok := ts.made[t]; ok {
		return made
	}
	s := &btf.Struct{Name: ts.name(t), Size: uint32(t.Size())}
	ts.made[t] = s
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Name == "_" {
			continue
		}
		s.Members = append(s.Members, btf.Member{Name: fieldName(f), Type: ts.of(f.Type), Offset: btf.Bits(8 * f.Offset)})
	}
	return s
}

// name is a Go type's in C, with a number where another type has it.
func (ts *goTypes) name(t reflect.Type) string {
	n := snakeCase(t.Name())
	if n == "" {
		n = "anonymous"
	}
	ts.names[n]++
	if i := ts.names[n]; i > 1 {
		return fmt.Sprintf("%s_%d", n, i)
	}
	return n
}

// fieldName is a field's in C. matchStruct does not look at case and underscores.
func fieldName(f reflect.StructField) string {
	if n := f.Tag.Get("btf"); n != "" {
		return n
	}
	n := snakeCase(f.Name)
	if slices.Contains(cKeywords, n) {
		return n + "_"
	}
	return n
}

// cKeywords are those that a Go field can be named like.
var cKeywords = strings.Fields("auto break case char const continue default do double else enum extern float for goto if inline int " +
	"long register restrict return short signed sizeof static struct switch typedef typeof union unsigned void volatile while asm")

// snakeCase writes SrcPort and src-port as src_port, and IPAddr as ip_addr.
func snakeCase(s string) string {
	var b strings.Builder
	rs := []rune(s)
	for i, r := range rs {
		upper := unicode.IsUpper(r)
		if upper && i > 0 && (!unicode.IsUpper(rs[i-1]) || i+1 < len(rs) && unicode.IsLower(rs[i+1])) && rs[i-1] != '_' {
			b.WriteByte('_')
		}
		switch r = unicode.ToLower(r); {
		case r == '_' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, "_%x_", r) // C identifiers are ASCII for old compilers
		}
	}
	return b.String()
}
