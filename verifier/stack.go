package verifier

import (
	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/scalar"
)

// This file tracks the BPF stack: bounds, spills and fills of registers of every width, bytes of unknown value, zeroes.
// Reads of bytes that were never written give unknown values, as for privileged programs in the kernel.

// accessKind is a read or a write.
type accessKind bool

const (
	accessRead  accessKind = false
	accessWrite accessKind = true
)

func (k accessKind) String() string {
	if k == accessWrite {
		return "write to"
	}
	return "read from"
}

// stackBounds checks that [off, off+size) from the pointer in operand op lies in its frame and returns the frame and
// the lowest and highest offset at which the access can begin (check_stack_access_within_bounds).
func (e *env) stackBounds(op, off, size int, kind accessKind) (fr *frame, lo, hi int, err error) {
	return e.stackBoundsAs(op, off, size, kind, kind.String())
}

// stackBoundsAs is stackBounds in other words for the kind of access.
func (e *env) stackBoundsAs(op, off, size int, kind accessKind, how string) (fr *frame, lo, hi int, err error) {
	r := &e.st.fr().regs[op]
	fr = e.st.frames[r.aux]
	var lo64, hi64 int64
	if r.Var.IsConst() {
		lo64 = int64(r.Var.Value) + int64(off)
		hi64 = lo64
	} else {
		if r.Smax >= maxVarOff || r.Smin <= -maxVarOff {
			return nil, 0, 0, e.reject(CodeBounds, "invalid unbounded variable-offset %s stack %s", how, operandName(op))
		}
		lo64, hi64 = r.Smin+int64(off), r.Smax+int64(off)
	}
	lowest := int64(-isa.StackSize)
	if kind == accessRead && e.lacks(CapPerfmon) {
		lowest = int64(-8 * len(fr.stack)) // nothing was written below
	}
	if lo64 < lowest || lo64 > -1 || hi64+int64(size) > 0 || size < 0 {
		if r.Var.IsConst() {
			return nil, 0, 0, e.reject(CodeBounds, "invalid %s stack %s off=%d size=%d", how, operandName(op), off, size)
		}
		return nil, 0, 0, e.reject(CodeBounds, "invalid variable-offset %s stack %s var_off=%s off=%d size=%d", how, operandName(op), r.Var, off, size)
	}
	e.growStack(fr, int(-lo64))
	return fr, int(lo64), int(hi64), nil
}

// slotIndex returns the slot and the byte in it that holds the byte at off (< 0) from the frame pointer.
func slotIndex(off int) (spi, i int) { return (-off - 1) / 8, (-off - 1) % 8 }

// scrub turns a slot that holds a spill or an object into unknown bytes; zeroes beside a narrow spill become unknown as well
// (scrub_special_slot).
func (s *stackSlot) scrub() {
	special := s.isSpill() || isObject(s.typ[7])
	s.spilled.setNotInit()
	for i, t := range s.typ {
		if t == slotSpill || isObject(t) || special && t != slotInvalid {
			s.typ[i] = slotMisc
		}
	}
}

// spill stores register r, of which size bytes are written, into slot spi (save_register_state).
func (fr *frame) spill(spi int, r *reg, size int) {
	s := &fr.stack[spi]
	s.spilled = *r
	if size == 8 {
		fr.written |= 1 << spi
	}
	for i := 7; i >= 0; i-- {
		switch {
		case i >= 8-size:
			s.typ[i] = slotSpill
		case s.typ[i] != slotZero && s.typ[i] != slotInvalid:
			s.typ[i] = slotMisc
		}
	}
}

// writeStack stores value register (or the immediate of a store instruction, or unknown bytes if value < 0) through
// the pointer in operand op (check_stack_write).
func (e *env) writeStack(op, off, size, value int) error {
	fr, lo, hi, err := e.stackBounds(op, off, size, accessWrite)
	if err != nil {
		return err
	}
	if e.st.fr().regs[op].Var.IsConst() {
		return e.writeStackFixed(fr, lo, size, value)
	}
	return e.writeStackVar(fr, lo, hi+size, value)
}

