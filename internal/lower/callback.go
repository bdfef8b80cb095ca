package lower

import (
	"github.com/skep-bpf/skep/internal/ir"
	"github.com/skep-bpf/skep/internal/isa"
)

// Calls with a callback become loops, so that no host function has to call back into machine code. What a loop keeps from round
// to round is in r6..r9, whose values it saves below the function's BPF stack.

// maxRounds of bpf_loop (BPF_MAX_LOOPS), and its errors.
const (
	maxLoopRounds = 8 << 20
	eInval        = -22
	e2Big         = -7
)

// The registers of a loop: its number of rounds or its map, the round, what the caller passes on, the callback where it is not the
// same always.
const (
	regSource = 6 + iota
	regRound
	regPassed
	regCallback
)

// loop emits bpf_loop(r1 rounds, r2 callback, r3 passed on, r4 flags): r0 = the number of rounds, or an error. As the loop that
// Linux puts in its place (inline_bpf_loop), except that flags other than zero are an error at run time.
func (l *lowerer) loop() {
	start := len(l.out.Insns)
	fails := []int{l.refuse(ir.NE, 4, 0, eInval), l.refuse(ir.GT, 1, maxLoopRounds, e2Big)}
	l.rounds(fails, func() int {
		end := l.jumpAhead(ir.Insn{Op: ir.Jcc, Sub: ir.GE, W: 8, Dst: regRound, Src: regSource})
		l.move(1, regRound)
		l.move(2, regPassed)
		return end
	}, nil)
	l.inside(start)
}

// forEach emits bpf_for_each_map_elem(r1 map, r2 callback, r3 passed on, r4 flags): r0 = the number of elements that the callback
// was called with. next is the host function that finds them (helpers.MapNext): its words on the stack are a position, which is
// zero at first, and the address of the key.
func (l *lowerer) forEach(next int64) {
	const position, keyAddr = -ir.LoopSave, -ir.LoopSave + 8
	start := len(l.out.Insns)
	fails := []int{l.refuse(ir.NE, 4, 0, eInval)}
	base := int32(-l.stack)
	l.emit(ir.Insn{Op: ir.Store, W: 8, Dst: 10, Off: base + position, Flag: ir.FlagImm})
	l.rounds(fails, func() int {
		l.move(1, regSource)
		l.move(2, 10)
		l.emit(ir.Insn{Op: ir.Add, W: 8, Dst: 2, Imm: int64(base + position), Flag: ir.FlagImm})
		l.emit(ir.Insn{Op: ir.CallHost, Imm: next, Sub: 2})
		end := l.jumpAhead(ir.Insn{Op: ir.Jcc, Sub: ir.EQ, W: 8, Dst: 0, Flag: ir.FlagImm})
		l.move(1, regSource)
		l.emit(ir.Insn{Op: ir.Load, W: 8, Dst: 2, Src: 10, Off: base + keyAddr})
		l.move(3, 0)
		l.move(4, regPassed)
		return end
	}, nil)
	l.inside(start)
}

// drain emits bpf_user_ringbuf_drain(r1 ring, r2 callback, r3 passed on, r4 flags): r0 = the number of records that the callback was
// called with. host is the host function that takes them out of the ring (helpers.userRingDrain): the dynptr of a record lies in its
// words on the stack.
func (l *lowerer) drain(host int64) {
	const (
		dynptr     = -ir.LoopSave
		next, last = 0, 1 // what host is asked for
		flags      = 3    // BPF_RB_NO_WAKEUP, BPF_RB_FORCE_WAKEUP
	)
	start := len(l.out.Insns)
	fails := []int{l.refuse(ir.GT, 4, flags, eInval)}
	place := func(r uint8) {
		l.move(r, 10)
		l.emit(ir.Insn{Op: ir.Add, W: 8, Dst: r, Imm: int64(-l.stack + dynptr), Flag: ir.FlagImm})
	}
	call := func(what int64) {
		l.move(1, regSource)
		l.emit(ir.Insn{Op: ir.Mov, W: 8, Dst: 5, Imm: what, Flag: ir.FlagImm})
		l.emit(ir.Insn{Op: ir.CallHost, Imm: host, Sub: 5})
	}
	l.rounds(fails, func() int {
		place(2)
		l.move(3, regRound)
		call(next)
		end := l.jumpAhead(ir.Insn{Op: ir.Jcc, Sub: ir.SLE, W: 8, Dst: 0, Flag: ir.FlagImm})
		place(1)
		l.move(2, regPassed)
		return end
	}, func() {
		failed := l.jumpAhead(ir.Insn{Op: ir.Jcc, Sub: ir.SLT, W: 8, Dst: 0, Flag: ir.FlagImm})
		call(last)
		l.land(failed)
	})
	l.inside(start)
}

