package skep

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/helpers"
	"github.com/skep-bpf/skep/internal/cheader"
	"github.com/skep-bpf/skep/internal/ctype"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/internal/progtype"
)

// PacketStart and PacketEnd are the types of two fields of a hook's context through which programs see RunOptions.Data: the address of
// its first byte and that behind its last, as data and data_end of struct sk_msg_md are (void * in C). A caller leaves them zero.
type (
	PacketStart uint64
	PacketEnd   uint64
)

// HookSpec describes a place of an application where programs run: plug-ins that decide, filter, count.
type HookSpec struct {
	// Section is the name of the ELF sections with programs for the hook, "http/request" say: this one, and all that begin with it and a
	// slash. Programs of the kernel's types keep theirs.
	Section string
	// Context is the structure that programs get a pointer to. It is a Go struct (a value, or a pointer to one) of integers, bools, arrays
	// and structs of these, without padding but by fields named _; or a *btf.Struct, an application's own in C.
	//
	// A field can be read, unless something else stands in its tag, bpf:"rw" (it can be written as well) or bpf:"-" (neither); in C in
	// a declaration tag, __attribute__((btf_decl_tag("skep:rw"))), "skep:-". Fields of a struct in it have the rights of that struct's
	// own fields and no more than the field's. PacketStart and PacketEnd are "skep:packet" and "skep:packet_end" in C.
	Context any
	// Struct is the structure's name in C; by default that of the Go type in snake case, or of the btf.Struct.
	Struct string
	// Returns bounds what programs may return, an int; nil: anything.
	Returns *ReturnRange
	// Helpers are the helpers that programs may call, of those that need no context of the kernel's; nil means all of these but the ones
	// that read memory by any address (bpf_probe_read_kernel and its kin), and an empty list none. Whatever is permitted has to be there: not all are (README.md).
	Helpers []asm.BuiltinFunc
	// Kfuncs are the names of the kfuncs, of those in Options.Kfuncs, that programs may call; nil means all, and an empty list none. The
	// kernel's own that all types of programs have stay (bpf_dynptr_read and others).
	Kfuncs []string
	// Sleepable programs may call kfuncs with KfuncSleepable.
	Sleepable bool
	// WritePacket lets programs write to the bytes of the packet.
	WritePacket bool
}

// ReturnRange is a range of results, both ends included.
type ReturnRange struct{ Min, Max int32 }

// Hook is a place of the application's own where programs run. It is given to loads by Options.Hooks: programs in its sections are proven
// against its context and rules, and run by Program.Run with RunOptions.Context, ContextOut, Data and DataOut. One hook can be used by many
// collections at a time.
type Hook struct {
	section string
	def     *progtype.Hook
	typ     *btf.Struct
	types   *btf.Spec // typ, for CO-RE
	leaves  []hookLeaf
}

// hookLeaf is a field of a context that has no fields.
type hookLeaf struct {
	path string
	typ  btf.Type
	progtype.HookField
}

// NewHook makes a hook. The error says which part of the spec is at fault.
func NewHook(s HookSpec) (*Hook, error) {
	h := &Hook{section: s.Section}
	if err := h.init(s); err != nil {
		return nil, fmt.Errorf("hook %q: %w", s.Section, err)
	}
	return h, nil
}

func (h *Hook) init(s HookSpec) error {
	if s.Section == "" || strings.HasPrefix(s.Section, ".") || strings.HasSuffix(s.Section, "/") {
		return errors.New("its section is no name of a section for programs")
	}
	c, err := hookContext(s.Context)
	if err != nil {
		return fmt.Errorf("context: %w", err)
	}
	if s.Struct != "" {
		named := *c
		named.Name = s.Struct
		c = &named
	}
	if c.Name == "" {
		return errors.New("context: the structure has no name; Struct gives it one")
	}
	h.typ = c
	if err := h.addLeaves("", c, 0, hookRights{read: true, write: true}, 0); err != nil {
		return fmt.Errorf("context: %w", err)
	}
	rules := progtype.HookRules{
		Kfuncs: slices.Clone(s.Kfuncs), AllKfuncs: s.Kfuncs == nil, Sleepable: s.Sleepable, PacketWrite: s.WritePacket,
	}
	if rules.Helpers, err = hookHelpers(s.Helpers); err != nil {
		return fmt.Errorf("helpers: %w", err)
	}
	if r := s.Returns; r != nil {
		if r.Min > r.Max {
			return fmt.Errorf("returns: the range [%d, %d] is empty", r.Min, r.Max)
		}
		rules.Bounded, rules.Min, rules.Max = true, r.Min, r.Max
	}
	fields := make([]progtype.HookField, len(h.leaves))
	for i := range h.leaves {
		fields[i] = h.leaves[i].HookField
	}
	if h.def, err = progtype.NewHook(s.Section, c.Name, int(c.Size), fields, rules); err != nil {
		return fmt.Errorf("context: %w", err)
	}
	if h.types, err = specOf(c); err != nil {
		return fmt.Errorf("context: %w", err)
	}
	if n := h.count(progtype.FieldPacket); n > 1 || n != h.count(progtype.FieldPacketEnd) {
		return errors.New("context: a packet has one field for its start and one for its end")
	}
	return nil
}

