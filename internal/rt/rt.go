// Package rt is what one running program owns and what a Go helper or kfunc sees of it. Both engines (native code and
// interpreter) make Runs; helpers and kfuncs read them. It knows nothing of BPF instructions, engines or map types.
package rt

import (
	"context"
	"sync/atomic"
)

// Func is a helper or kfunc in Go. args holds arguments 1..12 as 64-bit values; it may not be kept. The result is r0.
type Func func(r *Run, args *[12]uint64) uint64

// Run is one running program on one execution context.
type Run struct {
	CPU      int     // slot number of the execution context: the index of per-CPU values
	Ctx      uintptr // address of the program's context, as r1 has it
	Packet   *Packet // nil if the program type has no packet
	Env      *Env    // what the collection or the caller supplies
	Err      error   // set by a helper to stop the run with an error
	Redirect Redirect
	// Stack is the memory of the program's stack frames, which a helper may read where a program gives it an address
	// that the verifier did not check (%s). Engines set it; empty: such addresses cannot be read.
	Stack  Region
	CtxLen int // bytes at Ctx that the program may touch; 0 means progtype.BlockSize
	// Cancel ends the run and those nested in it when it is done; nil: never.
	Cancel context.Context
	// Async is what a callback runs for that runs on its own (*async.Field), nil in other runs.
	Async any

	mem   []Region
	held  *HeldList
	child *Run
	depth int
	seq   atomic.Uint64 // releases of the slot, see AfterRuns
	pass  atomic.Uint64 // executions in runs, as far as somebody waits for them, see AfterPasses
}

// Redirect is the decision that bpf_redirect and bpf_redirect_map left.
type Redirect struct {
	Set     bool
	IfIndex uint32
	Map     string // name of the map, "" for bpf_redirect
	Key     uint64
	Flags   uint64
}

// Env is what stands around a run.
type Env struct {
	PIDTGID, UIDGID uint64
	Comm            [16]byte
	// Task is what bpf_get_current_task returns, CgroupID what bpf_get_current_cgroup_id does.
	Task, CgroupID uint64
	// Memory copies what is at an address of the kernel's memory, or of a task's, to p; false if there is nothing. nil: there is none.
	Memory func(addr uint64, p []byte) bool
	// Clock is the time of bpf_ktime_get_ns and its kin, and of timers; nil means the host's clocks.
	Clock Clock
	// Random gives the numbers of bpf_get_prandom_u32; nil means the host's.
	Random func() uint32
	// Printk receives the lines of bpf_trace_printk; nil discards them.
	Printk func(line string)
	// Errors receives the errors of runs that nobody waits for: of callbacks of timers and work queues.
	Errors func(err error)
}

// Clock is time.
type Clock interface {
	// Now returns nanoseconds.
	Now() uint64
	// At has f called once Now has reached at, on another goroutine or later on any, but not by itself. stop takes that back.
	At(at uint64, f func()) (stop func() bool)
}

// Packet is the packet buffer of a run. Addresses are off the Go heap. [Head, End) is the buffer, [Data, DataEnd) the
// packet, [Meta, Data) the metadata in front of it.
type Packet struct {
	Head, Meta, Data, DataEnd, End uintptr
	// NetOff is the distance from Data to the network header: 14 where Data is the Ethernet header, 0 where it is
	// the network header. Legacy packet loads at negative offsets need it.
	NetOff uintptr
	// XDP: the packet is an XDP buffer, not a socket buffer.
	XDP bool
	// Tunnel is what the program set for tunnels to use, nil: nothing.
	Tunnel *Tunnel
}

// Tunnel is a packet's tunnel metadata (struct ip_tunnel_key of the kernel). IPv4 addresses are the first four bytes, in the byte order
// in which the program has them.
type Tunnel struct {
	IPv6     bool
	ID       uint32
	Src, Dst [16]byte
	TOS, TTL byte
	Flags    uint16
	Label    uint32
	Opt      []byte
}
