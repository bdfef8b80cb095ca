package verifier

import (
	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/program"
)

// This file follows a value back along the path of a rejection: from the operand at fault to the instruction that last wrote it,
// from there to that instruction's source, and so on, through calls and the stack, to where the value began.

// happening is a step that may have done something to the value; what it did shows in the texts before and after it.
type happening struct {
	kind          EventKind
	pc            int32
	before, after look
	ifChanged     bool        // it is one only if the texts differ
	ends          bool        // where the value came from is not followed further
	other         []happening // what happened to the number that was added to the value: of interest if that is a pointer
}

// slicer follows the value of one operand back over steps, of which the last was refused.
type slicer struct {
	p      *program.Program
	steps  []trailStep
	at     operand
	found  []happening // latest first
	i      int         // the step that is looked at
	depth  int         // of numbers added to numbers
	budget *int        // how many more steps all slicers of a report may look at
}

// maxSliced bounds how many steps are looked at for a report, and maxHappenings what is kept of them.
const (
	maxSliced     = 1 << 20
	maxHappenings = 4000
)

// maxOthers bounds how often a number is followed that was added on the way.
const maxOthers = 3

func (s *slicer) run() {
	for s.i = len(s.steps) - 2; s.i >= 0 && len(s.found) < maxHappenings && *s.budget > 0; s.i-- {
		*s.budget--
		st, next := s.steps[s.i], s.steps[s.i+1]
		in := s.p.Insns[st.pc]
		var more bool
		switch {
		case next.frame > st.frame:
			more = s.entered(st, in)
		case next.frame < st.frame:
			more = s.left(st, next)
		case st.frame == s.at.frame:
			more = s.insn(in)
		case st.frame > s.at.frame:
			more = s.deeper(in)
		}
		if !more {
			return
		}
	}
}

// note keeps a step at which the value stood in from before it and in s.at behind it.
func (s *slicer) note(kind EventKind, from operand) *happening {
	st, next := s.steps[s.i], s.steps[s.i+1]
	s.found = append(s.found, happening{kind: kind, pc: st.pc, before: look{st.n, from}, after: look{next.n, s.at}})
	return &s.found[len(s.found)-1]
}

// ends notes where the value begins.
func (s *slicer) ends(kind EventKind) bool {
	s.note(kind, s.at).ends = true
	return false
}

// mayEnd notes a step that, if it changed the value, is where that comes from; it is followed further in case it did not.
func (s *slicer) mayEnd(kind EventKind) bool {
	h := s.note(kind, s.at)
	h.ends, h.ifChanged = true, true
	return true
}

// follow notes that the value came from another operand and goes on with that one.
func (s *slicer) follow(kind EventKind, from operand) bool {
	s.note(kind, from)
	s.at = from
	return true
}

func (s *slicer) reg(frame int32, r isa.Reg) operand { return operand{frame: frame, op: int32(r)} }

// entered is a call whose function was walked next.
func (s *slicer) entered(call trailStep, in isa.Insn) bool {
	switch {
	case s.at.frame <= call.frame:
		return true
	case s.at.slot != 0 || s.at.op < int32(isa.R1) || s.at.op > int32(isa.R5):
		return false // a function begins with nothing else
	case !in.IsPseudoCall():
		return s.ends(EventSet) // a helper calls back
	}
	return s.follow(EventCopied, s.reg(call.frame, isa.Reg(s.at.op)))
}

// left is the exit of a function.
func (s *slicer) left(exit, next trailStep) bool {
	switch {
	case s.at.frame != next.frame || s.at.slot != 0:
		return s.at.frame <= next.frame
	case s.at.op == int32(isa.R0):
		return s.follow(EventCopied, s.reg(exit.frame, isa.R0))
	case s.at.op <= int32(isa.R5) || s.at.op >= firstSlot:
		return s.ends(EventLost) // a call leaves r1 to r5 unreadable, and no stack arguments
	}
	return true
}

// deeper is an instruction of a function that was called: it can write to the stack through a pointer.
func (s *slicer) deeper(in isa.Insn) bool {
	if s.at.slot != 0 && (isStore(in) || in.IsCall()) {
		return s.mayEnd(EventStored)
	}
	return true
}

func isStore(in isa.Insn) bool { return in.Class() == isa.ClassST || in.Class() == isa.ClassSTX }

