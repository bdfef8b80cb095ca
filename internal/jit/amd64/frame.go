package amd64

import (
	"github.com/skep-bpf/skep/internal/abi"
)

// The frame of a function. Addresses grow upwards.
//
//	subprogram with a frame pointer           subprogram without        entry function
//
//	rbp+16+8i  incoming argument 7+i          (none)                    (none)
//	rbp+8      return address                 return address            rbp      return address
//	rbp        saved rbp                                                (rbp stands here at entry, given by
//	rbp-8..    BPF stack                                                 the trampoline; nobody's to keep)
//	           may_goto counter                                         rbp-8..  BPF stack
//	           padding                                                           may_goto counter
//	           saved rbx r13 r14 r15          saved rbx r13 r14 r15              padding
//	           outgoing argument 12           padding, outgoing
//	rsp        outgoing argument 7            rsp                       rsp      outgoing argument 7
//
// At every call of a function or of machine code rsp is a multiple of 16, so it is 8 beyond one at every entry. A leaf
// that pushes nothing leaves rsp where it is: signals are taken on another stack, so memory below rsp is safe.
// The entry function saves no registers: the trampoline expects none to be kept. A subprogram that makes tail calls
// saves all, because another program's entry function runs below its frame.
type frame struct {
	entry   bool
	pointer bool    // rbp is this frame's
	saved   []uint8 // callee-saved registers, in the order they are pushed
	first   int     // bytes rsp moves before the registers are pushed
	second  int     // bytes it moves after
	counter int     // distance of the may_goto counter below rbp, 0 if there is none
}

// needs is what a function asks of its frame.
type needs struct {
	entry    bool
	stack    int    // bytes of BPF stack, a multiple of 8
	in, out  int    // stack slots, 0..7
	saved    uint16 // set of machine registers to keep
	fp       bool   // uses BPF r10
	mayGoto  bool
	calls    bool // calls functions or machine code
	leaves   bool // leaves to Go or pushes: memory below rsp is not its own
	tailCall bool
}

var calleeSaved = [4]uint8{rbx, r13, r14, r15}

const calleeSavedSet = 1<<rbx | 1<<r13 | 1<<r14 | 1<<r15

// layout computes the frame. It is the only place that knows it.
func layout(n needs) frame {
	f := frame{entry: n.entry}
	stack := 0
	if n.fp {
		stack = n.stack
	}
	if n.mayGoto {
		stack += 8
		f.counter = stack
	}
	memArgs := n.in > abi.AMD64.SlotRegs
	f.pointer = n.entry || n.fp || n.mayGoto || n.tailCall || memArgs
	keep := n.saved & calleeSavedSet
	if n.tailCall {
		keep = calleeSavedSet
	}
	if n.entry {
		keep = 0
	}
	for _, r := range calleeSaved {
		if keep>>r&1 != 0 {
			f.saved = append(f.saved, r)
		}
	}
	out := abi.AMD64.Outgoing(n.out)
	calls := n.calls || n.tailCall && !n.entry
	if len(f.saved) == 0 && !calls && !n.leaves && out == 0 {
		return f // a leaf: its stack lies below rsp
	}
	total := stack + 8*len(f.saved) + out
	above := 8 // bytes on the stack since rsp was a multiple of 16
	if f.pointer && !n.entry {
		above = 16
	}
	pad := 0
	if calls {
		pad = -(total + above) & 15
	}
	f.first, f.second = stack, out
	if stack > 0 || len(f.saved) == 0 {
		f.first += pad
	} else {
		f.second += pad
	}
	if len(f.saved) == 0 {
		f.first, f.second = f.first+f.second, 0
	}
	return f
}

// size returns the bytes between rsp at entry (behind the pushed frame pointer, if there is one) and rsp in the body.
func (f *frame) size() int { return f.first + 8*len(f.saved) + f.second }

// depth returns all bytes of machine stack from one call of the function, with its return address.
func (f *frame) depth() int {
	d := f.size() + 8
	if f.pointer && !f.entry {
		d += 8
	}
	return d
}

// outSlot returns where outgoing argument n >= 7 is stored, from the base that encodes shorter.
func (f *frame) outSlot(n int) mem {
	off := abi.AMD64.Args[n-1].Caller
	if d := off - f.size(); f.pointer && fits8(int64(d)) {
		return at(rbp, int32(d))
	}
	return at(rsp, int32(off))
}

// prologue appends the function's first instructions.
func (f *frame) prologue(a *asm) {
	if f.pointer && !f.entry {
		a.push(rbp)
		a.mov(8, rbp, rsp)
	}
	f.moveSP(a, f.first)
	for _, r := range f.saved {
		a.push(r)
	}
	f.moveSP(a, f.second)
}

func (f *frame) moveSP(a *asm, n int) {
	switch {
	case n == 0:
	case n == 8:
		a.push(rax) // shorter than a subtraction; what it stores does not matter
	case n == 128:
		a.aluImm(aluADD, 8, rsp, -128)
	default:
		a.aluImm(aluSUB, 8, rsp, int32(n))
	}
}

// epilogue appends the return.
func (f *frame) epilogue(a *asm) {
	if f.entry {
		if f.size() != 0 {
			a.mov(8, rsp, rbp)
		}
		a.ret()
		return
	}
	if len(f.saved) > 0 || !f.pointer {
		switch {
		case f.second == 8:
			a.pop(r11)
		case f.second != 0:
			a.aluImm(aluADD, 8, rsp, int32(f.second))
		}
		for i := len(f.saved) - 1; i >= 0; i-- {
			a.pop(f.saved[i])
		}
		if !f.pointer && f.first == 8 {
			a.pop(r11)
		} else if !f.pointer && f.first != 0 {
			a.aluImm(aluADD, 8, rsp, int32(f.first))
		}
	}
	if f.pointer {
		if f.first != 0 || len(f.saved) == 0 && f.second != 0 {
			a.leave()
		} else {
			a.pop(rbp)
		}
	}
	a.ret()
}

// epilogueSize returns how many bytes epilogue appends.
func (f *frame) epilogueSize() int {
	var buf [64]byte
	a := asm{buf: buf[:0]}
	f.epilogue(&a)
	return len(a.buf)
}
