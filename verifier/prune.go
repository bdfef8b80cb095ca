package verifier

import (
	"cmp"

	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/scalar"
)

// Pruning. At a prune point the current state is compared with the checkpoints made there before. The theorem: if every
// value that the current state allows was already allowed by a checkpoint whose continuation was proven, the current
// path needs no more walking. "Already allowed" leaves out what cannot matter: registers that are dead, stack slots
// that nobody read afterwards, values of scalars that nothing decided on (not marked precise).
//
// What is left out is known only when the checkpoint's continuation is finished (branches == 0). Against an unfinished
// one a path may end only at may_goto, where the loop's budget ends the run, at a call with a callback, where the helper
// ends the rounds, and where an iterator is asked for the next element, which ends some day; such a comparison takes ranges of
// all scalars. What that means for the checkpoints above stands in backedge.go.

// compare levels.
type exactness uint8

const (
	byMarks    exactness = iota // precision and liveness are used
	byRange                     // all scalars are compared by range, all slots by type
	byEquality                  // the states must be the same: an infinite loop
)

// visited looks for a checkpoint that covers the current state at instruction pc, and makes one of it if it is time to
// (is_state_visited).
func (e *env) visited(pc int) (bool, error) {
	cur := e.st
	force := e.prog.Flags&flagTestStateFreq != 0 && !e.lacks(CapBPF) || e.opt.CheckpointEvery || e.aux[pc].force || len(cur.hist) > 40
	add := force
	if e.jumps-e.prevJumps >= 2 && e.processed-e.prevProcessed >= 8 {
		add = true
	}
	b := e.bucket(pc, cur)
	list := e.seen[b]
	for i := len(list) - 1; i >= 0; i-- {
		old := list[i]
		if old.insn != pc {
			continue
		}
		hit, err := e.covers(pc, old, cur)
		if err != nil {
			return false, err
		}
		if hit {
			old.hits++
			return true, e.reuse(old, cur, pc)
		}
		if old.branches > 0 && !force && e.jumps-e.prevJumps < 20 && e.processed-e.prevProcessed < 100 {
			add = false
		}
		if add {
			old.misses++
		}
		e.evict(b, i, old)
	}
	e.maxStates = max(e.maxStates, len(list))
	if !add || e.lacks(CapBPF) && len(list) > maxUnprivStates {
		return false, nil
	}
	e.checkpoint(pc)
	return false, e.checkBytes()
}

// checkBytes bounds the memory that kept and waiting states take.
func (e *env) checkBytes() error {
	if limit := cmp.Or(e.opt.StateBytes, defaultStateBytes); e.stateBytes+e.pendingBytes > limit {
		return e.reject(CodeTooComplex, "the states to compare with take more than %d bytes", limit)
	}
	return nil
}

// Sizes in bytes, near enough: a frame without its stack, eight bytes of stack, a reference.
const (
	defaultStateBytes = int64(2 << 30)
	frameBytes        = numOperands*96 + 128
	slotBytes         = 112
	refBytes          = 16
)

// stateSize is the memory that a kept state takes.
func stateSize(s *state) int64 {
	n := int64(refBytes * len(s.refs))
	for f := 0; f <= s.cur; f++ {
		n += int64(frameBytes + slotBytes*len(s.frames[f].stack))
	}
	return n
}

// bucket returns where checkpoints at instruction pc, in a function called from where st's innermost one was, are kept.
// Which states share a list decides when new ones are made, so the hash is the kernel's (explored_state).
func (e *env) bucket(pc int, st *state) int {
	return int((uint32(pc) ^ uint32(st.fr().callsite)) % uint32(len(e.seen)))
}

const flagTestStateFreq = 1 << 3 // BPF_F_TEST_STATE_FREQ

// evict drops a checkpoint that seldom covers anything from the list; descendants may still refer to it.
func (e *env) evict(bucket, i int, old *state) {
	n := 3
	if e.aux[old.insn].force && old.branches > 0 {
		n = 64
	}
	if old.misses <= old.hits*n+n {
		return
	}
	list := e.seen[bucket]
	e.seen[bucket] = append(list[:i:i], list[i+1:]...)
	if old.evicted = true; old.branches == 0 {
		e.states--
	}
}

// notePeak counts the states that are kept: checkpoints, evicted ones as long as paths below them are open, and back edges
// (update_peak_states).
func (e *env) notePeak() { e.peakStates = max(e.peakStates, e.states+e.loopEdges) }

