package lower

import "github.com/skep-bpf/skep/internal/ir"

// keys looks, for each array lookup, for the store that put the key on the stack just before, in straight code. Then
// the lookup takes the key from the stored register, or is decided if the key is a constant. The store stays: the
// program may read the key again.
func keys(p *ir.Program) {
	target := make([]bool, len(p.Insns)+1)
	for i := range p.Insns {
		if in := &p.Insns[i]; in.Op.HasTarget() {
			target[in.Off] = true
		}
	}
	for i := range p.Insns {
		in := &p.Insns[i]
		if in.Op != ir.ArrayLookup || in.KeyInReg() {
			continue
		}
		st, dead := keyStore(p, target, i)
		if st == nil {
			continue
		}
		m := &p.Maps[in.Off]
		switch {
		case !st.UseImm():
			in.Src, in.Flag = st.Src, ir.FlagKeyReg
			if st.Src < uint8(len(dead)) && dead[st.Src] > 0 {
				// the register gets the map, which nobody reads now, behind the store: it keeps the key instead
				d := &p.Insns[dead[st.Src]]
				*d = ir.Insn{Op: ir.Mov, W: 8, Dst: d.Dst, Src: d.Dst, PC: d.PC}
			}
		case m.Kind == ir.MapArray || m.Kind == ir.MapArrayOfMaps:
			*in = constLookup(m, uint32(st.Imm), in.PC)
		}
	}
	for i := 1; i < len(p.Insns); i++ {
		if !target[i] {
			fold(&p.Insns[i], &p.Insns[i-1], i)
		}
	}
}

// fold decides the null check behind a lookup of a known key: in, at index i, compares what mov just loaded.
func fold(in, mov *ir.Insn, i int) {
	if in.Op != ir.Jcc || in.W != 8 || !in.UseImm() || in.Sub != ir.EQ && in.Sub != ir.NE ||
		mov.Op != ir.Mov || mov.W != 8 || !mov.UseImm() || mov.Dst != in.Dst {
		return
	}
	o := ir.Insn{Op: ir.Jmp, Off: int32(i + 1), PC: in.PC}
	if (mov.Imm == in.Imm) == (in.Sub == ir.EQ) {
		o.Off = in.Off
	}
	*in = o
}

// constLookup is a lookup of a known key.
func constLookup(m *ir.Map, key uint32, pc int32) ir.Insn {
	o := ir.Insn{Op: ir.Mov, W: 8, Flag: ir.FlagImm, PC: pc}
	if key < m.MaxEntries {
		o.Imm = int64(m.Base + uint64(key)*uint64(m.Stride))
	}
	return o
}

// keyStore returns the 4-byte store that the lookup at index i reads its key from, with a source that still has its
// value at i; nil if that is not plain. A constant that some argument register gets behind the store and that nothing
// reads up to the lookup, which ends its life, does not count as a change: dead has its index by register, 0 for none.
func keyStore(p *ir.Program, target []bool, i int) (st *ir.Insn, dead [6]int) {
	const far = 12
	ptr := int64(0)        // r2 is base + ptr
	base := p.Insns[i].Src // until the move from r10 is found
	changed, used := ir.RegSet(0), ir.RegSet(0)
	for k := i - 1; k >= 0 && i-k <= far; k-- {
		if target[k+1] {
			return nil, dead
		}
		in := &p.Insns[k]
		switch {
		case in.Op == ir.Store:
			if in.Dst != base || int64(in.Off) != ptr {
				if in.Dst == 10 && base == 10 && (int64(in.Off)+int64(in.W) <= ptr || int64(in.Off) >= ptr+4) {
					break // elsewhere on the stack
				}
				return nil, dead
			}
			if in.W != 4 || base != 10 || !in.UseImm() && changed.Has(in.Src) {
				return nil, dead
			}
			return in, dead
		case in.Op == ir.Mov && in.UseImm() && in.Dst >= 1 && in.Dst <= 5 && in.Dst != base &&
			!used.Has(in.Dst) && !changed.Has(in.Dst) && dead[in.Dst] == 0:
			dead[in.Dst] = k
			continue
		case base != 10 && in.Op == ir.Add && in.W == 8 && in.Dst == base && in.UseImm():
			ptr += in.Imm
		case base != 10 && in.Op == ir.Mov && in.W == 8 && in.Dst == base && !in.UseImm() && in.Src == 10:
			base = 10
		case in.Pure() || in.Op == ir.Load:
			if base != 10 && in.Dst == base {
				return nil, dead
			}
		default:
			return nil, dead
		}
		changed |= in.Defs()
		used |= in.Uses()
	}
	return nil, dead
}
