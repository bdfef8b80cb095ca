//go:build linux && (amd64 || arm64)

package native

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"

	"github.com/skep-bpf/skep/internal/abi"
	"github.com/skep-bpf/skep/internal/rt"
)

const (
	exitReturn  = abi.ExitReturn
	exitYield   = abi.ExitYield
	exitFault   = abi.ExitFault
	exitRunning = abi.ExitRunning
	exitStop    = abi.ExitStop
)

// blocks holds the context blocks of each execution slot, by depth of nesting. An entry is used by whoever holds the
// slot, so it needs no lock.
var blocks = make([][]*block, rt.CPUs())

// blockFor returns the context block of r.
func blockFor(r *rt.Run) (*block, error) {
	s := blocks[r.CPU]
	if d := r.Depth(); d < len(s) {
		return s[d], nil
	}
	return grow(r)
}

func grow(r *rt.Run) (*block, error) {
	for len(blocks[r.CPU]) <= r.Depth() {
		b, err := newStack(r.CPU)
		if err != nil {
			return nil, err
		}
		blocks[r.CPU] = append(blocks[r.CPU], b)
	}
	return blocks[r.CPU][r.Depth()], nil
}

// requestPoll makes the program on b leave at its next yield point.
func requestPoll(b *block) { atomic.StoreUint32(&b.poll, 1) }

// owner is what Go knows of the run on a block; owners has one for each block, by its number.
type owner struct {
	run *rt.Run
	ctx context.Context // nil if it cannot end
	err error           // why the run must end
	// stack is the machine stack, where the program's frames lie.
	stack rt.Region
}

var owners [maxStacks]owner

// dispatch serves one exit of the program on b: enter calls it on the goroutine's stack. It leaves in b.exit whether the
// program goes on.
//
//lint:ignore U1000 called by enter, in tramp_ARCH.s
func dispatch(b *block) {
	o := &owners[b.id]
	if b.exit == exitYield {
		o.yield(b)
		return
	}
	f := rt.Lookup(rt.Handle(b.exit))
	if f == nil {
		o.stop(b, fmt.Errorf("program %s: instruction %d: host function %d is gone", nameAt(b), insnAt(b), b.exit))
		return
	}
	b.ret = f(o.run, &b.args)
	if o.run.Err != nil {
		o.stop(b, o.run.Err)
		return
	}
	if b.exit = exitRunning; b.poll != 0 { // a loop of host calls may have no yield point
		o.yield(b)
	}
}

// yield does what the program was asked to leave for: it ends if its context has ended, else lets others run.
func (o *owner) yield(b *block) {
	atomic.StoreUint32(&b.poll, 0)
	if o.ctx != nil && o.ctx.Err() != nil {
		o.stop(b, fmt.Errorf("program %s: stopped at instruction %d: %w", nameAt(b), insnAt(b), o.ctx.Err()))
		return
	}
	runtime.Gosched()
	b.exit = exitRunning
}

func (o *owner) stop(b *block, err error) { o.err, b.exit = err, exitStop }

// ended returns the result of a run that was abandoned.
func (c *Code) ended(b *block, o *owner) (uint64, error) {
	err := o.err
	if b.exit == exitFault {
		err = c.fault(b)
	}
	o.err, b.exit = nil, exitReturn
	return 0, err
}

// The stack of a program that left through a stub: five saved registers, then the return address.
const returnAt = 40

// leftAt returns where the program left.
func leftAt(b *block) uintptr { return callerIn(b.sp+returnAt, b) }

// callerIn returns the first word of b's stack from sp on that lies in program code: a return address. It returns 0 if there
// is none, and where sp lies below the stack, in a frame that did not fit: what is in such a frame is left from before.
func callerIn(sp uintptr, b *block) uintptr {
	lo, hi := stackOf(b)
	for sp = (sp + 7) &^ 7; sp >= lo && sp+8 <= hi; sp += 8 {
		if pc := word(sp); text.contains(pc) {
			return pc - 1 // the call instruction
		}
	}
	return 0
}

// nameAt returns the program that left, insnAt the BPF instruction where it did, -1 if unknown.
func nameAt(b *block) string {
	if at := find(leftAt(b)); at != nil {
		return at.name
	}
	return "?"
}

func insnAt(b *block) int {
	pc := leftAt(b)
	if at := find(pc); at != nil {
		return at.PCAt(int(pc - at.addr))
	}
	return -1
}

// fault describes the machine fault that ended the run on b.
func (c *Code) fault(b *block) error {
	f := &rt.Fault{Program: c.name, Insn: -1, Addr: uint64(b.faultAddr), Reason: "memory access fault"}
	if lo, _ := stackOf(b); b.faultAddr < lo && b.faultAddr >= lo&^(slotSize-1) {
		f.Reason = "machine stack overflow"
	} else if !text.contains(b.faultPC) {
		f.Reason = fmt.Sprintf("fault in a native function at %#x", b.faultPC)
	}
	pc := faultIn(b)
	at := find(pc)
	if at == nil {
		return f
	}
	f.Program, f.Insn = at.name, at.PCAt(int(pc-at.addr))
	if pc == b.faultPC && string(text.bytes(pc, len(trap))) == trap {
		f.Reason, f.Addr = "reached an instruction that the proof excluded", 0
	}
	return f
}

// faultIn returns where the program was, in its own code, when the fault came.
func faultIn(b *block) uintptr {
	switch {
	case text.contains(b.faultPC):
		return b.faultPC
	case text.contains(b.faultLR): // a native function that calls none need not put it on the stack
		return b.faultLR - 1
	}
	return callerIn(b.faultSP, b)
}
