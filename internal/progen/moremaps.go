package progen

import "github.com/skep-bpf/skep/internal/isa"

// Helper numbers.
const (
	mapPush = 87
	mapPop  = 88
	mapPeek = 89
)

// moreMaps uses an LRU hash that is never full, a trie or a queue.
func (f *function) moreMaps() {
	if f.r.IntN(3) == 0 {
		f.queue()
		return
	}
	m := MapLRU
	if f.r.IntN(2) == 0 {
		m = MapTrie
	}
	key := f.moreKey(m)
	switch f.r.IntN(6) {
	case 0:
		f.mapCall(m, mapDelete, key)
		f.st.regs |= 1 << isa.R0
	case 1, 2, 3:
		f.update(m, key)
	default:
		f.mapCall(m, mapLookup, key)
		f.useFound(int(maps()[m].ValueSize))
	}
}

// moreKey stores a key for a map of moreMaps where key does: eight bytes, of the trie a length and four bytes of data.
func (f *function) moreKey(m int) int16 {
	off := int16(-8 * (f.slots + 2))
	if m == MapLRU {
		f.emit(isa.Insn{Op: isa.ClassST | isa.ModeMEM | isa.SizeDW, Dst: isa.R10, Off: off, Imm: f.r.Int32N(8)})
		return off
	}
	length := isa.Insn{Op: isa.ClassST | isa.ModeMEM | isa.SizeW, Dst: isa.R10, Off: off, Imm: f.r.Int32N(34)} // one too long
	if f.r.IntN(3) == 0 {
		t := f.temp()
		unlock := f.lock(t)
		f.bounded(t, 31)
		unlock()
		length = isa.Insn{Op: isa.ClassSTX | isa.ModeMEM | isa.SizeW, Dst: isa.R10, Src: t, Off: off}
	}
	data := isa.Insn{Op: isa.ClassST | isa.ModeMEM | isa.SizeW, Dst: isa.R10, Off: off + 4, Imm: []int32{0, 0xff, 0xff0, 0x7f, -1}[f.r.IntN(5)]}
	if f.r.IntN(4) == 0 {
		data = isa.Insn{Op: isa.ClassSTX | isa.ModeMEM | isa.SizeW, Dst: isa.R10, Src: f.number(), Off: off + 4}
	}
	f.emit(length, data)
	return off
}

// queue pushes what lies in the spare part of the map "out", or pops or peeks into it.
func (f *function) queue() {
	helper := []int32{mapPush, mapPush, mapPop, mapPeek}[f.r.IntN(4)]
	f.emit(isa.Insn{Op: ldImm64, Dst: isa.R2, Src: isa.PseudoMapValue, Imm: MapOut}, isa.Insn{Imm: 64})
	if src := f.callee(); src != 0 && helper == mapPush {
		f.emit(isa.Insn{Op: isa.ClassSTX | isa.ModeMEM | isa.SizeDW, Dst: isa.R2, Src: src})
	}
	f.emit(aluImm(isa.ClassALU64|isa.AluMOV, isa.R3, f.r.Int32N(4)),
		isa.Insn{Op: ldImm64, Dst: isa.R1, Src: isa.PseudoMapFD, Imm: MapQueue}, isa.Insn{},
		isa.Insn{Op: isa.ClassJMP | isa.JmpCALL, Imm: helper})
	f.st.regs = f.st.regs&^scratch | 1<<isa.R0
}