// covers reports whether cur needs no walking because of old; an error is an infinite loop.
func (e *env) covers(pc int, old, cur *state) (bool, error) {
	if a, b := old.fr(), cur.fr(); old.branches > 0 && a.async != asyncNone && a.entries != b.entries {
		return false, nil // another beginning of a callback that runs on its own is no round of a loop
	}
	if old.branches == 0 {
		level := byMarks
		if old.incomplete && e.careful {
			level = byRange
		}
		return e.statesEqual(old, cur, level), nil
	}
	if e.prog.Insns[pc].IsMayGoto() && old.mayGoto != cur.mayGoto && e.statesEqual(old, cur, byRange) {
		return true, nil
	}
	if e.aux[pc].callback {
		return e.statesEqual(old, cur, byRange), nil
	}
	if e.aux[pc].iterNext {
		return e.nextIsActive(cur) && e.statesEqual(old, cur, byRange), nil
	}
	if old.mayGoto == cur.mayGoto && old.unrolled == cur.unrolled && !depthsDiffer(old, cur) && maybeLooping(old, cur) && e.statesEqual(old, cur, byEquality) {
		e.printLine(pc, "; ")
		err := e.reject(CodeInfiniteLoop, "infinite loop detected at insn %d", pc)
		if e.log.level != 0 {
			e.log.printf("cur state:")
			e.printState(cur, cur.fr(), true)
			e.log.printf("old state:")
			e.printState(old, old.fr(), true)
		}
		return false, err
	}
	return false, nil
}

// maybeLooping is a quick look whether the innermost frames could be the same.
func maybeLooping(old, cur *state) bool {
	if old.cur != cur.cur {
		return false
	}
	a, b := old.fr(), cur.fr()
	for i := range a.regs {
		x, y := a.regs[i], b.regs[i]
		x.precise, y.precise = false, false
		if x != y {
			return false
		}
	}
	return true
}

// reuse ends the current path at a checkpoint that covers it: what the checkpoint's continuation reads and decides on
// holds for this path too.
func (e *env) reuse(old, cur *state, pc int) error {
	e.propagateReads(old, cur)
	if e.aux[pc].jump {
		e.pushHist(0, 0, 0)
	}
	if old.branches > 0 || old.incomplete {
		e.addBackEdge(old, cur)
	}
	return e.propagatePrecision(old, cur)
}

// propagateReads marks the stack slots that old's continuation reads as read in what leads to cur.
func (e *env) propagateReads(old, cur *state) {
	for f := 0; f <= old.cur; f++ {
		fr := old.frames[f]
		for m, spi := fr.read, 0; m != 0; m, spi = m>>1, spi+1 {
			if m&1 != 0 {
				e.markRead(f, spi)
			}
		}
	}
}

// propagatePrecision asks of the way to cur the precision that old's continuation needs (propagate_precision).
func (e *env) propagatePrecision(old, cur *state) error {
	if e.opt.ExactStates {
		return nil
	}
	e.bt.reset(cur.cur)
	for f := old.cur; f >= 0; f-- {
		fr := old.frames[f]
		for i := range fr.regs {
			if r := &fr.regs[i]; r.typ == scalarValue && r.precise && i != int(isa.R10) && e.isLive(old, f, i) {
				e.bt.regs[f] |= 1 << i
			}
		}
		for i := range fr.stack {
			if s := &fr.stack[i]; s.isScalarSpill() && s.spilled.precise && fr.read>>i&1 != 0 {
				e.bt.stack[f] |= 1 << i
			}
		}
		if e.log.all() && (e.bt.regs[f] != 0 || e.bt.stack[f] != 0) {
			e.log.printf("frame %d: propagating %s\n", f, propagated(e.bt.regs[f], e.bt.stack[f]))
		}
	}
	return e.trace()
}

func propagated(regs uint32, stack uint64) string {
	out := regMask(regs)
	for i := 0; stack != 0; i, stack = i+1, stack>>1 {
		if stack&1 == 0 {
			continue
		}
		if out != "" {
			out += ","
		}
		out += "fp" + itoa(-8*(i+1))
	}
	return out
}

// checkpoint keeps a copy of the current state at pc; the current state becomes its child.
func (e *env) checkpoint(pc int) {
	cur := e.st
	e.totalStates++
	e.states++
	e.notePeak()
	e.prevJumps, e.prevProcessed = e.jumps, e.processed
	e.forgetPrecise(cur)
	s := new(state)
	e.copyState(s, cur)
	s.insn = pc
	for f := 0; f <= cur.cur; f++ {
		s.frames[f].read = 0
		cur.frames[f].written = 0
		s.frames[f].marks.read, cur.frames[f].marks.written, cur.frames[f].marks.slots = 0, 0, ^uint64(0)
	}
	e.stateBytes += stateSize(s)
	cur.parent, cur.first, cur.hist = s, pc, cur.hist[:0]
	cur.depth = s.depth + 1
	cur.incomplete, cur.target, cur.forced = false, false, false
	b := e.bucket(pc, s)
	e.seen[b] = append(e.seen[b], s)
}

