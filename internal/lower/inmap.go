package lower

import (
	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/ir"
	"github.com/skep-bpf/skep/internal/rt"
)

// Lookups in arrays of maps, and in arrays that were found there, need no call: the first load a handle, the second find where the values
// are in the header that a handle is the address of. The kernel inlines the same two (array_of_map_gen_lookup, array_map_gen_lookup).

// outerLookup emits a lookup in map m, if it is an array of maps, and reports whether it did.
func (l *lowerer) outerLookup(m int32) bool {
	if mp := &l.out.Maps[m]; mp.Base == 0 || mp.Kind != ir.MapArrayOfMaps {
		return false
	}
	l.emit(ir.Insn{Op: ir.ArrayLookup, Off: m, Src: 2})
	beyond := l.jumpAhead(ir.Insn{Op: ir.Jcc, Sub: ir.EQ, W: 8, Dst: 0, Flag: ir.FlagImm})
	l.emit(ir.Insn{Op: ir.Load, W: 8, Dst: 0, Src: 0})
	l.land(beyond)
	return true
}

// innerLookup emits a lookup in an array that was found in a map, whose handle is in r1, and reports whether it did. The bound is that of
// the array itself: it can have more or fewer elements than the template.
func (l *lowerer) innerLookup() bool {
	at := int(l.fact(l.pc).InMap) - 1
	if at < 0 || at >= len(l.p.Maps) || l.p.Maps[at].Inner == nil || l.p.Maps[at].Inner.Type != ebpf.Array {
		return false
	}
	t := l.p.Maps[at].Inner
	stride := int64(t.ValueSize+7) &^ 7
	l.emit(ir.Insn{Op: ir.Load, W: 4, Dst: 2, Src: 2})
	l.emit(ir.Insn{Op: ir.Load, W: 8, Dst: 3, Src: 1, Off: rt.HeaderEntries})
	l.emit(ir.Insn{Op: ir.Mov, W: 8, Dst: 0, Flag: ir.FlagImm})
	beyond := l.jumpAhead(ir.Insn{Op: ir.Jcc, Sub: ir.GE, W: 8, Dst: 2, Src: 3})
	l.emit(ir.Insn{Op: ir.Load, W: 8, Dst: 0, Src: 1, Off: rt.HeaderValues})
	l.emit(ir.Insn{Op: ir.Mul, W: 8, Dst: 2, Imm: stride, Flag: ir.FlagImm})
	l.emit(ir.Insn{Op: ir.Add, W: 8, Dst: 0, Src: 2})
	l.land(beyond)
	return true
}
