// Package skep runs eBPF programs in user space. It loads the objects that clang makes, proves them safe with a verifier
// that decides as the Linux kernel's does, compiles them to machine code (or interprets them where there is no compiler) and
// runs them against maps, helpers and kfuncs; functions and kfuncs take up to twelve arguments.
//
// The API is shaped like github.com/cilium/ebpf's, and its specs are the input: a program moves from the kernel to skep by
// changing the call that loads it.
//
//	spec, err := ebpf.LoadCollectionSpec("prog.o")
//	...
//	coll, err := skep.NewCollection(spec)
//	...
//	defer coll.Close()
//	ret, out, err := coll.Programs["my_xdp"].Test(packet)
//
// Nothing here needs the kernel's bpf(2) or any privilege.
package skep

import (
	"io"
	"log"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/rt"
	"github.com/skep-bpf/skep/maps"
	"github.com/skep-bpf/skep/verifier"
)

// Engine is what runs programs.
type Engine uint8

// The engines.
const (
	// EngineAuto compiles where there is a compiler for this machine and interprets elsewhere.
	EngineAuto Engine = iota
	// EngineJIT compiles, or fails to load.
	EngineJIT
	// EngineInterpreter interprets and checks every memory access, as a second opinion on the verifier.
	EngineInterpreter
)

// String returns auto, jit or interp.
func (e Engine) String() string {
	switch e {
	case EngineJIT:
		return "jit"
	case EngineInterpreter:
		return "interp"
	}
	return "auto"
}

// Options say how to load a collection or a program. The zero value is good.
type Options struct {
	Engine Engine
	// LogLevel is what the verifier logs of programs it accepts, see Program.VerifierLog. A rejection always has a log.
	LogLevel ebpf.LogLevel
	// LogWriter receives the log of each program that is loaded, if LogLevel asks for one, or of its rejection.
	LogWriter io.Writer
	// Kfuncs are the kfuncs that programs can call.
	Kfuncs *Kfuncs
	// Hooks are places of the application's own where programs run: those in their sections are theirs.
	Hooks  []*Hook
	Limits Limits
	// KernelBTF has the types of the kernel: what CO-RE relocations are resolved against and what programs know the kernel by. nil
	// means the host's kernel, where there is one. ExtraBTF is searched too (kernel modules).
	KernelBTF *btf.Spec
	ExtraBTF  []*btf.Spec
	// Kconfig finds the value of an extern __kconfig variable (y, n, m, a number, a quoted string); nil means the host's
	// configuration.
	Kconfig func(name string) (value string, ok bool)
	// Env is the surroundings that programs see.
	Env Env
	// GlobalStackArgs permits global functions with more than five parameters, which the kernel refuses.
	GlobalStackArgs bool
	// Arch is the machine (a GOARCH) whose registers the contexts of kprobe and perf event programs hold, amd64 or arm64; the
	// host's if it is empty.
	Arch string
	// Without are capabilities that programs have to do without (verifier.AllCaps: an unprivileged load): what the kernel refuses to who lacks
	// them is refused.
	Without verifier.Caps
	// Target is the kernel whose verdict programs get; newest by default, which is 6.18 with stack arguments and other rules that came
	// after it. An older one takes away what it lacks and speaks as it does; what is accepted is proven with any.
	Target verifier.Target
	// JIT asks for the verdict of a kernel whose compiler cannot pass stack arguments, or that has none.
	JIT verifier.JITSupport
	// MapReplacements are maps to use instead of making new ones. Type, sizes and flags must be those of the spec. The
	// collection takes its own hold of them: the caller closes its own whenever it likes.
	MapReplacements map[string]*Map
	// PerfMap appends the machine code of each program and its functions to /tmp/perf-PID.map, so that the perf tool names them
	// (skep:PROGRAM, skep:PROGRAM/FUNCTION) in a profile of this process. Nothing is taken out when a program is closed. A
	// program that is interpreted has nothing to list.
	PerfMap bool
	// Coverage counts which instructions of the programs run. They are interpreted then: EngineJIT fails to load, and native kfuncs cannot
	// be called.
	Coverage *Coverage
	// Proofs keeps what the verifier found out, for loads of the same programs with the same options; nil: each load verifies.
	Proofs *Proofs
	// Programs are the only programs to load, with what they need; nil means all programs and maps. It is for
	// NewCollectionWithOptions.
	Programs []string

	// unverified runs programs that the verifier refuses, in the interpreter only: it checks every access itself. Set by
	// Unverified.
	unverified bool
}

