package progen

import (
	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/isa"
)

// statement emits one statement of a random kind.
func (f *function) statement() {
	if f.budget--; f.budget < 0 {
		f.alu()
		return
	}
	if f.c.Throws && f.r.IntN(8) == 0 {
		f.throws()
		return
	}
	if f.c.Iterators && f.r.IntN(20) == 0 {
		f.iterate()
		return
	}
	if f.c.MoreMaps && f.r.IntN(6) == 0 {
		f.moreMaps()
		return
	}
	switch n := f.r.IntN(100); {
	case n < 42:
		for range 1 + f.r.IntN(3) {
			f.alu()
		}
	case n < 52:
		f.stack()
	case n < 62:
		f.branch()
	case n < 66:
		f.loop()
	case n < 76:
		f.packet()
	case n < 83:
		f.lookup()
	case n < 87:
		f.write()
	case n < 93:
		f.call()
	case n < 95:
		f.loadBytes()
	case n < 97:
		f.laterLookup()
	default:
		f.pointerSlot()
	}
}

// alu emits one arithmetic instruction or a load of a constant.
func (f *function) alu() {
	class := uint8(isa.ClassALU64)
	if f.r.IntN(2) == 0 {
		class = isa.ClassALU
	}
	d := f.target()
	if f.st.regs>>d&1 == 0 || f.r.IntN(8) == 0 {
		f.fresh(d, class)
		return
	}
	op := []uint8{isa.AluADD, isa.AluSUB, isa.AluMUL, isa.AluDIV, isa.AluMOD, isa.AluOR, isa.AluAND, isa.AluXOR,
		isa.AluLSH, isa.AluRSH, isa.AluARSH, isa.AluNEG, isa.AluEND}[f.r.IntN(13)]
	in := isa.Insn{Op: class | op, Dst: d}
	width := int32(64)
	if class == isa.ClassALU {
		width = 32
	}
	switch op {
	case isa.AluNEG:
	case isa.AluEND:
		in.Imm = 16 << f.r.IntN(3)
		if class == isa.ClassALU {
			in.Op |= uint8(f.r.IntN(2)) << 3
		}
	case isa.AluLSH, isa.AluRSH, isa.AluARSH:
		if f.r.IntN(3) == 0 {
			in.Op, in.Src = in.Op|isa.SrcX, f.number()
		} else {
			in.Imm = f.r.Int32N(width)
		}
	default:
		if f.r.IntN(2) == 0 {
			in.Op, in.Src = in.Op|isa.SrcX, f.number()
		} else if in.Imm = immediate(f.r); in.Imm == 0 {
			in.Imm = 7
		}
		if op == isa.AluDIV || op == isa.AluMOD {
			in.Off = int16(f.r.IntN(2)) // signed or not
		}
	}
	f.emit(in)
}

// fresh gives d a new number: a constant, a copy, a sign extension.
func (f *function) fresh(d isa.Reg, class uint8) {
	if f.r.IntN(2) == 0 {
		f.emit(f.constant(d)...)
	} else {
		in := aluReg(class|isa.AluMOV, d, f.number())
		if f.r.IntN(2) == 0 {
			in.Off = int16(8 << f.r.IntN(2))
			if class == isa.ClassALU64 && f.r.IntN(3) == 0 {
				in.Off = 32
			}
		}
		f.emit(in)
	}
	f.st.regs |= 1 << d
}

var jumpOps = []uint8{isa.JmpJEQ, isa.JmpJNE, isa.JmpJGT, isa.JmpJGE, isa.JmpJLT, isa.JmpJLE,
	isa.JmpJSGT, isa.JmpJSGE, isa.JmpJSLT, isa.JmpJSLE, isa.JmpJSET}

// condition returns a conditional jump on numbers.
func (f *function) condition() isa.Insn {
	in := isa.Insn{Op: isa.ClassJMP | jumpOps[f.r.IntN(len(jumpOps))], Dst: f.number()}
	if f.r.IntN(2) == 0 {
		in.Op = isa.ClassJMP32 | in.Op&0xf0
	}
	if f.r.IntN(3) == 0 {
		in.Op, in.Src = in.Op|isa.SrcX, f.number()
	} else {
		in.Imm = immediate(f.r)
	}
	return in
}

// always returns an unconditional jump, in one of its two forms.
func (f *function) always() isa.Insn {
	if f.r.IntN(4) == 0 {
		return isa.Insn{Op: isa.ClassJMP32 | isa.JmpJA}
	}
	return isa.Insn{Op: isa.ClassJMP | isa.JmpJA}
}

