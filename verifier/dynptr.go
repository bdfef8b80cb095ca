package verifier

import (
	"fmt"

	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/isa"
)

// Dynptrs: a dynptr is an object on the program's stack that knows a range of memory whose length is known only when the program
// runs. Helpers and kfuncs make it, read and write through it with checks of their own, and give pointers to constant lengths of
// it (slices), or NULL.
//
// The object takes two slots, whose bytes can be neither read nor counted on; overwriting one of them ends the dynptr, and with
// it the slices that were taken of it. A dynptr of a ring buffer's record holds a reference, and so do its clones, the same one:
// giving it back ends all of them and their slices. Slices of a packet end where the packet may move.
//
// As process_dynptr_func, mark_stack_slots_dynptr, unmark_stack_slots_dynptr and destroy_if_dynptr_stack_slot of Linux.

// DynptrKind is what memory a dynptr is of (enum bpf_dynptr_type).
type DynptrKind uint8

// The kinds of dynptrs.
const (
	DynptrAny     DynptrKind = iota // as an argument: any of them
	DynptrLocal                     // a map's value
	DynptrRingBuf                   // a record of a ring buffer, to be submitted or discarded
	DynptrSkb                       // the packet behind a context with a socket buffer
	DynptrXDP                       // the packet of an XDP program
	DynptrSkbMeta                   // the metadata in front of such a packet
)

var dynptrNames = [...]string{DynptrAny: "", DynptrLocal: "local", DynptrRingBuf: "ringbuf", DynptrSkb: "skb", DynptrXDP: "xdp", DynptrSkbMeta: "skb_meta"}

// String is the kernel's name of the kind (dynptr_type_str).
func (k DynptrKind) String() string { return dynptrNames[k] }

// counted reports whether dynptrs of the kind hold a reference (dynptr_type_refcounted).
func (k DynptrKind) counted() bool { return k == DynptrRingBuf }

// inPacket reports whether slices of the kind point into the packet.
func (k DynptrKind) inPacket() bool { return k == DynptrSkb || k == DynptrXDP || k == DynptrSkbMeta }

// movesByWrite reports whether writing to a dynptr of the kind can move the packet.
func (k DynptrKind) movesByWrite() bool { return k == DynptrSkb || k == DynptrSkbMeta }

// A slice's type has the kind of its dynptr in bits of its own (DYNPTR_TYPE_FLAG_MASK).
const (
	sliceShift         = 28
	sliceMask  regType = 7 << sliceShift
)

func (k DynptrKind) flag() regType { return regType(k) << sliceShift }

// isPacketSlice reports whether t points into the packet by way of a dynptr (reg_is_dynptr_slice_pkt).
func (t regType) isPacketSlice() bool {
	return t.base() == ptrToMem && DynptrKind(t&sliceMask>>sliceShift).inPacket()
}

const dynptrSlots = 2

// What stands for a dynptr in its two slots: id is its own, ref its reference, aux its kind, off which of the slots it is.
const (
	dynptrSecond int32 = iota // the slot of the higher address
	dynptrFirst
)

// markDynptr makes r one of the two slots of a dynptr, or a pointer to a dynptr that is not the program's (__mark_dynptr_reg).
func markDynptr(r *reg, k DynptrKind, first int32, id uint32) {
	setPtr(r, constPtrToDynptr)
	r.id, r.aux, r.off = id, int32(k), first
}

// isDynptr reports whether the slot is one of a dynptr's: all of its bytes are, or none.
func (s *stackSlot) isDynptr() bool { return s.typ[0] == slotDynptr }

// dynptrSlot returns the frame and the first slot of the dynptr that operand op points to, -1 if the stack does not reach there
// yet (dynptr_get_spi).
func (e *env) dynptrSlot(op int) (*frame, int, error) {
	r := &e.st.fr().regs[op]
	if !r.Var.IsConst() {
		return nil, 0, e.reject(CodePointerMath, "dynptr has to be at a constant offset")
	}
	off := int(r.off) + int(int64(r.Var.Value))
	if off%8 != 0 || off > -8*dynptrSlots {
		return nil, 0, e.reject(CodePointerMath, "cannot pass in dynptr at an offset=%d", off)
	}
	fr := e.st.frames[r.aux]
	spi, _ := slotIndex(off)
	if spi >= len(fr.stack) {
		return fr, -1, nil
	}
	return fr, spi, nil
}

// dynptrAt returns the register that stands for the dynptr which operand op points to, once that was checked.
func (e *env) dynptrAt(op int) *reg {
	r := &e.st.fr().regs[op]
	if r.typ == constPtrToDynptr {
		return r
	}
	spi, _ := slotIndex(int(r.off) + int(int64(r.Var.Value)))
	return &e.st.frames[r.aux].stack[spi].spilled
}

// dynptrArg is what a call does with a dynptr that it gets.
type dynptrArg struct {
	kind   DynptrKind
	uninit bool   // it makes one
	rdonly bool   // it leaves the dynptr itself as it is
	ref    uint32 // the reference that a clone shares
}

