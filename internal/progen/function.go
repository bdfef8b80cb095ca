package progen

import (
	"math/rand/v2"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/isa"
)

// state is what the generator knows at a point of a function. A register is a number or not to be read; stack bytes are
// initialised or not to be read. Both only grow along a path but for r0..r5, which a call and a loop forget: so a loop
// body that is valid once is valid again.
type state struct {
	regs  uint16    // bit r: register r holds a number
	stack [24]uint8 // slot s is fp-8*(s+1); bit b: its byte b is initialised
}

func (s *state) meet(o state) {
	s.regs &= o.regs
	for i := range s.stack {
		s.stack[i] &= o.stack[i]
	}
}

const scratch = 1<<isa.R6 - 1 // r0..r5

// function builds one function.
type function struct {
	*generator
	id     int
	insns  []isa.Insn
	calls  []callSite
	st     state
	ctx    isa.Reg // register that holds the context, 0 if none
	locked uint16  // registers that may not be written: the context, loop counters, pointers in use
	slots  int     // stack slots used for numbers; the next one keeps a pointer
	depth  int     // of nested blocks
	loops  int     // of nested loops
	budget int     // statements left, nested ones counted
}

func (g *generator) function(id int) *function {
	f := &function{generator: g, id: id}
	p := &g.protos[id]
	n := g.c.Statements
	if id == 0 {
		f.slots = 4 + g.r.IntN(14)
		f.ctx = isa.R9
		if g.c.Type == ebpf.SocketFilter {
			f.ctx = isa.R6 // where legacy packet loads want it
		}
		f.locked = 1 << f.ctx
		f.emit(movReg(f.ctx, isa.R1))
	} else {
		f.slots = 1 + g.r.IntN(6)
		n = 1 + g.r.IntN(8)
		f.arguments(p)
	}
	f.budget = 4 * n
	for r := isa.R6; r <= isa.R9; r++ {
		if r != f.ctx && f.st.regs>>r&1 == 0 {
			f.emit(f.constant(r)...)
			f.st.regs |= 1 << r
		}
	}
	for range n {
		f.statement()
	}
	f.result()
	return f
}

// arguments takes the parameters of the function: some are kept in registers, all enter r6. A pointer is used at once,
// and by a global function only after a check for null.
func (f *function) arguments(p *proto) {
	n := p.args
	f.st.regs = 1<<(min(n, isa.MaxRegArgs)+1) - 2
	if p.ptr {
		f.st.regs &^= 1 << isa.R1
		defer f.usePointer(p.global)
	}
	for i := isa.MaxRegArgs; i < n; i++ {
		// Loads of stack arguments come first in a function.
		r := []isa.Reg{isa.R0, isa.R7, isa.R8, isa.R9}[f.r.IntN(4)]
		f.emit(isa.Insn{Op: isa.ClassLDX | isa.ModeMEM | isa.SizeDW, Dst: r, Src: isa.RParams, Off: int16(8 * (i - isa.MaxRegArgs + 1))})
		f.st.regs |= 1 << r
		if f.st.regs>>isa.R6&1 == 0 {
			f.emit(movReg(isa.R6, r))
			f.st.regs |= 1 << isa.R6
		} else {
			f.emit(aluReg(isa.ClassALU64|isa.AluXOR, isa.R6, r), aluImm(isa.ClassALU64|isa.AluMUL, isa.R6, 31))
		}
	}
}

func (f *function) usePointer(orNull bool) {
	out := -1
	if orNull {
		out = f.jump(isa.Insn{Op: isa.ClassJMP | isa.JmpJEQ, Dst: isa.R1})
	}
	before := f.st
	unlock := f.lock(isa.R1)
	f.accesses(isa.R1, 16, memStack)
	unlock()
	if orNull {
		f.land(out)
		f.st.meet(before)
	}
}

func (f *function) emit(in ...isa.Insn) { f.insns = append(f.insns, in...) }

// jump emits a jump whose target land sets later.
func (f *function) jump(in isa.Insn) int {
	f.emit(in)
	return len(f.insns) - 1
}

// land lets the jump at slot j go to the next instruction emitted.
func (f *function) land(j int) {
	n := len(f.insns) - j - 1
	if f.insns[j].Op == isa.ClassJMP32|isa.JmpJA {
		f.insns[j].Imm = int32(n)
	} else {
		f.insns[j].Off = int16(n)
	}
}