// block emits up to n statements one level deeper.
func (f *function) block(n int) {
	f.depth++
	for range 1 + f.r.IntN(n) {
		if f.depth > 4 {
			f.alu()
		} else {
			f.statement()
		}
	}
	f.depth--
}

// branch emits an if, with or without an else.
func (f *function) branch() {
	over := f.jump(f.condition())
	before := f.st
	f.block(3)
	if f.r.IntN(2) == 0 {
		f.land(over)
		f.st.meet(before)
		return
	}
	end := f.jump(f.always())
	f.land(over)
	then := f.st
	f.st = before
	f.block(3)
	f.land(end)
	f.st.meet(then)
}

// loop emits a loop that counts a register, or a stack slot, up or down. The number of rounds is a constant or a
// bounded number.
func (f *function) loop() {
	var free []isa.Reg
	for r := isa.R6; r <= isa.R9; r++ {
		if !f.locks(r) {
			free = append(free, r)
		}
	}
	if len(free) < 2 || f.loops > 1 || f.depth > 3 {
		f.alu()
		return
	}
	c := free[f.r.IntN(len(free))]
	rounds := 1 + f.r.Int32N(5)
	start, step, op, bound := rounds, int32(-1), uint8(isa.JmpJNE), int32(0)
	switch f.r.IntN(3) {
	case 1:
		start, step, op, bound = 0, 1, isa.JmpJLT, rounds
	case 2:
		start, step, op, bound = -rounds, 1, isa.JmpJSLT, 0
	}
	if op == isa.JmpJLT && f.r.IntN(3) == 0 {
		// Rounds that the verifier cannot know.
		f.emit(movReg(c, f.number()), aluImm(isa.ClassALU64|isa.AluAND, c, 3))
	} else {
		f.emit(aluImm(isa.ClassALU64|isa.AluMOV, c, start))
	}
	f.st.regs = f.st.regs&^scratch | 1<<c
	unlock := f.lock(c)
	f.loops++
	top := len(f.insns)
	leave := -1
	if f.r.IntN(5) == 0 {
		// The loop ends before may_goto's budget does: it only makes the verifier walk another way.
		leave = f.jump(isa.Insn{Op: isa.ClassJMP | isa.JmpJCOND})
	}
	before := f.st
	f.block(3)
	f.loops--
	unlock()
	f.emit(aluImm(isa.ClassALU64|isa.AluADD, c, step))
	back := isa.Insn{Op: isa.ClassJMP | op, Dst: c, Imm: bound}
	if f.r.IntN(3) == 0 && op != isa.JmpJSLT {
		back.Op = isa.ClassJMP32 | op
	}
	back.Off = int16(top - len(f.insns) - 1)
	f.emit(back)
	if leave >= 0 {
		f.land(leave)
		f.st.meet(before)
	}
}

// call emits a call of a later function with numbers as arguments.
func (f *function) call() {
	if f.id+1 >= len(f.protos) || f.loops > 1 {
		f.alu()
		return
	}
	callee := f.id + 1 + f.r.IntN(len(f.protos)-f.id-1)
	n := f.protos[callee].args
	for i := isa.MaxRegArgs; i < n; i++ {
		off := int16(-8 * (i - isa.MaxRegArgs + 1))
		if f.r.IntN(4) == 0 {
			f.emit(isa.Insn{Op: isa.ClassST | isa.ModeMEM | isa.SizeDW, Dst: isa.RParams, Off: off, Imm: immediate(f.r)})
		} else {
			f.emit(isa.Insn{Op: isa.ClassSTX | isa.ModeMEM | isa.SizeDW, Dst: isa.RParams, Src: f.number(), Off: off})
		}
	}
	first := 1
	if f.protos[callee].ptr {
		f.pointerArgument()
		first = 2
	}
	for i := first; i <= min(n, isa.MaxRegArgs); i++ {
		r := isa.Reg(i)
		if f.st.regs>>r&1 == 0 || f.r.IntN(2) == 0 {
			if src := f.callee(); f.r.IntN(3) != 0 && src != 0 {
				f.emit(movReg(r, src))
			} else {
				f.emit(f.constant(r)...)
			}
		}
		f.st.regs |= 1 << r
	}
	f.calls = append(f.calls, callSite{len(f.insns), callee})
	f.emit(isa.Insn{Op: isa.ClassJMP | isa.JmpCALL, Src: isa.PseudoCall})
	f.st.regs = f.st.regs&^scratch | 1<<isa.R0
	if t := f.target(); t >= isa.R6 {
		f.emit(aluReg(isa.ClassALU64|isa.AluADD, t, isa.R0))
	}
}