// finishPath counts the current path as walked in every checkpoint above it (update_branch_counts).
func (e *env) finishPath() error {
	for s := e.st; s != nil; s = s.parent {
		if s.branches--; s.branches > 0 {
			return nil
		}
		if s.evicted {
			e.states--
		}
		if s.target {
			if err := e.targetDone(s); err != nil {
				return err
			}
		}
	}
	return nil
}

// entryBefore finds an unfinished checkpoint at pc with the same callers, made before cur (find_prev_entry).
func (e *env) entryBefore(cur *state, pc int) *state {
	list := e.seen[e.bucket(pc, cur)]
	for i := len(list) - 1; i >= 0; i-- {
		if s := list[i]; s.insn == pc && s.branches > 0 && s.depth < cur.depth && sameCallers(s, cur) {
			return s
		}
	}
	return nil
}

func sameCallers(a, b *state) bool {
	if a.cur != b.cur {
		return false
	}
	for i := 0; i <= a.cur; i++ {
		if a.frames[i].callsite != b.frames[i].callsite {
			return false
		}
	}
	return true
}

// widen forgets the scalars of cur that changed since old and that nothing decided on yet (widen_imprecise_scalars).
func (e *env) widen(old, cur *state) {
	e.idmap.reset(e.idGen)
	one := func(a, b *reg) {
		if a.typ != scalarValue || b.typ != scalarValue || a.precise || b.precise || e.sameReg(a, b) {
			return
		}
		e.setUnknown(b)
	}
	for f := 0; f <= old.cur; f++ {
		a, b := old.frames[f], cur.frames[f]
		for i := range a.regs {
			one(&a.regs[i], &b.regs[i])
		}
		for i := 0; i < min(len(a.stack), len(b.stack)); i++ {
			if a.stack[i].isSpill() && b.stack[i].isSpill() {
				one(&a.stack[i].spilled, &b.stack[i].spilled)
			}
		}
	}
}

// markRead notes that stack slot spi of frame f is read: in every checkpoint above, up to the one behind which it was
// written (mark_reg_read).
func (e *env) markRead(f, spi int) {
	bit := uint64(1) << spi
	if e.st.frames[f].written&bit != 0 {
		return
	}
	for s := e.st.parent; s != nil; s = s.parent {
		fr := s.frames[f]
		if fr == nil || fr.read&bit != 0 {
			break
		}
		fr.read |= bit
		e.marks++
		if fr.written&bit != 0 {
			break
		}
	}
}

// isLive reports whether operand i of frame f can be read from where s stands. Stack arguments always count as live.
func (e *env) isLive(s *state, f, i int) bool { return e.liveAt(s, s.insn, f, i) }

// liveAt is isLive for a state whose innermost frame stands at pc.
func (e *env) liveAt(s *state, pc, f, i int) bool {
	if i >= int(isa.R10) {
		return true
	}
	if f < s.cur {
		// an outer frame goes on behind its call; what the call itself reads was read already
		pc = int(s.frames[f+1].callsite)
	}
	return e.aux[pc].live>>i&1 != 0
}

var unbound = func() reg { return reg{Scalar: scalar.Unknown(), typ: scalarValue} }()

// statesEqual reports whether old covers cur at the given level (states_equal).
func (e *env) statesEqual(old, cur *state, level exactness) bool {
	if old.speculative && !cur.speculative {
		return false // it went on where this one does not, and ended where this one goes on
	}
	if old.cur != cur.cur || old.sleeps != cur.sleeps || !sameCallers(old, cur) || len(old.refs) != len(cur.refs) {
		return false
	}
	e.idmap.reset(e.idGen)
	for i := range old.refs {
		a, b := &old.refs[i], &cur.refs[i]
		if a.kind != b.kind || a.on != b.on || !e.idmap.same(a.id, b.id) {
			return false
		}
	}
	if !e.sameSections(old, cur) {
		return false
	}
	for f := 0; f <= old.cur; f++ {
		if !e.framesEqual(old, old.frames[f], cur.frames[f], f, level) {
			return false
		}
	}
	return true
}

func (e *env) framesEqual(old *state, a, b *frame, f int, level exactness) bool {
	if a.fn != b.fn || a.rounds > b.rounds || !a.noArgLoads && b.noArgLoads {
		// a path that may still load stack arguments says nothing about one that may not
		return false
	}
	if level == byEquality && a.noArgLoads != b.noArgLoads {
		return false
	}
	for i := range a.regs {
		if !e.isLive(old, f, i) {
			continue
		}
		if !e.regSafe(&a.regs[i], &b.regs[i], level) {
			return false
		}
	}
	return e.stackSafe(a, b, level)
}

