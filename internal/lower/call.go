package lower

import (
	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/ir"
	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/kernelkfunc"
)

// Helpers that lowering knows by number (enum bpf_func_id).
const (
	helperMapLookup = 1
	helperCPU       = 8
	helperTailCall  = 12
	helperTimerCall = 170
	helperForEach   = 164
	helperLoop      = 181
	helperDrain     = 209
)

func (l *lowerer) call(in isa.Insn) {
	switch {
	case in.Op != isa.ClassJMP|isa.JmpCALL:
		l.fail("unknown opcode %#02x", in.Op) // an indirect call
	case in.IsPseudoCall():
		t := l.pc + 1 + int(in.Imm)
		f := l.p.FuncAt(t)
		if t < 0 || t >= len(l.p.Insns) || f < 0 || l.p.Funcs[f].Start != t || l.funcOf[f] < 0 {
			l.fail("call to %d, which is no function", t)
			return
		}
		l.callFunc(f)
	case in.IsKfuncCall():
		l.kfunc(in)
	case in.IsHelperCall():
		l.helper(in)
	default:
		l.fail("call of kind %d", in.Src)
	}
}

// ofSockets reports whether lookups in maps of a type find sockets.
func ofSockets(t ebpf.MapType) bool {
	return t == ebpf.SockMap || t == ebpf.SockHash || t == ebpf.XSKMap
}

func (l *lowerer) helper(in isa.Insn) {
	m := l.fact(l.pc).Map
	switch in.Imm {
	case helperMapLookup:
		if l.fact(l.pc).FindsSocket { // a structure that the map's values here are not
			if m < 0 || int(m) >= len(l.p.Maps) || !ofSockets(l.p.Maps[m].Type) {
				l.fail("lookup in a map of sockets, or in another one: %w", ErrNoRuntime)
			}
			l.imm(ir.Mov, uint8(isa.R0), 0) // there are none
			return
		}
		if m >= 0 && int(m) < len(l.out.Maps) && (l.arrayLookup(m) || l.outerLookup(m)) || l.innerLookup() {
			return
		}
	case helperCPU:
		l.emit(ir.Insn{Op: ir.CPU})
		return
	case helperTailCall:
		if f := l.p.FuncAt(l.pc); l.in[f] > 0 || l.outs[f] > 0 {
			l.fail("tail_calls are not allowed in programs with stack args") // a proof says so, too
			return
		}
		if !l.isProgArray(m) {
			m = l.mapIn(2)
		}
		if l.isProgArray(m) {
			l.emit(ir.Insn{Op: ir.TailCall, Off: m})
		} else {
			l.tailCallAny()
		}
		return
	}
	if in.Imm == helperTimerCall && l.res != nil && l.env.SetCallback != nil {
		l.setCallback()
		return
	}
	if in.Imm == helperLoop && l.res != nil {
		l.loop()
		return
	}
	h, ok := l.env.Helper(in.Imm)
	if in.Imm == helperForEach && ok && l.res != nil {
		l.forEach(int64(h))
		return
	}
	if in.Imm == helperDrain && ok && l.res != nil {
		l.drain(int64(h))
		return
	}
	if !ok || in.Imm == helperForEach || in.Imm == helperDrain {
		l.fail("helper %s#%d: %w", isa.HelperName(in.Imm), in.Imm, ErrNoRuntime)
		return
	}
	if !l.ring(in.Imm, h) {
		l.emit(ir.Insn{Op: ir.CallHost, Imm: int64(h), Sub: isa.MaxRegArgs})
	}
}

func (l *lowerer) isProgArray(m int32) bool {
	return m >= 0 && int(m) < len(l.out.Maps) && l.out.Maps[m].Kind == ir.MapProgArray
}

// tailCallAny emits a tail call where several paths bring different program arrays in r2: it compares the handle with
// that of each array the program names. r5 is lost by the call anyway.
func (l *lowerer) tailCallAny() {
	arrays := 0
	for m := range l.out.Maps {
		if !l.isProgArray(int32(m)) {
			continue
		}
		arrays++
		l.emit(ir.Insn{Op: ir.Mov, W: 8, Dst: 5, Imm: int64(l.env.Maps[m].Handle), Flag: ir.FlagImm})
		l.emit(ir.Insn{Op: ir.Jcc, Sub: ir.NE, W: 8, Dst: 2, Src: 5, Flag: flagLocal, Off: int32(len(l.out.Insns) + 2)})
		l.emit(ir.Insn{Op: ir.TailCall, Off: int32(m)})
	}
	if arrays == 0 {
		l.fail("tail call: the program names no program array")
	}
}

