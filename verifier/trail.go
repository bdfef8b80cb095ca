package verifier

// This file records the way to a rejection, for reports. The walk is the same each time, so that it can be done again: once to
// find the instructions of the path that was refused, and once more to look at the values along it that matter. A walk
// without a trail pays one comparison for each instruction.

// trail is the path that is being walked.
type trail struct {
	steps []trailStep
	// looks says what to look at before the step of that number; found is what was seen there, as the log would print it.
	looks map[int][]operand
	found map[look]string
}

// trailStep is an executed instruction. n numbers the instructions that are walked, on all paths.
type trailStep struct {
	n     int
	pc    int32
	frame int32
}

// operand is a register, a stack argument (isa.MaxReg and on) or, if slot is not 0, the stack slot of eight bytes at that offset
// from the frame pointer.
type operand struct {
	frame, op, slot int32
}

// look is an operand before a step.
type look struct {
	n int
	operand
}

// len and cut take the path back to where another one branched off. Both do nothing without a trail.
func (t *trail) len() int {
	if t == nil {
		return 0
	}
	return len(t.steps)
}

func (t *trail) cut(n int) {
	if t != nil {
		t.steps = t.steps[:n]
	}
}

// lookAt has the values before and after what happened looked at.
func (t *trail) lookAt(found []happening) {
	for _, h := range found {
		t.looks[h.before.n] = append(t.looks[h.before.n], h.before.operand)
		t.looks[h.after.n] = append(t.looks[h.after.n], h.after.operand)
		t.lookAt(h.other)
	}
}

// step notes that the instruction at e.insn is about to be executed.
func (t *trail) step(e *env) {
	t.steps = append(t.steps, trailStep{e.processed, int32(e.insn), int32(e.st.cur)})
	for _, o := range t.looks[e.processed] {
		if int(o.frame) <= e.st.cur {
			t.found[look{e.processed, o}] = e.operandText(o)
		}
	}
}

// operandText is the value of an operand, "" if it has none.
func (e *env) operandText(o operand) string {
	fr := e.st.frames[o.frame]
	if o.slot == 0 {
		if r := &fr.regs[o.op]; r.typ != notInit {
			return string(e.appendReg(nil, fr, r))
		}
		return ""
	}
	spi, _ := slotIndex(int(o.slot))
	if spi >= len(fr.stack) {
		return ""
	}
	b := e.appendSlot(nil, fr, spi)
	for i, c := range b {
		if c == '=' {
			return string(b[i+1:])
		}
	}
	return ""
}

// name is how the log calls an operand.
func (o operand) name() string {
	if o.slot != 0 {
		return "fp" + itoa(int(o.slot))
	}
	return operandName(int(o.op))
}
