package skep

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/ir"
	"github.com/skep-bpf/skep/internal/objects"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/internal/progtype"
	"github.com/skep-bpf/skep/internal/rt"
	"github.com/skep-bpf/skep/maps"
	"github.com/skep-bpf/skep/verifier"
)

// Program is a loaded program. Its methods may be called by many goroutines at a time.
type Program struct {
	name    string
	id      uint32
	prog    *program.Program
	ctx     progtype.Context
	res     *verifier.Result // nil if it was not verified
	log     string
	ir      *ir.Program
	exec    rt.Executable
	engine  Engine
	env     *rt.Env
	maps    []*Map
	handles []rt.Handle
	setter  rt.Handle     // one of handles: sets callbacks
	makers  [2]rt.Handle  // of handles: make objects, and objects for each CPU slot
	heap    *objects.Heap // of the objects that it makes; nil: it makes none

	closed atomic.Bool
	refs   atomic.Int64 // the owner, the program arrays that hold it, the timers that call it
}

// NewProgram loads a single program, usually one whose instructions were made in Go. Maps are those that the instructions are
// associated with (asm.Instruction.AssociateMap with a *skep.Map).
func NewProgram(spec *ebpf.ProgramSpec) (*Program, error) {
	return NewProgramWithOptions(spec, Options{})
}

// NewProgramWithOptions is NewProgram with options.
func NewProgramWithOptions(spec *ebpf.ProgramSpec, opts Options) (*Program, error) {
	if spec == nil {
		return nil, errors.New("program spec is nil")
	}
	l, err := newLoader(&ebpf.CollectionSpec{}, opts)
	if err != nil {
		return nil, err
	}
	defer func() { l.finish(err) }()
	p, err := l.prepare(spec, spec.Name)
	if err != nil {
		return nil, err
	}
	if err = l.place([]*Program{p}); err != nil {
		_ = p.Close()
		return nil, err
	}
	return p, nil
}

// Name returns the program's name.
func (p *Program) Name() string { return p.name }

// Type returns the program's type, ebpf.UnspecifiedProgram if it is a hook's.
func (p *Program) Type() ebpf.ProgramType { return p.prog.Type }

// Engine returns what runs the program: EngineJIT or EngineInterpreter.
func (p *Program) Engine() Engine { return p.engine }

// String describes the program: type, name.
func (p *Program) String() string {
	if p == nil {
		return "Program(nil)"
	}
	return fmt.Sprintf("%s(%s)#%d", p.prog.Kind(), p.name, p.id)
}

// VerifierLog returns the verifier's log, empty if Options.LogLevel did not ask for one.
func (p *Program) VerifierLog() string { return p.log }

// VerifierStats returns the figures of the verification.
func (p *Program) VerifierStats() verifier.Stats {
	if p.res == nil {
		return verifier.Stats{}
	}
	return p.res.Stats
}

// Verified reports whether the verifier accepted the program; only Options.Unverified loads others.
func (p *Program) Verified() bool { return p.res != nil }

// Instructions returns the number of instructions (8-byte slots).
func (p *Program) Instructions() int { return len(p.prog.Insns) }

// MemoryInUse returns how many bytes of machine code the program has; 0 if it is interpreted.
func (p *Program) MemoryInUse() int {
	if c, ok := p.exec.(interface{ Text() []byte }); ok {
		return len(c.Text())
	}
	return 0
}

// ObjectsInUse returns how many objects the programs of the collection have allocated (bpf_obj_new) that are not free yet, and how much of
// Limits.AllocBytes they have taken, free ones included.
func (p *Program) ObjectsInUse() (objects, bytes int64) {
	if p.heap == nil {
		return 0, 0
	}
	return p.heap.InUse()
}

// Close frees the program once runs that are under way have ended and no program array and no timer holds it. Closing twice does nothing.
func (p *Program) Close() error {
	if p == nil || p.closed.Swap(true) {
		return nil
	}
	p.Unhold()
	return nil
}

// ProgramID returns the number that a lookup in a program array gives for the program.
func (p *Program) ProgramID() uint32 { return p.id }

// TailTarget returns what a tail call to the program jumps to; it is for program arrays.
func (p *Program) TailTarget() *rt.Target { return p.exec.Target() }

// TailKind says what programs that tail-call each other must have in common: type, engine, whether they are verified, and where machines
// differ in it, the size of the context.
func (p *Program) TailKind() string {
	kind := p.prog.Type.String()
	switch p.prog.Input() {
	case progtype.InputFields:
		kind = fmt.Sprintf("%s with %d bytes of context", kind, p.ctx.Size())
	case progtype.InputHook:
		kind = fmt.Sprintf("hook %s at %p", p.prog.Hook.Name, p.prog.Hook) // two of one name can differ
	}
	if p.res == nil {
		return fmt.Sprintf("%s on %s, not verified", kind, p.engine) // its context may be anything
	}
	return fmt.Sprintf("%s on %s", kind, p.engine)
}

// loaded refuses what no loader made: most often the value of a Go map for a name that is not there.
func (p *Program) loaded() error {
	if p == nil || p.exec == nil {
		return errors.New("program is nil: there is none of that name")
	}
	return nil
}

// Hold keeps the program until Unhold, for a program array that it is stored in.
func (p *Program) Hold() error {
	if err := p.loaded(); err != nil {
		return err
	}
	if p.closed.Load() || !p.holdCode() {
		return fmt.Errorf("program %s: %w", p.name, ErrClosed)
	}
	return nil
}

