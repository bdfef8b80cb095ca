package verifier

import (
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/internal/progtype"
)

// env is one verification.
type env struct {
	prog      *program.Program
	ctx       progtype.Context
	opt       Options
	log       logger
	note      string // a remark that goes in front of the next rejection's message
	funcs     []funcInfo
	aux       []insnAux
	facts     []InsnFact
	types     []btf.Type // BTF types that registers point to, by index
	typeIndex map[btf.Type]int32
	// kernelType says of each of types whether it is one of the kernel; kernel has those, once somebody asked for them.
	kernelType []bool
	kernel     *btf.Spec
	walks      map[walkKey]walked
	target     *target       // what a program attaches to whose context comes by BTF; nil for all others
	kernelUsed string        // what of the kernel registers pointed to first, for Result.Kernel
	maps       []program.Map // the program's, and behind them the templates of maps in maps
	inner      []int32       // of each map of the program: the number of its template
	objects    []ObjectType  // that the program allocates
	names      isa.Names
	kfuncs     []kfunc // what the program's kfuncs are
	iterKinds  []iterKind
	// exceptionCallback is the function that runs where the program throws, 0 if there is none.
	exceptionCallback int
	throws            bool        // some path does
	records           []mapRecord // of each map, see mapfields.go
	// objRecords are the records of structures that objects of the program have, as far as they were asked for.
	objRecords map[*btf.Struct]objRecord

	trail   *trail // records the path being walked; nil but for reports
	st      *state // the state being walked
	stack   []pending
	seen    [][]*state // checkpoints, see bucket
	insn    int
	prev    int
	histTop *histEntry // the entry of the current instruction, if it has one

	bt         backtrack
	idmap      idMap
	freeFrames []*frame
	idGen      uint32

	walkStats
	maxCtx, maxPkt int
	asleep         bool  // what is walked on its own may sleep, whatever the program
	arena          bool  // the program has an arena
	stateBytes     int64 // of all checkpoints made in this walk
	pendingBytes   int64 // of the states in stack, as they were put there

	backEdges   []backEdge
	incomplete  []*state // checkpoints that are
	openTargets int      // checkpoints that are targets
	loopEdges   int      // of backEdges, those that are no callbacks'
	marks       int      // marks set so far: of precision, of reads
	careful     bool     // see backedge.go

	scratchedRegs  uint32
	scratchedStack uint64
	prevLogPos     int
	prevInsnLen    int
	prevLine       *program.Line
}

// walkStats count what a walk did.
type walkStats struct {
	exploreLimits bool // numbers are compared exactly: how arithmetic on pointers is confined depends on them

	processed, prevProcessed int
	jumps, prevJumps         int
	maxStates, totalStates   int
	peakStates, states       int
}

// pending is a path that waits to be walked.
type pending struct {
	st         *state
	insn, prev int
	logPos     int
	trailLen   int
	bytes      int64
}

// insnAux is what passes over the program found out about one instruction.
type insnAux struct {
	live          uint16 // registers live before it
	prune         bool   // states are compared here
	jump          bool   // reached by other ways than from the instruction before
	force         bool   // every arrival makes a checkpoint
	iterNext      bool   // a call that asks an iterator for its next element
	alu           aluLimit
	barrier       bool // no speculation reaches this instruction
	barrierBehind bool // or what follows it
	fastcall      bool // a spill or fill of a fast call
	loop          loopInline
	callback      bool // a call whose helper calls back while it runs
	ptr           regType
	object        int32 // 1 + the type of the objects that the call gets
	always, never bool  // ways a conditional jump went
	mapSeen       bool
}

// funcInfo is what is known of one function.
type funcInfo struct {
	args       []argInfo
	entry      [isa.MaxStackArgs]reg // incoming stack arguments of a global function
	argsErr    error                 // why the signature is not usable
	argsDone   bool
	unreliable bool
	params     int // by BTF, -1 if unknown
	inArgs     int // incoming stack slots
	outArgs    int // slots of the call that needs most
	maxStored  int // highest slot stored, counted from 1
	depth      int // bytes of stack
	fast       fastcalls
	called     bool
	verified   bool
	asleep     bool // called where one may sleep although the program may not
	awake      bool // verified for that, too
	tailCall   bool
	tailReach  bool
	ldAbs      bool
	mayGoto    bool
	iterates   bool
	callback   bool
	does       effects
	async      bool   // a callback that runs on its own
	shared     bool   // it never has a stack of its own
	direct     []bool // of each of calls: it is a call, not a pointer to the function
	calls      []int
}