// storedImm reports whether the current instruction stores an immediate, and which.
func (e *env) storedImm() (int32, bool) {
	in := e.prog.Insns[e.insn]
	return in.Imm, in.Class() == isa.ClassST && in.Mode() == isa.ModeMEM
}

func (e *env) writeStackFixed(fr *frame, off, size, value int) error {
	e.noteStackAccess(fr, off)
	spi, first := slotIndex(off)
	if err := e.overwriteDynptr(fr, spi); err != nil {
		return err
	}
	s := &fr.stack[spi]
	var r *reg
	if value >= 0 {
		r = &e.st.fr().regs[value]
	}
	imm, isImm := e.storedImm()
	e.scratchedStack |= 1 << spi
	if e.lacks(CapPerfmon) && s.isSpill() && s.spilled.isPointer() && size != 8 {
		return e.reject(CodePermission, "attempt to corrupt spilled pointer on stack")
	}
	e.noteSpill(s, first, size, r)
	switch keeps := !e.lacks(CapBPF); {
	case keeps && r != nil && off%8 == 0 && r.typ == scalarValue:
		fits := r.fits(8 * size)
		if fits {
			e.linkScalar(r)
		}
		fr.spill(spi, r, size)
		if !fits {
			s.spilled.id = 0
		}
	case keeps && r == nil && off%8 == 0 && isImm:
		fr.spill(spi, &reg{Scalar: scalar.Imm(imm), typ: scalarValue, precise: e.opt.ExactStates}, size)
	case r != nil && r.isPointer() && r.typ.spillable():
		if size != 8 {
			e.printLine(e.insn, "; ")
			return e.reject(CodeType, "invalid size of register spill")
		}
		if fr != e.st.fr() && r.typ == ptrToStack {
			return e.reject(CodePermission, "cannot spill pointers to stack into stack frame of the caller")
		}
		fr.spill(spi, r, size)
	default:
		s.scrub()
		if size == 8 {
			fr.written |= 1 << spi
		}
		typ := slotMisc
		if r != nil && r.isNull() || r == nil && isImm && imm == 0 {
			if value >= 0 {
				// the zero in the slot stands for itself from here on
				if err := e.markPrecise(value); err != nil {
					return err
				}
			}
			typ = slotZero
		}
		for i := 0; i < size; i++ {
			s.typ[(first-i)&7] = typ
		}
		return nil
	}
	e.pushHist(histStack, int(fr.no), spi)
	return nil
}

// writeStackVar stores somewhere in [lo, end): every byte of the range may have changed, none is sure to have.
func (e *env) writeStackVar(fr *frame, lo, end, value int) error {
	e.noteStackAccess(fr, lo)
	imm, isImm := e.storedImm()
	zero := value >= 0 && e.st.fr().regs[value].isNull() || value < 0 && isImm && imm == 0
	zeroUsed := false
	if err := e.overwriteDynptrs(fr, lo, end); err != nil {
		return err
	}
	for off := lo; off < end; off++ {
		spi, i := slotIndex(off)
		s := &fr.stack[spi]
		e.scratchedStack |= 1 << spi
		if e.lacks(CapPerfmon) && s.typ[i] != slotMisc && s.typ[i] != slotZero {
			return e.reject(CodePermission, "spilled ptr in range of var-offset stack write; insn %d, ptr off: %d", e.insn, off)
		}
		if zero && s.typ[i] == slotSpill && s.isScalarSpill() && s.spilled.isNull() {
			zeroUsed = true
			continue
		}
		s.scrub()
		if zero && s.typ[i] == slotZero {
			zeroUsed = true
			continue
		}
		s.typ[i] = slotMisc
	}
	if zeroUsed && value >= 0 {
		return e.markPrecise(value)
	}
	return nil
}

