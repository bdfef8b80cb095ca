package ir

// RegSet is a set of BPF registers: bit n stands for rn.
type RegSet uint16

// Has reports whether r is in the set.
func (s RegSet) Has(r uint8) bool { return s>>r&1 != 0 }

const (
	argRegs  RegSet = 1<<1 | 1<<2 | 1<<3 | 1<<4 | 1<<5
	callRegs RegSet = 1 | argRegs // lost by a call
)

// Uses returns the registers that in reads.
func (in *Insn) Uses() RegSet {
	src := RegSet(0)
	if !in.UseImm() {
		src = 1 << in.Src
	}
	dst := RegSet(1) << in.Dst
	switch in.Op {
	case Mov, ArgStore:
		return src
	case Neg, Bswap:
		return dst
	case Sext, Zext, Load, LoadAcquire, ArrayLookup:
		return 1 << in.Src
	case Store, StoreRelease, Jcc, AtomicAdd, AtomicOr, AtomicAnd, AtomicXor, AtomicXchg:
		return src | dst
	case AtomicCmpXchg:
		return src | dst | 1
	case Call, CallNative, CallHost:
		return argRegs & (1<<(min(in.Sub, 5)+1) - 1)
	case TailCall:
		return 1 | 1<<1 | 1<<3 // falls through with r0 as it is
	case Exit:
		return 1
	}
	if in.Op.IsALU() {
		return src | dst
	}
	return 0
}

// Defs returns the registers whose old value is gone after in.
func (in *Insn) Defs() RegSet {
	dst := RegSet(1) << in.Dst
	switch in.Op {
	case Mov, Neg, Sext, Zext, Bswap, FuncAddr, Load, LoadAcquire, ArgLoad, Held:
		return dst
	case AtomicCmpXchg:
		return 1
	case AtomicXchg:
		return 1 << in.Src
	case Call, CallNative, CallHost, ArrayLookup, CPU:
		return callRegs
	}
	if in.Op.IsALU() {
		return dst
	}
	if in.IsFetch() {
		return 1 << in.Src
	}
	return 0
}

// Pure reports whether in does nothing but compute Dst, so that it can be left out where Dst is not live after it.
func (in *Insn) Pure() bool {
	switch in.Op {
	case Mov, Neg, Sext, Zext, Bswap, FuncAddr, ArgLoad, Held:
		return true
	}
	return in.Op.IsALU()
}

// LiveOut returns, for each instruction, the registers whose value after it may still be read. live is used for the
// result if it is long enough.
func LiveOut(p *Program, live []RegSet) []RegSet {
	if cap(live) < len(p.Insns) {
		live = make([]RegSet, len(p.Insns))
	}
	live = live[:len(p.Insns)]
	clear(live)
	for i := range p.Funcs {
		f := &p.Funcs[i]
		for pass := 1; liveFunc(p, f, live); pass++ {
			if pass == maxPasses {
				spreadLive(p, f, live)
				break
			}
		}
	}
	return live
}

// maxPasses is how often a function is passed over whole. Honest loops need two or three passes; a chain of jumps backwards
// needs one for each.
const maxPasses = 8

// spreadLive completes what liveFunc began, from one instruction to those before it: each is looked at again only when more
// has become live behind it, at most once for each register.
func spreadLive(p *Program, f *Func, live []RegSet) {
	n := f.End - f.Start
	into := make([][]int32, n) // jumps by their target
	work, queued := make([]int32, 0, n), make([]bool, n)
	for i := f.Start; i < f.End; i++ {
		if in := &p.Insns[i]; in.Op.HasTarget() {
			t := int(in.Off) - f.Start
			into[t] = append(into[t], int32(i))
		}
		work, queued[i-f.Start] = append(work, int32(i)), true
	}
	for len(work) > 0 {
		i := int(work[len(work)-1])
		work, queued[i-f.Start] = work[:len(work)-1], false
		in := &p.Insns[i]
		liveIn := live[i]&^in.Defs() | in.Uses()
		add := func(k int) {
			if liveIn&^live[k] != 0 {
				live[k] |= liveIn
				if !queued[k-f.Start] {
					work, queued[k-f.Start] = append(work, int32(k)), true
				}
			}
		}
		if i > f.Start {
			switch p.Insns[i-1].Op {
			case Jmp, Exit, Trap:
			default:
				add(i - 1)
			}
		}
		for _, k := range into[i-f.Start] {
			add(int(k))
		}
	}
}

// liveFunc makes one backward pass over a function and reports whether a loop asks for another.
func liveFunc(p *Program, f *Func, live []RegSet) bool {
	liveIn := func(i int) RegSet {
		in := &p.Insns[i]
		return live[i]&^in.Defs() | in.Uses()
	}
	for i := f.End - 1; i >= f.Start; i-- {
		in := &p.Insns[i]
		out := RegSet(0)
		if in.Op != Jmp && in.Op != Exit && in.Op != Trap && i+1 < f.End {
			out = liveIn(i + 1)
		}
		if in.Op.HasTarget() {
			out |= liveIn(int(in.Off))
		}
		live[i] = out
	}
	return loopChanged(p, f, live, liveIn)
}

// loopChanged reports whether a jump backwards has not seen all that is live at its target.
func loopChanged(p *Program, f *Func, live []RegSet, liveIn func(int) RegSet) bool {
	for i := f.Start; i < f.End; i++ {
		in := &p.Insns[i]
		if in.Op.HasTarget() && int(in.Off) <= i && liveIn(int(in.Off))&^live[i] != 0 {
			return true
		}
	}
	return false
}