// holdCode is Hold that also succeeds after Close as long as somebody else holds the program.
func (p *Program) holdCode() bool {
	for {
		n := p.refs.Load()
		if n <= 0 {
			return false
		}
		if p.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Unhold undoes Hold.
func (p *Program) Unhold() {
	if p.refs.Add(-1) != 0 {
		return
	}
	rt.AfterRuns(func() {
		if p.exec != nil {
			_ = p.exec.Close()
		}
		if p.heap != nil {
			p.heap.Unhold()
		}
		for _, h := range p.handles {
			rt.Unregister(h)
		}
		for _, m := range p.maps {
			_ = maps.SideOf(m).Unhold()
		}
	})
}

// Test runs the program once on a packet and returns its result and the packet afterwards. It is Run with Data and DataOut;
// a program type without packets takes a nil in.
func (p *Program) Test(in []byte) (uint32, []byte, error) {
	opts := ebpf.RunOptions{Data: in, Repeat: 1}
	var out []byte
	res, err := p.run(context.Background(), nil, nil, &opts, &out, false)
	if err != nil {
		return 0, nil, fmt.Errorf("test program: %w", err)
	}
	return res.Return, out, nil
}

// Run runs the program as BPF_PROG_TEST_RUN does: on Data and Context, Repeat times. DataOut and ContextOut receive the packet
// and the context afterwards; DataOut is cut to the packet's length. CPU is the slot to run on, whose values of per-CPU maps the
// program gets, if Flags is unix.BPF_F_TEST_RUN_ON_CPU; else both must be zero and it is any that is free. BatchSize must be zero, Reset
// is not called. It allocates nothing, unless Context or ContextOut must be encoded.
//
// The error wraps unix.EINVAL for what the kernel does not take either, unix.ENXIO if there is no such CPU, unix.ENOSPC if DataOut is
// too small, *Fault if the program misbehaved.
func (p *Program) Run(opts *ebpf.RunOptions) (uint32, error) {
	if opts == nil {
		opts = &ebpf.RunOptions{}
	}
	res, err := p.run(context.Background(), nil, nil, opts, nil, false)
	if err != nil {
		return 0, fmt.Errorf("run program: %w", err)
	}
	return res.Return, nil
}

// RunResult is what a run left.
type RunResult struct {
	Return   uint32
	R0       uint64        // the whole register, of which Return is the lower half
	Duration time.Duration // of one run, on average, in whole nanoseconds
	NSPerRun float64       // the same, with fractions
	Redirect Redirect      // decision of bpf_redirect or bpf_redirect_map in the last run
}

// Redirect is what bpf_redirect or bpf_redirect_map decided. It takes effect only if the program's return value says so
// (XDP_REDIRECT, TC_ACT_REDIRECT).
type Redirect struct {
	Set     bool
	IfIndex uint32
	Map     string // name of the map, "" for bpf_redirect
	Key     uint64
	Flags   uint64
}

// RunContext is Run that ends soon after ctx does, with ctx's error, even in the middle of a loop.
func (p *Program) RunContext(ctx context.Context, opts *ebpf.RunOptions) (RunResult, error) {
	if opts == nil {
		opts = &ebpf.RunOptions{}
	}
	res, err := p.run(ctx, nil, nil, opts, nil, true)
	if err != nil {
		return res, fmt.Errorf("run program: %w", err)
	}
	return res, nil
}

// RunAs is RunContext in surroundings of its own in place of Options.Env: as another task, say, or at another time. Timers that it
// initialises go by its clock; their callbacks see Options.Env.
func (p *Program) RunAs(ctx context.Context, env Env, opts *ebpf.RunOptions) (RunResult, error) {
	if opts == nil {
		opts = &ebpf.RunOptions{}
	}
	res, err := p.run(ctx, nil, env.runtime(), opts, nil, true)
	if err != nil {
		return res, fmt.Errorf("run program: %w", err)
	}
	return res, nil
}

// Run runs a program from inside a kfunc, on the CPU slot of the run that called the kfunc, and ends when that run must. It
// takes no times.
func (c Caller) Run(p *Program, opts *ebpf.RunOptions) (RunResult, error) {
	if opts == nil {
		opts = &ebpf.RunOptions{}
	}
	if c.r == nil {
		return RunResult{}, errors.New("run program: the Caller is not one that a kfunc was given")
	}
	ctx := c.r.Cancel
	if ctx == nil {
		ctx = context.Background()
	}
	res, err := p.run(ctx, c.r, nil, opts, nil, false)
	if err != nil {
		return res, fmt.Errorf("run program: %w", err)
	}
	return res, nil
}

// Benchmark runs the program repeat times on in and returns the result of the last run and the time of one run. reset may be
// nil; it is not called, since nothing interrupts the runs.
func (p *Program) Benchmark(in []byte, repeat int, reset func()) (uint32, time.Duration, error) {
	if repeat < 0 || uint64(repeat) > math.MaxUint32 {
		return 0, 0, errors.New("benchmark program: repeat is out of range")
	}
	res, err := p.run(context.Background(), nil, nil, &ebpf.RunOptions{Data: in, Repeat: uint32(repeat)}, nil, true)
	if err != nil {
		return 0, 0, fmt.Errorf("benchmark program: %w", err)
	}
	return res.Return, res.Duration, nil
}

// Fault is the error of a run that was stopped because the program did what a verified program never does, or because native
// code it called did.
type Fault = rt.Fault
