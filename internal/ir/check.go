package ir

import "fmt"

// An Error is a lowered program that no back end could mean anything by: a defect of the lowering pass.
type Error struct {
	Program string
	Index   int // into Program.Insns, -1 for the program as a whole
	Insn    Insn
	Reason  string
}

// Error is one line that names the instruction.
func (e *Error) Error() string {
	if e.Index < 0 {
		return fmt.Sprintf("internal error: program %s: ir: %s", e.Program, e.Reason)
	}
	return fmt.Sprintf("internal error: program %s: ir %d: %v: %s", e.Program, e.Index, e.Insn, e.Reason)
}

// Check reports the first instruction or function that breaks the rules stated at Op and Func, nil if there is none.
// Every engine calls it before it believes a program.
func Check(p *Program) error {
	whole := func(format string, args ...any) error {
		return &Error{p.Name, -1, Insn{}, fmt.Sprintf(format, args...)}
	}
	if len(p.Funcs) == 0 || len(p.Insns) == 0 {
		return whole("no instructions")
	}
	next := 0
	for i := range p.Funcs {
		f := &p.Funcs[i]
		switch {
		case f.Start != next || f.End <= f.Start || f.End > len(p.Insns):
			return whole("function %d %q covers [%d, %d), expected start %d", i, f.Name, f.Start, f.End, next)
		case f.Stack < 0 || f.Stack > MaxStack || f.Stack%8 != 0:
			return whole("function %d %q has %d bytes of stack", i, f.Name, f.Stack)
		case f.InArgs < 0 || f.InArgs > maxSlots || f.OutArgs < 0 || f.OutArgs > maxSlots:
			return whole("function %d %q has %d incoming and %d outgoing slots", i, f.Name, f.InArgs, f.OutArgs)
		}
		next = f.End
		if op := p.Insns[f.End-1].Op; op != Exit && op != Jmp && op != Trap {
			return whole("function %d %q runs off its end", i, f.Name)
		}
		for k := f.Start; k < f.End; k++ {
			if reason := checkInsn(p, f, &p.Insns[k]); reason != "" {
				return &Error{p.Name, k, p.Insns[k], reason}
			}
		}
	}
	for _, f := range p.Callbacks {
		if f < 0 || f >= len(p.Funcs) || !p.IsEntry(f) {
			return whole("callback of function %d, which is no entry", f)
		}
	}
	if next != len(p.Insns) {
		return whole("instructions behind the last function")
	}
	return nil
}

const (
	maxSlots = 7
	maxReg   = 10
	firstArg = 6
)

// rule is what must hold of an instruction's fields.
type rule struct {
	widths uint16 // bit w set: W may be w; 0: W does not count
	dst    bool   // Dst is written, so it may not be r10
	base   bool   // Dst is an address, so it may be r10
	src    bool   // Src is read, unless FlagImm
	imm    bool   // FlagImm is allowed
}

const (
	w48  = 1<<4 | 1<<8
	w248 = 1<<2 | w48
	wAll = 1<<1 | w248
)

var rules = [NumOps]rule{
	Mov: {widths: w48, dst: true, src: true, imm: true},
	Add: {widths: w48, dst: true, src: true, imm: true}, Sub: {widths: w48, dst: true, src: true, imm: true},
	Mul: {widths: w48, dst: true, src: true, imm: true}, Div: {widths: w48, dst: true, src: true, imm: true},
	Mod: {widths: w48, dst: true, src: true, imm: true}, SDiv: {widths: w48, dst: true, src: true, imm: true},
	SMod: {widths: w48, dst: true, src: true, imm: true}, Or: {widths: w48, dst: true, src: true, imm: true},
	And: {widths: w48, dst: true, src: true, imm: true}, Xor: {widths: w48, dst: true, src: true, imm: true},
	Lsh: {widths: w48, dst: true, src: true, imm: true}, Rsh: {widths: w48, dst: true, src: true, imm: true},
	Arsh: {widths: w48, dst: true, src: true, imm: true},
	Neg:  {widths: w48, dst: true}, Sext: {widths: w48, dst: true, src: true}, Zext: {dst: true, src: true},
	Bswap: {widths: w248, dst: true}, FuncAddr: {dst: true},
	Load: {widths: wAll, dst: true, src: true}, Store: {widths: wAll, base: true, src: true, imm: true},
	AtomicAdd: {widths: w48, base: true, src: true}, AtomicOr: {widths: w48, base: true, src: true},
	AtomicAnd: {widths: w48, base: true, src: true}, AtomicXor: {widths: w48, base: true, src: true},
	AtomicXchg: {widths: w48, base: true, src: true}, AtomicCmpXchg: {widths: w48, base: true, src: true},
	LoadAcquire: {widths: wAll, dst: true, src: true}, StoreRelease: {widths: wAll, base: true, src: true},
	Jcc:  {widths: w48, base: true, src: true, imm: true},
	Held: {dst: true}, ArgLoad: {dst: true}, ArgStore: {src: true, imm: true}, ArgExt: {widths: 1<<1 | 1<<2 | 1<<4},
}

