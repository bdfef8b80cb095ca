// Package lower turns a verified program into internal/ir: it drops what the proof found dead, folds decided branches,
// puts addresses for maps and targets for calls, and makes stack arguments, context pointers and the extension of
// kfunc arguments explicit. It knows no machine.
package lower

import (
	"github.com/skep-bpf/skep/internal/ir"
	"github.com/skep-bpf/skep/internal/rt"
)

// Env binds what a program names to what exists in this process.
type Env struct {
	// Maps are bound to program.Program.Maps by index.
	Maps []MapBinding
	// Helper finds a helper by number. Helpers that lowering emits inline (lookups in arrays whose map is known,
	// get_smp_processor_id, tail_call) are not asked for.
	Helper func(id int32) (rt.Handle, bool)
	// Kfunc finds a kfunc of the kernel that every program has: its handle and how many arguments it takes. Those that lowering
	// emits inline are not asked for.
	Kfunc func(name string) (h rt.Handle, args int, ok bool)
	// SetCallback gives the host function behind bpf_timer_set_callback and its kin: it takes the address of the timer and the number of
	// the callback (ir.Program.Callbacks). nil: there are none.
	SetCallback func() rt.Handle
	// RingNotify gives the function to call where records were submitted without a call and somebody waits for them: it takes where the
	// ring begins, the record and the flags. nil: nothing is submitted without a call.
	RingNotify func() rt.Handle
	// NewObject gives the host function behind bpf_obj_new and bpf_percpu_obj_new, which takes the number of a type
	// (verifier.Result.Objects). nil: there are no objects.
	NewObject func(perCPU bool) rt.Handle
	// Reach finds memory that programs with objects may touch (ir.Program.Reach).
	Reach ir.Reach
	// Kfuncs are bound to program.Program.Kfuncs by index. Unbound ones may stand where no call is reachable.
	Kfuncs []KfuncBinding
	// Exact keeps one result for each BPF instruction: nothing is inlined by meaning or dropped as unused, so that
	// registers agree with the verifier's states at every instruction.
	Exact bool
}

// MapBinding is a map's place in memory. All of it is off the Go heap and must outlive the program.
type MapBinding struct {
	// Handle is what ld_imm64 of the map gives: not zero, stable, unique.
	Handle uint64
	Kind   ir.MapKind
	// Values is the address of value 0: of array maps (kind MapArray, MapPerCPUArray), also for direct access by
	// ld_imm64 of a map value; of a program array that of its entries, of an array of maps that of their handles; of a ring buffer where it begins, of which MaxEntries are the bytes of data. 0 if the map has no
	// such place.
	Values     uint64
	Stride     uint32 // bytes from one value to the next
	ValueSize  uint32
	MaxEntries uint32
	// PerCPUStride is the distance in bytes from a value's copy for slot n to that for slot n+1 (MapPerCPUArray).
	PerCPUStride uint64
	// Progs is the array behind a MapProgArray.
	Progs *rt.ProgArray
	// Memory is all memory that pointers to this map's values can reach.
	Memory []ir.Region
	// Reach finds the memory of maps in this map; nil if it is no map of maps.
	Reach ir.Reach
}

// KfuncBinding is the implementation of a kfunc: either a Go function behind a handle, which extends its arguments and
// result itself, or machine code at an address, called by the platform's C convention.
type KfuncBinding struct {
	Handle rt.Handle
	Native uintptr
	// Args are the parameters by the BTF prototype; a native function gets each extended to 64 bits. Result is how
	// its result is extended (a void function: 8 bytes).
	Args   []Ext
	Result Ext
}

// Ext is a width in bytes (1, 2, 4, 8) and whether it extends by sign.
type Ext struct {
	Bytes  int
	Signed bool
}