// rounds emits the loop around a callback: before makes its arguments, or jumps where there is no further round. after makes the
// result, without it that is the number of rounds; fails are jumps to behind it.
func (l *lowerer) rounds(fails []int, before func() (end int), after func()) {
	kept := []uint8{regSource, regRound, regPassed}
	if l.fact(l.pc).Callback <= 0 {
		kept = append(kept, regCallback)
	}
	l.saveRegs(ir.Store, kept)
	l.move(regSource, 1)
	l.move(regPassed, 3)
	if len(kept) > 3 {
		l.move(regCallback, 2)
	}
	l.emit(ir.Insn{Op: ir.Mov, W: 8, Dst: regRound, Flag: ir.FlagImm})
	head := int32(len(l.out.Insns))
	l.emit(ir.Insn{Op: ir.Yield})
	end := before()
	l.callCallback(regCallback)
	l.emit(ir.Insn{Op: ir.Add, W: 8, Dst: regRound, Imm: 1, Flag: ir.FlagImm})
	l.emit(ir.Insn{Op: ir.Jcc, Sub: ir.EQ, W: 8, Dst: 0, Flag: ir.FlagImm | flagLocal, Off: head})
	l.land(end)
	if after != nil {
		after()
	} else {
		l.move(0, regRound)
	}
	l.saveRegs(ir.Load, kept)
	for _, f := range fails {
		l.land(f)
	}
}

// inside marks what was emitted behind start as parts of one BPF instruction.
func (l *lowerer) inside(start int) {
	for i := start + 1; i < len(l.out.Insns); i++ {
		l.out.Insns[i].Flag |= ir.FlagInside
	}
}

// refuse emits r0 = err, and a jump ahead that is taken if r cond v.
func (l *lowerer) refuse(cond ir.Cond, r uint8, v, err int64) int {
	l.emit(ir.Insn{Op: ir.Mov, W: 8, Dst: 0, Imm: err, Flag: ir.FlagImm})
	return l.jumpAhead(ir.Insn{Op: ir.Jcc, Sub: cond, W: 8, Dst: r, Imm: v, Flag: ir.FlagImm})
}

// jumpAhead emits a jump to a place that land will say.
func (l *lowerer) jumpAhead(in ir.Insn) int {
	in.Flag |= flagLocal
	l.emit(in)
	return len(l.out.Insns) - 1
}

func (l *lowerer) land(jump int) { l.out.Insns[jump].Off = int32(len(l.out.Insns)) }

func (l *lowerer) move(dst, src uint8) { l.emit(ir.Insn{Op: ir.Mov, W: 8, Dst: dst, Src: src}) }

// saveRegs stores registers to the running function's frame, or loads them from there. There is room for four, and
// below for what a host function keeps (ir.LoopSave).
func (l *lowerer) saveRegs(op ir.Op, kept []uint8) {
	l.loops = true
	for i, r := range kept {
		in := ir.Insn{Op: op, W: 8, Off: int32(-l.stack - 8*(i+1))}
		if in.Dst, in.Src = 10, r; op == ir.Load {
			in.Dst, in.Src = r, 10
		}
		l.emit(in)
	}
}

// callCallback emits the call of the function whose address is in r. Which it is the proof says; where it can be several, each is
// compared with.
func (l *lowerer) callCallback(r uint8) {
	if f := l.fact(l.pc).Callback; f > 0 {
		l.callFunc(int(f))
		return
	}
	l.byAddress(r, l.callFunc)
}

// byAddress emits what do emits for the function whose address is in r, which is one of several. r5 is lost.
func (l *lowerer) byAddress(r uint8, do func(f int)) {
	var done []int
	for f := range l.p.Funcs {
		if l.funcOf[f] < 0 || !l.isCallback(f) {
			continue
		}
		l.emit(ir.Insn{Op: ir.FuncAddr, Dst: 5, Off: l.funcOf[f]})
		next := l.jumpAhead(ir.Insn{Op: ir.Jcc, Sub: ir.NE, W: 8, Dst: r, Src: 5})
		do(f)
		done = append(done, l.jumpAhead(ir.Insn{Op: ir.Jmp}))
		l.land(next)
	}
	l.emit(ir.Insn{Op: ir.Trap}) // the proof knows all
	for _, j := range done {
		l.land(j)
	}
}

func (l *lowerer) callFunc(f int) {
	if f >= len(l.funcOf) || l.funcOf[f] < 0 {
		l.fail("call of function %d, which is dead", f)
		return
	}
	l.emit(ir.Insn{Op: ir.Call, Off: l.funcOf[f], Sub: isa.MaxRegArgs + l.in[f]})
	l.passOn(f)
}

// isCallback reports whether some call may get function f as its callback.
func (l *lowerer) isCallback(f int) bool {
	return l.res != nil && f < len(l.res.Funcs) && l.res.Funcs[f].IsCallback
}