// insn is an instruction of the function in whose frame the value is.
func (s *slicer) insn(in isa.Insn) bool {
	switch {
	case in.IsCall():
		return s.call(in)
	case in.Class() == isa.ClassJMP || in.Class() == isa.ClassJMP32:
		if in.JmpOp() != isa.JmpJA && in.JmpOp() != isa.JmpEXIT {
			s.note(EventChecked, s.at).ifChanged = true
		}
		return true
	case s.at.slot != 0:
		return s.slotWritten(in)
	case isStore(in):
		return s.stored(in)
	case in.Class() == isa.ClassLD && in.Mode() != isa.ModeIMM && s.at.op <= int32(isa.R5): // LD_ABS and LD_IND are calls
		return s.ends(map[bool]EventKind{true: EventSet, false: EventLost}[s.at.op == int32(isa.R0)])
	case s.at.op != int32(in.Dst):
		return true
	case in.Class() == isa.ClassALU || in.Class() == isa.ClassALU64:
		return s.computed(in)
	case in.Class() == isa.ClassLDX:
		return s.loaded(in)
	}
	return s.ends(EventSet)
}

// call is a call that was not entered: of a helper, a kfunc or a global function.
func (s *slicer) call(isa.Insn) bool {
	switch {
	case s.at.slot != 0:
		return s.mayEnd(EventStored)
	case s.at.op == int32(isa.R0):
		return s.ends(EventSet)
	case s.at.op <= int32(isa.R5) || s.at.op >= firstSlot:
		return s.ends(EventLost)
	}
	// packets move, references are released, memory is written
	s.note(EventLost, s.at).ifChanged = true
	return true
}

// computed is an ALU instruction that writes the register.
func (s *slicer) computed(in isa.Insn) bool {
	if in.AluOp() != isa.AluMOV {
		h := s.note(EventComputed, s.at)
		if in.SrcIsReg() && in.Src < isa.R10 && s.depth < maxOthers {
			o := slicer{p: s.p, steps: s.steps[:s.i+1], at: s.reg(s.at.frame, in.Src), depth: s.depth + 1, budget: s.budget}
			o.run()
			h.other = o.found
		}
		return true
	}
	if !in.SrcIsReg() {
		return s.ends(EventSet)
	}
	kind := EventCopied
	if in.Class() == isa.ClassALU || in.Off != 0 {
		kind = EventComputed // the value is cut or extended
	}
	return s.follow(kind, s.reg(s.at.frame, in.Src))
}

// loaded is a load into the register.
func (s *slicer) loaded(in isa.Insn) bool {
	switch {
	case in.Src == isa.R10 && in.Mode() == isa.ModeMEM && in.Off < 0:
		return s.follow(EventLoaded, operand{frame: s.at.frame, slot: (int32(in.Off) - 7) / 8 * 8})
	case in.IsStackArgLoad() && s.at.frame > 0:
		return s.follow(EventLoaded, operand{frame: s.at.frame - 1, op: firstSlot + int32(in.Off)/8 - 1})
	}
	return s.ends(EventSet)
}

// stored is a store while the value is in a register or stack argument.
func (s *slicer) stored(in isa.Insn) bool {
	if in.IsStackArgStore() {
		if s.at.op != firstSlot-int32(in.Off)/8-1 {
			return true
		}
		if in.Class() == isa.ClassST {
			return s.ends(EventSet)
		}
		return s.follow(EventStored, s.reg(s.at.frame, in.Src))
	}
	if in.Mode() != isa.ModeATOMIC || in.Class() != isa.ClassSTX || in.Imm&isa.AtomicFETCH == 0 {
		return true
	}
	gets := in.Src // the old value of the memory
	if in.Imm == isa.AtomicCMPXCHG {
		gets = isa.R0
	}
	if s.at.op == int32(gets) {
		return s.ends(EventSet)
	}
	return true
}

// slotWritten is an instruction while the value is on the stack.
func (s *slicer) slotWritten(in isa.Insn) bool {
	switch {
	case !isStore(in):
		return true
	case in.Dst != isa.R10 || in.Mode() != isa.ModeMEM:
		return s.mayEnd(EventStored) // through a pointer: if it changed the slot
	case int32(in.Off)+int32(in.Bytes()) <= s.at.slot || int32(in.Off) >= s.at.slot+8:
		return true
	case in.Class() == isa.ClassST:
		return s.ends(EventSet)
	}
	return s.follow(EventStored, s.reg(s.at.frame, in.Src))
}