// useDynptr checks a dynptr argument in operand op (process_dynptr_func).
func (e *env) useDynptr(op int, a dynptrArg) error {
	r := &e.st.fr().regs[op]
	if r.typ != ptrToStack && r.typ != constPtrToDynptr {
		return e.reject(CodeType, "arg#%d expected pointer to stack or const struct bpf_dynptr", op-1)
	}
	if a.uninit {
		return e.newDynptr(op, a)
	}
	if r.typ == constPtrToDynptr && !a.rdonly {
		return e.reject(CodePermission, "cannot pass pointer to const bpf_dynptr, the helper mutates it")
	}
	if r.typ == ptrToStack {
		if err := e.knownDynptr(op); err != nil {
			return err
		}
	}
	if a.kind != DynptrAny && DynptrKind(e.dynptrAt(op).aux) != a.kind {
		return e.reject(CodeType, "Expected a dynptr of type %s as arg #%d", a.kind, op-1)
	}
	return nil
}

// knownDynptr checks that operand op points to a dynptr on the stack (is_dynptr_reg_valid_init).
func (e *env) knownDynptr(op int) error {
	const message = "Expected an initialized dynptr as arg #%d"
	fr, spi, err := e.dynptrSlot(op)
	if err != nil {
		return e.why(err, message, op-1)
	}
	if spi < 0 || !fr.stack[spi].isDynptr() || fr.stack[spi].spilled.off != dynptrFirst {
		return e.reject(CodeType, message, op-1)
	}
	e.markRead(int(fr.no), spi)
	e.markRead(int(fr.no), spi-1)
	e.scratchedStack |= 3 << (spi - 1)
	return nil
}

// newDynptr makes a dynptr of what operand op points to (mark_stack_slots_dynptr).
func (e *env) newDynptr(op int, a dynptrArg) error {
	const message = "Dynptr has to be an uninitialized dynptr"
	if e.st.fr().regs[op].typ == constPtrToDynptr {
		return e.reject(CodeType, message)
	}
	if _, _, err := e.dynptrSlot(op); err != nil {
		return e.why(err, message)
	}
	for off := 0; off < 8*dynptrSlots; off += 8 {
		if err := e.checkMem(op, off, 8, accessWrite, -1, false, false); err != nil {
			return err
		}
	}
	fr, spi, err := e.dynptrSlot(op)
	if err != nil || spi < 1 {
		return e.reject(CodeInternal, "verifier internal error: no slots for a dynptr")
	}
	e.idGen++
	id, ref := e.idGen, uint32(0)
	if a.kind.counted() {
		if ref = a.ref; ref == 0 {
			ref = e.acquireRef()
		}
	}
	for i, first := range []int32{dynptrFirst, dynptrSecond} {
		s := &fr.stack[spi-i]
		for j := range s.typ {
			s.typ[j] = slotDynptr
		}
		markDynptr(&s.spilled, a.kind, first, id)
		s.spilled.ref = ref
	}
	fr.written |= 3 << (spi - 1)
	e.scratchedStack |= 3 << (spi - 1)
	return nil
}

// dropDynptr makes the two slots of a dynptr, the first of which is spi, free stack (invalidate_dynptr).
func (e *env) dropDynptr(fr *frame, spi int) {
	fr.stack[spi], fr.stack[spi-1] = stackSlot{}, stackSlot{}
	fr.written |= 3 << (spi - 1)
	e.scratchedStack |= 3 << (spi - 1)
}

// overwriteDynptr ends the dynptr that slot spi belongs to, if it does, before something else is written there
// (destroy_if_dynptr_stack_slot).
func (e *env) overwriteDynptr(fr *frame, spi int) error {
	s := &fr.stack[spi]
	if !s.isDynptr() {
		return nil
	}
	if s.spilled.off != dynptrFirst {
		spi++
		s = &fr.stack[spi]
	}
	if DynptrKind(s.spilled.aux).counted() {
		return e.reject(CodeReference, "cannot overwrite referenced dynptr")
	}
	id := s.spilled.id
	e.dropDynptr(fr, spi)
	e.st.eachReg(func(r *reg) {
		// slices that cannot be written are left out, as the kernel has it: the memory is there still
		if t := r.typ &^ maybeNull; t == ptrToMem && uint32(r.rng) == id {
			e.invalidate(r)
		}
	})
	return nil
}

// overwriteDynptrs is overwriteDynptr for all bytes in [lo, end).
func (e *env) overwriteDynptrs(fr *frame, lo, end int) error {
	for off := lo; off < end; off++ {
		spi, _ := slotIndex(off)
		if err := e.overwriteDynptr(fr, spi); err != nil {
			return err
		}
	}
	return nil
}

// writesDynptr rejects memory that a helper is to fill where some of it is a dynptr: the helper may take that dynptr, too.
func (e *env) writesDynptr(fr *frame, lo, end int) error {
	for off := lo; off < end; off++ {
		if spi, i := slotIndex(off); spi < len(fr.stack) && fr.stack[spi].typ[i] == slotDynptr {
			return e.reject(CodePermission, "potential write to dynptr at off=%d disallowed", off)
		}
	}
	return nil
}