// readStack loads size bytes through the pointer in operand op into register dst, or only checks them if dst < 0
// (check_stack_read).
func (e *env) readStack(op, off, size, dst int) error {
	r := &e.st.fr().regs[op]
	if r.Var.IsConst() {
		fr, lo, _, err := e.stackBounds(op, off, size, accessRead)
		if err != nil {
			return err
		}
		return e.readStackFixed(fr, lo, size, dst)
	}
	if dst >= 0 && e.lacks(CapPerfmon) {
		return e.reject(CodePermission, "%s variable offset stack access prohibited for !root, var_off=%s", operandName(op), r.Var)
	}
	if dst < 0 {
		return e.reject(CodeType, "variable offset stack pointer cannot be passed into helper function; var_off=%s off=%d size=%d", r.Var, off, size)
	}
	fr, lo, hi, err := e.stackBounds(op, off, size, accessRead)
	if err != nil {
		return err
	}
	if err := e.noObject(fr, lo, hi+size, func(_, i int) error {
		return e.reject(CodeUninit, "invalid read from stack %s var_off %s+%d size %d", operandName(op), r.Var, i, size)
	}); err != nil {
		return err
	}
	e.noteStackAccess(fr, lo)
	for o := lo; o < hi+size; o++ {
		spi, _ := slotIndex(o)
		e.markRead(int(fr.no), spi)
	}
	e.loadBytes(fr, lo, hi+size, dst)
	return nil
}

// loadBytes gives dst the value of bytes that are no spill: zero if all of [lo, end) are known zeroes, else anything
// (mark_reg_stack_read).
func (e *env) loadBytes(fr *frame, lo, end, dst int) {
	d := &e.st.fr().regs[dst]
	for off := lo; off < end; off++ {
		spi, i := slotIndex(off)
		e.scratchedStack |= 1 << spi
		if fr.stack[spi].typ[i] != slotZero {
			e.setUnknown(d)
			return
		}
	}
	e.setConst(d, 0)
}

func (e *env) readStackFixed(fr *frame, off, size, dst int) error {
	e.noteStackAccess(fr, off)
	spi, first := slotIndex(off)
	s := &fr.stack[spi]
	e.scratchedStack |= 1 << spi
	e.markRead(int(fr.no), spi)
	if !s.isSpill() {
		if err := e.noObject(fr, off, off+size, func(off, i int) error {
			return e.reject(CodeUninit, "invalid read from stack off %d+%d size %d", off, i, size)
		}); err != nil {
			return err
		}
		if dst >= 0 {
			e.loadBytes(fr, off, off+size, dst)
		}
		return nil
	}
	spillSize := 1
	for i := 7; i > 0 && s.typ[i-1] == slotSpill; i-- {
		spillSize++
	}
	if size == 8 && spillSize == 8 {
		if dst >= 0 {
			e.st.fr().regs[dst] = s.spilled
		} else if e.lacks(CapPerfmon) && s.spilled.isPointer() {
			return e.reject(CodePermission, "leaking pointer from stack off %d", off)
		}
		e.pushHist(histStack, int(fr.no), spi)
		return nil
	}
	if s.spilled.typ != scalarValue {
		e.printLine(e.insn, "; ")
		return e.reject(CodeType, "invalid size of register fill")
	}
	if dst < 0 {
		return nil
	}
	d := &e.st.fr().regs[dst]
	if size <= spillSize && off%8 == 0 {
		// little-endian: the low bytes of the spilled value
		*d = s.spilled
		if !s.spilled.fits(8 * size) {
			d.clearID()
		}
		e.pushHist(histStack, int(fr.no), spi)
		return nil
	}
	spills, zeros := 0, 0
	for i := 0; i < size; i++ {
		switch t := s.typ[(first-i)&7]; {
		case t == slotSpill:
			spills++
		case t == slotZero:
			zeros++
		case !e.canRead(t):
			return e.reject(CodeUninit, "invalid read from stack off %d+%d size %d", off, i, size)
		}
	}
	switch {
	case spills == size && s.spilled.isNull():
		e.setConst(d, 0)
		e.pushHist(histStack, int(fr.no), spi)
	case zeros == size:
		e.setConst(d, 0)
	default:
		e.setUnknown(d)
	}
	return nil
}

