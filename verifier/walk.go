package verifier

import (
	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/program"
)

// This file is the walk itself: it executes the program symbolically, one path after the other, depth first. A branch
// whose outcome is open pushes the other path (pending); a path ends at the main function's exit or where a checkpoint
// already covers it (prune.go).

// maxPending is the limit of waiting paths (BPF_COMPLEXITY_LIMIT_JMP_SEQ).
const maxPending = 8192

// check walks function fn from its prepared first state to the end of all paths (do_check_common), again and carefully if the first
// walk left a path out that it should not have.
func (e *env) check(fn int, prepare func(*frame) error) error {
	mark, before, ids, depths := len(e.log.buf), e.walkStats, e.idGen, e.depths()
	e.careful = e.opt.Kernel618 != LikeUs
	err := e.checkOnce(fn, prepare)
	if err == errCareful {
		e.log.reset(mark)
		e.walkStats, e.idGen, e.careful = before, ids, true
		for i, d := range depths { // what no path really needs does not count
			e.funcs[i].depth = d
		}
		err = e.checkOnce(fn, prepare)
	}
	return err
}

// depths are how much stack each function takes as far as it is known.
func (e *env) depths() []int {
	d := make([]int, len(e.funcs))
	for i := range e.funcs {
		d[i] = e.funcs[i].depth
	}
	return d
}

func (e *env) checkOnce(fn int, prepare func(*frame) error) error {
	e.prevLine = nil
	e.insn = e.prog.Funcs[fn].Start
	e.resetSeen()
	st := &state{branches: 1, first: e.insn, last: -1, sleeps: e.prog.Flags&flagSleepable != 0 || e.asleep}
	fr := e.newFrame()
	*fr = frame{callsite: -1, fn: int32(fn), written: ^uint64(0), stack: fr.stack[:0]}
	st.frames[0] = fr
	e.initFrame(fr)
	e.st, e.stack = st, e.stack[:0]
	e.trail.cut(0)
	if err := prepare(fr); err != nil {
		return err
	}
	e.scratchedRegs, e.scratchedStack = ^uint32(0), ^uint64(0)
	if err := e.walk(); err != nil {
		return err
	}
	if !e.log.all() {
		e.log.reset(0)
	}
	return nil
}

// resetSeen forgets all checkpoints.
func (e *env) resetSeen() {
	for i, l := range e.seen {
		for _, s := range l {
			e.freeState(s)
		}
		e.seen[i] = nil
	}
	e.dropBackEdges()
	e.stateBytes, e.pendingBytes, e.openTargets = 0, 0, 0
}

// initFrame makes a new function invocation: nothing is initialised but the frame pointer.
func (e *env) initFrame(fr *frame) {
	setPtr(&fr.regs[isa.R10], ptrToStack)
	fr.regs[isa.R10].aux = fr.no
}

// outcome of one instruction.
type outcome uint8

const (
	goOn    outcome = iota // continue at e.insn
	pathEnd                // this path is finished
)

func (e *env) limit() int {
	if e.opt.InsnLimit > 0 {
		return e.opt.InsnLimit
	}
	return isa.MaxInsns
}

func (e *env) walk() error {
	prev, printState := -1, false
	for {
		e.histTop = nil
		e.prev = prev
		if e.insn < 0 || e.insn >= len(e.prog.Insns) {
			return e.reject(CodeInternal, "invalid insn idx %d insn_cnt %d", e.insn, len(e.prog.Insns))
		}
		if e.processed++; e.processed > e.limit() {
			return e.reject(CodeTooComplex, "BPF program is too large. Processed %d insn", e.processed)
		}
		e.st.last = prev
		out := goOn
		if e.aux[e.insn].prune {
			covered, err := e.visited(e.insn)
			if err != nil {
				return err
			}
			if covered {
				e.logSafe(printState)
				out = pathEnd
			}
		}
		if out == goOn {
			if e.aux[e.insn].jump {
				e.pushHist(0, 0, 0)
			}
			e.logInsn(&printState)
			prev = e.insn
			var err error
			if out, err = e.stepOrStop(&printState); err != nil {
				return err
			}
		}
		if out == pathEnd {
			e.scratchedRegs, e.scratchedStack = ^uint32(0), ^uint64(0)
			if err := e.finishPath(); err != nil {
				return err
			}
			if !e.pop(&prev) {
				return nil
			}
			printState = true
		}
	}
}