// releasableDynptr checks a dynptr argument whose reference the helper gives back.
func (e *env) releasableDynptr(op int) error {
	r := &e.st.fr().regs[op]
	if r.typ != ptrToStack {
		return e.reject(CodeReference, "cannot release unowned const bpf_dynptr")
	}
	message := fmt.Sprintf("arg %d is an unacquired reference", op)
	fr, spi, err := e.dynptrSlot(op)
	if err != nil {
		return e.why(err, "%s", message)
	}
	if spi < 0 || fr.stack[spi].spilled.ref == 0 { // whatever has one: what it is comes next
		return e.reject(CodeReference, "%s", message)
	}
	return nil
}

// releaseDynptr gives back the reference of the dynptr that operand op points to: its clones end with it, in every frame, and
// all slices (unmark_stack_slots_dynptr). The kernel (6.18) leaves clones in other frames alone.
func (e *env) releaseDynptr(op int) error {
	ref := e.dynptrAt(op).ref
	if !e.releaseRef(ref) {
		return e.reject(CodeInternal, "verifier internal error: a dynptr without reference")
	}
	for f := 0; f <= e.st.cur; f++ {
		fr := e.st.frames[f]
		for i := 1; i < len(fr.stack); i++ {
			if s := &fr.stack[i]; s.isDynptr() && s.spilled.ref == ref && s.spilled.off == dynptrFirst {
				e.dropDynptr(fr, i)
			}
		}
	}
	return nil
}

// dynptrSafe reports whether a slot of a dynptr of old covers one of cur. Their own ids do not matter: slices that name them are
// compared by them.
func (e *env) dynptrSafe(old, cur *reg) bool {
	return old.aux == cur.aux && old.off == cur.off && e.idmap.same(old.ref, cur.ref)
}

// appendDynptr writes the dynptr whose first slot is spi. What the kernel writes as dynptr_id is the mark of the first slot, which lies
// at the same place in its structure.
func appendDynptr(b []byte, r *reg, spi int) []byte {
	b = fmt.Appendf(b, " fp%d=dynptr_%s(", -8*(spi+1), DynptrKind(r.aux))
	if r.id != 0 {
		b = fmt.Appendf(sep(b), "id=%d", r.id)
	}
	if r.ref != 0 {
		b = fmt.Appendf(sep(b), "ref_id=%d", r.ref)
	}
	return append(b, ",dynptr_id=1)"...)
}

// Helpers on dynptrs.

// noteDynptr keeps what a call's result or effect depends on of a dynptr argument.
func (m *callMeta) noteDynptr(r *reg) {
	m.dynptr, m.dynptrID, m.dynptrRef = DynptrKind(r.aux), r.id, r.ref
}

// dynptrHelper checks what helpers on dynptrs ask beyond their arguments, and notes what they do.
func (e *env) dynptrHelper(id int32, m *callMeta) error {
	switch id {
	case fnDynptrFromMem:
		if r := &e.st.fr().regs[isa.R1]; r.typ != ptrToMapValue {
			return e.reject(CodeType, "Unsupported reg type %s for bpf_dynptr_from_mem data", r.typ)
		}
	case fnDynptrWrite:
		m.movesPacket = m.dynptr.movesByWrite()
	}
	return nil
}

// helperDynptr checks a helper's dynptr argument.
func (e *env) helperDynptr(op int, a *HelperArg, m *callMeta) error {
	if err := e.useDynptr(op, dynptrArg{kind: a.Dynptr, uninit: a.Uninit, rdonly: a.Const}); err != nil {
		return err
	}
	m.noteDynptr(e.dynptrAt(op))
	return nil
}

// Functions of the program.

// isDynptrType reports whether pointers to t are to dynptrs (btf_is_dynptr_ptr).
func isDynptrType(t btf.Type) bool {
	switch x := btf.UnderlyingType(t).(type) {
	case *btf.Struct:
		return x.Name == "bpf_dynptr"
	case *btf.Fwd:
		return x.Name == "bpf_dynptr" && x.Kind == btf.FwdStruct
	}
	return false
}

// passDynptr checks a dynptr that is passed to function f, which knows it as one of local memory. So its slices do not end where
// the packet moves: a function that can move it gets no dynptr of a packet. Nor do they end where the dynptr is written to, which moves
// the packet of a socket buffer: a function that writes to dynptrs gets none of one. The kernel (6.18) does not look.
func (e *env) passDynptr(op, f int) error {
	if err := e.argOffset(op, false); err != nil {
		return err
	}
	if err := e.useDynptr(op, dynptrArg{rdonly: true}); err != nil {
		return err
	}
	does, k := e.funcs[f].does, DynptrKind(e.dynptrAt(op).aux)
	if e.prog.Funcs[f].Global && (k.inPacket() && does&movesPacket != 0 || k.movesByWrite() && does&writesDynptr != 0) {
		return e.reject(CodePermission, "%s is a dynptr of the packet, which the function can move", argName(op-1))
	}
	return nil
}
