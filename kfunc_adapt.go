package skep

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/ctype"
	"github.com/skep-bpf/skep/internal/lower"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/internal/rt"
)

// This file makes an rt.Func, which gets twelve 64-bit words, out of a Go function of any permitted form.

// word says what one word passed to the Go function is made of.
type word struct {
	kind wordKind
	arg  uint8     // index of the C argument
	ext  lower.Ext // of an integer
}

type wordKind uint8

const (
	wordInt    wordKind = iota // the argument, extended
	wordPtr                    // the argument as it is
	wordBool                   // 0 or 1
	wordLen                    // length of a slice: the argument, zero-extended; 0 where the pointer before it is NULL
	wordCaller                 // the run
)

// adapt checks the Go function against the prototype and returns a function that calls it.
func (f *kfunc) adapt(proto *btf.FuncProto, result lower.Ext) (rt.Func, error) {
	t := reflect.TypeOf(f.fn)
	words, err := f.match(t, proto)
	if err != nil {
		return nil, fmt.Errorf("kfunc %s: %w\n\tthe program declares: %s\n\tthe Go function is:   %s", f.name, err, ctype.Proto(f.name, proto), t)
	}
	res := resultOf(t, result)
	res.mayBeNull = f.flags&program.KfuncRetNull != 0
	if allWide(words) && res.kind == resultInt && res.ext.Bytes == 8 {
		fn := f.fn
		if callable(t, len(words)) {
			fn = asWords(fn, len(words)) // signed ones too
		}
		if call := plainCall(fn); call != nil {
			return call, nil
		}
	}
	if callable(t, len(words)) {
		return wordCall(f.fn, words, res), nil
	}
	return reflectCall(f.fn, t, words, res), nil
}

// match compares prototypes and lists the words that the Go function gets.
func (f *kfunc) match(t reflect.Type, proto *btf.FuncProto) ([]word, error) {
	exts, _, err := kfuncExts(f.name, proto)
	if err != nil {
		return nil, err
	}
	var words []word
	c := 0 // C parameters matched
	for i := range t.NumIn() {
		p := t.In(i)
		if p == callerType {
			words = append(words, word{kind: wordCaller})
			continue
		}
		n, err := matchParam(p, proto, c)
		if err != nil {
			return nil, err
		}
		a := uint8(c)
		switch {
		case p == bytesType:
			size := word{kind: wordLen, arg: a + 1, ext: exts[c+1]}
			words = append(words, word{kind: wordPtr, arg: a}, size, size)
		case p.Kind() == reflect.Bool:
			words = append(words, word{kind: wordBool, arg: a})
		case p.Kind() == reflect.Pointer || p.Kind() == reflect.Uintptr:
			words = append(words, word{kind: wordPtr, arg: a})
		default:
			words = append(words, word{kind: wordInt, arg: a, ext: exts[c]})
		}
		c += n
	}
	if c != len(proto.Params) {
		return nil, fmt.Errorf("the program passes %d arguments, Go takes %d", len(proto.Params), c)
	}
	return words, matchResult(t, proto)
}

// allWide reports whether every word is an argument passed as it is, in order.
func allWide(words []word) bool {
	for i, w := range words {
		if int(w.arg) != i || w.kind != wordInt || w.ext.Bytes != 8 {
			return false
		}
	}
	return true
}

// value makes a word from the arguments.
func (w *word) value(args *[12]uint64) uint64 {
	v := args[w.arg]
	switch w.kind {
	case wordInt:
		return extend(v, w.ext)
	case wordLen:
		if args[w.arg-1] == 0 {
			return 0 // the verifier lets a pointer that may be NULL through with any length
		}
		return extend(v, lower.Ext{Bytes: w.ext.Bytes})
	case wordBool:
		if v&0xff != 0 {
			return 1
		}
		return 0
	}
	return v
}

// extend widens the low bytes of v.
func extend(v uint64, e lower.Ext) uint64 {
	switch {
	case e.Bytes == 1 && e.Signed:
		return uint64(int64(int8(v)))
	case e.Bytes == 1:
		return uint64(uint8(v))
	case e.Bytes == 2 && e.Signed:
		return uint64(int64(int16(v)))
	case e.Bytes == 2:
		return uint64(uint16(v))
	case e.Bytes == 4 && e.Signed:
		return uint64(int64(int32(v)))
	case e.Bytes == 4:
		return uint64(uint32(v))
	}
	return v
}