// Unverified returns o changed so that programs the verifier refuses load all the same. They are interpreted, whatever
// Engine says: the interpreter checks every memory access and stops a program that leaves what it owns. Such a program can
// call no helpers and kfuncs that take addresses. It is for tests of instruction sets, which have programs that no verifier
// accepts.
func (o Options) Unverified() Options {
	o.unverified = true
	o.Engine = EngineInterpreter
	return o
}

// Limits bound what loading may cost. Zero values mean the defaults.
type Limits struct {
	// Insns is how many instructions the verifier processes before it gives up on a program: 1,000,000.
	Insns int
	// LogBytes bounds the verifier's log: 16 MiB.
	LogBytes int
	// MapBytes bounds the address space of one map: 64 GiB. Memory is committed as it is used.
	MapBytes uint64
	// ObjectBytes bounds the size of an object file: 64 MiB.
	ObjectBytes int64
	// AllocBytes bounds the memory of the objects that the programs of a collection allocate (bpf_obj_new): 64 MiB. Beyond that programs
	// get NULL.
	AllocBytes int64
	// InterpInsns bounds the instructions that one run executes in the interpreter; 0 means no bound.
	InterpInsns int64
}

// Env is what stands around a program: what it sees of the task that runs it, the clock, and where its output goes.
type Env struct {
	PID, TGID, UID, GID uint32 // of bpf_get_current_pid_tgid and bpf_get_current_uid_gid
	Comm                string // of bpf_get_current_comm, at most 15 bytes
	// Task is the address that bpf_get_current_task returns, CgroupID the number that bpf_get_current_cgroup_id does.
	Task, CgroupID uint64
	// Memory is what bpf_probe_read_kernel, bpf_probe_read_user and their kin find outside of the program's own maps, packet and stack: it
	// copies the bytes at an address to p, or reports false if not all of them are there, and the helper fails. nil: nothing is there. It
	// may be called by several goroutines at a time.
	Memory func(addr uint64, p []byte) bool
	// Clock is the time of bpf_ktime_get_ns and its kin, and what timers go by; nil means the host's clocks. Tests step a FakeClock.
	Clock Clock
	// Random gives the numbers of bpf_get_prandom_u32, and when a collection is loaded, the seeds of its hash maps and Bloom filters, so that
	// they are the same each time; perhaps from several goroutines at once. nil means the host's.
	Random func() uint32
	// Printk receives the lines of bpf_trace_printk, perhaps from several goroutines at once; nil discards them.
	Printk func(line string)
	// Errors receives the errors of callbacks of timers and work queues, which run on their own; nil means the log package's standard
	// logger. A verified program has none unless a kfunc makes one.
	Errors func(err error)
}

// runtime returns e as runs have it.
func (e *Env) runtime() *rt.Env {
	r := &rt.Env{
		PIDTGID: uint64(e.TGID)<<32 | uint64(e.PID), UIDGID: uint64(e.GID)<<32 | uint64(e.UID), Clock: e.Clock, Random: e.Random,
		Printk: e.Printk, Errors: e.Errors,
		Task: e.Task, CgroupID: e.CgroupID, Memory: e.Memory,
	}
	if r.Errors == nil {
		r.Errors = func(err error) { log.Print("skep: ", err) }
	}
	copy(r.Comm[:len(r.Comm)-1], e.Comm)
	return r
}

// Map is a BPF map; see package maps for its methods, which are cilium/ebpf's.
type Map = maps.Map

// MapIterator walks a map, see Map.Iterate.
type MapIterator = maps.Iterator

// NewMap makes a map that belongs to no collection; put it into Options.MapReplacements to share it, or refer to it from
// instructions made in Go with asm.Instruction.AssociateMap.
func NewMap(spec *ebpf.MapSpec) (*Map, error) { return maps.New(spec) }

// PossibleCPUs returns the number of values an element of a per-CPU map has: how many programs can run at a time. It stands
// in for ebpf.PossibleCPU.
func PossibleCPUs() int { return maps.PossibleCPUs() }
