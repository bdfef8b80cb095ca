package skep

import (
	"fmt"
	"reflect"

	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/program"
)

// The verifier tells structures apart by the names that the program gives them, and the program could give one name to two
// Go types of the same fields: what one kfunc hands out would pass for what another one trusts. So a structure that kfuncs
// hand out must be one Go type, and the type of every parameter that is trusted to be such a structure.

// structKey is what the verifier knows a structure by: its name and size, or itself where it has no name.
type structKey struct {
	name string
	size uint32
	anon *btf.Struct
}

func keyOf(s *btf.Struct) structKey {
	if s.Name == "" {
		return structKey{anon: s}
	}
	return structKey{name: s.Name, size: s.Size}
}

// handedOut are the Go types behind the structures that a program gets from kfuncs, the ones inside of others among them.
type handedOut map[structKey]goType

type goType struct {
	typ   reflect.Type
	kfunc string
}

// agrees compares a Go type with what is known of a structure.
func (h handedOut) agrees(kfunc string, t reflect.Type, s *btf.Struct) error {
	if have, ok := h[keyOf(s)]; ok && have.typ != t {
		return fmt.Errorf("kfunc %s: the program's struct %s is %s, and %s for kfunc %s: two types need two names",
			kfunc, s.Name, t, have.typ, have.kfunc)
	}
	return nil
}

// add notes a structure and those inside of it. Their layouts match: see matchStruct.
func (h handedOut) add(kfunc string, t reflect.Type, c btf.Type) error {
	s, ok := btf.UnderlyingType(c).(*btf.Struct)
	if !ok || t.Kind() != reflect.Struct {
		return nil
	}
	if err := h.agrees(kfunc, t, s); err != nil {
		return err
	}
	h[keyOf(s)] = goType{t, kfunc}
	for _, m := range s.Members {
		for i := range t.NumField() {
			if f := t.Field(i); f.Name != "_" && f.Offset == uintptr(m.Offset.Bytes()) && f.Type.Size() > 0 {
				if err := h.add(kfunc, f.Type, m.Type); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// checkHandedOut compares all kfuncs of a program. Their prototypes match those of the Go functions already.
func (k *Kfuncs) checkHandedOut(kfuncs []program.Kfunc) error {
	h := handedOut{}
	for i := range kfuncs {
		f, proto := k.goFunc(&kfuncs[i])
		if f == nil {
			continue
		}
		t := reflect.TypeOf(f.fn)
		ptr, isPtr := btf.UnderlyingType(proto.Return).(*btf.Pointer)
		if t.NumOut() == 0 || !isPtr || !t.Out(0).Implements(objectType) {
			continue
		}
		elem := reflect.Zero(t.Out(0)).Interface().(objectResult).objectElem()
		if err := h.add(f.name, elem, ptr.Target); err != nil {
			return err
		}
	}
	for i := range kfuncs {
		f, proto := k.goFunc(&kfuncs[i])
		if f == nil || f.flags&(program.KfuncTrustedArgs|program.KfuncRelease|program.KfuncRCU) == 0 {
			continue
		}
		if err := h.checkParams(f, proto); err != nil {
			return err
		}
	}
	return nil
}

// checkParams compares the pointers to structures among the parameters of a kfunc that trusts them.
func (h handedOut) checkParams(f *kfunc, proto *btf.FuncProto) error {
	t, c := reflect.TypeOf(f.fn), 0
	for i := range t.NumIn() {
		p := t.In(i)
		switch {
		case p == callerType:
			continue
		case p == bytesType:
			c++
		case p.Kind() == reflect.Pointer:
			ptr, ok := btf.UnderlyingType(proto.Params[c].Type).(*btf.Pointer)
			if !ok {
				break
			}
			if s, ok := btf.UnderlyingType(ptr.Target).(*btf.Struct); ok {
				if err := h.agrees(f.name, p.Elem(), s); err != nil {
					return err
				}
			}
		}
		c++
	}
	return nil
}

// goFunc returns the Go function behind a kfunc of a program and its prototype; nil if there is none.
func (k *Kfuncs) goFunc(p *program.Kfunc) (*kfunc, *btf.FuncProto) {
	f, ok := k.find(p.Name)
	proto, has := kfuncProto(p)
	if !ok || f.fn == nil || !has {
		return nil, nil
	}
	return f, proto
}

// kfuncProto returns the prototype that a program has for a kfunc.
func kfuncProto(k *program.Kfunc) (*btf.FuncProto, bool) {
	if k.Type == nil {
		return nil, false
	}
	proto, ok := k.Type.Type.(*btf.FuncProto)
	return proto, ok
}
