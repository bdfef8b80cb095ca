// Package program holds a loaded program: raw instructions with every reference resolved to an index, its functions
// with their signatures, the maps and kfuncs it names, and its line table. It is what the verifier reads.
//
// It knows object files and cilium/ebpf's instruction form, and nothing of verification or machines.
package program

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/kernelkfunc"
	"github.com/skep-bpf/skep/internal/progtype"
)

// Program is one program ready for verification. It is not changed after it was built.
//
// Instructions are raw slots: a 64-bit immediate load takes two, so numbers equal the kernel's. References stand as
// indices: ld_imm64 with PseudoMapFD or PseudoMapValue has the index into Maps in Imm, with PseudoBTFID that into Ksyms; a kfunc call has the index into
// Kfuncs in Imm; calls of and pointers to own functions are relative, as the kernel has them. Stack arguments are
// always in the r11 dialect; OldDialect tells what the input was.
type Program struct {
	Name       string
	Type       ebpf.ProgramType
	AttachType ebpf.AttachType
	AttachTo   string
	Section    string // ELF section, "" if made in Go
	Flags      uint32 // BPF_F_* load flags
	// Hook is the application's place where the program runs, in place of a type; nil for a program of one of the kernel's types.
	Hook    *progtype.Hook
	License string // GPL compatibility is decided from this

	Insns  []isa.Insn
	Funcs  []Func // ordered by Start; Funcs[0] is the entry at 0
	Maps   []Map
	Kfuncs []Kfunc
	Lines  []Line // ordered by Insn
	Ksyms  []Ksym // the kernel's variables whose addresses it loads
	// Types are the types of the object that the program comes from, nil for one made in Go: instructions and declaration tags name
	// types in there, by number and by name.
	Types *btf.Spec

	OldDialect bool // the input named r12; messages use its wording
}

// Func is one function ("subprogram") of a program.
type Func struct {
	Name       string
	Start, End int       // slots [Start, End)
	Type       *btf.Func // nil without BTF
	Global     bool      // global linkage: verified on its own by its BTF
	Weak       bool
}

// Params returns the number of parameters by BTF, or -1 without BTF.
func (f *Func) Params() int {
	if p := f.Proto(); p != nil {
		return len(p.Params)
	}
	return -1
}

// Proto returns the prototype by BTF, or nil.
func (f *Func) Proto() *btf.FuncProto {
	if f.Type == nil {
		return nil
	}
	p, _ := f.Type.Type.(*btf.FuncProto)
	return p
}

// Map is a map that the program names: what a verifier needs to know of it.
type Map struct {
	Name                           string
	Type                           ebpf.MapType
	KeySize, ValueSize, MaxEntries uint32
	Flags                          uint32
	Extra                          uint64 // map_extra: hash functions of a Bloom filter, where an arena is seen from user space
	Frozen                         bool
	// Contents are the bytes of value 0 of a frozen, program-read-only array (.rodata): loads from it are constants.
	Contents   []byte
	Inner      *Map // template of a map in map
	Key, Value btf.Type
	// Types are those that the object has which Value comes from: lists and trees in values name what they hold. A map that is Bound exists,
	// so that those are all it has, also where they are nil; else they are the program's.
	Types *btf.Spec
	Bound bool
	// Source is what Options.Map gave for a map that is not one of the collection's: the caller's own value to bind it
	// by. Two maps of equal name and different Source are different maps.
	Source any
}

// Ksym is a variable of the kernel, or the address of anything that it has a name for. Those that are weak are not among them: they
// are NULL.
type Ksym struct {
	Name string
	// Typed variables are declared with a type, and mean the one of the kernel's types of that name. Without, the address is a number.
	Typed bool
}

// Kfunc is a kernel function that the program calls by name.
type Kfunc struct {
	Name string
	Type *btf.Func // prototype as the object declares it; nil if the object has none
	Weak bool      // an unresolved weak kfunc is no error as long as it is not called
	// Flags and Resolved are filled from the registry of kfuncs given at load. One that is not there may be the kernel's own.
	Flags    KfuncFlags
	Resolved bool
}

// KfuncFlags are the kernel's KF_* flags.
type KfuncFlags = kernelkfunc.Flags

// The flags of a kfunc that whoever registers one can give it (Documentation/bpf/kfuncs.rst).
const (
	KfuncAcquire     = kernelkfunc.Acquire
	KfuncRelease     = kernelkfunc.Release
	KfuncRetNull     = kernelkfunc.RetNull
	KfuncTrustedArgs = kernelkfunc.TrustedArgs
	KfuncSleepable   = kernelkfunc.Sleepable
	KfuncDestructive = kernelkfunc.Destructive
	KfuncRCU         = kernelkfunc.RCU
)

// Line maps an instruction to the source: it holds from Insn up to the next entry.
type Line struct {
	Insn   int
	File   string
	Text   string
	Number uint32
	Column uint32
}

// Context is the program's context, where it has a layout; arch is that of progtype.Of.
func (p *Program) Context(arch string) progtype.Context {
	if p.Hook != nil {
		return p.Hook.Context()
	}
	return progtype.Of(p.Type, p.AttachType, arch)
}

// Input is what a run gives the program.
func (p *Program) Input() progtype.Input {
	if p.Hook != nil {
		return progtype.InputHook
	}
	return progtype.InputOf(p.Type)
}

// Kind names the program's type, or its hook.
func (p *Program) Kind() string {
	if p.Hook != nil {
		return p.Hook.Name
	}
	return p.Type.String()
}

// FuncAt returns the index of the function that holds slot pc, or -1.
func (p *Program) FuncAt(pc int) int {
	lo, hi := 0, len(p.Funcs)
	for lo < hi {
		m := (lo + hi) / 2
		if p.Funcs[m].Start <= pc {
			lo = m + 1
		} else {
			hi = m
		}
	}
	return lo - 1
}

// LineAt returns the source line that slot pc belongs to, or nil.
func (p *Program) LineAt(pc int) *Line {
	lo, hi := 0, len(p.Lines)
	for lo < hi {
		m := (lo + hi) / 2
		if p.Lines[m].Insn <= pc {
			lo = m + 1
		} else {
			hi = m
		}
	}
	if lo == 0 {
		return nil
	}
	return &p.Lines[lo-1]
}

// Kfuncs that every program has, by their names in the kernel. What they do is known to the verifier and to lowering; nobody can
// register others of these names.
const (
	KfuncIterNumNew     = "bpf_iter_num_new"
	KfuncIterNumNext    = "bpf_iter_num_next"
	KfuncIterNumDestroy = "bpf_iter_num_destroy"
	KfuncThrow          = "bpf_throw"
)

// dynptrKfuncs are those on dynptrs.
var dynptrKfuncs = map[string]bool{
	"bpf_dynptr_from_skb": true, "bpf_dynptr_from_xdp": true, "bpf_dynptr_slice": true, "bpf_dynptr_slice_rdwr": true,
	"bpf_dynptr_adjust": true, "bpf_dynptr_is_null": true, "bpf_dynptr_is_rdonly": true, "bpf_dynptr_size": true,
	"bpf_dynptr_clone": true, "bpf_dynptr_copy": true, "bpf_dynptr_memset": true,
}

// BuiltinKfunc reports whether name is a kfunc that every program has.
func BuiltinKfunc(name string) bool {
	switch name {
	case KfuncIterNumNew, KfuncIterNumNext, KfuncIterNumDestroy, KfuncThrow:
		return true
	}
	return dynptrKfuncs[name]
}