// specOf makes BTF with one type and what it needs.
func specOf(t btf.Type) (*btf.Spec, error) {
	b, err := btf.NewBuilder([]btf.Type{t}, nil)
	if err != nil {
		return nil, err
	}
	raw, err := b.Marshal(nil, nil)
	if err != nil {
		return nil, err
	}
	return btf.LoadSpecFromReader(bytes.NewReader(raw))
}

func (h *Hook) count(f progtype.Field) (n int) {
	for i := range h.leaves {
		if h.leaves[i].Is == f {
			n++
		}
	}
	return n
}

// hookHelpers are the numbers of the helpers that are permitted.
func hookHelpers(want []asm.BuiltinFunc) ([]int32, error) {
	all := helpers.Anywhere()
	if want == nil {
		return helpers.Default(), nil
	}
	ids := make([]int32, 0, len(want))
	for _, f := range want {
		if !slices.Contains(all, int32(f)) {
			return nil, fmt.Errorf("%v does not exist without a context of the kernel's", f)
		}
		ids = append(ids, int32(f))
	}
	return ids, nil
}

// Section returns the name of the hook's sections.
func (h *Hook) Section() string { return h.section }

// WriteHeader writes a C header with the structure that programs get a pointer to.
func (h *Hook) WriteHeader(w io.Writer) error { return cheader.WriteStruct(w, h.typ) }

// owns reports whether programs of an ELF section are the hook's.
func (h *Hook) owns(section string) bool {
	rest, ok := strings.CutPrefix(section, h.section)
	return ok && (rest == "" || rest[0] == '/')
}

// hookOf returns the hook whose programs are in a section, nil if there is none: the one with the longest name of several.
func (o *Options) hookOf(spec *ebpf.ProgramSpec) *Hook {
	if spec.Type != ebpf.UnspecifiedProgram {
		return nil
	}
	var best *Hook
	for _, h := range o.Hooks {
		if h != nil && h.def != nil && h.owns(spec.SectionName) && (best == nil || len(h.section) > len(best.section)) {
			best = h
		}
	}
	return best
}

// bindHook makes p a program of the hook that its section is for, if there is one.
func (o *Options) bindHook(spec *ebpf.ProgramSpec, p *program.Program) error {
	h := o.hookOf(spec)
	if h == nil {
		return nil
	}
	if err := h.bind(p); err != nil {
		return fmt.Errorf("program %s: %w", p.Name, err)
	}
	return nil
}

// bind makes p a program of the hook, if it takes the hook's context.
func (h *Hook) bind(p *program.Program) error {
	p.Hook = h.def
	if h.def.Sleepable {
		p.Flags |= flagSleepable
	}
	proto := p.Funcs[0].Proto()
	if proto == nil || len(proto.Params) == 0 {
		return nil // it cannot be compared; what is proven holds all the same
	}
	if len(proto.Params) > 1 {
		return fmt.Errorf("a program of hook %s takes one argument, struct %s *, it has %d parameters", h.section, h.typ.Name, len(proto.Params))
	}
	ptr, ok := btf.UnderlyingType(proto.Params[0].Type).(*btf.Pointer)
	if !ok {
		return fmt.Errorf("its parameter is %s, that of hook %s is struct %s *", ctype.Type(proto.Params[0].Type), h.section, h.typ.Name)
	}
	switch s := btf.UnderlyingType(ptr.Target).(type) {
	case *btf.Struct:
		name, flavor, _ := strings.Cut(s.Name, "___") // libbpf's names of other versions of a structure, whose accesses are relocated
		if name == h.typ.Name && flavor != "" {
			return nil
		}
		if s.Name != h.typ.Name {
			return fmt.Errorf("its parameter is struct %s *, that of hook %s is struct %s *", s.Name, h.section, h.typ.Name)
		}
		return h.sameLayout("", s, 0, 0)
	case *btf.Void, *btf.Fwd:
		return nil
	}
	return fmt.Errorf("its parameter is %s, that of hook %s is struct %s *", ctype.Type(proto.Params[0].Type), h.section, h.typ.Name)
}

