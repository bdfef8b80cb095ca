package verifier

import (
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/isa"
)

// Fast calls: around helpers that change few registers compilers put spills and fills of the others, at the lowest places of
// the stack, for kernels that do not know better. A kernel that inlines the helper takes them out, and prints the function's stack
// without them; the depth of calls is judged with them (6.18). skep leaves them where they are and prints what the kernel
// does: the places are watched during the walk, and if anything else touches them they count (mark_fastcall_patterns,
// check_fastcall_stack_contract, remove_fastcall_spills_fills).

// fastcalls is what is known of the fast calls of one function.
type fastcalls struct {
	off     int  // where the places of their spills end: the function's stack without them
	removed bool // some spills are taken out
	keep    bool // some call of that shape is not inlined, so that its spills stay
}

// findFastcalls looks for spills and fills around calls.
func (e *env) findFastcalls() error {
	var targets map[int]bool
	for f := range e.funcs {
		start, end := e.prog.Funcs[f].Start, e.prog.Funcs[f].End
		lowest := 0
		for _, in := range e.prog.Insns[start:end] {
			if isSpillInsn(in) {
				lowest = min(lowest, int(in.Off))
			}
		}
		if lowest == 0 {
			continue
		}
		for pc := start; pc < end; pc++ {
			if !e.prog.Insns[pc].IsCall() {
				continue
			}
			if targets == nil {
				targets = e.jumpTargets()
			}
			e.markFastcall(&e.funcs[f].fast, pc, lowest, targets)
		}
	}
	return nil
}

func isSpillInsn(in isa.Insn) bool {
	return in.Op == isa.ClassSTX|isa.ModeMEM|isa.SizeDW && in.Dst == isa.R10
}

func isFillInsn(in isa.Insn) bool {
	return in.Op == isa.ClassLDX|isa.ModeMEM|isa.SizeDW && in.Src == isa.R10
}

func (e *env) jumpTargets() map[int]bool {
	targets := map[int]bool{}
	for pc, in := range e.prog.Insns {
		jump := in.Class() == isa.ClassJMP || in.Class() == isa.ClassJMP32
		if jump && in.JmpOp() != isa.JmpCALL && in.JmpOp() != isa.JmpEXIT {
			targets[in.JumpTarget(pc)] = true
		}
	}
	return targets
}

// markFastcall marks the spills in front of the call at pc and the fills behind it that belong together. Nothing may jump
// into the middle of them.
func (e *env) markFastcall(f *fastcalls, pc, lowest int, targets map[int]bool) {
	insns := e.prog.Insns
	want, inlined := e.keptByCall(insns[pc])
	off, i := lowest, 1
	for ; want != 0 && pc-i >= 0 && pc+i < len(insns) && !targets[pc-i+1] && !targets[pc+i]; i++ {
		spill, fill := insns[pc-i], insns[pc+i]
		if !isSpillInsn(spill) || !isFillInsn(fill) || spill.Src != fill.Dst || want>>spill.Src&1 == 0 || int(spill.Off) != off || int(fill.Off) != off {
			break
		}
		want &^= 1 << spill.Src
		e.aux[pc-i].fastcall, e.aux[pc+i].fastcall = true, true
		off += 8
	}
	if i == 1 {
		return
	}
	f.removed = f.removed || inlined
	f.keep = f.keep || !inlined
	f.off = min(f.off, off)
}

// keptByCall returns which of r0 to r5 a call leaves as they are, and whether the kernel has code in its place. Only helpers and kfuncs
// with prototypes leave any.
func (e *env) keptByCall(in isa.Insn) (kept uint32, inlined bool) {
	const scratched = 1<<6 - 1
	switch {
	case in.IsHelperCall():
		h := e.helper(in.Imm)
		if h == nil {
			return 0, false
		}
		if h = e.protoFor(h); h == nil {
			return 0, false
		}
		used := uint32(1)
		if h.Ret == RetVoid {
			used = 0
		}
		for i := range h.Args {
			if h.Args[i].Kind != ArgDontCare {
				used |= 2 << i
			}
		}
		return scratched &^ used, in.Imm == fnSmpProcessorID
	case in.IsKfuncCall() && int(in.Imm) >= 0 && int(in.Imm) < len(e.prog.Kfuncs):
		k := &e.prog.Kfuncs[in.Imm]
		if k.Type == nil {
			return 0, false
		}
		proto, ok := k.Type.Type.(*btf.FuncProto)
		if !ok {
			return 0, false
		}
		used := uint32(1)
		if _, void := proto.Return.(*btf.Void); void {
			used = 0
		}
		for i := range min(len(proto.Params), isa.MaxRegArgs) {
			used |= 2 << i
		}
		return scratched &^ used, k.Name == "bpf_cast_to_kern_ctx" || k.Name == "bpf_rdonly_cast"
	}
	return 0, false
}

// noteStackAccess gives up the fast calls of the function whose frame is accessed at off, unless that is one of their own places
// touched by one of their own instructions, or lies above.
func (e *env) noteStackAccess(fr *frame, off int) {
	f := &e.funcs[fr.fn].fast
	if !f.removed && !f.keep || f.off <= off || e.aux[e.insn].fastcall {
		return
	}
	*f = fastcalls{}
	fn := &e.prog.Funcs[fr.fn]
	for pc := fn.Start; pc < fn.End; pc++ {
		e.aux[pc].fastcall = false
	}
}

// leftDepth is the stack of a function without the spills that the kernel takes out.
func (f *funcInfo) leftDepth() int {
	if f.fast.removed && !f.fast.keep {
		return -f.fast.off
	}
	return f.depth
}