// checkInsn returns what is wrong with in, "" if nothing is.
func checkInsn(p *Program, f *Func, in *Insn) string {
	if in.Op == Invalid || in.Op >= NumOps {
		return "unknown operation"
	}
	r := &rules[in.Op]
	switch {
	case r.widths != 0 && (in.W > 8 || r.widths>>in.W&1 == 0):
		return fmt.Sprintf("width %d", in.W)
	case r.dst && in.Dst >= maxReg:
		return "writes a register that cannot be written"
	case r.base && in.Dst > maxReg:
		return "no such destination register"
	case in.UseImm() && !r.imm:
		return "takes no immediate"
	case r.src && !in.UseImm() && in.Src > maxReg:
		return "no such source register"
	case in.UseImm() && in.Imm != int64(int32(in.Imm)) && (in.Op != Mov || in.W != 8):
		return "immediate beyond 32 bits"
	case in.writesSrc() && in.Src >= maxReg:
		return "writes a register that cannot be written"
	}
	return checkSpecial(p, f, in)
}

func (in *Insn) writesSrc() bool {
	return in.IsFetch() || in.Op == AtomicXchg
}

// IsFetch reports whether the instruction is an atomic operation that puts the old value into Src.
func (in *Insn) IsFetch() bool { return in.Op >= AtomicAdd && in.Op <= AtomicXor && in.Fetch() }

// checkSpecial checks targets, indices and argument numbers.
func checkSpecial(p *Program, f *Func, in *Insn) string {
	switch in.Op {
	case Jmp, Jcc, MayGoto, IfThrown:
		if int(in.Off) < f.Start || int(in.Off) >= f.End {
			return "jumps out of its function"
		}
		if in.Op == Jcc && in.Sub >= NumConds {
			return "no such condition"
		}
		if in.Op == MayGoto && !f.MayGoto {
			return "may_goto in a function without its counter"
		}
	case SetThrown:
		if in.Imm != 0 && in.Imm != 1 {
			return "neither thrown nor not"
		}
	case Sext, Zext:
		if in.Sub != 1 && in.Sub != 2 && in.Sub != 4 || in.Op == Sext && in.Sub >= in.W {
			return fmt.Sprintf("extends from width %d", in.Sub)
		}
	case Call, FuncAddr:
		if in.Off < 0 || int(in.Off) >= len(p.Funcs) {
			return "no such function"
		}
		if in.Op == Call && p.Funcs[in.Off].InArgs > f.OutArgs {
			return fmt.Sprintf("callee expects %d stack slots, the frame has %d", p.Funcs[in.Off].InArgs, f.OutArgs)
		}
	case CallHost, CallNative:
		if in.Sub > maxSlots+5 || int(in.Sub) > f.OutArgs+5 {
			return fmt.Sprintf("%d arguments, the frame has %d stack slots", in.Sub, f.OutArgs)
		}
		if in.Imm == 0 {
			return "calls nothing"
		}
	case ArgLoad:
		if in.Sub < firstArg || int(in.Sub) >= firstArg+f.InArgs {
			return fmt.Sprintf("no incoming argument %d", in.Sub)
		}
	case ArgStore, ArgExt:
		if in.Sub < firstArg || int(in.Sub) >= firstArg+f.OutArgs {
			return fmt.Sprintf("no outgoing argument %d", in.Sub)
		}
	case ArrayLookup, TailCall:
		if reason := checkMapRef(p, in); reason != "" {
			return reason
		}
		if in.Op == TailCall && (f.InArgs > 0 || f.OutArgs > 0) {
			return "tail call in a function with stack arguments"
		}
	}
	return ""
}

func checkMapRef(p *Program, in *Insn) string {
	if in.Off < 0 || int(in.Off) >= len(p.Maps) {
		return "no such map"
	}
	m := &p.Maps[in.Off]
	switch {
	case in.Op == TailCall && m.Kind != MapProgArray:
		return "tail call through a map that is no program array"
	case in.Op == ArrayLookup && m.Kind != MapArray && m.Kind != MapPerCPUArray && m.Kind != MapArrayOfMaps:
		return "lookup in a map that is no array"
	case m.Base == 0:
		return "map without memory"
	}
	return ""
}
