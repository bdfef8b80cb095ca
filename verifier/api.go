// Package verifier proves that a BPF program is safe to run: every access inside memory that the program owns, every
// value initialised before use, every loop finite, every reference released. It decides as the Linux kernel's verifier
// does (6.18) and says so in the same words; functions and kfuncs of up to twelve arguments are proven by the rules of
// stack_arguments.md.
//
// It is the security boundary: compiled code has no bounds checks. It knows no machine, no object files, no helpers'
// implementations: prototypes come in, facts about every instruction go out.
package verifier

import (
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// Log levels, as BPF_PROG_LOAD has them. They can be combined by or.
const (
	LogBranch = 1 // instructions and states of the path that is walked
	LogAll    = 2 // the same for every instruction
	LogStats  = 4 // one summary at the end
)

// Options say how to verify.
type Options struct {
	LogLevel uint32
	// LogLimit bounds the log in bytes; 0 means 16 MiB. The log of a rejection keeps its end.
	LogLimit int
	// Helpers finds the prototype of a helper by number; nil if there is no such helper. The result says for which
	// program types it exists.
	Helpers func(id int32) *HelperProto
	// Kernel gives the types of the kernel (vmlinux): what contexts by BTF, helpers and kfuncs of the kernel are declared with. It is
	// asked only if a program needs them; nil, or a nil result, means that none are known, and such programs are refused.
	Kernel func() *btf.Spec
	// ExactStates turns off all imprecision in pruning (every scalar is precise) and calls Visit for each instruction
	// walked: the concrete-against-abstract test mode.
	ExactStates bool
	// Visit, with ExactStates, sees the state before instruction pc of the innermost frame.
	Visit func(pc int, s *StateView)
	// InsnLimit replaces the limit of one million processed instructions; 0 keeps it.
	InsnLimit int
	// StateBytes bounds the memory of the states that are kept to compare with; 0 means 2 GiB, which hardly a program reaches
	// without BPF_F_TEST_STATE_FREQ. The kernel charges it to the control group of who loads.
	StateBytes int64
	// CPUs bounds what bpf_get_smp_processor_id returns: the number of execution contexts; 0 if it is not known.
	CPUs int
	// GlobalStackArgs permits global functions with more than five parameters, which the kernel refuses.
	GlobalStackArgs bool
	// Arch is the machine (a GOARCH) whose registers are in the contexts of kprobe and perf event programs: arm64, or
	// amd64 for anything else.
	Arch string
	// Without are the capabilities that who loads the program lacks; none if it is 0. The verdict is then that of an unprivileged load.
	Without Caps
	// JIT says what the machine that is to run the program can do with stack arguments.
	JIT JITSupport
	// Kernel618 decides as 6.18 does where this verifier knows better. It is there to explain differences: what is accepted with it is
	// not proven.
	Kernel618 Likeness
	// Target is the kernel whose verdict is asked for, as far as target.go knows it: 6.18 with stack arguments by default.
	Target Target
	// CheckpointEvery puts a checkpoint at every instruction (BPF_F_TEST_STATE_FREQ is a program flag and does the
	// usual thing; this is for tests of precision).
	CheckpointEvery bool
}

// Likeness is how much of 6.18's own ways is repeated.
type Likeness uint8

// The degrees of likeness, each with what the one before has.
const (
	// LikeUs repeats nothing.
	LikeUs Likeness = iota
	// LikeFaults repeats wrong deductions, by which the kernel accepts what is not safe, and refuses what is: the link of a sign-extended
	// fill, no precision for what atomics load from the stack, structures of the kernel as memory that a function may write,
	// throws of global functions that nobody looks at, packets that move in functions which write to them by dynptrs, global functions that rely on
	// RCU where nothing of it is held. Walks are careful (backedge.go).
	LikeFaults
	// LikeLiveness has every stack slot count as read, of which 6.18 knows less than this verifier.
	LikeLiveness
)

// JITSupport is what the target can do with stack arguments. skep's own engines can do all; the other values ask for the
// kernel's verdict on machines that cannot.
type JITSupport uint8

// The kinds of targets.
const (
	JITStackArgs   JITSupport = iota // stack arguments work
	JITNoStackArgs                   // a compiler that does not know them
	JITNone                          // no compiler at all
)

// Stats are the figures the kernel prints at log level 4.
type Stats struct {
	Processed   int // instructions processed
	MaxStates   int // max_states_per_insn
	TotalStates int
	PeakStates  int
	StackDepth  []int // bytes of BPF stack per function, as the kernel counts them
	Time        time.Duration
}

// Result is an accepted program: the facts that later stages build on.
type Result struct {
	Log   string
	Stats Stats
	Insns []InsnFact // one per slot
	Funcs []FuncFact // one per function
	// MaxCtx is the end of the last context byte that the program accesses: a context must be at least that long
	// where its size is not fixed by the program type (syscall, raw tracepoint).
	MaxCtx int
	// MaxPacket is the offset of the last packet byte that the program accesses directly.
	MaxPacket int
	// Kernel says what of the kernel the program has pointers to, "" if there is nothing: such a program cannot run
	// anywhere but in the kernel.
	Kernel string
	// ExceptionCallback is the function that runs where the program throws, 0 if there is none.
	ExceptionCallback int
	// Objects are the types of objects that the program allocates.
	Objects []ObjectType
}

// PtrKind says what kind of pointer a load, store or atomic goes through. An instruction has one kind on all paths.
type PtrKind uint8

// The kinds of memory an access can reach.
const (
	PtrNone PtrKind = iota
	PtrCtx
	PtrStack // of this or an outer frame
	PtrMapValue
	PtrPacket
	PtrMem          // memory handed out by a helper, kfunc, or passed to a global function
	PtrBTF          // a trusted pointer to a BTF struct
	PtrBTFUntrusted // a fault must read as zero (probe read)
	PtrArena        // 32 bits of an address in the arena: a fault reads as zero, or writes nothing
)

// BranchFact says whether a conditional jump is decided.
type BranchFact uint8

// What is known of a conditional jump.
const (
	BranchUnknown BranchFact = iota
	BranchAlways             // taken on every path walked
	BranchNever
)

// InsnFact is what the proof knows of one instruction.
type InsnFact struct {
	Seen   bool // false: no path reaches it
	Ptr    PtrKind
	Branch BranchFact
	// Map is, for a helper call with a map argument, the index of the one map that it gets on every path; -1 if none
	// or several.
	Map int32
	// InMap says where the map of the call was found: 1 + the index in Program.Maps of the map of maps, the same on all paths; 0: in
	// none, or not always in the same.
	InMap int32
	// ConstKey is the known value of the 4-byte key of an array lookup, valid if HasConstKey.
	ConstKey    uint32
	HasConstKey bool
	// FindsSocket: the call is a lookup in a map of sockets on some path; what it finds is no value of the map.
	FindsSocket bool
	// TailCallIndex is the constant index of a bpf_tail_call, -1 if unknown.
	TailCallIndex int32
	// Callback is, for a helper call with a callback, the one function that it gets on every path, else CallbackUnknown (it
	// never calls one) or CallbackSeveral.
	Callback int32
}

// What InsnFact.Callback can be beside a function's number.
const (
	CallbackUnknown = 0 // the main function is no callback
	CallbackSeveral = -1
)

// FuncFact is what the proof knows of one function.
type FuncFact struct {
	StackDepth        int   // bytes of BPF stack, a multiple of 8
	InArgs            int   // incoming stack slots: max(parameters-5, 0)
	OutArgs           int   // stack slots of the call that needs most
	Calls             []int // functions it calls
	HasTailCall       bool
	TailCallReachable bool // it or a callee makes tail calls
	IsCallback        bool
	UsesMayGoto       bool
	UsesIterators     bool // it asks iterators for their next element
}

// RetKind is what a helper returns.
type RetKind uint8

// Helper results. Kinds with OrNull must be compared with zero before use.
const (
	RetInteger RetKind = iota
	RetVoid
	RetMapValueOrNull
	RetSockCommonOrNull
	RetSocketOrNull
	RetTCPSockOrNull
	RetMemOrNull // a fixed or argument-given number of bytes
	RetMapValue  // a value that always exists
	RetRingBufMemOrNull
	RetStruct        // a structure of the kernel, HelperProto.RetType, of which nothing is known but that it can be read
	RetStructTrusted // one that is valid
	RetStructOrNull
	RetKptrOrNull // what the pointer in the first argument's place held
	RetThisCPU    // one CPU's copy of what the first argument points to
	RetThisCPUOrNull
	RetDynptrMemOrNull // a slice of the dynptr that is an argument
)

// ArgKind is what a helper wants as an argument.
type ArgKind uint8

// Helper argument kinds, by the kernel's names (enum bpf_arg_type).
const (
	ArgDontCare ArgKind = iota
	ArgConstMapPtr
	ArgMapKey
	ArgMapValue
	ArgUninitMapValue
	ArgMem       // readable memory; its size is the next argument
	ArgUninitMem // memory the helper fills; its size is the next argument
	ArgConstSize // > 0
	ArgConstSizeOrZero
	ArgCtx
	ArgAnything
	ArgFixedMem       // memory of HelperArg.Size bytes, read
	ArgFixedUninitMem // written
	ArgSockCommon     // any socket pointer
	ArgSocket         // PTR_TO_SOCKET only
	ArgConstStr       // a NUL-terminated string in a read-only map
	ArgConstAllocSize
	ArgConstAllocSizeOrZero
	ArgFunc          // a function of the program
	ArgStack         // pointer to the stack, of any size
	ArgWriteMem      // initialised memory that the helper also writes (ARG_PTR_TO_MEM without MEM_RDONLY); its size is the next argument
	ArgFixedWriteMem // the same of HelperArg.Size bytes
	ArgSockPtr       // any socket pointer, also one by BTF (ARG_PTR_TO_BTF_ID_SOCK_COMMON)
	ArgDynptr        // see HelperArg.Dynptr
	ArgRingBufMem    // what bpf_ringbuf_reserve returned
	ArgStruct        // a structure of the kernel, HelperArg.Struct (ARG_PTR_TO_BTF_ID)
	ArgSpinLock      // a bpf_spin_lock in a map's value or an object
	ArgTimer         // a bpf_timer in a map's value
	ArgKptrPlace     // a referenced pointer in a map's value or an object
	ArgKptr          // what can come in its place
	ArgPerCPU        // an object or variable of which every CPU has one
)

// HelperArg is one argument of a helper.
type HelperArg struct {
	Kind   ArgKind
	OrNull bool
	Size   int    // of ArgFixedMem and its like
	Struct string // of ArgStruct
	// NotReadOnly: memory that is read-only by its type is refused, although the helper only reads (ARG_PTR_TO_MEM without flags).
	NotReadOnly bool
	// Dynptr is the kind of dynptr that ArgDynptr takes; Uninit, that the helper makes it, Const, that it leaves the dynptr itself
	// as it is.
	Dynptr        DynptrKind
	Uninit, Const bool
	Align         bool // ARG_PTR_TO_FIXED_SIZE_MEM with MEM_ALIGNED: naturally aligned
}

// HelperProto is the prototype of a helper.
type HelperProto struct {
	ID        int32
	Name      string // without bpf_
	Ret       RetKind
	RetSize   int    // of RetMemOrNull with a fixed size
	RetType   string // of RetStruct and its like
	Args      [5]HelperArg
	GPLOnly   bool
	PktAccess bool // packet pointers may be passed as memory
	// ChangesPacket: packet pointers are invalid after the call (bpf_helper_changes_pkt_data).
	ChangesPacket bool
	MightSleep    bool
	Acquires      bool         // the result is a reference
	Callback      CallbackKind // how it calls the function that it gets
	ReleaseArg    int          // 1-based argument that is released, 0 if none
	// Cast: the result is the object that the argument points to, so that it stands for the argument's reference.
	Cast bool
	// RetLength: the result is at most the size that the helper was given, or a negative error number.
	RetLength bool
	// ProgTypes are the program types that have the helper; nil means all.
	ProgTypes []ebpf.ProgramType
	// Attach are, for program types in which it depends on the attach type, those that have the helper.
	Attach map[ebpf.ProgramType][]ebpf.AttachType
	// NotAttach are attach types with which no program type has it; Variants do not go by them.
	NotAttach []ebpf.AttachType
	// Targets are, for program types in which it depends on what they attach to, the targets that have the helper, and NotTargets
	// those that do not.
	Targets, NotTargets map[ebpf.ProgramType][]string
	// Variants are prototypes of the same number that some program types have in place of this one.
	Variants []HelperProto
	// Missing says what calls need that this verifier does not know; they are refused. "" if nothing is missing.
	Missing string
}

// For reports whether programs of type t have this prototype, whatever their attach type.
func (h *HelperProto) For(t ebpf.ProgramType) bool {
	return h.ProgTypes == nil || slices.Contains(h.ProgTypes, t)
}

// Reaches reports whether programs of type t that attach to target have the helper, as far as that depends on the target.
func (h *HelperProto) Reaches(t ebpf.ProgramType, target string) bool {
	list, limited := h.Targets[t]
	return (!limited || slices.Contains(list, target)) && !slices.Contains(h.NotTargets[t], target)
}

// In returns the prototype that programs of type t and attach type at have, nil if they do not have the helper.
func (h *HelperProto) In(t ebpf.ProgramType, at ebpf.AttachType) *HelperProto {
	if list, ok := h.Attach[t]; ok && !slices.Contains(list, at) {
		return nil
	}
	for i := range h.Variants {
		if h.Variants[i].For(t) {
			return &h.Variants[i]
		}
	}
	if !h.For(t) || slices.Contains(h.NotAttach, at) {
		return nil
	}
	return h
}
