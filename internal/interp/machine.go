package interp

import (
	"context"
	"errors"
	"fmt"

	"github.com/skep-bpf/skep/internal/abi"
	"github.com/skep-bpf/skep/internal/ir"
	"github.com/skep-bpf/skep/internal/offheap"
	"github.com/skep-bpf/skep/internal/progtype"
	"github.com/skep-bpf/skep/internal/rt"
)

// maxFrames bounds nested calls where no verifier did (MAX_CALL_FRAMES is 8).
const maxFrames = 64

// stackBytes is the memory for all frames of one run: a run whose program was verified needs 512 bytes, each
// subprogram reached by a tail call as much again.
const stackBytes = maxFrames * ir.MaxStack

// mayGotoBudget is how often one frame may go round by may_goto (BPF_MAX_LOOPS).
const mayGotoBudget = 8 << 20

// yieldEvery is the number of loop rounds between two looks at the context.
const yieldEvery = 1024

// machine is the state of one run.
type machine struct {
	code    *Code
	run     *rt.Run
	ctx     context.Context
	insns   []ir.Insn  // of the running program
	regs    [16]uint64 // r0..r10; sixteen, so that no index needs a check
	pc      int        // index of the running IR instruction
	fn      int        // function it is in
	frames  [maxFrames]frame
	depth   int
	most    int       // frames used in this run
	out     [7]uint64 // outgoing arguments of the running frame
	in      [7]uint64 // incoming ones
	loops   int64     // may_goto budget left
	tails   int
	thrown  bool
	rounds  int
	budget  int64
	bounded bool
	stack   *offheap.Region // and behind it what the run holds
	low     uint64          // lowest stack address in use
	last    rt.Region
	args    [12]uint64
	err     error
}

// frame is what a call saves of its caller.
type frame struct {
	code    *Code
	ret, fn int
	callee  [4]uint64 // r6..r9
	fp      uint64
	low     uint64
	out, in [7]uint64
	loops   int64
}

// machines holds the machines of each execution slot, by depth of nesting. An entry is used by whoever holds the slot,
// so it needs no lock; it stays for the next run.
var machines = make([][]*machine, rt.CPUs())

// machineFor returns the machine of r.
func machineFor(r *rt.Run) (*machine, error) {
	for len(machines[r.CPU]) <= r.Depth() {
		s, err := offheap.Alloc(stackBytes+abi.HeldSize, offheap.WithGuard())
		if err != nil {
			return nil, fmt.Errorf("interpreter stack: %w", err)
		}
		machines[r.CPU] = append(machines[r.CPU], &machine{stack: s})
	}
	return machines[r.CPU][r.Depth()], nil
}

func (c *Code) exec(ctx context.Context, r *rt.Run, fn int) (uint64, error) {
	m, err := machineFor(r)
	if err != nil {
		return 0, fmt.Errorf("program %s: %w", c.prog.Name, err)
	}
	defer m.forget()
	m.run, m.ctx, m.depth, m.tails, m.thrown, m.err = r, ctx, 0, 0, false, nil
	m.budget, m.bounded = c.opt.Budget, c.opt.Budget > 0
	m.low = uint64(m.stack.Addr()) + stackBytes
	m.last = rt.Region{}
	r.HoldIn(heldAt(m.held()))
	r.Stack = rt.Region{Base: uint64(m.stack.Addr()), Size: stackBytes, Name: "stack"}
	m.enter(c, fn)
	m.regs[1] = uint64(r.Ctx)
	m.loop()
	return m.regs[0], m.err
}

// forget drops what belongs to others.
func (m *machine) forget() {
	m.run, m.ctx, m.code, m.insns, m.err = nil, nil, nil, nil, nil
	clear(m.frames[:m.most])
	m.most = 0
}

// enter starts function fn of c in the running frame.
func (m *machine) enter(c *Code, fn int) {
	m.code, m.insns = c, c.prog.Insns
	m.start(fn)
}

// start begins function fn: a frame of its stack size below what is in use.
func (m *machine) start(fn int) {
	f := &m.code.prog.Funcs[fn]
	m.fn, m.pc = fn, f.Start
	m.regs[10] = m.low
	m.low -= uint64(f.Stack)
	m.loops = mayGotoBudget
}

// fault ends the run as misbehaved.
func (m *machine) fault(addr uint64, format string, args ...any) {
	if m.err == nil {
		m.err = &rt.Fault{Program: m.code.prog.Name, Insn: int(m.insn().PC), Addr: addr, Reason: fmt.Sprintf(format, args...)}
	}
}

func (m *machine) insn() *ir.Insn { return &m.insns[m.pc] }

// access reports whether the run owns [a, a+n); if not, it faults.
func (m *machine) access(a uint64, n uint8, write bool) bool {
	if m.last.Contains(a, uint64(n)) && !(write && m.last.ReadOnly) {
		return true
	}
	g, ok := m.find(a, uint64(n))
	switch {
	case !ok && write:
		m.fault(a, "store of %d bytes outside the program's memory", n)
	case !ok:
		m.fault(a, "load of %d bytes outside the program's memory", n)
	case write && g.ReadOnly:
		m.fault(a, "store of %d bytes to read-only %s", n, g.Name)
		return false
	default:
		m.last = g
	}
	return ok
}

// held returns the address of what the run holds.
func (m *machine) held() uint64 { return uint64(m.stack.Addr()) + stackBytes }

