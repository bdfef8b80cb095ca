package arm64

import (
	"github.com/skep-bpf/skep/internal/abi"
)

// The frame of a function. Addresses grow upwards.
//
//	subprogram with a frame record            entry function
//
//	fp+16+8i   incoming argument 9+i          (none)
//	fp+8       return address                 fp+8     return address    (the 16 bytes at fp are given by the trampoline,
//	fp         saved fp                       fp       0                  which makes fp = sp)
//	fp-8..     BPF stack                      fp-8..   BPF stack
//	           may_goto counter                        may_goto counter
//	           padding                                 padding
//	           saved x19..x22
//	           outgoing argument 12                    outgoing argument 12
//	sp         outgoing argument 9            sp       outgoing argument 9
//
// sp is a multiple of 16 always: the processor demands it of every access by way of sp. Below the frame record there is one
// adjustment of sp for the BPF stack, the saved registers and the outgoing area together. A leaf that keeps no register leaves sp
// where it is: signals are taken on another stack, so memory below sp is safe.
// A function that calls nothing, leaves to nobody and has no use for fp has no frame record.
// The entry function saves no registers: the trampoline expects none to be kept. A subprogram that makes tail calls saves all,
// because another program's entry function runs below its frame.
type frame struct {
	entry   bool
	record  bool  // a subprogram: fp and lr are saved and fp is this frame's; the entry function: lr is saved
	saved   []reg // callee-saved registers, in the order they lie from savedAt upwards
	size    int   // bytes from fp down to sp in the body, a multiple of 16
	savedAt int   // distance of the saved registers from sp
	counter int   // distance of the may_goto counter below fp, 0 if there is none
	below   bool  // the BPF stack lies below sp
}

// needs is what a function asks of its frame.
type needs struct {
	entry    bool
	stack    int    // bytes of BPF stack, a multiple of 8
	in, out  int    // stack slots, 0..7
	saved    uint32 // set of machine registers to keep
	fp       bool   // uses BPF r10
	mayGoto  bool
	calls    bool // calls functions, machine code or stubs: lr is lost, memory below sp is not its own
	tailCall bool
}

var calleeSaved = [4]reg{x19, x20, x21, x22}

const calleeSavedSet = 1<<x19 | 1<<x20 | 1<<x21 | 1<<x22

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
	memArgs := n.in > abi.ARM64.SlotRegs
	keep := n.saved & calleeSavedSet
	switch {
	case n.entry:
		keep = 0
		f.record = n.calls
	case n.tailCall:
		keep = calleeSavedSet
		f.record = true
	default:
		f.record = n.calls || n.fp || n.mayGoto || memArgs
	}
	for _, r := range calleeSaved {
		if keep>>r&1 != 0 {
			f.saved = append(f.saved, r)
		}
	}
	out := abi.ARM64.Outgoing(n.out)
	below := n.calls || n.tailCall && !n.entry // somebody else's frame lies below
	if len(f.saved) == 0 && !below && out == 0 {
		f.below = true
		return f
	}
	f.savedAt = out
	f.size = (stack + 8*len(f.saved) + out + 15) &^ 15
	return f
}

// depth returns all bytes of machine stack from one call of the function, with its frame record.
func (f *frame) depth() int { return f.size + 16 }

// outSlot returns where outgoing argument n >= 9 is stored.
func (f *frame) outSlot(n int) mem { return at(sp, int32(abi.ARM64.Args[n-1].Caller)) }

// prologue appends the function's first instructions.
func (f *frame) prologue(a *asm) {
	switch {
	case f.record && f.entry:
		a.access(opSTR, 8, lr, at(fp, 8))
	case f.record:
		a.pair(opSTPPre, fp, lr, sp, -16)
		a.movSP(fp, sp)
	}
	if f.size != 0 {
		a.addImm(opSUB, 8, sp, sp, uint32(f.size))
	}
	f.eachSaved(func(r, s reg, disp int32) {
		if s == zr {
			a.access(opSTR, 8, r, at(sp, disp))
		} else {
			a.pair(opSTP, r, s, sp, disp)
		}
	})
}

// eachSaved calls do for each pair of saved registers; the second is zr where one is left over.
func (f *frame) eachSaved(do func(r, s reg, disp int32)) {
	for i := 0; i < len(f.saved); i += 2 {
		s := reg(zr)
		if i+1 < len(f.saved) {
			s = f.saved[i+1]
		}
		do(f.saved[i], s, int32(f.savedAt+8*i))
	}
}

// unwind appends what takes the frame down: sp, fp and lr are as at entry.
func (f *frame) unwind(a *asm) {
	f.eachSaved(func(r, s reg, disp int32) {
		if s == zr {
			a.access(opLDR, 8, r, at(sp, disp))
		} else {
			a.pair(opLDP, r, s, sp, disp)
		}
	})
	switch {
	case f.size == 0:
	case f.record || f.entry:
		a.movSP(sp, fp)
	default:
		a.addImm(opADD, 8, sp, sp, uint32(f.size))
	}
	switch {
	case f.record && f.entry:
		a.access(opLDR, 8, lr, at(fp, 8))
	case f.record:
		a.pair(opLDPPost, fp, lr, sp, 16)
	}
}

// epilogue appends the return of r0.
func (f *frame) epilogue(a *asm) {
	a.mov(8, x0, regs[0])
	f.unwind(a)
	a.ret()
}

// epilogueSize returns how many bytes epilogue appends.
func (f *frame) epilogueSize() int {
	var buf [64]byte
	a := asm{buf: buf[:0]}
	f.epilogue(&a)
	return len(a.buf)
}

// stackMem returns the operand for the access of w bytes at fp+disp: by way of sp where that encodes and fp does not.
func (f *frame) stackMem(w uint8, disp int32) mem {
	if !f.below {
		if d := disp + int32(f.size); fitsScaled(w, d) || !fitsUnscaled(disp) && fitsUnscaled(d) {
			return at(sp, d)
		}
	}
	return at(fp, disp)
}