func (e *env) logSafe(printState bool) {
	if !e.log.on() {
		return
	}
	if printState {
		e.log.printf("\nfrom %d to %d%s: safe\n", e.prev, e.insn, e.st.how())
	} else {
		e.log.printf("%d: safe\n", e.insn)
	}
}

func (e *env) logInsn(printState *bool) {
	if e.opt.Visit != nil {
		e.visit()
	}
	if e.trail != nil {
		e.trail.step(e)
	}
	if !e.log.on() {
		return
	}
	if e.log.all() && *printState {
		e.log.printf("\nfrom %d to %d%s:", e.prev, e.insn, e.st.how())
		e.printState(e.st, e.st.fr(), true)
		*printState = false
	}
	if e.scratchedRegs != 0 || e.scratchedStack != 0 {
		e.printInsnState(e.st)
	}
	e.printInsn(e.insn)
}

// step executes the instruction at e.insn on the current state and sets e.insn to the next one.
func (e *env) step(printState *bool) (outcome, error) {
	in := e.prog.Insns[e.insn]
	if !e.st.speculative {
		e.facts[e.insn].Seen = true
	}
	var err error
	switch in.Class() {
	case isa.ClassALU, isa.ClassALU64:
		err = e.checkALU(in)
	case isa.ClassLDX:
		err = e.checkLoad(in)
	case isa.ClassSTX:
		err = e.checkStoreReg(in)
	case isa.ClassST:
		err = e.checkStoreImm(in)
	case isa.ClassLD:
		if err = e.checkLD(in); err == nil && in.IsLdImm64() {
			e.insn++
			if !e.st.speculative {
				e.facts[e.insn].Seen = true
			}
		}
	default:
		e.jumps++
		return e.checkJump(in, printState)
	}
	e.insn++
	return goOn, err
}

func (e *env) checkJump(in isa.Insn, printState *bool) (outcome, error) {
	switch in.JmpOp() {
	case isa.JmpCALL:
		if in.SrcIsReg() || in.Src > isa.PseudoKfuncCall || in.Src != isa.PseudoKfuncCall && in.Off != 0 || in.Dst != 0 || in.IsJump32() {
			return goOn, e.reject(CodeBadInsn, "BPF_CALL uses reserved fields")
		}
		err := e.checkCall(in)
		if err == nil && e.isThrow(in) {
			return pathEnd, e.heldRefs(program.KfuncThrow)
		}
		e.scratch(isa.R0)
		e.insn++
		return goOn, err
	case isa.JmpJA:
		if in.SrcIsReg() || in.Src != 0 || in.Dst != 0 || !in.IsJump32() && in.Imm != 0 || in.IsJump32() && in.Off != 0 {
			return goOn, e.reject(CodeBadInsn, "BPF_JA uses reserved fields")
		}
		e.insn = in.JumpTarget(e.insn)
		return goOn, nil
	case isa.JmpEXIT:
		if in.SrcIsReg() || in.Imm != 0 || in.Src != 0 || in.Dst != 0 || in.IsJump32() {
			return goOn, e.reject(CodeBadInsn, "BPF_EXIT uses reserved fields")
		}
		return e.checkExit(printState)
	}
	err := e.checkCondJump(in)
	e.insn++
	return goOn, err
}

// checkCall dispatches a call by what it calls.
func (e *env) checkCall(in isa.Insn) error {
	e.noMoreArgLoads()
	if err := e.callUnderLock(in); err != nil {
		return err
	}
	switch in.Src {
	case isa.PseudoCall:
		return e.checkFuncCall(in)
	case isa.PseudoKfuncCall:
		return e.checkKfuncCall(in)
	}
	return e.checkHelperCall(in)
}

// checkExit leaves a function, or ends the path at the main function's exit.
func (e *env) checkExit(printState *bool) (outcome, error) {
	if err := e.checkLeaks(); err != nil {
		return goOn, err
	}
	if e.st.cur > 0 {
		*printState = true
		return goOn, e.leaveFunc()
	}
	return pathEnd, e.checkReturn(isa.R0, "R0")
}

// push keeps a copy of the current state as a path to walk later, from instruction to.
func (e *env) push(to, prev int) (*state, error) {
	s := new(state)
	e.copyState(s, e.st)
	s.branches = 1
	if s.parent != nil {
		s.parent.branches++
	}
	p := pending{st: s, insn: to, prev: prev, logPos: len(e.log.buf), trailLen: e.trail.len(), bytes: stateSize(s)}
	e.stack = append(e.stack, p)
	e.pendingBytes += p.bytes
	if len(e.stack) > maxPending {
		return nil, e.reject(CodeTooComplex, "The sequence of %d jumps is too complex.", len(e.stack))
	}
	return s, e.checkBytes()
}