// own reports whether [a, a+n) is memory of the runtime that lowered code may touch; if not, it faults.
func (m *machine) own(a uint64, n uint8) bool {
	if g := (rt.Region{Base: m.held(), Size: abi.HeldSize}); g.Contains(a, uint64(n)) {
		return true
	}
	for i := range m.code.prog.Own {
		if g := rt.Region(m.code.prog.Own[i]); g.Contains(a, uint64(n)) {
			return true
		}
	}
	m.fault(a, "access of %d bytes outside the runtime's memory", n)
	return false
}

// find returns the region of the run that holds [a, a+n).
func (m *machine) find(a, n uint64) (rt.Region, bool) {
	stack := rt.Region{Base: m.low, Size: uint64(m.stack.Addr()) + stackBytes - m.low, Name: "stack"}
	if stack.Contains(a, n) {
		return stack, true
	}
	size := m.run.CtxLen
	if size == 0 {
		size = progtype.BlockSize
	}
	block := rt.Region{Base: uint64(m.run.Ctx), Size: uint64(size), Name: "context"}
	if m.run.Ctx != 0 && block.Contains(a, n) {
		return block, true
	}
	if p := m.run.Packet; p != nil {
		data := rt.Region{Base: uint64(p.Meta), Size: uint64(p.DataEnd - p.Meta), Name: "packet"}
		if p.Meta == 0 || p.Meta > p.Data {
			data.Base, data.Size = uint64(p.Data), uint64(p.DataEnd-p.Data)
		}
		if data.Contains(a, n) {
			return data, true
		}
	}
	for i := range m.code.prog.Regions {
		if g := rt.Region(m.code.prog.Regions[i]); g.Contains(a, n) {
			return g, true
		}
	}
	for _, g := range m.run.Mem() {
		if g.Contains(a, n) {
			return g, true
		}
	}
	for _, reach := range m.code.prog.Reach {
		if g, ok := reach(a, n); ok {
			return rt.Region(g), true
		}
	}
	return rt.Region{}, false
}

// call enters function fn of the same program.
func (m *machine) call(fn int) {
	if !m.push(m.pc + 1) {
		return
	}
	m.in = m.out
	m.start(fn)
}

// push saves the running frame.
func (m *machine) push(ret int) bool {
	f := &m.code.prog.Funcs[m.fn]
	if m.depth == maxFrames-1 || m.low < uint64(m.stack.Addr())+ir.MaxStack+uint64(f.Stack) {
		m.fault(0, "more than %d frames", m.depth)
		return false
	}
	fr := &m.frames[m.depth]
	fr.code, fr.ret, fr.fn, fr.fp, fr.low, fr.in, fr.out, fr.loops = m.code, ret, m.fn, m.regs[10], m.low, m.in, m.out, m.loops
	copy(fr.callee[:], m.regs[6:10])
	m.depth++
	m.most = max(m.most, m.depth)
	return true
}

// pop returns to the caller and reports whether there was one.
func (m *machine) pop() bool {
	if m.depth == 0 {
		return false
	}
	m.depth--
	fr := &m.frames[m.depth]
	m.insns = fr.code.prog.Insns
	m.code, m.pc, m.fn, m.regs[10], m.low, m.in, m.out, m.loops = fr.code, fr.ret, fr.fn, fr.fp, fr.low, fr.in, fr.out, fr.loops
	copy(m.regs[6:10], fr.callee[:])
	m.last = rt.Region{}
	return true
}

// host calls a host function and puts its result into r0.
func (m *machine) host(in *ir.Insn) {
	f := rt.Lookup(rt.Handle(in.Imm))
	if f == nil {
		m.fault(0, "host function %d is gone", in.Imm)
		return
	}
	copy(m.args[:], m.regs[1:6])
	copy(m.args[5:], m.out[:])
	m.regs[0] = callHost(m, f)
	m.last = rt.Region{} // a helper may move packet boundaries
	if m.run.Err != nil && m.err == nil {
		m.err = m.run.Err
	}
	m.checkEnd() // a helper can take long, and a program of many calls may have no yield point
}

// callHost calls f and turns a panic of it into an error of the run.
func callHost(m *machine, f rt.Func) uint64 {
	defer func() {
		if p := recover(); p != nil {
			m.err = rt.PanicError(m.code.prog.Name, int(m.insn().PC), p)
		}
	}()
	return f(m.run, &m.args)
}

// tailCall leaves for another program, or falls through where it cannot. In a subprogram only its own frame is
// replaced: the other program returns to the subprogram's caller.
func (m *machine) tailCall(in *ir.Insn) {
	mp := &m.code.prog.Maps[in.Off]
	i := uint64(uint32(m.regs[3]))
	if i >= uint64(mp.MaxEntries) || m.tails >= abi.MaxTailCalls || mp.Progs == nil {
		m.pc++
		return
	}
	t, ok := mp.Progs.Interp(i).(*Code)
	if !ok || t == nil {
		m.pc++
		return
	}
	m.tails++
	m.low = m.regs[10]
	ctx := uint64(m.run.Ctx)
	m.enter(t, 0)
	m.regs[1] = ctx
	m.last = rt.Region{}
}

// yield looks for cancellation from time to time.
func (m *machine) yield() {
	if m.rounds++; m.rounds < yieldEvery {
		return
	}
	m.rounds = 0
	m.checkEnd()
}

// checkEnd ends the run if its context has ended.
func (m *machine) checkEnd() {
	if m.ctx == nil {
		return
	}
	if err := m.ctx.Err(); err != nil && m.err == nil {
		m.err = fmt.Errorf("program %s: stopped at instruction %d: %w", m.code.prog.Name, m.insn().PC, err)
	}
}

var errNative = errors.New("the interpreter cannot call machine code")
