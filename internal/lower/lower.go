package lower

import (
	"fmt"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/ir"
	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/internal/progtype"
	"github.com/skep-bpf/skep/internal/rt"
	"github.com/skep-bpf/skep/verifier"
)

// ErrNoRuntime is why a program that is proven does not run: it needs what skep can verify and not do yet.
var ErrNoRuntime = fmt.Errorf("known to the verifier, but without a runtime yet: %w", ebpf.ErrNotSupported)

// Lower translates p. res is its proof; nil stands for no knowledge at all (every instruction live, every function with
// a whole stack), which only the interpreter may be given. Errors name the instruction.
func Lower(p *program.Program, res *verifier.Result, env *Env) (*ir.Program, error) {
	if len(p.Insns) == 0 || len(p.Funcs) == 0 {
		return nil, fmt.Errorf("program %s: no instructions", p.Name)
	}
	if p.Input() == progtype.InputNone {
		// Nothing lays out such a context as the code would read it, so no code is made, whoever asks for it.
		return nil, fmt.Errorf("program %s: program type %v: %w", p.Name, p.Kind(), ErrNoRuntime)
	}
	if len(env.Maps) < len(p.Maps) || !kfuncsBound(p, env) {
		return nil, fmt.Errorf("internal error: program %s: %d of %d maps and %d of %d kfuncs bound", p.Name,
			len(env.Maps), len(p.Maps), len(env.Kfuncs), len(p.Kfuncs))
	}
	l := &lowerer{p: p, res: res, env: env}
	l.out = &ir.Program{
		Name:  p.Name,
		Insns: make([]ir.Insn, 0, len(p.Insns)+len(p.Insns)/8+8),
		Funcs: make([]ir.Func, 0, len(p.Funcs)),
		Maps:  make([]ir.Map, len(p.Maps)),
	}
	for i := range p.Maps {
		l.bindMap(i)
	}
	if env.Reach != nil {
		l.out.Reach = append(l.out.Reach, env.Reach)
	}
	if err := l.slots(); err != nil {
		return nil, err
	}
	l.short = !env.Exact && short(p, res, env)
	l.markLive()
	if err := l.findThrowers(); err != nil {
		return nil, err
	}
	l.at = make([]int32, len(p.Insns)+1)
	l.markTargets()
	for i := range p.Funcs {
		if err := l.function(i); err != nil {
			return nil, err
		}
	}
	l.asyncEntries()
	if res != nil && res.Kernel != "" { // what a call needs is the better reason
		return nil, fmt.Errorf("program %s: %s of the kernel: %w", p.Name, res.Kernel, ErrNoRuntime)
	}
	l.patch()
	if !env.Exact {
		keys(l.out)
		eliminate(l.out)
	}
	if err := ir.Check(l.out); err != nil {
		return nil, err
	}
	return l.out, nil
}

// kfuncsBound reports whether env has a binding for every kfunc but those that lowering knows.
func kfuncsBound(p *program.Program, env *Env) bool {
	return !slices.ContainsFunc(p.Kfuncs[min(len(env.Kfuncs), len(p.Kfuncs)):], func(k program.Kfunc) bool { return !program.BuiltinKfunc(k.Name) })
}

// lowerer is one translation. While it runs, targets in l.out are BPF slots; patch turns them into indices.
type lowerer struct {
	p      *program.Program
	res    *verifier.Result
	env    *Env
	out    *ir.Program
	live   []bool  // per slot: emitted
	target []uint8 // per slot: bits below
	at     []int32 // per slot: index of the first instruction emitted for it
	funcOf []int32 // per function of p: index in out, -1 if it is dead and its address unused
	in     []uint8 // per function: incoming stack slots
	outs   []uint8 // per function: outgoing stack slots
	err    error
	pc     int
	stack  int    // BPF stack of the running function
	loops  bool   // it keeps registers below that
	fails  []int  // jumps of the running function to its return with 0
	short  bool   // a run takes so few instructions that it needs no yield points
	async  []int  // functions that run on their own, by their number as callbacks
	throws []bool // per function of p: it can throw
	leave  []int  // checks of the running function behind calls that can throw
	thrown []int  // jumps of the main function where it throws itself
}

const (
	isTarget   = 1 << iota // some live jump goes there
	isLoopHead             // from behind
)