// pointerArgument puts the address of 16 initialised bytes into r1: of the stack, or of a map's value.
func (f *function) pointerArgument() {
	if f.r.IntN(3) == 0 {
		f.emit(isa.Insn{Op: ldImm64, Dst: isa.R1, Src: isa.PseudoMapValue, Imm: MapOut}, isa.Insn{Imm: 96})
	} else {
		for slot := range 2 {
			if f.st.stack[slot] != 0xff {
				f.emit(isa.Insn{Op: isa.ClassST | isa.ModeMEM | isa.SizeDW, Dst: isa.R10, Off: int16(-8 * (slot + 1)), Imm: immediate(f.r)})
				f.st.stack[slot] = 0xff
			}
		}
		f.emit(movReg(isa.R1, isa.R10), aluImm(isa.ClassALU64|isa.AluADD, isa.R1, -16))
	}
	f.st.regs &^= 1 << isa.R1
}

// callee returns one of r6..r9 that holds a number, 0 if none does.
func (f *function) callee() isa.Reg {
	for range 8 {
		if r := isa.R6 + isa.Reg(f.r.IntN(4)); f.st.regs>>r&1 != 0 {
			return r
		}
	}
	return 0
}

// packet emits an access to the packet: a bounds check and accesses below it, or a legacy load.
func (f *function) packet() {
	if f.id != 0 {
		f.alu()
		return
	}
	if f.c.Type == ebpf.SocketFilter {
		f.legacyLoad()
		return
	}
	dataOff, endOff := int16(0), int16(4) // struct xdp_md
	if f.c.Type == ebpf.SchedCLS {
		dataOff, endOff = 76, 80 // struct __sk_buff
	}
	p := f.temp()
	end := f.temp(p)
	q := f.temp(p, end)
	n := int32(1 + f.r.IntN(40))
	f.emit(isa.Insn{Op: isa.ClassLDX | isa.ModeMEM | isa.SizeW, Dst: p, Src: f.ctx, Off: dataOff},
		isa.Insn{Op: isa.ClassLDX | isa.ModeMEM | isa.SizeW, Dst: end, Src: f.ctx, Off: endOff})
	if f.r.IntN(6) == 0 { // the length of the packet
		f.emit(aluReg(isa.ClassALU64|isa.AluSUB, end, p))
		f.st.regs |= 1 << end
		return
	}
	unlock := f.lock(p, end, q)
	if f.r.IntN(3) == 0 {
		t := f.temp(p, end, q)
		f.bounded(t, 63)
		f.emit(aluReg(isa.ClassALU64|isa.AluADD, p, t))
	}
	f.emit(movReg(q, p), aluImm(isa.ClassALU64|isa.AluADD, q, n))
	var out int
	before := f.st
	switch f.r.IntN(3) {
	case 0:
		out = f.jump(aluReg(isa.ClassJMP|isa.JmpJGT, q, end))
	case 1:
		out = f.jump(aluReg(isa.ClassJMP|isa.JmpJLT, end, q))
	default: // the good case jumps
		good := f.jump(aluReg(isa.ClassJMP|isa.JmpJLE, q, end))
		out = f.jump(f.always())
		f.land(good)
	}
	f.accesses(p, int(n), memPacket)
	unlock()
	f.land(out)
	f.st.meet(before)
	f.st.regs &^= 1<<p | 1<<end | 1<<q
}

// legacyLoad emits a packet load by absolute or computed offset; outside the packet it ends the program.
func (f *function) legacyLoad() {
	size := []uint8{isa.SizeB, isa.SizeH, isa.SizeW}[f.r.IntN(3)]
	in := isa.Insn{Op: isa.ClassLD | isa.ModeABS | size, Imm: f.r.Int32N(12)}
	if f.r.IntN(3) == 0 {
		if src := f.callee(); src != 0 && !f.locks(isa.R7) {
			f.emit(movReg(isa.R7, src), aluImm(isa.ClassALU64|isa.AluAND, isa.R7, 7))
			in.Op, in.Src, in.Imm = isa.ClassLD|isa.ModeIND|size, isa.R7, in.Imm/2
		}
	}
	f.emit(in)
	f.st.regs = f.st.regs&^scratch | 1<<isa.R0
}
