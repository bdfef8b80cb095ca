package verifier

import (
	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/kernelkfunc"
)

// What functions do besides, found out before the walk: who calls a global function knows no more of it than this and its signature.
//
// As mark_subprog_changes_pkt_data and mark_subprog_might_sleep of Linux, which leave out throws and writes through dynptrs.

// effects is a set of what an instruction or function can do.
type effects uint8

const (
	movesPacket effects = 1 << iota
	mightSleep
	mightThrow
	writesDynptr // whatever it is of
	makesPacketDynptr
)

// findEffects finds what each function does, directly or in what it calls.
func (e *env) findEffects() {
	for f := range e.funcs {
		fn, info := &e.prog.Funcs[f], &e.funcs[f]
		for i := fn.Start; i < fn.End; i++ {
			info.does |= e.effectsOf(e.prog.Insns[i])
		}
	}
	for changed := true; changed; {
		changed = false
		for f := range e.funcs {
			info := &e.funcs[f]
			for _, c := range info.calls {
				if more := e.funcs[c].does &^ info.does; more != 0 {
					info.does |= more
					changed = true
				}
			}
		}
	}
	for f := range e.funcs {
		const both = writesDynptr | makesPacketDynptr
		if info := &e.funcs[f]; info.does&both == both {
			info.does |= movesPacket
		}
	}
}

// effectsOf says what an instruction does.
func (e *env) effectsOf(in isa.Insn) (does effects) {
	set := func(what effects, yes bool) {
		if yes {
			does |= what
		}
	}
	if k := e.kfuncOf(in); k != nil {
		set(movesPacket, changesPacket(k))
		set(mightSleep, k.Flags&kernelkfunc.Sleepable != 0)
		set(mightThrow, e.isThrow(in))
		set(writesDynptr, writesByKfunc(k))
		set(makesPacketDynptr, k.kernel && dynptrMakers[k.Name].movesByWrite())
		return does
	}
	if !in.IsHelperCall() {
		return 0
	}
	set(movesPacket, in.Imm == fnTailCall)
	set(writesDynptr, in.Imm == fnDynptrWrite)
	h := e.helper(in.Imm)
	if h == nil {
		return does
	}
	set(movesPacket, h.ChangesPacket)
	if own := e.protoFor(h); own != nil {
		set(mightSleep, own.MightSleep)
	}
	return does
}