func (l *lowerer) bindMap(i int) {
	b := &l.env.Maps[i]
	m := &l.out.Maps[i]
	*m = ir.Map{Kind: b.Kind, Base: b.Values, Stride: b.Stride, MaxEntries: b.MaxEntries, PerCPUStride: b.PerCPUStride}
	if m.Kind == ir.MapRing {
		l.bindRing(m)
	}
	if b.Progs != nil {
		m.Progs = b.Progs
	}
	l.out.Regions = append(l.out.Regions, b.Memory...)
	if b.Reach != nil {
		l.out.Reach = append(l.out.Reach, b.Reach)
	}
}

// fact returns what the proof knows of slot pc.
func (l *lowerer) fact(pc int) verifier.InsnFact {
	if l.res == nil || pc >= len(l.res.Insns) {
		return verifier.InsnFact{Seen: true, Map: -1, TailCallIndex: -1}
	}
	return l.res.Insns[pc]
}

// slots finds how many stack slots each function receives and passes on. With a proof it is in the facts; without one
// it is what the function itself loads and stores.
func (l *lowerer) slots() error {
	l.in, l.outs = make([]uint8, len(l.p.Funcs)), make([]uint8, len(l.p.Funcs))
	for i := range l.p.Funcs {
		f := &l.p.Funcs[i]
		if l.res != nil && i < len(l.res.Funcs) {
			l.in[i], l.outs[i] = uint8(l.res.Funcs[i].InArgs), uint8(l.res.Funcs[i].OutArgs)
		}
		for pc := f.Start; pc < f.End; pc++ {
			in := l.p.Insns[pc]
			switch {
			case in.IsLdImm64():
				pc++
			case in.IsStackArgLoad():
				l.in[i] = max(l.in[i], uint8(in.Off/8))
			case in.IsStackArgStore():
				l.outs[i] = max(l.outs[i], uint8(-in.Off/8))
			case in.IsKfuncCall():
				if k := int(in.Imm); k >= 0 && k < len(l.env.Kfuncs) {
					l.outs[i] = max(l.outs[i], uint8(max(len(l.env.Kfuncs[k].Args)-isa.MaxRegArgs, 0)))
				}
			}
		}
		if l.in[i] > isa.MaxStackArgs || l.outs[i] > isa.MaxStackArgs {
			return fmt.Errorf("program %s: function %s: more than %d stack arguments", l.p.Name, f.Name, isa.MaxStackArgs)
		}
	}
	for i := range l.p.Funcs { // a caller's area covers what its callees read
		f := &l.p.Funcs[i]
		for pc := f.Start; pc < f.End; pc++ {
			in := l.p.Insns[pc]
			if in.IsLdImm64() {
				pc++
			} else if in.IsPseudoCall() {
				if k := l.p.FuncAt(pc + 1 + int(in.Imm)); k >= 0 {
					l.outs[i] = max(l.outs[i], l.in[k])
				}
			}
		}
	}
	return nil
}

// shortRun is the number of instructions that a run may take without passing a yield point: some tens of microseconds.
const shortRun = 50_000

// short reports whether the proof bounds every run by shortRun instructions. The verifier walks each round of a loop,
// and stops walking only where it has walked on from such a state before and come to an end; so no run is longer than
// the whole walk. That does not hold where a function is proven apart from its callers, for callbacks, for
// iterators, and for may_goto, which ends loops at run time; and native kfuncs may take any time.
func short(p *program.Program, res *verifier.Result, env *Env) bool {
	if res == nil || res.Stats.Processed == 0 || res.Stats.Processed > shortRun || len(res.Funcs) < len(p.Funcs) {
		return false
	}
	for i := range min(len(p.Kfuncs), len(env.Kfuncs)) {
		if env.Kfuncs[i].Native != 0 {
			return false
		}
	}
	for i := range p.Funcs {
		if i > 0 && p.Funcs[i].Global || res.Funcs[i].IsCallback || res.Funcs[i].UsesMayGoto || res.Funcs[i].UsesIterators {
			return false
		}
	}
	return true
}

// markLive decides which slots are emitted: those the proof walked, or all.
func (l *lowerer) markLive() {
	l.live = make([]bool, len(l.p.Insns))
	for pc := 0; pc < len(l.p.Insns); pc++ {
		l.live[pc] = l.fact(pc).Seen
		if l.p.Insns[pc].IsLdImm64() {
			pc++ // the second slot is never emitted
		}
	}
	named := l.named()
	l.funcOf = make([]int32, len(l.p.Funcs))
	n := int32(0)
	for i := range l.p.Funcs {
		l.funcOf[i] = -1
		if l.live[l.p.Funcs[i].Start] || named[i] {
			l.funcOf[i] = n
			n++
		}
	}
}