// Verify proves p safe under opt, or rejects it with an *Error. It does not change p, and it never panics: an internal
// contradiction is a rejection with CodeInternal.
func Verify(p *program.Program, opt Options) (res *Result, err error) {
	return newEnv(p, opt).run()
}

func newEnv(p *program.Program, opt Options) *env {
	e := &env{prog: p, opt: opt, maps: p.Maps, ctx: p.Context(opt.Arch)}
	e.bt.faults = opt.Kernel618 != LikeUs
	if e.lacks(CapBPF) {
		e.opt.ExactStates = true // numbers are precise without anybody asking
	}
	e.log.level = opt.LogLevel
	e.log.limit = opt.LogLimit
	if e.log.limit <= 0 {
		e.log.limit = defaultLogLimit
	}
	return e
}

func (e *env) run() (res *Result, err error) {
	start := time.Now()
	defer func() {
		if r := recover(); r != nil {
			e.log.printf("verifier internal error: %v\n", r)
			res, err = nil, e.finishError(&rejection{CodeInternal, fmt.Sprintf("verifier internal error: %v", r), e.insn}, start)
		}
	}()
	if err := e.verify(); err != nil {
		return nil, e.finishError(err, start)
	}
	return e.finish(start), nil
}

func (e *env) verify() error {
	e.insn = -1
	if err := e.checkProgram(); err != nil {
		return err
	}
	for _, step := range []func() error{
		e.checkCaps, e.resolveKfuncs, e.findExceptionCallback, e.checkJumps, e.checkInsns, e.resolveFuncs, e.checkMaps, e.checkBackEdges, e.checkCFG, e.checkAttach,
		e.findFastcalls, e.findLive, e.checkMain, e.checkGlobals,
		e.checkDepth, e.checkThrows, e.checkStackArgs, e.checkTailCallMaps,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (e *env) checkProgram() error {
	p := e.prog
	n := len(p.Insns)
	switch {
	case n == 0:
		return e.reject(CodeBadInsn, "program has no instructions")
	case n > isa.MaxInsns:
		return e.reject(CodeTooComplex, "program has %d instructions, the limit is %d", n, int(isa.MaxInsns))
	case len(p.Funcs) == 0 || p.Funcs[0].Start != 0 || p.Funcs[len(p.Funcs)-1].End != n:
		return e.reject(CodeInternal, "function table does not cover the program")
	case len(p.Funcs) > isa.MaxSubprogs:
		return e.reject(CodeTooComplex, "too many subprograms")
	case p.Type == ebpf.Extension && p.Funcs[0].Params() > isa.MaxRegArgs:
		return e.reject(CodeStackArgs, "freplace programs with >%d args not supported yet", isa.MaxRegArgs)
	case !e.ctx.Known() && !byBTF(p.Type):
		return e.unsupported("programs of type %v", p.Kind())
	case !progtype.AttachOK(p.Type, p.AttachType):
		return e.reject(CodeCall, "programs of type %v cannot have the expected attach type %v", p.Type, p.AttachType)
	}
	for i := 1; i < len(p.Funcs); i++ {
		if p.Funcs[i].Start != p.Funcs[i-1].End || p.Funcs[i].Start >= p.Funcs[i].End {
			return e.reject(CodeInternal, "function table is not in order")
		}
	}
	e.aux = make([]insnAux, n)
	e.facts = make([]InsnFact, n)
	for i := range e.facts {
		e.facts[i].Map, e.facts[i].TailCallIndex = -1, -1
	}
	e.seen = make([][]*state, n)
	e.funcs = make([]funcInfo, len(p.Funcs))
	e.typeIndex = map[btf.Type]int32{}
	e.names = isa.Names{Kfunc: func(in isa.Insn) string {
		if k := int(in.Imm); k >= 0 && k < len(p.Kfuncs) {
			return p.Kfuncs[k].Name
		}
		return ""
	}}
	return nil
}

// checkAttach checks whether programs of the type may sleep, or have to, and what they attach to (check_attach_btf_id).
func (e *env) checkAttach() error {
	e.insn = -1
	p := e.prog
	switch sleepable := p.Flags&flagSleepable != 0; {
	case progtype.MustSleep(p.Type) && !sleepable:
		return e.reject(CodeCall, "Syscall programs can only be sleepable")
	case sleepable && !e.maySleep():
		return e.reject(CodeCall, "Only fentry/fexit/fmod_ret, lsm, iter, uprobe, and struct_ops programs can be sleepable")
	}
	return e.findTarget()
}

// kernelTypes returns the types of the kernel, nil if none are known.
func (e *env) kernelTypes() *btf.Spec {
	if e.kernel == nil && e.opt.Kernel != nil {
		e.kernel = e.opt.Kernel()
	}
	return e.kernel
}

// ofKernel reports whether t is one of the kernel's types: nobody can have one without having asked for them.
func (e *env) ofKernel(t btf.Type) bool {
	if e.kernel == nil {
		return false
	}
	_, err := e.kernel.TypeID(t)
	return err == nil
}

// intern returns the index of a BTF type that a register can point to.
func (e *env) intern(t btf.Type) int32 {
	if i, ok := e.typeIndex[t]; ok {
		return i
	}
	i := int32(len(e.types))
	e.types = append(e.types, t)
	e.typeIndex[t] = i
	e.kernelType = append(e.kernelType, e.ofKernel(t))
	if e.kernelType[i] && e.kernelUsed == "" {
		e.kernelUsed = "pointers to struct " + t.TypeName()
	}
	return i
}

func (e *env) stats(start time.Time, accepted bool) Stats {
	s := Stats{Processed: e.processed, MaxStates: e.maxStates, TotalStates: e.totalStates, PeakStates: e.peakStates,
		Time: time.Since(start)}
	for i := range e.funcs {
		if accepted {
			s.StackDepth = append(s.StackDepth, e.shownDepth(i))
		} else {
			s.StackDepth = append(s.StackDepth, e.funcs[i].depth)
		}
	}
	return s
}

func (e *env) finishError(err error, start time.Time) error {
	r, ok := err.(*rejection)
	if !ok {
		r = &rejection{CodeInternal, err.Error(), e.insn}
	}
	out := &Error{Program: e.prog.Name, Code: r.code, Message: r.msg, Insn: r.insn, Stats: e.stats(start, false)}
	if r.insn >= 0 && r.insn < len(e.prog.Insns) {
		out.Source = e.prog.LineAt(r.insn)
		if f := e.prog.FuncAt(r.insn); f >= 0 {
			out.Func = e.prog.Funcs[f].Name
		}
	} else {
		out.Insn = -1
	}
	if e.log.level != 0 {
		e.printStats(&out.Stats, false)
	}
	out.Log = e.log.String()
	return out
}

func (e *env) finish(start time.Time) *Result {
	res := &Result{Stats: e.stats(start, true), Insns: e.facts, MaxCtx: e.maxCtx, MaxPacket: e.maxPkt, Kernel: e.kernelUsed,
		ExceptionCallback: e.exceptionCallback, Objects: e.objects}
	for i := range e.facts {
		a := &e.aux[i]
		e.facts[i].Ptr = a.ptr.ptrKind()
		switch {
		case a.always && !a.never:
			e.facts[i].Branch = BranchAlways
		case a.never && !a.always:
			e.facts[i].Branch = BranchNever
		}
	}
	for i := range e.funcs {
		f := &e.funcs[i]
		res.Funcs = append(res.Funcs, FuncFact{StackDepth: f.depth, InArgs: f.inArgs, OutArgs: f.outArgs, Calls: f.calls,
			HasTailCall: f.tailCall, TailCallReachable: f.tailReach, IsCallback: f.callback, UsesMayGoto: f.mayGoto, UsesIterators: f.iterates})
	}
	if e.log.level != 0 {
		e.printStats(&res.Stats, true)
	}
	res.Log = e.log.String()
	return res
}