// regSafe reports whether old covers cur (regsafe).
func (e *env) regSafe(old, cur *reg, level exactness) bool {
	if level == byEquality {
		return e.sameReg(old, cur)
	}
	if old.typ == notInit && (level == byMarks || cur.typ == notInit) {
		return true
	}
	if old.typ != cur.typ {
		return false
	}
	switch old.typ.base() {
	case scalarValue:
		return e.scalarSafe(old, cur, level)
	case ptrToMapValue, ptrToMapKey, ptrToTPBuffer, ptrToBuf, ptrToMem:
		return old.off == cur.off && old.aux == cur.aux && old.rng == cur.rng && old.Covers(&cur.Scalar) &&
			e.idmap.same(old.id, cur.id) && e.idmap.same(old.ref, cur.ref)
	case ptrToArena:
		return true
	case ptrToPacket, ptrToPacketMeta:
		if old.rng < 0 || cur.rng < 0 {
			if old.rng != cur.rng {
				return false
			}
		} else if old.rng > cur.rng {
			return false
		}
		return old.off == cur.off && e.idmap.same(old.id, cur.id) && old.Covers(&cur.Scalar)
	}
	return e.sameReg(old, cur)
}

func (e *env) scalarSafe(old, cur *reg, level exactness) bool {
	if e.exploreLimits {
		return old.Scalar == cur.Scalar && old.off == cur.off && old.id&addConst == cur.id&addConst && e.idmap.sameScalar(old.id, cur.id)
	}
	if !old.precise && level == byMarks {
		return true
	}
	if old.id != 0 && old.id&addConst != cur.id&addConst || old.id&addConst != 0 && old.off != cur.off {
		return false
	}
	return e.idmap.sameScalar(old.id, cur.id) && old.Covers(&cur.Scalar)
}

// sameReg is equality up to the numbering of ids (regs_exact).
func (e *env) sameReg(a, b *reg) bool {
	return a.typ == b.typ && a.off == b.off && a.aux == b.aux && a.rng == b.rng && a.Scalar == b.Scalar &&
		e.idmap.same(a.id, b.id) && e.idmap.same(a.ref, b.ref)
}

// stackSafe compares the stacks of two frames (stacksafe).
func (e *env) stackSafe(old, cur *frame, level exactness) bool {
	for i := range old.stack {
		o := &old.stack[i]
		var c *stackSlot
		if i < len(cur.stack) {
			c = &cur.stack[i]
		}
		if level != byMarks {
			if c == nil && o.typ != [8]uint8{} || c != nil && o.typ != c.typ {
				return false
			}
		} else if old.read>>i&1 == 0 && e.opt.Kernel618 < LikeLiveness {
			continue
		}
		if !e.slotSafe(o, c, level) {
			return false
		}
	}
	if level != byMarks {
		for i := len(old.stack); i < len(cur.stack); i++ {
			if cur.stack[i].typ != [8]uint8{} {
				return false
			}
		}
	}
	return true
}

var emptySlot stackSlot

func (e *env) slotSafe(o, c *stackSlot, level exactness) bool {
	if c == nil {
		c = &emptySlot
	}
	// a spilled scalar and a slot of unknown bytes compare as scalars
	if a, b := e.scalarOf(o), e.scalarOf(c); a != nil && b != nil {
		return e.regSafe(a, b, level)
	}
	for j := range o.typ {
		t, u := o.typ[j], c.typ[j]
		switch {
		case t == slotInvalid:
		case t == slotMisc && (u == slotZero || !e.lacks(CapPerfmon)): // anything may be read as unknown bytes, but for addresses by who must not see them
		case t != u:
			return false
		}
	}
	switch {
	case o.isSpill():
		return e.regSafe(&o.spilled, &c.spilled, level)
	case o.typ[7] == slotIter:
		return e.iterSafe(&o.spilled, &c.spilled)
	case o.typ[7] == slotIRQ:
		return o.spilled.aux == c.spilled.aux && e.idmap.same(o.spilled.ref, c.spilled.ref)
	case o.typ[7] == slotDynptr:
		return e.dynptrSafe(&o.spilled, &c.spilled)
	}
	return true
}

// scalarOf views a slot as a scalar if it is one: a whole spill, or bytes of any value (scalar_reg_for_stack).
func (e *env) scalarOf(s *stackSlot) *reg {
	if s.isScalarSpill64() {
		return &s.spilled
	}
	for _, t := range s.typ {
		if t != slotMisc && (t != slotInvalid || !e.canRead(t)) {
			return nil
		}
	}
	return &unbound
}