// named finds the functions whose address live code loads. One that nothing calls has no live instruction: it becomes
// a trap, so that its address is one.
func (l *lowerer) named() []bool {
	named := make([]bool, len(l.p.Funcs))
	for pc, in := range l.p.Insns {
		if !l.live[pc] || !in.IsPseudoFunc() {
			continue
		}
		if f := l.p.FuncAt(pc + 1 + int(in.Imm)); f >= 0 && f < len(named) {
			named[f] = true
		}
	}
	return named
}

// markTargets marks where live jumps go, and which of those targets close a loop.
func (l *lowerer) markTargets() {
	l.target = make([]uint8, len(l.p.Insns)+1)
	for pc, in := range l.p.Insns {
		if !l.live[pc] || !isJump(in) || l.fact(pc).Branch == verifier.BranchNever {
			continue
		}
		t := in.JumpTarget(pc)
		if t < 0 || t >= len(l.p.Insns) {
			continue // refused when the jump itself is lowered
		}
		l.target[t] |= isTarget
		if t <= pc {
			l.target[t] |= isLoopHead
		}
	}
}

func isJump(in isa.Insn) bool {
	if c := in.Class(); c != isa.ClassJMP && c != isa.ClassJMP32 {
		return false
	}
	return !in.IsCall() && !in.IsExit()
}

// function emits one function.
func (l *lowerer) function(i int) error {
	f := &l.p.Funcs[i]
	if l.funcOf[i] < 0 {
		return nil
	}
	fn := ir.Func{Name: f.Name, Start: len(l.out.Insns), Stack: isa.StackSize, InArgs: int(l.in[i]), OutArgs: int(l.outs[i])}
	if l.res != nil && i < len(l.res.Funcs) {
		fn.Stack = (l.res.Funcs[i].StackDepth + 7) &^ 7
	}
	l.stack, l.loops = fn.Stack, false
	for pc := f.Start; pc < f.End; pc++ {
		in := l.p.Insns[pc]
		l.pc = pc
		l.at[pc] = int32(len(l.out.Insns))
		if l.live[pc] {
			if l.target[pc]&isLoopHead != 0 && !l.short {
				l.emit(ir.Insn{Op: ir.Yield})
			}
			l.insn(in)
			if l.err != nil {
				return fmt.Errorf("program %s: instruction %d: %w", l.p.Name, pc, l.err)
			}
			fn.MayGoto = fn.MayGoto || in.IsMayGoto()
		}
		if in.IsLdImm64() {
			pc++
			if pc < len(l.at) {
				l.at[pc] = int32(len(l.out.Insns))
			}
		}
	}
	l.pc = f.End - 1
	if !l.endsWell(fn.Start) {
		l.emit(ir.Insn{Op: ir.Trap})
	}
	l.failures()
	l.catch()
	if l.loops {
		fn.Stack += ir.LoopSave
	}
	fn.End = len(l.out.Insns)
	l.out.Funcs = append(l.out.Funcs, fn)
	return nil
}

// endsWell reports whether control cannot run off what was emitted since start.
func (l *lowerer) endsWell(start int) bool {
	if n := len(l.out.Insns); n > start {
		switch l.out.Insns[n-1].Op {
		case ir.Jmp, ir.Exit, ir.Trap:
			return true
		}
	}
	return false
}

func (l *lowerer) emit(in ir.Insn) {
	in.PC = int32(l.pc)
	l.out.Insns = append(l.out.Insns, in)
}

func (l *lowerer) fail(format string, args ...any) {
	if l.err == nil {
		l.err = fmt.Errorf(format, args...)
	}
}

// patch turns BPF slots in jumps into indices. A target that was not emitted is one that the proof says is never
// reached; it becomes a trap of its function.
func (l *lowerer) patch() {
	for fi := range l.out.Funcs {
		f := &l.out.Funcs[fi]
		for k := f.Start; k < f.End; k++ {
			if in := &l.out.Insns[k]; in.Op.HasTarget() && in.Flag&flagLocal == 0 {
				in.Off = l.at[in.Off]
			} else if in.Op.HasTarget() {
				in.Flag &^= flagLocal
			}
		}
	}
}

// flagLocal marks a jump whose target is an index already. It does not survive patch.
const flagLocal = 1 << 7

// jump checks a jump's target and returns it.
func (l *lowerer) jump(in isa.Insn) int32 {
	t := in.JumpTarget(l.pc)
	if f := l.p.FuncAt(l.pc); t < l.p.Funcs[f].Start || t >= l.p.Funcs[f].End {
		l.fail("jump to %d leaves the function", t)
		return int32(l.pc)
	}
	return int32(t)
}

var loadPacket = rt.Register(rt.LoadPacket)
