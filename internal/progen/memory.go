package progen

import "github.com/skep-bpf/skep/internal/isa"

// memKind is the kind of memory an access goes to: it decides which instructions are allowed.
type memKind uint8

const (
	memValue  memKind = iota // map value
	memPacket                // no atomics
	memStack
)

// bounded puts a number between 0 and limit (one below a power of two) into the register t, by one of the ways that
// compilers bound an index.
func (f *function) bounded(t isa.Reg, limit int32) {
	unlock := f.lock(t)
	defer unlock()
	f.emit(movReg(t, f.number()))
	f.st.regs &^= 1 << t
	switch f.r.IntN(11) {
	case 0, 1:
		f.emit(aluImm(isa.ClassALU64|isa.AluAND, t, limit))
	case 2:
		f.emit(aluImm(isa.ClassALU|isa.AluAND, t, limit))
	case 3: // clamp: a branch keeps a good value, the other way sets one
		ok := f.jump(isa.Insn{Op: isa.ClassJMP | isa.JmpJLE, Dst: t, Imm: limit})
		f.emit(aluImm(isa.ClassALU64|isa.AluMOV, t, f.r.Int32N(limit+1)))
		f.land(ok)
	case 4:
		n := int32(0)
		for l := limit; l != 0; l >>= 1 {
			n++
		}
		f.emit(aluImm(isa.ClassALU64|isa.AluRSH, t, 64-n))
	case 5: // a check of the low half, which is then extended
		ok := f.jump(isa.Insn{Op: isa.ClassJMP32 | isa.JmpJLT, Dst: t, Imm: limit + 1})
		f.emit(aluImm(isa.ClassALU|isa.AluMOV, t, 0))
		f.land(ok)
		f.emit(aluReg(isa.ClassALU|isa.AluMOV, t, t))
	case 6: // two signed checks
		low := f.jump(isa.Insn{Op: isa.ClassJMP | isa.JmpJSLT, Dst: t})
		ok := f.jump(isa.Insn{Op: isa.ClassJMP | isa.JmpJSLE, Dst: t, Imm: limit})
		f.land(low)
		f.emit(aluImm(isa.ClassALU64|isa.AluMOV, t, limit))
		f.land(ok)
	case 7: // a check of a copy bounds the original
		u := f.temp(t)
		f.emit(movReg(u, t))
		ok := f.jump(isa.Insn{Op: isa.ClassJMP | isa.JmpJLE, Dst: u, Imm: limit})
		f.emit(aluImm(isa.ClassALU64|isa.AluMOV, t, 1))
		f.land(ok)
	case 9: // a check of a sum does, too; it wraps where the original does not, which the mask takes care of
		u := f.temp(t)
		f.emit(movReg(u, t), aluImm(isa.ClassALU64|isa.AluADD, u, 1))
		ok := f.jump(isa.Insn{Op: isa.ClassJMP | isa.JmpJLE, Dst: u, Imm: limit + 1})
		f.emit(aluImm(isa.ClassALU64|isa.AluMOV, t, 1))
		f.land(ok)
		f.emit(aluImm(isa.ClassALU64|isa.AluAND, t, limit))
	case 8: // through the stack
		off := int16(-8 * (f.slots + 2))
		f.emit(aluImm(isa.ClassALU64|isa.AluAND, t, limit),
			isa.Insn{Op: isa.ClassSTX | isa.ModeMEM | isa.SizeDW, Dst: isa.R10, Src: t, Off: off},
			aluImm(isa.ClassALU64|isa.AluMOV, t, -1),
			isa.Insn{Op: isa.ClassLDX | isa.ModeMEM | isa.SizeW, Dst: t, Src: isa.R10, Off: off})
	case 10:
		f.extended(t)
		f.emit(aluImm(isa.ClassALU64|isa.AluAND, t, limit))
	}
}

