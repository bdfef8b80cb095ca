package progen

import (
	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/isa"
)

// Helper numbers.
const (
	mapLookup    = 1
	mapUpdate    = 2
	mapDelete    = 3
	skbLoadBytes = 26
)

// loadBytes copies packet bytes to the first two stack slots by a helper, with a length that is constant or bounded.
func (f *function) loadBytes() {
	if f.id != 0 || f.c.Type == ebpf.XDP || f.slots < 2 {
		f.alu()
		return
	}
	for slot := range 2 { // all of it is initialised, whatever the length
		if f.st.stack[slot] != 0xff {
			f.emit(isa.Insn{Op: isa.ClassST | isa.ModeMEM | isa.SizeDW, Dst: isa.R10, Off: int16(-8 * (slot + 1)), Imm: immediate(f.r)})
			f.st.stack[slot] = 0xff
		}
	}
	if f.r.IntN(2) == 0 {
		f.bounded(isa.R4, 15)
		f.emit(aluImm(isa.ClassALU64|isa.AluADD, isa.R4, 1))
	} else {
		f.emit(aluImm(isa.ClassALU64|isa.AluMOV, isa.R4, 1+f.r.Int32N(16)))
	}
	f.emit(movReg(isa.R1, f.ctx), aluImm(isa.ClassALU64|isa.AluMOV, isa.R2, f.r.Int32N(40)),
		movReg(isa.R3, isa.R10), aluImm(isa.ClassALU64|isa.AluADD, isa.R3, -16),
		isa.Insn{Op: isa.ClassJMP | isa.JmpCALL, Imm: skbLoadBytes})
	f.st.regs = f.st.regs&^scratch | 1<<isa.R0
}

// laterLookup looks a key up, keeps the result on the stack over other work, and checks and uses it after that.
func (f *function) laterLookup() {
	if !f.c.Maps {
		f.alu()
		return
	}
	m := []int{MapArray, MapHash}[f.r.IntN(2)]
	f.mapCall(m, mapLookup, f.key(m))
	off := int16(-8 * (f.slots + 3))
	f.emit(isa.Insn{Op: isa.ClassSTX | isa.ModeMEM | isa.SizeDW, Dst: isa.R10, Src: isa.R0, Off: off})
	for range 1 + f.r.IntN(3) {
		f.alu()
	}
	p := f.temp()
	f.emit(isa.Insn{Op: isa.ClassLDX | isa.ModeMEM | isa.SizeDW, Dst: p, Src: isa.R10, Off: off})
	before := f.st
	out := f.jump(isa.Insn{Op: isa.ClassJMP | isa.JmpJEQ, Dst: p})
	unlock := f.lock(p)
	f.accesses(p, int(maps()[m].ValueSize), memValue)
	unlock()
	f.land(out)
	f.st.meet(before)
}