// arrayLookup emits a lookup in map m, if it is an array, and reports whether it did.
func (l *lowerer) arrayLookup(m int32) bool {
	mp := &l.out.Maps[m]
	if mp.Base == 0 || mp.Kind != ir.MapArray && mp.Kind != ir.MapPerCPUArray {
		return false
	}
	fact := l.fact(l.pc)
	if !fact.HasConstKey || mp.Kind != ir.MapArray {
		l.emit(ir.Insn{Op: ir.ArrayLookup, Off: m, Src: 2})
		return true
	}
	l.emit(constLookup(mp, fact.ConstKey, 0))
	return true
}

// mapIn finds the map in register r where it was loaded just before, in straight-line code. It stands in for the
// proof's fact where there is none.
func (l *lowerer) mapIn(r isa.Reg) int32 {
	if l.target[l.pc] != 0 {
		return -1 // other paths come here with another map
	}
	f := l.p.FuncAt(l.pc)
	for pc := l.pc - 1; pc >= l.p.Funcs[f].Start; pc-- {
		in := l.p.Insns[pc]
		if pc > 0 && l.p.Insns[pc-1].IsLdImm64() {
			pc--
			in = l.p.Insns[pc]
		}
		if in.IsLdImm64() && in.Dst == r && in.Src == isa.PseudoMapFD {
			if in.Imm >= 0 && int(in.Imm) < len(l.out.Maps) && l.out.Maps[in.Imm].Kind == ir.MapProgArray {
				return in.Imm
			}
			return -1
		}
		if l.target[pc] != 0 || isJump(in) || in.IsCall() || in.IsExit() {
			return -1
		}
		switch in.Class() {
		case isa.ClassALU, isa.ClassALU64, isa.ClassLDX, isa.ClassLD:
			if in.Dst == r {
				return -1
			}
		}
	}
	return -1
}

func (l *lowerer) kfunc(in isa.Insn) {
	if l.isThrow(int(in.Imm)) {
		l.throw()
		return
	}
	if k := int(in.Imm); k >= 0 && k < len(l.p.Kfuncs) && (l.builtin(l.p.Kfuncs[k].Name) || l.workqueue(k) || l.object(k) || l.plainKfunc(k)) {
		return
	}
	if in.Imm < 0 || int(in.Imm) >= len(l.env.Kfuncs) {
		l.fail("no kfunc %d", in.Imm)
		return
	}
	k := &l.env.Kfuncs[in.Imm]
	n := len(k.Args)
	if n > isa.MaxFuncArgs {
		l.fail("kfunc %s with %d arguments", l.p.Kfuncs[in.Imm].Name, n)
		return
	}
	if k.Native == 0 {
		if name := l.p.Kfuncs[in.Imm].Name; k.Handle == 0 {
			if kernelkfunc.Find(name) != nil {
				l.fail("kfunc %s: %w", name, ErrNoRuntime)
			} else {
				l.fail("kfunc %s is not registered", name)
			}
			return
		}
		l.emit(ir.Insn{Op: ir.CallHost, Imm: int64(k.Handle), Sub: uint8(n)})
		return
	}
	for i, e := range k.Args {
		l.extendArg(i+1, e)
	}
	l.emit(ir.Insn{Op: ir.CallNative, Imm: int64(uint64(k.Native)), Sub: uint8(n)})
	l.extend(0, k.Result)
}

// extendArg extends argument n (1..12) of a native call to 64 bits.
func (l *lowerer) extendArg(n int, e Ext) {
	if n <= isa.MaxRegArgs {
		l.extend(uint8(n), e)
		return
	}
	if e.Bytes == 1 || e.Bytes == 2 || e.Bytes == 4 {
		o := ir.Insn{Op: ir.ArgExt, Sub: uint8(n), W: uint8(e.Bytes)}
		if e.Signed {
			o.Flag = ir.FlagSigned
		}
		l.emit(o)
	}
}

func (l *lowerer) extend(reg uint8, e Ext) {
	if e.Bytes != 1 && e.Bytes != 2 && e.Bytes != 4 {
		return
	}
	o := ir.Insn{Op: ir.Zext, Dst: reg, Src: reg, Sub: uint8(e.Bytes)}
	if e.Signed {
		o.Op, o.W = ir.Sext, 8
	}
	l.emit(o)
}