func (f *function) locks(r isa.Reg) bool { return f.locked>>r&1 != 0 }

// number returns a register that holds a number, making one if there is none.
func (f *function) number() isa.Reg {
	for range 8 {
		if r := isa.Reg(f.r.IntN(10)); f.st.regs>>r&1 != 0 {
			return r
		}
	}
	for r := isa.R6; r <= isa.R9; r++ {
		if f.st.regs>>r&1 != 0 {
			return r
		}
	}
	r := f.target()
	f.emit(f.constant(r)...)
	f.st.regs |= 1 << r
	return r
}

// target returns a register that may be written.
func (f *function) target() isa.Reg {
	for {
		if r := isa.Reg(f.r.IntN(10)); !f.locks(r) {
			return r
		}
	}
}

// temp returns one of r0..r5 that may be written and is none of those given; it holds no number any more.
func (f *function) temp(but ...isa.Reg) isa.Reg {
next:
	for {
		r := isa.Reg(f.r.IntN(6))
		for _, b := range but {
			if r == b {
				continue next
			}
		}
		if !f.locks(r) {
			f.st.regs &^= 1 << r
			return r
		}
	}
}

// lock keeps registers from being written until the function returned is called.
func (f *function) lock(rs ...isa.Reg) func() {
	old := f.locked
	for _, r := range rs {
		f.locked |= 1 << r
	}
	return func() { f.locked = old }
}

// result ends the function: main stores its numbers where a test can see them; r0 gets a mix of all.
func (f *function) result() {
	f.emit(aluImm(isa.ClassALU64|isa.AluMOV, isa.R0, int32(f.id)))
	for r := isa.R1; r <= isa.R9; r++ {
		if f.st.regs>>r&1 != 0 {
			f.emit(aluImm(isa.ClassALU64|isa.AluMUL, isa.R0, 31), aluReg(isa.ClassALU64|isa.AluADD, isa.R0, r))
		}
	}
	if f.id == 0 {
		f.emit(isa.Insn{Op: ldImm64, Dst: isa.R1, Src: isa.PseudoMapValue, Imm: MapOut}, isa.Insn{})
		off := int16(0)
		for r := isa.R6; r <= isa.R9; r++ {
			if f.st.regs>>r&1 != 0 {
				f.emit(isa.Insn{Op: isa.ClassSTX | isa.ModeMEM | isa.SizeDW, Dst: isa.R1, Src: r, Off: off})
				off += 8
			}
		}
		f.emit(isa.Insn{Op: isa.ClassSTX | isa.ModeMEM | isa.SizeDW, Dst: isa.R1, Src: isa.R0, Off: off})
	}
	f.emit(isa.Insn{Op: isa.ClassJMP | isa.JmpEXIT})
}

const ldImm64 = isa.ClassLD | isa.ModeIMM | isa.SizeDW

func movReg(d, s isa.Reg) isa.Insn { return aluReg(isa.ClassALU64|isa.AluMOV, d, s) }

func aluReg(op uint8, d, s isa.Reg) isa.Insn { return isa.Insn{Op: op | isa.SrcX, Dst: d, Src: s} }

func aluImm(op uint8, d isa.Reg, imm int32) isa.Insn { return isa.Insn{Op: op, Dst: d, Imm: imm} }

// constant loads a number into r: short, or as a 64-bit immediate.
func (f *function) constant(r isa.Reg) []isa.Insn {
	switch f.r.IntN(4) {
	case 0:
		return []isa.Insn{{Op: ldImm64, Dst: r, Imm: immediate(f.r)}, {Imm: immediate(f.r)}}
	case 1:
		return []isa.Insn{aluImm(isa.ClassALU|isa.AluMOV, r, immediate(f.r))}
	}
	return []isa.Insn{aluImm(isa.ClassALU64|isa.AluMOV, r, immediate(f.r))}
}

// immediate returns a number near an edge, or a small or any one.
func immediate(r *rand.Rand) int32 {
	switch r.IntN(6) {
	case 0:
		return int32(r.IntN(16)) - 8
	case 1:
		return int32(1)<<r.IntN(32) - int32(r.IntN(3)) + 1
	case 2:
		return int32(-1)<<r.IntN(32) + int32(r.IntN(3)) - 1
	case 3, 4:
		return int32(r.IntN(1 << 9))
	}
	return int32(r.Uint32())
}
