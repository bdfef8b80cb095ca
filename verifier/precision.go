package verifier

import (
	"fmt"
	"math/bits"
	"strings"

	"github.com/skep-bpf/skep/internal/isa"
)

// Precision. Scalars are imprecise at first: pruning treats two imprecise scalars as equal whatever their values. Where
// a value decides something (a pointer's offset, a branch, a size), the walk goes back over the instructions of the path
// and marks in every checkpoint passed the registers, stack slots and stack arguments that the value came from. Only
// marks in checkpoints matter: the current state is compared by its values, never by its marks.
//
// The walk back follows __mark_chain_precision and backtrack_insn of Linux; stack arguments add three rules: a load
// from r11 leads to the slot in the caller's frame, a store to r11 leads from the slot to its source, and slots are part
// of every mask because they are operands of a frame like registers.

// backtrack holds what still needs precision, per frame: operands and stack slots.
type backtrack struct {
	frame int
	regs  [isa.MaxFrames]uint32
	stack [isa.MaxFrames]uint64
	// faults: Options.Kernel618 has LikeFaults
	faults bool
}

func (b *backtrack) reset(frame int) { *b = backtrack{frame: frame, faults: b.faults} }

func (b *backtrack) empty() bool {
	var all uint64
	for i := 0; i <= b.frame; i++ {
		all |= uint64(b.regs[i]) | b.stack[i]
	}
	return all == 0
}

func (b *backtrack) has(r isa.Reg) bool { return b.regs[b.frame]>>r&1 != 0 }
func (b *backtrack) set(r isa.Reg)      { b.regs[b.frame] |= 1 << r }
func (b *backtrack) clear(r isa.Reg)    { b.regs[b.frame] &^= 1 << r }

// errImprecise asks for the conservative way out: everything becomes precise.
type errImprecise struct{}

func (errImprecise) Error() string { return "cannot backtrack" }

// pushHist records the current instruction, or adds to its record (push_insn_history).
func (e *env) pushHist(flags uint8, frame, spi int) {
	if h := e.histTop; h != nil {
		h.flags |= flags
		if flags&histStack != 0 {
			h.frame, h.spi = uint8(frame), uint8(spi)
		}
		return
	}
	e.st.hist = append(e.st.hist, histEntry{idx: int32(e.insn), prev: int32(e.prev), flags: flags, frame: uint8(frame), spi: uint8(spi)})
	e.histTop = &e.st.hist[len(e.st.hist)-1]
}

func (e *env) pushLinked(l linkedRegs) {
	e.pushHist(0, 0, 0)
	e.histTop.linked = l
}

// markPrecise marks operand op of the innermost frame, and all it came from, as precise (mark_chain_precision).
func (e *env) markPrecise(op int) error {
	if e.opt.ExactStates {
		return nil
	}
	e.bt.reset(e.st.cur)
	r := &e.st.fr().regs[op]
	if r.typ != scalarValue {
		return e.reject(CodeInternal, "verifier bug: precision of %s, which is no scalar", operandName(op))
	}
	e.bt.regs[e.st.cur] |= 1 << op
	return e.trace()
}

// shownFirst is the first instruction of a state as the log has it: a callback that runs on its own has 0 until its first checkpoint
// (push_async_cb leaves first_insn_idx alone).
func shownFirst(st *state, first int) int {
	if st.parent == nil && st.frames[0].async != asyncNone {
		return 0
	}
	return first
}

// trace walks back from the current instruction until nothing in e.bt is left.
func (e *env) trace() error {
	st := e.st
	first, last, next := st.first, e.insn, -1
	skip := true
	bt := &e.bt
	for {
		if bt.empty() {
			return nil
		}
		if e.log.all() {
			e.log.printf("mark_precise: frame%d: last_idx %d first_idx %d subseq_idx %d \n", bt.frame, last, shownFirst(st, first), next)
		}
		if last < 0 {
			return e.traceEntry(st)
		}
		hist := st.hist
		for i := last; ; {
			if skip {
				skip = false
			} else {
				var h *histEntry
				if n := len(hist); n > 0 && int(hist[n-1].idx) == i {
					h = &hist[n-1]
				}
				if err := e.traceInsn(i, next, h); err != nil {
					if _, ok := err.(errImprecise); ok {
						e.forcePrecise(e.st)
						bt.reset(0)
						return nil
					}
					return err
				}
			}
			if bt.empty() {
				return nil
			}
			next = i
			var ok bool
			if i, ok = prevInsn(st, i, &hist); !ok {
				break
			}
			if i < 0 || i >= len(e.prog.Insns) {
				return e.reject(CodeInternal, "BUG backtracking idx %d", i)
			}
		}
		if st = st.parent; st == nil {
			break
		}
		if err := e.markState(st); err != nil {
			return err
		}
		next, last, first = first, st.last, st.first
	}
	if !bt.empty() {
		e.forcePrecise(e.st)
		bt.reset(0)
	}
	return nil
}