// helperStack checks that a helper or kfunc may read or write size bytes of stack through operand op; what it writes
// becomes unknown bytes (check_stack_range_initialized). raw means that the memory need not be initialised; then the
// caller marks the bytes as written.
func (e *env) helperStack(op, off, size int, kind accessKind, zeroOK, raw bool) error {
	if size == 0 && !zeroOK {
		return e.reject(CodeBounds, "invalid zero-sized read")
	}
	how, extra := e.helperWords(kind)
	bounds := kind
	if !e.has(helperDirection) {
		bounds = accessWrite // bytes that were never written are found below
	}
	fr, lo, hi, err := e.stackBoundsAs(op, off, size, bounds, how)
	if err != nil {
		return err
	}
	if e.lacks(CapPerfmon) && lo != hi {
		return e.reject(CodePermission, "%s%s variable offset stack access prohibited for !root, var_off=%s", operandName(op), extra, e.st.fr().regs[op].Var)
	}
	if raw && lo == hi {
		return e.writesDynptr(fr, lo, lo+size)
	}
	if err := e.noObject(fr, lo, hi+size, func(off, i int) error {
		return e.reject(CodeUninit, "invalid%s read from stack %s off %d+%d size %d", extra, operandName(op), off, i, size)
	}); err != nil {
		return err
	}
	for o := lo; o < hi+size; o++ {
		spi, i := slotIndex(o)
		s := &fr.stack[spi]
		if s.typ[i] == slotSpill {
			if e.lacks(CapPerfmon) && s.spilled.isPointer() {
				return e.reject(CodePermission, "invalid%s read from stack %s off %d+%d size %d", extra, operandName(op), lo, o-lo, size)
			}
			if kind == accessWrite {
				s.scrub()
			}
		} else if kind == accessWrite {
			s.typ[i] = slotMisc
		}
		e.markRead(int(fr.no), spi)
	}
	return nil
}

// helperWords is how a helper's or kfunc's access of the stack is called, and what stands beside "read" where no direction is known.
func (e *env) helperWords(kind accessKind) (how, extra string) {
	if e.has(helperDirection) {
		return kind.String(), ""
	}
	return "indirect access to", " indirect"
}

// fillStack marks size bytes as written with unknown values by a helper.
func (e *env) fillStack(op, off, size int) error {
	fr, lo, _, err := e.stackBounds(op, off, size, accessWrite)
	if err != nil {
		return err
	}
	e.noteStackAccess(fr, lo)
	for o := lo; o < lo+size; o++ {
		spi, i := slotIndex(o)
		s := &fr.stack[spi]
		if e.lacks(CapPerfmon) && s.isSpill() && s.spilled.isPointer() {
			return e.reject(CodePermission, "attempt to corrupt spilled pointer on stack")
		}
		s.scrub()
		s.typ[i] = slotMisc
		e.scratchedStack |= 1 << spi
	}
	return nil
}

// constantKey returns the value of a 4-byte map key on the stack if it is known (get_constant_map_key). The slot it
// came from becomes precise.
func (e *env) constantKey(op, size int) (uint32, bool, error) {
	r := &e.st.fr().regs[op]
	if r.typ != ptrToStack || !r.Var.IsConst() || size != 4 || e.lacks(CapBPF) {
		return 0, false, nil
	}
	fr := e.st.frames[r.aux]
	spi, first := slotIndex(int(r.off) + int(r.Var.Value))
	s := &fr.stack[spi]
	zeros, spills := 0, 0
	for i := first; i >= 0 && s.typ[i] == slotZero; i-- {
		zeros++
	}
	if zeros >= size {
		return 0, true, nil
	}
	for i := first; i >= 0 && s.typ[i] == slotSpill; i-- {
		spills++
	}
	if !s.isScalarSpill() || spills != size || !s.spilled.Var.IsConst() || !keyIs(first, s.spilled.Var.Value) {
		return 0, false, nil
	}
	if e.opt.ExactStates {
		return uint32(s.spilled.Var.Value), true, nil
	}
	e.bt.reset(e.st.cur)
	e.bt.stack[r.aux] |= 1 << spi
	return uint32(s.spilled.Var.Value), true, e.trace()
}

// keyIs reports whether a key that begins at byte first of a slot is the number spilled there. The kernel takes the upper
// half of the slot for the whole number, too; only of zero that is true.
func keyIs(first int, spilled uint64) bool { return spilled == 0 || first == 7 && spilled>>32 == 0 }
