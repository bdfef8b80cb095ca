package verifier

// Objects that the kernel keeps on the program's stack: iterators, flags of sections without interrupts, dynptrs. Their bytes can be neither read
// nor counted on, and overwriting one loses the object.

// objectSlots returns the n slots of the object that operand op points to, the one of the lowest address first, nil if the stack does
// not reach there yet (stack_slot_obj_get_spi). what names the kind of object.
func (e *env) objectSlots(op, n int, what string) (slots []*stackSlot, spi int, err error) {
	r := &e.st.fr().regs[op]
	if !r.Var.IsConst() {
		return nil, 0, e.reject(CodePointerMath, "%s has to be at a constant offset", what)
	}
	off := int(r.off) + int(int64(r.Var.Value))
	if off%8 != 0 || off > 0 || off == 0 && e.has(nothingAtFrame) || max(-off/8, 1) < n {
		return nil, 0, e.reject(CodePointerMath, "cannot pass in %s at an offset=%d", what, off)
	}
	spi, _ = slotIndex(off)
	fr := e.st.frames[r.aux]
	if off == 0 || spi >= len(fr.stack) { // what lies above the stack is found out by the first access
		return nil, spi, nil
	}
	slots = make([]*stackSlot, n)
	for i := range slots {
		slots[i] = &fr.stack[spi-i]
	}
	return slots, spi, nil
}

// holds reports whether any byte of the slot is of type t.
func (s *stackSlot) holds(t uint8) bool {
	for _, have := range s.typ {
		if have == t {
			return true
		}
	}
	return false
}

// isWhole reports whether all bytes of the slot are of type t.
func (s *stackSlot) isWhole(t uint8) bool {
	for _, have := range s.typ {
		if have != t {
			return false
		}
	}
	return true
}

// fill makes all bytes of the slot of type t.
func (s *stackSlot) fill(t uint8) {
	for i := range s.typ {
		s.typ[i] = t
	}
}

// isObject reports whether a byte of type t is one of an object's (is_stack_slot_special).
func isObject(t uint8) bool { return t == slotIter || t == slotIRQ || t == slotDynptr }

// noObject rejects reads of an object's bytes, and of others that may not be read, in [lo, end) of a frame; op is the pointer, size the access.
func (e *env) noObject(fr *frame, lo, end int, reject func(off, i int) error) error {
	for o := lo; o < end; o++ {
		spi, i := slotIndex(o)
		if spi >= len(fr.stack) {
			continue
		}
		// as in the kernel, bytes beside a number that was spilled narrower than the slot may be read
		if s := &fr.stack[spi]; isObject(s.typ[i]) || !e.canRead(s.typ[i]) && !s.isScalarSpill() {
			return reject(lo, o-lo)
		}
	}
	return nil
}