// prevInsn steps back from instruction i inside the piece of way that st.hist describes; false at its beginning
// (get_prev_insn_idx).
func prevInsn(st *state, i int, hist *[]histEntry) (int, bool) {
	h := *hist
	if i == st.first && (len(h) == 0 || len(h) == 1 && int(h[0].idx) == i) {
		return 0, false
	}
	if n := len(h); n > 0 && int(h[n-1].idx) == i {
		*hist = h[:n-1]
		return int(h[n-1].prev), true
	}
	return i - 1, true
}

// traceEntry ends the walk at the entry of a global function: its arguments may be anything.
func (e *env) traceEntry(st *state) error {
	bt := &e.bt
	if st.cur == 0 && st.frames[0].fn > 0 && bt.stack[0] == 0 && bt.regs[0]&^argRegs == 0 {
		for m := bt.regs[0]; m != 0; m &= m - 1 {
			if r := &st.frames[0].regs[bits.TrailingZeros32(m)]; r.typ == scalarValue {
				e.markScalar(r)
			}
		}
		bt.reset(0)
		return nil
	}
	return e.reject(CodeInternal, "BUG backtracking func entry subprog %d reg_mask %x stack_mask %x", st.frames[0].fn, bt.regs[0], bt.stack[0])
}

// markState sets the marks in a checkpoint; what was marked there before needs no more tracing.
func (e *env) markState(st *state) error {
	bt := &e.bt
	for f := bt.frame; f >= 0; f-- {
		fr := st.frames[f]
		if fr == nil {
			return e.reject(CodeInternal, "BUG backtracking: frame %d does not exist", f)
		}
		for m := bt.regs[f]; m != 0; m &= m - 1 {
			i := bits.TrailingZeros32(m)
			if r := &fr.regs[i]; r.typ != scalarValue || r.precise {
				bt.regs[f] &^= 1 << i
			} else {
				e.markScalar(r)
			}
		}
		for m := bt.stack[f]; m != 0; m &= m - 1 {
			i := bits.TrailingZeros64(m)
			if i >= len(fr.stack) {
				return e.reject(CodeInternal, "BUG backtracking (stack slot %d, total slots %d)", i, len(fr.stack))
			}
			if s := &fr.stack[i]; !s.isScalarSpill() || s.spilled.precise {
				bt.stack[f] &^= 1 << i
			} else {
				e.markScalar(&s.spilled)
			}
		}
		if e.log.all() {
			e.log.printf("mark_precise: frame%d: parent state regs=%s stack=%s: ", f, regMask(bt.regs[f]), stackMask(bt.stack[f]))
			e.printState(st, fr, true)
		}
	}
	return nil
}

// forcePrecise marks every scalar of every checkpoint above (mark_all_scalars_precise).
func (e *env) forcePrecise(st *state) {
	if e.log.all() {
		e.log.printf("mark_precise: frame%d: falling back to forcing all scalars precise\n", st.cur)
	}
	// marks only grow: above a checkpoint that was forced everything is
	for st = st.parent; st != nil && !st.forced; st = st.parent {
		st.forced = true
		for f := 0; f <= st.cur; f++ {
			fr := st.frames[f]
			for i := range fr.regs {
				if e.force(&fr.regs[i]) {
					e.log.printf("force_precise: frame%d: forcing %s to be precise\n", f, regMask(1<<i))
				}
			}
			for i := range fr.stack {
				if fr.stack[i].isSpill() && e.force(&fr.stack[i].spilled) {
					e.log.printf("force_precise: frame%d: forcing fp%d to be precise\n", f, -8*(i+1))
				}
			}
		}
	}
}

// force marks a scalar that is not marked yet, and reports whether that is worth a line in the log.
func (e *env) force(r *reg) bool {
	if r.typ != scalarValue || r.precise {
		return false
	}
	e.markScalar(r)
	return e.log.all()
}

func (e *env) markScalar(r *reg) {
	r.precise = true
	e.marks++
}

// forgetPrecise takes the marks off a state that becomes a checkpoint: what follows decides them anew
// (mark_all_scalars_imprecise).
func (e *env) forgetPrecise(st *state) {
	if e.opt.ExactStates {
		return
	}
	st.eachReg(func(r *reg) {
		if r.typ == scalarValue {
			r.precise = false
		}
	})
}

