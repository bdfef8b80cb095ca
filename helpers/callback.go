package helpers

import (
	"encoding/binary"
	"slices"

	"github.com/skep-bpf/skep/internal/rt"
	"github.com/skep-bpf/skep/maps"
	"github.com/skep-bpf/skep/verifier"
)

// Helpers that call a function of the program while they run. Lowering makes loops of them, whose calls are calls like any other;
// bpf_loop needs nothing of the host for it.

var _ = define(
	Helper{Proto: proto{
		ID: 181, Name: "loop", Callback: verifier.CallbackLoop,
		Args: args{arg(verifier.ArgAnything), arg(verifier.ArgFunc), argNull(verifier.ArgStack), arg(verifier.ArgAnything)},
	}},
	Helper{Proto: proto{
		ID: 164, Name: "for_each_map_elem", Callback: verifier.CallbackMapElem,
		Args: args{arg(verifier.ArgConstMapPtr), arg(verifier.ArgFunc), argNull(verifier.ArgStack), arg(verifier.ArgAnything)},
	}, Fn: mapNext},
)

// mapNext is what the loop in place of bpf_for_each_map_elem calls for each element, not what a program calls: it takes the map and
// the address of two words on the program's stack, a position and where to put the address of the key, and returns the address of
// the value, 0 behind the last element.
func mapNext(r *rt.Run, a *[12]uint64) uint64 {
	words := rt.Mem(a[1], 16)
	m := maps.SideOf(maps.FromHandle(a[0]))
	position, key, value := m.NextElem(binary.LittleEndian.Uint64(words), r.CPU)
	binary.LittleEndian.PutUint64(words, position)
	binary.LittleEndian.PutUint64(words[8:], uint64(key))
	if g := m.KeyMemory(); g.Size > 0 && !slices.Contains(r.Mem(), g) {
		r.AddMem(g) // the callback may keep the key's address
	}
	return uint64(value)
}