// extended spills a number, loads it with its sign extended, and decides on that: what it learns about the one may hold
// for the other, or not.
func (f *function) extended(t isa.Reg) {
	u, off, n := f.temp(t), int16(-8*(f.slots+2)), 1<<f.r.IntN(3)
	mask := int32(1<<(8*n) - 1)
	if n == 4 || f.r.IntN(4) == 0 {
		f.emit(aluReg(isa.ClassALU|isa.AluMOV, t, t))
	} else {
		f.emit(aluImm(isa.ClassALU64|isa.AluAND, t, mask>>f.r.IntN(2)))
	}
	f.emit(isa.Insn{Op: isa.ClassSTX | isa.ModeMEM | isa.SizeDW, Dst: isa.R10, Src: t, Off: off},
		isa.Insn{Op: isa.ClassLDX | isa.ModeMEMSX | sizeCode(n), Dst: u, Src: isa.R10, Off: off})
	op := [...]uint8{isa.JmpJSLT, isa.JmpJSGE, isa.JmpJLT, isa.JmpJSGT, isa.JmpJNE}[f.r.IntN(5)]
	over := f.jump(isa.Insn{Op: isa.ClassJMP | op, Dst: u, Imm: f.r.Int32N(3) - 1})
	f.emit(aluImm(isa.ClassALU64|isa.AluADD, t, f.r.Int32N(4)))
	f.land(over)
}

// accesses emits a few accesses within [0, size) of the memory that p points to. p must be locked.
func (f *function) accesses(p isa.Reg, size int, kind memKind) {
	for range 1 + f.r.IntN(4) {
		base, room := p, size
		if kind != memPacket && size >= 16 && f.r.IntN(4) == 0 {
			// A variable offset: a multiple of 8, to keep the alignment. On a packet it would undo the bounds check.
			t := f.temp(p)
			limit := int32(1)
			for int(2*limit+1)*8 < size/2 {
				limit = 2*limit + 1
			}
			f.bounded(t, limit)
			f.emit(aluImm(isa.ClassALU64|isa.AluLSH, t, 3))
			if kind == memStack {
				// Linux 6.18 forgets which frame the sum of a number and a pointer to an outer frame points to; the
				// other order is safe.
				u := f.temp(p, t)
				f.emit(movReg(u, p), aluReg(isa.ClassALU64|isa.AluADD, u, t))
				t = u
			} else {
				f.emit(aluReg(isa.ClassALU64|isa.AluADD, t, p))
			}
			base, room = t, size-int(limit)*8
			unlock := f.lock(t)
			f.access(base, room, kind)
			unlock()
			continue
		}
		f.access(base, room, kind)
	}
}

// access emits one load, store or atomic within [0, room) of base.
func (f *function) access(base isa.Reg, room int, kind memKind) {
	n := 8
	for n > room || f.r.IntN(3) == 0 && n > 1 {
		n /= 2
	}
	off := f.r.IntN(room - n + 1)
	if kind != memPacket || f.r.IntN(2) == 0 {
		off = off / n * n
	}
	size := sizeCode(n)
	in := isa.Insn{Dst: base, Off: int16(off)}
	switch c := f.r.IntN(10); {
	case c < 4:
		d := f.target()
		in = isa.Insn{Op: isa.ClassLDX | isa.ModeMEM | size, Dst: d, Src: base, Off: int16(off)}
		if n < 8 && kind != memPacket && f.r.IntN(3) == 0 {
			in.Op = isa.ClassLDX | isa.ModeMEMSX | size
		}
		f.st.regs |= 1 << d
	case c < 6:
		in.Op, in.Imm = isa.ClassST|isa.ModeMEM|size, immediate(f.r)
	case c < 8 || n < 4 || kind == memPacket:
		in.Op, in.Src = isa.ClassSTX|isa.ModeMEM|size, f.number()
	default:
		f.atomic(in, size)
		return
	}
	f.emit(in)
}