// traceInsn moves the masks from behind instruction idx to before it. next is the instruction that was executed after
// it on this path.
func (e *env) traceInsn(idx, next int, h *histEntry) error {
	in := e.prog.Insns[idx]
	if in.Op == 0 {
		return nil // the second slot of a 64-bit immediate load is no instruction
	}
	bt := &e.bt
	if e.log.all() {
		e.log.printf("mark_precise: frame%d: regs=%s stack=%s before %d: ", bt.frame, regMask(bt.regs[bt.frame]), stackMask(bt.stack[bt.frame]), idx)
		e.log.buf = append(isa.AppendText(e.log.buf, e.prog.Insns, idx, &e.names), '\n')
	}
	e.traceLinked(h)
	var err error
	switch in.Class() {
	case isa.ClassALU, isa.ClassALU64:
		traceALU(bt, in)
	case isa.ClassLDX:
		err = traceLoad(bt, in, in.Dst, h)
	case isa.ClassSTX, isa.ClassST:
		err = traceStore(bt, in, h)
	case isa.ClassJMP, isa.ClassJMP32:
		err = e.traceJump(idx, next, in, h)
	case isa.ClassLD:
		err = traceLD(bt, in, idx, next)
	}
	if err == nil {
		e.traceLinked(h)
	}
	return err
}

// traceLinked: registers that gained their range together need their precision together (bt_sync_linked_regs).
func (e *env) traceLinked(h *histEntry) {
	if h == nil || h.linked.n == 0 {
		return
	}
	bt := &e.bt
	some := false
	for _, p := range h.linked.at[:h.linked.n] {
		if p.stack {
			some = some || bt.stack[p.frame]>>p.index&1 != 0
		} else {
			some = some || bt.regs[p.frame]>>p.index&1 != 0
		}
	}
	if !some {
		return
	}
	for _, p := range h.linked.at[:h.linked.n] {
		if p.stack {
			bt.stack[p.frame] |= 1 << p.index
		} else {
			bt.regs[p.frame] |= 1 << p.index
		}
	}
}

func traceALU(bt *backtrack, in isa.Insn) {
	if !bt.has(in.Dst) {
		return
	}
	switch in.AluOp() {
	case isa.AluEND, isa.AluNEG:
		return
	case isa.AluMOV:
		bt.clear(in.Dst)
	}
	if in.SrcIsReg() && in.Src != isa.R10 {
		bt.set(in.Src)
	}
}

// traceLoad: only what was filled from a spill on the stack, or from a stack argument, came from a tracked place.
func traceLoad(bt *backtrack, in isa.Insn, dst isa.Reg, h *histEntry) error {
	if !bt.has(dst) {
		return nil
	}
	bt.clear(dst)
	if in.IsStackArgLoad() {
		if bt.frame == 0 {
			return errImprecise{}
		}
		bt.regs[bt.frame-1] |= 1 << (firstSlot + slotOf(in))
		return nil
	}
	if h != nil && h.flags&histStack != 0 {
		bt.stack[h.frame] |= 1 << h.spi
	}
	return nil
}

func traceStore(bt *backtrack, in isa.Insn, h *histEntry) error {
	if in.IsStackArgStore() {
		op := isa.Reg(firstSlot + slotOf(in))
		if bt.has(op) {
			bt.clear(op)
			if in.Class() == isa.ClassSTX {
				bt.set(in.Src)
			}
		}
		return nil
	}
	if in.Mode() == isa.ModeATOMIC {
		switch k := in.Info().Kind; {
		case k == isa.KindLoadAcquire:
			return traceLoad(bt, in, in.Dst, h)
		case bt.faults: // taken for a store
		case k == isa.KindAtomicFetch, k == isa.KindXchg:
			return traceLoad(bt, in, in.Src, h)
		case k == isa.KindCmpxchg:
			return traceLoad(bt, in, isa.R0, h)
		}
	}
	if bt.has(in.Dst) {
		return errImprecise{} // a store through what is traced as a scalar: pointer subtraction
	}
	if h == nil || h.flags&histStack == 0 || bt.stack[h.frame]>>h.spi&1 == 0 {
		return nil
	}
	bt.stack[h.frame] &^= 1 << h.spi
	if in.Class() == isa.ClassSTX {
		bt.set(in.Src)
	}
	return nil
}

func traceLD(bt *backtrack, in isa.Insn, idx, next int) error {
	if in.Mode() == isa.ModeIMM {
		bt.clear(in.Dst)
		return nil
	}
	// legacy packet load: sets r0; its failing branch leaves the function
	if bt.has(isa.R0) {
		return errImprecise{}
	}
	if next != idx+1 {
		return bt.enter()
	}
	return nil
}

