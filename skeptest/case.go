package skeptest

import (
	"time"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep"
)

// Case is a test of a program: what it runs on, and what it must leave. Only what is set is compared, but for the return value, which
// always is. Values in maps, variables and contexts are bytes, or Go values that are turned into bytes as cilium/ebpf does: numbers, and
// structs and arrays of them without padding, in the host's byte order. A number of type int, a plain 1, has the size
// that is needed there.
type Case struct {
	// Name is the name of the subtest.
	Name string
	// Program is the name of the program; not needed in an object that has only one, and in Then for the program of the step before.
	Program string

	// Consts and VarsBefore are values of global variables, by name: Consts from before the programs are verified, which for constants
	// (.rodata) is the only way; VarsBefore when they are loaded.
	Consts, VarsBefore map[string]any
	// MapsBefore is put into the maps, see Maps.
	MapsBefore Maps
	// Setup does to the collection what MapsBefore cannot. It is called when that is done.
	Setup func(c *skep.Collection) error

	// Packet is what a program that takes packets runs on; 64 zero bytes if it is nil. Context is the structure of a program's context
	// (struct xdp_md, struct pt_regs, the argument of a syscall program), in bytes or as a Go struct.
	Packet  []byte
	Context any
	// CPU is the slot to run on, whose values in per-CPU maps the program gets; below skep.PossibleCPUs().
	CPU uint32
	// Env is the task that the program sees. Clock, Random, Printk and Errors of it are the suite's own.
	Env skep.Env
	// Seed is where the numbers of bpf_get_prandom_u32 begin, and with that the order of elements in hash maps. 0: a number that depends
	// on Name alone.
	Seed uint64
	// Now is what the program's clock shows when the case begins, in nanoseconds since boot; 0: one hour. It only moves by Advance, before
	// the run, and AdvanceAfter, between the run and what is compared. Timers that are due meanwhile fire.
	Now                   uint64
	Advance, AdvanceAfter time.Duration

	// Want is what the program must return: XDPPass, TCActOK, or any other number. With AnyReturn it may return anything.
	Want      uint32
	AnyReturn bool
	// WantPacket is the packet afterwards, nil for any; for one that must not be changed, write Packet again.
	WantPacket []byte
	// WantContext is the context afterwards, of the program types that can change it.
	WantContext any
	// WantRedirect is what bpf_redirect or bpf_redirect_map decided.
	WantRedirect *skep.Redirect
	// VarsAfter and MapsAfter are what variables and maps must hold.
	VarsAfter map[string]any
	MapsAfter Maps
	// Kfuncs are the calls of kfuncs that the program must make, in their order, nil for any; an empty slice is for none.
	Kfuncs []KfuncCall
	// Check looks at what else there is. It is called last.
	Check func(c *skep.Collection, r skep.RunResult) error

	// Then are further runs on the same maps, clock and random numbers, one after the other. Consts, Now, Seed and Then of them must not be
	// set.
	Then []Case
}

// Maps are contents of maps, by the maps' names. What an entry is depends on the map:
//
//   - Most maps have keys and values. Before a run, entries are put in. After it, arrays must have the values that are listed, and all
//     others as before the run; hash maps and tries must have exactly the entries that are listed.
//   - The value of an entry of a per-CPU map is that on the case's CPU.
//   - The value of an entry of a map of maps is a []ebpf.MapKV: what is in the map that is made for it, or must be in the one that is there.
//   - The value of an entry of a program array is the name of a program; it can only be put in.
//   - Entries of queues, stacks and ring buffers have no keys (nil). After a run they are the values or records in the order in which they
//     come out, and all are taken out.
type Maps map[string][]ebpf.MapKV

// KfuncCall is a call of a kfunc.
type KfuncCall struct {
	Name string
	// Args are the arguments, nil for any, and Any for any one of them. Integers are compared by value, whatever their Go type. What a
	// pointer or a []byte of the kfunc's Go function points to is compared as it was when the function was called; an address is a
	// uintptr.
	Args []any
	// Result is what the program gets in place of what the Go function returns; nil leaves that to the function, which is then called.
	// Without a function, nil is 0.
	Result any
}

// Any stands for any argument of a kfunc.
var Any any = anyArg{}

type anyArg struct{}

// Kfunc is a Go function for programs to call, with flags. See Suite.Kfuncs.
type Kfunc struct {
	Func  any // as skep.Kfuncs.Register takes it
	Flags []skep.KfuncFlags
}

// defaultNow is Case.Now when it is not set: no program mistakes it for a time that is not set, or takes an hour from it to get below zero.
const defaultNow = uint64(time.Hour)