// atomic emits an atomic operation on the aligned word that in addresses.
func (f *function) atomic(in isa.Insn, size uint8) {
	in.Op = isa.ClassSTX | isa.ModeATOMIC | size
	switch f.r.IntN(8) {
	case 0:
		in.Src, in.Imm = f.number(), isa.AtomicStoreRel
		f.emit(in)
		return
	case 1:
		d := f.target()
		in.Src, in.Dst, in.Imm = in.Dst, d, isa.AtomicLoadAcq
		f.emit(in)
		f.st.regs |= 1 << d
		return
	}
	ops := []int32{isa.AtomicADD, isa.AtomicOR, isa.AtomicAND, isa.AtomicXOR}
	switch f.r.IntN(4) {
	case 0:
		in.Src, in.Imm = f.number(), ops[f.r.IntN(4)]
	case 1:
		in.Src, in.Imm = f.target(), ops[f.r.IntN(4)]|isa.AtomicFETCH
	case 2:
		in.Src, in.Imm = f.target(), isa.AtomicXCHG
	default:
		if f.locks(isa.R0) {
			in.Src, in.Imm = f.number(), ops[f.r.IntN(4)]
			break
		}
		in.Src, in.Imm = f.number(), isa.AtomicCMPXCHG
		if f.st.regs&1 == 0 {
			f.emit(f.constant(isa.R0)...)
			f.st.regs |= 1
		}
	}
	if f.st.regs>>in.Src&1 == 0 {
		f.emit(f.constant(in.Src)...)
		f.st.regs |= 1 << in.Src
	}
	f.emit(in)
}

func sizeCode(n int) uint8 {
	switch n {
	case 1:
		return isa.SizeB
	case 2:
		return isa.SizeH
	case 4:
		return isa.SizeW
	}
	return isa.SizeDW
}

// stack emits a store to the stack, or a load of what was stored; now and then an access at a variable offset.
func (f *function) stack() {
	if f.r.IntN(8) == 0 && f.wholeStack() {
		f.variableStack()
		return
	}
	slot := f.r.IntN(f.slots)
	n := 1 << f.r.IntN(4)
	at := f.r.IntN(8/n) * n
	mask := uint8(1<<n-1) << at
	off := int16(-8*(slot+1) + at)
	if f.st.stack[slot]&mask == mask && f.r.IntN(2) == 0 {
		d := f.target()
		in := isa.Insn{Op: isa.ClassLDX | isa.ModeMEM | sizeCode(n), Dst: d, Src: isa.R10, Off: off}
		if n < 8 && f.r.IntN(3) == 0 {
			in.Op = isa.ClassLDX | isa.ModeMEMSX | sizeCode(n)
		}
		f.emit(in)
		f.st.regs |= 1 << d
		return
	}
	if f.st.stack[slot]&mask == mask && n >= 4 && f.r.IntN(4) == 0 {
		f.atomic(isa.Insn{Dst: isa.R10, Off: off}, sizeCode(n))
		return
	}
	in := isa.Insn{Op: isa.ClassST | isa.ModeMEM | sizeCode(n), Dst: isa.R10, Off: off, Imm: immediate(f.r)}
	if f.r.IntN(3) != 0 {
		in = isa.Insn{Op: isa.ClassSTX | isa.ModeMEM | sizeCode(n), Dst: isa.R10, Src: f.number(), Off: off}
	}
	f.emit(in)
	f.st.stack[slot] |= mask
}

// wholeStack reports whether the first four slots are initialised.
func (f *function) wholeStack() bool {
	if f.slots < 4 {
		return false
	}
	for _, m := range f.st.stack[:4] {
		if m != 0xff {
			return false
		}
	}
	return true
}

// variableStack accesses one of the first four slots by a computed offset.
func (f *function) variableStack() {
	p := f.temp()
	unlock := f.lock(p)
	t := f.temp(p)
	f.bounded(t, 3)
	f.emit(aluImm(isa.ClassALU64|isa.AluLSH, t, 3), movReg(p, isa.R10), aluReg(isa.ClassALU64|isa.AluADD, p, t))
	n := 1 << f.r.IntN(4)
	in := isa.Insn{Op: isa.ClassSTX | isa.ModeMEM | sizeCode(n), Dst: p, Src: f.number(), Off: -32}
	if f.r.IntN(2) == 0 {
		d := f.target()
		in = isa.Insn{Op: isa.ClassLDX | isa.ModeMEM | sizeCode(n), Dst: d, Src: p, Off: -32}
		f.st.regs |= 1 << d
	}
	unlock()
	f.emit(in)
}

