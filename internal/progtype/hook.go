package progtype

import (
	"fmt"
	"slices"
)

// Hook is a place where an application runs programs: a context of its own and what it permits take the place of what a program type of the
// kernel has. It is not changed after it was made.
type Hook struct {
	Name   string
	layout layout
	HookRules
}

// HookRules are what a hook permits beside accesses of its context.
type HookRules struct {
	// Helpers are the numbers of the helpers that programs have, Kfuncs the names of the registered kfuncs, nil for all of them.
	Helpers   []int32
	Kfuncs    []string
	AllKfuncs bool
	// Min and Max bound the result, an int, if Bounded.
	Bounded     bool
	Min, Max    int32
	Sleepable   bool
	PacketWrite bool
}

// HookField is a field of a hook's context: a number, an array of numbers, FieldPacket or FieldPacketEnd, each of which is an address.
type HookField struct {
	Off, Size   int
	Is          Field
	Read, Write bool
}

// MaxHookContext bounds the context of a hook, in bytes: as the context of a syscall program.
const MaxHookContext = MaxSyscallCtx

// NewHook makes a hook. Fields do not overlap and lie inside of the size bytes of the context; what no field covers is out of reach.
// structName is the name in C of the structure that the context is.
func NewHook(name, structName string, size int, fields []HookField, rules HookRules) (*Hook, error) {
	if size <= 0 || size > MaxHookContext {
		return nil, fmt.Errorf("the context has %d bytes, 1 to %d are possible", size, MaxHookContext)
	}
	if kernelContext(structName) {
		return nil, fmt.Errorf("struct %s is a context of the kernel's", structName)
	}
	h := &Hook{Name: name, HookRules: rules, layout: layout{name: structName, size: size}}
	sorted := slices.SortedFunc(slices.Values(fields), func(a, b HookField) int { return a.Off - b.Off })
	end := 0
	for _, f := range sorted {
		if f.Off < end || f.Size <= 0 || f.Size > size-f.Off {
			return nil, fmt.Errorf("the field at offset %d of %d bytes does not fit", f.Off, f.Size)
		}
		end = f.Off + f.Size
		if f.Is != FieldScalar && (f.Size != 8 || f.Off%8 != 0 || f.Write) {
			return nil, fmt.Errorf("the field at offset %d is an address: it has 8 bytes, lies at a multiple of 8, and nobody writes to it", f.Off)
		}
		h.add(f)
	}
	return h, nil
}

// add appends a field to the rows, or to the last row where both are numbers with the same rights, one behind the other: one access may
// touch both, as clang joins accesses.
func (h *Hook) add(f HookField) {
	r := row{off: f.Off, size: f.Size, is: f.Is}
	switch {
	case f.Is != FieldScalar:
		r.read = 8
	default:
		if f.Read {
			r.read = upTo8
		}
		if f.Write {
			r.write = upTo8
		}
	}
	rows := &h.layout.rows
	if n := len(*rows) - 1; n >= 0 {
		if l := &(*rows)[n]; l.is == FieldScalar && r.is == FieldScalar && l.read == r.read && l.write == r.write && l.off+l.size == r.off {
			l.size += r.size
			return
		}
	}
	*rows = append(*rows, r)
}

// Context is the context of the hook's programs.
func (h *Hook) Context() Context { return Context{l: &h.layout} }

// HasPacket reports whether the context shows a packet.
func (h *Hook) HasPacket() bool { return h.PacketField(FieldPacket) >= 0 }

// PacketField is the offset of the field that is f, -1 if there is none.
func (h *Hook) PacketField(f Field) int {
	for i := range h.layout.rows {
		if h.layout.rows[i].is == f {
			return h.layout.rows[i].off
		}
	}
	return -1
}

// HasHelper reports whether programs of the hook have a helper.
func (h *Hook) HasHelper(id int32) bool { return slices.Contains(h.Helpers, id) }

// HasKfunc reports whether programs of the hook have a registered kfunc.
func (h *Hook) HasKfunc(name string) bool { return h.AllKfuncs || slices.Contains(h.Kfuncs, name) }