// result says how the Go result becomes r0.
type result struct {
	kind      resultKind
	ext       lower.Ext
	mayBeNull bool // of an object
}

var errNullObject = errors.New("a kfunc that is not registered with KfuncRetNull returned no object")

type resultKind uint8

const (
	resultVoid resultKind = iota
	resultInt
	resultBool
	resultObject
)

func resultOf(t reflect.Type, e lower.Ext) result {
	switch {
	case t.NumOut() == 0:
		return result{kind: resultVoid}
	case t.Out(0).Kind() == reflect.Bool:
		return result{kind: resultBool}
	case t.Out(0).Implements(objectType):
		return result{kind: resultObject}
	}
	return result{kind: resultInt, ext: e}
}

// plainCall handles the common form without any conversion: up to twelve uint64, with or without a uint64 result.
func plainCall(fn any) rt.Func {
	type w = uint64
	switch f := fn.(type) {
	case func() w:
		return func(_ *rt.Run, a *[12]w) w { return f() }
	case func(w) w:
		return func(_ *rt.Run, a *[12]w) w { return f(a[0]) }
	case func(w, w) w:
		return func(_ *rt.Run, a *[12]w) w { return f(a[0], a[1]) }
	case func(w, w, w) w:
		return func(_ *rt.Run, a *[12]w) w { return f(a[0], a[1], a[2]) }
	case func(w, w, w, w) w:
		return func(_ *rt.Run, a *[12]w) w { return f(a[0], a[1], a[2], a[3]) }
	case func(w, w, w, w, w) w:
		return func(_ *rt.Run, a *[12]w) w { return f(a[0], a[1], a[2], a[3], a[4]) }
	case func(w, w, w, w, w, w) w:
		return func(_ *rt.Run, a *[12]w) w { return f(a[0], a[1], a[2], a[3], a[4], a[5]) }
	case func(w, w, w, w, w, w, w) w:
		return func(_ *rt.Run, a *[12]w) w { return f(a[0], a[1], a[2], a[3], a[4], a[5], a[6]) }
	case func(w, w, w, w, w, w, w, w) w:
		return func(_ *rt.Run, a *[12]w) w { return f(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]) }
	case func(w, w, w, w, w, w, w, w, w) w:
		return func(_ *rt.Run, a *[12]w) w { return f(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8]) }
	case func(w, w, w, w, w, w, w, w, w, w) w:
		return func(_ *rt.Run, a *[12]w) w { return f(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9]) }
	case func(w, w, w, w, w, w, w, w, w, w, w) w:
		return func(_ *rt.Run, a *[12]w) w {
			return f(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10])
		}
	case func(w, w, w, w, w, w, w, w, w, w, w, w) w:
		return func(_ *rt.Run, a *[12]w) w {
			return f(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11])
		}
	}
	return nil
}

// reflectCall handles what wordCall cannot on this machine. It allocates.
func reflectCall(fn any, t reflect.Type, words []word, res result) rt.Func {
	v := reflect.ValueOf(fn)
	return func(r *rt.Run, args *[12]uint64) uint64 {
		in := make([]reflect.Value, t.NumIn())
		for i, k := 0, 0; i < len(in); i, k = i+1, k+1 {
			p := t.In(i)
			switch {
			case p == callerType:
				in[i] = reflect.ValueOf(Caller{r})
			case p == bytesType:
				in[i] = reflect.ValueOf(rt.Mem(words[k].value(args), int(words[k+1].value(args))))
				k += 2
			case p.Kind() == reflect.Pointer:
				in[i] = pointerValue(p, words[k].value(args))
			case p.Kind() == reflect.Bool:
				in[i] = reflect.ValueOf(words[k].value(args) != 0).Convert(p)
			default:
				in[i] = reflect.ValueOf(words[k].value(args)).Convert(p)
			}
		}
		out := v.Call(in)
		switch res.kind {
		case resultInt:
			return extend(out[0].Convert(reflect.TypeFor[uint64]()).Uint(), res.ext)
		case resultBool:
			if out[0].Bool() {
				return 1
			}
		case resultObject:
			addr := out[0].Interface().(objectResult).objectAddr(r)
			if addr == 0 && !res.mayBeNull && r.Err == nil {
				r.Err = errNullObject // the program was not made to check
			}
			return addr
		}
		return 0
	}
}
