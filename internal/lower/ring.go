package lower

import (
	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/abi"
	"github.com/skep-bpf/skep/internal/ir"
	"github.com/skep-bpf/skep/internal/rt"
)

// Records of ring buffers are reserved, submitted and discarded without a call where nothing stands in the way: the lock is free, there is
// room, nobody waits for records. Else the host function does it.
//
// What the code does is what maps/ring.go does, in the same order. While it has the ring's lock it touches the ring and nothing else, passes
// no yield point and makes no call, so no run is ever abandoned there. The record is noted among what the run holds, as the host function
// would: that is all that an abandoned run leaves.

const (
	helperReserve = 131
	helperSubmit  = 132
	helperDiscard = 133
)

// ring emits a call of a ring buffer's helper, if it is one that needs no call, and reports whether it did. host is the host function.
func (l *lowerer) ring(id int32, host rt.Handle) bool {
	if l.res == nil || l.env.RingNotify == nil || l.env.Exact {
		return false
	}
	start := len(l.out.Insns)
	m := l.fact(l.pc).Map
	switch {
	case id == helperReserve && l.fact(l.pc).InMap == 0 && m >= 0 && int(m) < len(l.out.Maps) && l.out.Maps[m].Kind == ir.MapRing:
		l.reserve(m, host)
	case (id == helperSubmit || id == helperDiscard) && l.ringsKnown():
		l.commit(id == helperDiscard, host)
	default:
		return false
	}
	l.inside(start)
	return true
}

// ringsKnown reports whether every record is of a ring that the program names.
func (l *lowerer) ringsKnown() bool {
	for i := range l.p.Maps {
		if in := l.p.Maps[i].Inner; in != nil && in.Type == ebpf.RingBuf {
			return false
		}
	}
	return true
}

// bindRing lets the code below reach the ring buffer m.
func (l *lowerer) bindRing(m *ir.Map) {
	l.out.Own = append(l.out.Own, ir.Region{Base: m.Base, Size: rt.RingData + 2*uint64(m.MaxEntries)})
}

// own emits an access to memory of the runtime.
func (l *lowerer) own(op ir.Op, w, dst, src uint8, off int32) {
	l.emit(ir.Insn{Op: op, W: w, Dst: dst, Src: src, Off: off, Flag: ir.FlagOwn})
}

// imm emits dst = dst op v.
func (l *lowerer) imm(op ir.Op, dst uint8, v int64) {
	l.emit(ir.Insn{Op: op, W: 8, Dst: dst, Imm: v, Flag: ir.FlagImm})
}

// ifImm and ifReg emit a jump ahead that is taken if r cond v.
func (l *lowerer) ifImm(r uint8, cond ir.Cond, v int64) int {
	return l.jumpAhead(ir.Insn{Op: ir.Jcc, Sub: cond, W: 8, Dst: r, Imm: v, Flag: ir.FlagImm})
}

func (l *lowerer) ifReg(r uint8, cond ir.Cond, s uint8) int {
	return l.jumpAhead(ir.Insn{Op: ir.Jcc, Sub: cond, W: 8, Dst: r, Src: s})
}

// reserve emits bpf_ringbuf_reserve(r1 ring, r2 bytes, r3 flags) for ring m: r0 = the address of the record's bytes, or NULL.
func (l *lowerer) reserve(m int32, host rt.Handle) {
	ring := &l.out.Maps[m]
	size := int64(ring.MaxEntries)
	l.imm(ir.Mov, 0, 0)
	none := []int{l.ifImm(3, ir.NE, 0), l.ifImm(2, ir.GT, min(rt.MaxRecord, size-rt.RingHeader))}

	l.emit(ir.Insn{Op: ir.Held, Dst: 4})
	l.own(ir.Load, 8, 4, 4, 0)
	slow := []int{l.ifImm(4, ir.GE, abi.HeldBytes)}
	l.imm(ir.Mov, 5, int64(ring.Base))
	l.imm(ir.Mov, 1, 1)
	l.own(ir.AtomicCmpXchg, 4, 5, 1, rt.RingLock)
	slow = append(slow, l.ifImm(0, ir.NE, 0))

	// r3 and r4 are the positions before the record and behind it.
	l.own(ir.LoadAcquire, 8, 3, 5, rt.RingProd)
	l.move(4, 3)
	l.emit(ir.Insn{Op: ir.Add, W: 8, Dst: 4, Src: 2})
	l.imm(ir.Add, 4, rt.RingHeader+7)
	l.imm(ir.And, 4, ^7)
	l.own(ir.LoadAcquire, 8, 1, 5, rt.RingCons)
	l.move(0, 4)
	l.emit(ir.Insn{Op: ir.Sub, W: 8, Dst: 0, Src: 1})
	full := l.ifImm(0, ir.GT, size-1)
	l.header(size)
	l.own(ir.StoreRelease, 8, 5, 4, rt.RingProd)
	l.unlock()
	l.move(0, 3)
	l.imm(ir.Add, 0, rt.RingHeader)
	l.hold(rt.HeldRecord)
	done := l.jumpAhead(ir.Insn{Op: ir.Jmp})

	l.land(full)
	l.unlock()
	for _, j := range slow {
		l.land(j)
	}
	l.imm(ir.Mov, 1, int64(l.env.Maps[m].Handle))
	l.imm(ir.Mov, 3, 0)
	l.emit(ir.Insn{Op: ir.CallHost, Imm: int64(host), Sub: 3})
	for _, j := range append(none, done) {
		l.land(j)
	}
}