// sameLayout compares a program's structure with the context: it may lack fields, the last ones say, and has no others.
func (h *Hook) sameLayout(path string, s *btf.Struct, base uint32, depth int) error {
	if depth > maxHookDepth {
		return errors.New("its context is nested too deeply")
	}
	for _, m := range s.Members {
		name, at := joinPath(path, m.Name), base+m.Offset.Bytes()
		if sub, ok := btf.UnderlyingType(m.Type).(*btf.Struct); ok {
			if err := h.sameLayout(name, sub, at, depth+1); err != nil {
				return err
			}
			continue
		}
		size, err := btf.Sizeof(m.Type)
		i := slices.IndexFunc(h.leaves, func(l hookLeaf) bool { return plainName(l.path) == plainName(name) })
		switch {
		case err != nil:
			return fmt.Errorf("field %s of its struct %s: %w", name, h.typ.Name, err)
		case m.BitfieldSize != 0:
			return fmt.Errorf("field %s of its struct %s is a bit field", name, h.typ.Name)
		case i < 0:
			return fmt.Errorf("field %s of its struct %s is not in that of hook %s", name, h.typ.Name, h.section)
		}
		if l := h.leaves[i]; l.Off != int(at) || l.Size != size {
			return fmt.Errorf("field %s of its struct %s has %d bytes at offset %d, that of hook %s %d bytes at offset %d",
				name, h.typ.Name, size, at, h.section, l.Size, l.Off)
		}
	}
	return nil
}

func joinPath(path, name string) string {
	if path == "" || name == "" {
		return path + name
	}
	return path + "." + name
}

// checkHookKfuncs refuses kfuncs that take the context of hook programs where a Go function would look beyond it, or could move the packet
// under the program.
func checkHookKfuncs(h *progtype.Hook, k *Kfuncs, p *program.Program) error {
	for i := range p.Kfuncs {
		proto, ok := kfuncProto(&p.Kfuncs[i])
		if !ok || !p.Kfuncs[i].Resolved {
			continue
		}
		takesContext := func(a btf.FuncParam) bool { return isPointerTo(a.Type, h.Context().Name()) }
		switch name := p.Kfuncs[i].Name; {
		case !slices.ContainsFunc(proto.Params, takesContext):
		case h.HasPacket():
			return fmt.Errorf("kfunc %s: a context that shows a packet cannot be passed to kfuncs; pass what it needs of it", name)
		default:
			if err := k.contextFits(name, proto, h.Context()); err != nil {
				return err
			}
		}
	}
	return nil
}

// contextFits refuses a Go function whose type for the context is larger than the context is.
func (k *Kfuncs) contextFits(name string, proto *btf.FuncProto, ctx progtype.Context) error {
	f, ok := k.find(name)
	if !ok || f.fn == nil {
		return nil
	}
	t, c := reflect.TypeOf(f.fn), 0
	for i := range t.NumIn() {
		a := t.In(i)
		if a == callerType {
			continue
		}
		if a.Kind() == reflect.Pointer && isPointerTo(proto.Params[c].Type, ctx.Name()) && a.Elem().Size() > uintptr(ctx.Size()) {
			return fmt.Errorf("kfunc %s: struct %s is a context of %d bytes, Go's %s has %d", name, ctx.Name(), ctx.Size(), a.Elem(), a.Elem().Size())
		}
		if c++; a == bytesType {
			c++
		}
	}
	return nil
}

// isPointerTo reports whether t points to the structure of that name: if it is the context's, the verifier takes a parameter of type t for it.
func isPointerTo(t btf.Type, name string) bool {
	ptr, ok := btf.UnderlyingType(t).(*btf.Pointer)
	if !ok {
		return false
	}
	s, ok := btf.UnderlyingType(ptr.Target).(*btf.Struct)
	return ok && s.Name == name
}

const (
	maxHookDepth  = 16
	flagSleepable = 1 << 4 // BPF_F_SLEEPABLE
)