// pop makes the last pushed path the current one; false if there is none.
func (e *env) pop(prev *int) bool {
	n := len(e.stack)
	e.freeState(e.st)
	if n == 0 {
		e.st = nil
		return false
	}
	p := e.stack[n-1]
	e.stack[n-1] = pending{}
	e.trail.cut(p.trailLen)
	e.stack = e.stack[:n-1]
	e.pendingBytes -= p.bytes
	if !e.log.all() {
		e.log.reset(p.logPos)
	}
	e.st, e.insn, *prev = p.st, p.insn, p.prev
	return true
}

// scratch notes for the log that a register changed or was read.
func (e *env) scratch(r isa.Reg) { e.scratchedRegs |= 1 << r }

// readReg checks that a register can be read (check_reg_arg with SRC_OP).
func (e *env) readReg(r isa.Reg) (*reg, error) {
	if r >= isa.MaxReg {
		return nil, e.reject(CodeBadInsn, "R%d is invalid", r)
	}
	e.scratch(r)
	v := &e.st.fr().regs[r]
	if v.typ == notInit {
		return nil, e.reject(CodeUninit, "R%d !read_ok", r)
	}
	return v, nil
}

// writeReg checks that a register can be written (check_reg_arg with DST_OP_NO_MARK).
func (e *env) writeReg(r isa.Reg) (*reg, error) {
	if r >= isa.MaxReg {
		return nil, e.reject(CodeBadInsn, "R%d is invalid", r)
	}
	e.scratch(r)
	if r == isa.R10 {
		return nil, e.reject(CodePermission, "frame pointer is read only")
	}
	return &e.st.fr().regs[r], nil
}

// checkLD checks 64-bit immediate loads and the legacy packet loads.
func (e *env) checkLD(in isa.Insn) error {
	switch in.Mode() {
	case isa.ModeIMM:
		return e.checkLdImm(in)
	case isa.ModeABS, isa.ModeIND:
		return e.checkLdAbs(in)
	}
	return e.reject(CodeBadInsn, "invalid BPF_LD mode")
}

func (e *env) checkLdImm(in isa.Insn) error {
	if in.Size() != isa.SizeDW {
		return e.reject(CodeBadInsn, "invalid BPF_LD_IMM insn")
	}
	if in.Off != 0 {
		return e.reject(CodeBadInsn, "BPF_LD_IMM64 uses reserved fields")
	}
	dst, err := e.writeReg(in.Dst)
	if err != nil {
		return err
	}
	switch in.Src {
	case 0:
		e.setConst(dst, isa.Imm64(in, e.prog.Insns[e.insn+1]))
	case isa.PseudoFunc:
		return e.loadFuncPointer(dst)
	case isa.PseudoBTFID:
		return e.loadKsym(dst, in.Imm)
	case isa.PseudoMapFD:
		setPtr(dst, constPtrToMap)
		dst.aux = in.Imm
	case isa.PseudoMapValue:
		if e.maps[in.Imm].Type == ebpf.Arena {
			e.setUnknown(dst)
			return nil
		}
		setPtr(dst, ptrToMapValue)
		dst.aux = in.Imm
		dst.off = e.prog.Insns[e.insn+1].Imm
	default:
		return e.reject(CodeBadInsn, "unrecognized bpf_ld_imm64 insn")
	}
	return nil
}

func (e *env) loadFuncPointer(dst *reg) error {
	f := e.callTarget(e.insn)
	fn := &e.prog.Funcs[f]
	switch {
	case fn.Type == nil:
		return e.reject(CodeBTF, "missing btf func_info")
	case fn.Global:
		return e.reject(CodeCall, "callback function not static")
	case f == 0:
		return e.reject(CodeCall, "callback function cannot be the main program")
	}
	if n := e.funcs[f].params; n > isa.MaxRegArgs {
		return e.reject(CodeStackArgs, "callback function %s has %d > %d args, stack args not supported", fn.Name, n, isa.MaxRegArgs)
	}
	setPtr(dst, ptrToFunc)
	dst.aux = int32(f)
	return nil
}