// pointerSlot spills a pointer to the slot behind the numbers, clobbers the register, fills it and uses it.
func (f *function) pointerSlot() {
	off := int16(-8 * (f.slots + 1))
	p := f.temp()
	f.emit(isa.Insn{Op: ldImm64, Dst: p, Src: isa.PseudoMapValue, Imm: MapOut}, isa.Insn{Imm: 64})
	f.emit(isa.Insn{Op: isa.ClassSTX | isa.ModeMEM | isa.SizeDW, Dst: isa.R10, Src: p, Off: off})
	f.block(2)
	q := f.temp()
	f.emit(isa.Insn{Op: isa.ClassLDX | isa.ModeMEM | isa.SizeDW, Dst: q, Src: isa.R10, Off: off})
	unlock := f.lock(q)
	f.accesses(q, OutSize-64, memValue)
	unlock()
}

// key stores a key for map m where the stack's last slots are and returns its offset from the frame pointer.
func (f *function) key(m int) int16 {
	off := int16(-8 * (f.slots + 2))
	size := uint8(isa.SizeW)
	limit := int32(9) // one or two beyond an array
	if m == MapHash {
		size, limit = isa.SizeDW, 7
	}
	if f.r.IntN(3) == 0 {
		t := f.temp()
		unlock := f.lock(t)
		f.bounded(t, 7)
		unlock()
		f.emit(isa.Insn{Op: isa.ClassSTX | isa.ModeMEM | size, Dst: isa.R10, Src: t, Off: off})
	} else {
		f.emit(isa.Insn{Op: isa.ClassST | isa.ModeMEM | size, Dst: isa.R10, Off: off, Imm: f.r.Int32N(limit)})
	}
	return off
}

func (f *function) mapCall(m int, helper int32, key int16) {
	f.emit(isa.Insn{Op: ldImm64, Dst: isa.R1, Src: isa.PseudoMapFD, Imm: int32(m)}, isa.Insn{},
		movReg(isa.R2, isa.R10), aluImm(isa.ClassALU64|isa.AluADD, isa.R2, int32(key)),
		isa.Insn{Op: isa.ClassJMP | isa.JmpCALL, Imm: helper})
	f.st.regs &^= scratch
}

// lookup looks a key up and uses the value if there is one.
func (f *function) lookup() {
	if !f.c.Maps {
		f.alu()
		return
	}
	m := []int{MapArray, MapArray, MapHash, MapPerCPU}[f.r.IntN(4)]
	f.mapCall(m, mapLookup, f.key(m))
	f.useFound(int(maps()[m].ValueSize))
}

// useFound uses the value of so many bytes that a lookup has found, if it has.
func (f *function) useFound(size int) {
	before := f.st
	var out int
	if f.r.IntN(2) == 0 {
		out = f.jump(isa.Insn{Op: isa.ClassJMP | isa.JmpJEQ, Dst: isa.R0})
	} else {
		good := f.jump(isa.Insn{Op: isa.ClassJMP | isa.JmpJNE, Dst: isa.R0})
		out = f.jump(f.always())
		f.land(good)
	}
	p := isa.R0
	if f.r.IntN(2) == 0 {
		p = f.temp(isa.R0)
		f.emit(movReg(p, isa.R0))
	}
	unlock := f.lock(p)
	f.accesses(p, size, memValue)
	unlock()
	f.land(out)
	f.st.meet(before)
}

// write updates or deletes an element; the result of the helper is a number.
func (f *function) write() {
	if !f.c.Maps {
		f.alu()
		return
	}
	m := []int{MapArray, MapHash, MapHash}[f.r.IntN(3)]
	key := f.key(m)
	if m == MapHash && f.r.IntN(3) == 0 {
		f.mapCall(m, mapDelete, key)
		f.st.regs |= 1 << isa.R0
		return
	}
	f.update(m, key)
}

// update updates an element. The value comes from the spare part of the map "out".
func (f *function) update(m int, key int16) {
	src := f.callee()
	f.emit(isa.Insn{Op: ldImm64, Dst: isa.R3, Src: isa.PseudoMapValue, Imm: MapOut}, isa.Insn{Imm: 64})
	if src != 0 {
		f.emit(isa.Insn{Op: isa.ClassSTX | isa.ModeMEM | isa.SizeDW, Dst: isa.R3, Src: src, Off: 8})
	}
	f.emit(aluImm(isa.ClassALU64|isa.AluMOV, isa.R4, f.r.Int32N(3))) // BPF_ANY, NOEXIST, EXIST
	f.mapCall(m, mapUpdate, key)
	f.st.regs |= 1 << isa.R0
}
