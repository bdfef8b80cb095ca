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

// serve goes on with a program that has left to Go, until it returns or must end.
func (c *Code) serve(ctx context.Context, r *rt.Run, b *block) (ret uint64, err error) {
	defer func() {
		if b.exit != exitReturn { // abandoned: its frames are forgotten
			if p := recover(); p != nil {
				err = rt.PanicError(c.nameAt(b), c.insnAt(b), p)
			}
			ret, b.exit = 0, exitReturn
		}
	}()
	for {
		switch b.exit {
		case exitReturn:
			return b.ret, nil
		case exitYield:
			atomic.StoreUint32(&b.poll, 0)
			if ctx != nil && ctx.Err() != nil {
				return 0, fmt.Errorf("program %s: stopped at instruction %d: %w", c.nameAt(b), c.insnAt(b), ctx.Err())
			}
			runtime.Gosched()
		case exitFault:
			return 0, c.fault(b)
		default:
			f := rt.Lookup(rt.Handle(b.exit))
			if f == nil {
				return 0, fmt.Errorf("program %s: host function %d is gone", c.nameAt(b), b.exit)
			}
			b.ret = f(r, &b.args)
			if r.Err != nil {
				return 0, r.Err
			}
		}
		resume(b)
	}
}

// The stack of a program that left through a stub: five saved registers, then the return address.
const returnAt = 40

// leftAt returns where the program left.
func leftAt(b *block) uintptr { return callerIn(b.sp+returnAt, b) }

// callerIn returns the first word of b's stack from sp on that lies in program code: a return address.
func callerIn(sp uintptr, b *block) uintptr {
	lo, hi := stackOf(b)
	for sp = (sp + 7) &^ 7; sp >= lo && sp+8 <= hi; sp += 8 {
		if pc := word(sp); text.contains(pc) {
			return pc - 1 // the call instruction
		}
	}
	return 0
}

func (c *Code) nameAt(b *block) string {
	if at := find(leftAt(b)); at != nil {
		return at.name
	}
	return c.name
}

func (c *Code) insnAt(b *block) int {
	pc := leftAt(b)
	if at := find(pc); at != nil {
		return at.PCAt(int(pc - at.addr))
	}
	return -1
}

// fault describes the machine fault that ended the run on b.
func (c *Code) fault(b *block) error {
	f := &rt.Fault{Program: c.name, Insn: -1, Addr: uint64(b.faultAddr), Reason: "memory access fault"}
	lo, _ := stackOf(b)
	pc := b.faultPC
	switch {
	case b.faultAddr < lo && b.faultAddr >= lo&^(slotSize-1):
		f.Reason = "machine stack overflow"
	case !text.contains(pc):
		f.Reason = fmt.Sprintf("fault in a native function at %#x", pc)
	}
	if !text.contains(pc) {
		pc = callerIn(b.faultSP, b)
	}
	if at := find(pc); at != nil {
		f.Program, f.Insn = at.name, at.PCAt(int(pc-at.addr))
	}
	return f
}
