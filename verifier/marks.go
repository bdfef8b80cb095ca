package verifier

import (
	"github.com/skep-bpf/skep/internal/isa"
)

// Marks of liveness behind registers and stack slots, as kernels before 6.18 print them: w for what was written since the last
// checkpoint, r, in a checkpoint, for what was read behind it (print_liveness). This verifier needs none of registers; they are kept only
// while a log with marks is written.

// regMarks are the marks of a frame's registers, a bit for each.
type regMarks struct {
	read, written uint16
	// slots are the stack slots whose bit in frame.written can be believed: a new frame has all of those set, so that no read looks above it.
	slots uint64
}

// marksLog reports whether the log has marks.
func (e *env) marksLog() bool { return e.log.on() && !e.has(liveTable) }

// markedStep is step, and keeps marks of what the instruction reads and writes if the log has them.
func (e *env) markedStep(printState *bool) (outcome, error) {
	if !e.marksLog() {
		return e.step(printState)
	}
	pc, in := e.insn, e.prog.Insns[e.insn]
	e.markSlot(in)
	use, def := e.usesDefs(pc)
	fr := e.st.fr()
	for r := isa.R0; r < isa.R10; r++ {
		if use>>r&1 != 0 && !in.IsPseudoCall() {
			e.markRegRead(e.st.cur, r)
		}
	}
	out, err := e.step(printState)
	if err != nil || out == pathEnd {
		return out, err
	}
	if in.IsExit() { // r0 goes over with its marks
		fr, def = e.st.fr(), 1<<isa.R0
	}
	fr.marks.written |= def
	return out, err
}

// markSlot notes that a store fills a whole slot.
func (e *env) markSlot(in isa.Insn) {
	if c := in.Class(); c != isa.ClassST && c != isa.ClassSTX || in.Dst > isa.R10 || in.Size() != isa.SizeDW || in.Mode() != isa.ModeMEM {
		return
	}
	ptr := &e.st.fr().regs[in.Dst]
	off := int64(ptr.off) + int64(ptr.Var.Value) + int64(in.Off)
	if ptr.typ == ptrToStack && ptr.Var.IsConst() && off%8 == 0 && off < 0 && off >= -isa.StackSize {
		e.st.frames[ptr.aux].marks.slots |= 1 << (-off/8 - 1)
	}
}

// markRegRead notes that a register of frame f is read, as markRead does for stack slots.
func (e *env) markRegRead(f int, r isa.Reg) {
	bit := uint16(1) << r
	if e.st.frames[f].marks.written&bit != 0 {
		return
	}
	for s := e.st.parent; s != nil; s = s.parent {
		fr := s.frames[f]
		if f > s.cur || fr == nil || fr.callsite != e.st.frames[f].callsite || fr.marks.read&bit != 0 {
			return
		}
		fr.marks.read |= bit
		if fr.marks.written&bit != 0 {
			return
		}
	}
}

// appendMarks adds marks to the name of a register or slot.
func appendMarks(b []byte, read, written bool) []byte {
	if !read && !written {
		return b
	}
	b = append(b, '_')
	if read {
		b = append(b, 'r')
	}
	if written {
		b = append(b, 'w')
	}
	return b
}

// appendRegMarks adds those of operand i, appendSlotMarks those of stack slot i.
func (e *env) appendRegMarks(b []byte, fr *frame, i int) []byte {
	if !e.marksLog() || i > int(isa.R10) {
		return b
	}
	return appendMarks(b, fr.marks.read>>i&1 != 0, fr.marks.written>>i&1 != 0)
}

func (e *env) appendSlotMarks(b []byte, fr *frame, i int) []byte {
	if !e.marksLog() {
		return b
	}
	return appendMarks(b, fr.read>>i&1 != 0, (fr.written&fr.marks.slots)>>i&1 != 0)
}
