package lower

import (
	"github.com/skep-bpf/skep/internal/ir"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/internal/progtype"
)

// The kfuncs of the iterator over numbers, as a few instructions each. The object is two 32-bit words, as in Linux: the number given
// last, which is also what next gives a pointer to, and the end.
const (
	iterCur = 0
	iterEnd = 4
)

// builtin emits a kfunc that every program has, and reports whether name is one.
func (l *lowerer) builtin(name string) bool {
	start := len(l.out.Insns)
	switch name {
	case program.KfuncIterNumNew:
		l.iterNew()
	case program.KfuncIterNumNext:
		l.iterNext()
	case program.KfuncIterNumDestroy:
		l.iterStop(1)
		l.emit(ir.Insn{Op: ir.Mov, W: 8, Dst: 0, Flag: ir.FlagImm})
	default:
		return l.hostKfunc(name)
	}
	l.inside(start)
	return true
}

func (l *lowerer) storeWord(base, src uint8, off int32) {
	l.emit(ir.Insn{Op: ir.Store, W: 4, Dst: base, Src: src, Off: off})
}

// iterStop makes the iterator at base one that has ended.
func (l *lowerer) iterStop(base uint8) {
	l.emit(ir.Insn{Op: ir.Store, W: 8, Dst: base, Off: iterCur, Flag: ir.FlagImm})
}

// iterNew emits new(r1 iterator, r2 start, r3 end): -EINVAL if it would run backwards, -E2BIG if there are too many numbers.
func (l *lowerer) iterNew() {
	for _, r := range []uint8{2, 3} {
		l.emit(ir.Insn{Op: ir.Sext, W: 8, Dst: r, Src: r, Sub: 4})
	}
	l.iterStop(1)
	l.emit(ir.Insn{Op: ir.Mov, W: 8, Dst: 0, Imm: eInval, Flag: ir.FlagImm})
	backwards := l.jumpAhead(ir.Insn{Op: ir.Jcc, Sub: ir.SGT, W: 8, Dst: 2, Src: 3})
	l.emit(ir.Insn{Op: ir.Mov, W: 8, Dst: 0, Imm: e2Big, Flag: ir.FlagImm})
	l.move(4, 3)
	l.emit(ir.Insn{Op: ir.Sub, W: 8, Dst: 4, Src: 2})
	many := l.jumpAhead(ir.Insn{Op: ir.Jcc, Sub: ir.GT, W: 8, Dst: 4, Imm: maxLoopRounds, Flag: ir.FlagImm})
	l.emit(ir.Insn{Op: ir.Sub, W: 4, Dst: 2, Imm: 1, Flag: ir.FlagImm})
	l.storeWord(1, 2, iterCur)
	l.storeWord(1, 3, iterEnd)
	l.emit(ir.Insn{Op: ir.Mov, W: 8, Dst: 0, Flag: ir.FlagImm})
	l.land(backwards)
	l.land(many)
}

// iterNext emits next(r1 iterator): r0 = the address of the next number, or NULL. The sum is of 32 bits, as the number before the
// least one is the greatest.
func (l *lowerer) iterNext() {
	l.emit(ir.Insn{Op: ir.Load, W: 4, Dst: 2, Src: 1, Off: iterCur})
	l.emit(ir.Insn{Op: ir.Add, W: 4, Dst: 2, Imm: 1, Flag: ir.FlagImm})
	l.emit(ir.Insn{Op: ir.Load, W: 4, Dst: 3, Src: 1, Off: iterEnd})
	more := l.jumpAhead(ir.Insn{Op: ir.Jcc, Sub: ir.SLT, W: 4, Dst: 2, Src: 3})
	l.iterStop(1)
	l.emit(ir.Insn{Op: ir.Mov, W: 8, Dst: 0, Flag: ir.FlagImm})
	end := l.jumpAhead(ir.Insn{Op: ir.Jmp})
	l.land(more)
	l.storeWord(1, 2, iterCur)
	l.move(0, 1)
	l.land(end)
}

// hostKfunc emits the call of a kfunc of the kernel that is a host function, and reports whether name is one. A dynptr of a packet that
// the program may not write to is made by a function of its own, as in Linux (specialize_kfunc).
func (l *lowerer) hostKfunc(name string) bool {
	if !program.BuiltinKfunc(name) { // what is proven of others holds of other functions
		return false
	}
	if name == "bpf_dynptr_from_skb" && !progtype.DirectPacketWrite(l.p.Type) {
		name += "_rdonly"
	}
	if l.env.Kfunc == nil {
		return false
	}
	h, args, ok := l.env.Kfunc(name)
	if ok {
		l.emit(ir.Insn{Op: ir.CallHost, Imm: int64(h), Sub: uint8(args)})
	}
	return ok
}