// header emits the header of a record of r2 bytes at position r3 of the ring at r5, and leaves its address in r3.
func (l *lowerer) header(size int64) {
	l.imm(ir.And, 3, size-1)
	l.imm(ir.Add, 3, rt.RingData)
	l.move(0, 3)
	l.imm(ir.Rsh, 0, rt.RingShift)
	l.imm(ir.Lsh, 0, 32)
	l.emit(ir.Insn{Op: ir.Or, W: 8, Dst: 0, Src: 2})
	l.imm(ir.Mov, 1, rt.RingBusy)
	l.emit(ir.Insn{Op: ir.Or, W: 8, Dst: 0, Src: 1})
	l.emit(ir.Insn{Op: ir.Add, W: 8, Dst: 3, Src: 5})
	l.own(ir.StoreRelease, 8, 3, 0, 0)
}

// unlock emits the end of what other producers must stay out of, in the ring at r5.
func (l *lowerer) unlock() {
	l.imm(ir.Mov, 0, 0)
	l.own(ir.StoreRelease, 4, 5, 0, rt.RingLock)
}

// hold notes that the run holds what lies at r0 (rt.Run.Hold); there is room. r3 and r4 are lost.
func (l *lowerer) hold(kind rt.HeldKind) {
	l.emit(ir.Insn{Op: ir.Held, Dst: 3})
	l.own(ir.Load, 8, 4, 3, 0)
	l.imm(ir.Add, 4, abi.HeldEntry)
	l.own(ir.Store, 8, 3, 4, 0)
	l.emit(ir.Insn{Op: ir.Add, W: 8, Dst: 3, Src: 4})
	l.own(ir.Store, 8, 3, 0, 0)
	l.emit(ir.Insn{Op: ir.Store, W: 8, Dst: 3, Off: 8, Imm: int64(kind), Flag: ir.FlagImm | ir.FlagOwn})
}

// commit emits bpf_ringbuf_submit or bpf_ringbuf_discard(r1 record, r2 flags). The record must be what the run got last.
func (l *lowerer) commit(discard bool, host rt.Handle) {
	l.emit(ir.Insn{Op: ir.Held, Dst: 3})
	l.own(ir.Load, 8, 4, 3, 0)
	l.move(5, 3)
	l.emit(ir.Insn{Op: ir.Add, W: 8, Dst: 5, Src: 4})
	l.own(ir.Load, 8, 0, 5, 0)
	slow := l.ifReg(0, ir.NE, 1)
	l.imm(ir.Sub, 4, abi.HeldEntry)
	l.own(ir.Store, 8, 3, 4, 0)

	// r5 is where the ring begins: the header says how many pages before it.
	l.own(ir.Load, 8, 3, 1, -rt.RingHeader)
	l.move(4, 3)
	l.imm(ir.Rsh, 4, 32)
	l.imm(ir.Lsh, 4, rt.RingShift)
	l.move(5, 1)
	l.imm(ir.Sub, 5, rt.RingHeader)
	l.imm(ir.And, 5, -rt.RingPage)
	l.emit(ir.Insn{Op: ir.Sub, W: 8, Dst: 5, Src: 4})
	l.emit(ir.Insn{Op: ir.And, W: 4, Dst: 3, Imm: rt.RingDiscard - 1, Flag: ir.FlagImm})
	if discard {
		l.imm(ir.Or, 3, rt.RingDiscard)
	}
	l.own(ir.AtomicXchg, 4, 1, 3, -rt.RingHeader)
	// In this order: who waits has said so before it looks at the header.
	l.own(ir.LoadAcquire, 4, 4, 5, rt.RingWaiters)
	quiet := l.ifImm(4, ir.EQ, 0)
	l.move(3, 2)
	l.move(2, 1)
	l.move(1, 5)
	l.emit(ir.Insn{Op: ir.CallHost, Imm: int64(l.env.RingNotify()), Sub: 3})
	done := l.jumpAhead(ir.Insn{Op: ir.Jmp})
	l.land(slow)
	l.emit(ir.Insn{Op: ir.CallHost, Imm: int64(host), Sub: 2})
	l.land(done)
	l.land(quiet)
}