// enter goes, backwards, into a function that returned.
func (b *backtrack) enter() error {
	if b.frame == isa.MaxFrames-1 {
		return errImprecise{}
	}
	b.frame++
	b.regs[b.frame], b.stack[b.frame] = 0, 0
	return nil
}

func (e *env) traceJump(idx, next int, in isa.Insn, h *histEntry) error {
	bt := &e.bt
	switch {
	case in.IsPseudoCall():
		return e.traceCall(idx)
	case e.aux[idx].callback && next != idx+1:
		return e.traceRound(idx)
	case in.IsCall():
		bt.clear(isa.R0)
		if bt.regs[bt.frame]&(argRegs|slotMask) != 0 {
			return e.reject(CodeInternal, "BUG regs %x", bt.regs[bt.frame])
		}
		if in.IsHelperCall() && in.Imm == fnTailCall && next != idx+1 {
			return bt.enter() // it succeeded: what follows is the caller of the function it stands in
		}
	case in.IsExit():
		if next >= 0 && e.aux[next].callback {
			bt.regs[bt.frame] &^= argRegs // what the call reads was asked for when it was walked first
		}
		r0 := next > 0 && e.prog.Insns[next-1].IsPseudoCall() && bt.has(isa.R0)
		if bt.regs[bt.frame]&(argRegs|slotMask) != 0 {
			return e.reject(CodeInternal, "BUG regs %x", bt.regs[bt.frame])
		}
		bt.clear(isa.R0)
		if err := bt.enter(); err != nil {
			return err
		}
		if r0 {
			bt.set(isa.R0)
		}
	case in.JmpOp() == isa.JmpJA, in.IsMayGoto():
	case in.SrcIsReg():
		if !bt.has(in.Dst) && !bt.has(in.Src) {
			return nil
		}
		if h == nil || h.flags&histSrcStack == 0 {
			bt.set(in.Src)
		}
		if h == nil || h.flags&histDstStack == 0 {
			bt.set(in.Dst)
		}
	}
	return nil
}

const slotMask = uint32(1<<numOperands - 1<<firstSlot)

// traceCall leaves, backwards, a function through its entry, or passes the call of a global function.
func (e *env) traceCall(idx int) error {
	bt := &e.bt
	if e.prog.Funcs[e.callTarget(idx)].Global {
		bt.clear(isa.R0)
		if bt.regs[bt.frame]&(argRegs|slotMask) != 0 {
			return e.reject(CodeInternal, "BUG regs %x", bt.regs[bt.frame])
		}
		return nil
	}
	if bt.regs[bt.frame]&^argRegs != 0 || bt.stack[bt.frame] != 0 {
		return e.reject(CodeInternal, "BUG regs %x stack slots %x", bt.regs[bt.frame], bt.stack[bt.frame])
	}
	if bt.frame == 0 {
		return e.reject(CodeInternal, "BUG backtracking call at %d out of the outermost frame", idx)
	}
	bt.regs[bt.frame-1] |= bt.regs[bt.frame]
	bt.regs[bt.frame] = 0
	bt.frame--
	return nil
}

// traceRound leaves, backwards, a callback through its entry to the call at idx, whose helper made the arguments.
func (e *env) traceRound(idx int) error {
	bt := &e.bt
	if bt.regs[bt.frame]&^argRegs != 0 || bt.stack[bt.frame] != 0 {
		return e.reject(CodeInternal, "BUG regs %x callback stack slots %x", bt.regs[bt.frame], bt.stack[bt.frame])
	}
	if bt.frame == 0 {
		return e.reject(CodeInternal, "BUG backtracking callback of %d out of the outermost frame", idx)
	}
	bt.regs[bt.frame] = 0
	bt.frame--
	return nil
}

// regMask and stackMask name the members of a mask as the log does: "r1,r3", "-8,-16".
func regMask(m uint32) string {
	var out []string
	for ; m != 0; m &= m - 1 {
		if i := bits.TrailingZeros32(m); i < firstSlot {
			out = append(out, fmt.Sprintf("r%d", i))
		} else {
			out = append(out, operandName(i))
		}
	}
	return strings.Join(out, ",")
}

func stackMask(m uint64) string {
	var out []string
	for ; m != 0; m &= m - 1 {
		out = append(out, fmt.Sprintf("%d", -8*(bits.TrailingZeros64(m)+1)))
	}
	return strings.Join(out, ",")
}
