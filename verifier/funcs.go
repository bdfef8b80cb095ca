package verifier

import (
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/internal/progtype"
	"github.com/skep-bpf/skep/internal/scalar"
)

// This file checks calls of the program's own functions: static ones are walked in their caller's state, global ones are
// verified once by their BTF and assumed to hold that at each call.

// argKind is what a function's BTF says of a parameter.
type argKind uint8

const (
	argScalar argKind = iota
	argCtx
	argMem
	argArena
	argStruct    // a trusted pointer to a structure of the kernel
	argUntrusted // a pointer that reads go through with care: to a structure of the kernel, or to anything
	argDynptr
)

type argInfo struct {
	kind     argKind
	nullable bool
	size     int   // of argMem
	typ      int32 // the structure of argStruct and argUntrusted, -1 for anything
}

// prepareArgs reads a function's parameters from its BTF (btf_prepare_func_args). The error is fatal for global
// functions only.
func (e *env) prepareArgs(f int) error {
	info := &e.funcs[f]
	if info.argsDone {
		return info.argsErr
	}
	info.argsDone = true
	pos := len(e.log.buf)
	info.args, info.argsErr = e.readArgs(f)
	if !e.prog.Funcs[f].Global {
		e.log.reset(pos) // static functions need no usable signature
	}
	return info.argsErr
}

func (e *env) readArgs(f int) ([]argInfo, error) {
	fn := &e.prog.Funcs[f]
	proto := fn.Proto()
	if proto == nil {
		return nil, e.reject(CodeBTF, "Global functions need valid BTF")
	}
	if n := len(proto.Params); fn.Global && f != 0 && n > isa.MaxRegArgs && !e.opt.GlobalStackArgs {
		return nil, e.reject(CodeStackArgs, "global function %s has %d > %d args, stack args not supported", fn.Name, n, isa.MaxRegArgs)
	}
	if !isIntOrEnum(btf.UnderlyingType(proto.Return)) {
		return nil, e.reject(CodeBTF, "Global function %s() doesn't return scalar. Only those are supported.", fn.Name)
	}
	args := make([]argInfo, len(proto.Params))
	for i, p := range proto.Params {
		var tags []string
		if i < len(fn.Type.ParamTags) {
			tags = fn.Type.ParamTags[i]
		}
		a, err := e.readArg(f, i, p.Type, tags)
		if err != nil {
			return nil, err
		}
		args[i] = a
	}
	return args, nil
}

func isIntOrEnum(t btf.Type) bool {
	switch t.(type) {
	case *btf.Int, *btf.Enum:
		return true
	}
	return false
}

func (e *env) readArg(f, i int, t btf.Type, tags []string) (argInfo, error) {
	fn := &e.prog.Funcs[f]
	set, err := e.readTags(fn, i, tags)
	if err != nil {
		return argInfo{}, err
	}
	u := btf.UnderlyingType(t)
	ptr, isPtr := u.(*btf.Pointer)
	switch {
	case !isPtr && set != 0:
		return argInfo{}, e.reject(CodeBTF, "arg#%d has pointer tag, but is not a pointer type", i)
	case !isPtr && isIntOrEnum(u):
		return argInfo{kind: argScalar}, nil
	case !isPtr:
		return argInfo{}, e.reject(CodeBTF, "Arg#%d type %s in %s() is not supported yet.", i, kindName(u), fn.Name)
	case (set&tagCtx != 0 || e.isCtxType(ptr)) && set&^tagCtx != 0:
		return argInfo{}, e.reject(CodeBTF, "arg#%d has invalid combination of tags", i)
	case set&tagCtx != 0:
		return argInfo{kind: argCtx}, e.checkCtxTag(i, ptr)
	case e.isCtxType(ptr):
		return argInfo{kind: argCtx}, nil
	}
	return e.pointerArg(fn, i, ptr, set)
}

// pointerArg is readArg for a pointer that is not the context.
func (e *env) pointerArg(fn *program.Func, i int, ptr *btf.Pointer, set argTags) (argInfo, error) {
	target := btf.UnderlyingType(ptr.Target)
	switch {
	case isDynptrType(ptr.Target) && set != 0:
		return argInfo{}, e.reject(CodeBTF, "arg#%d has invalid combination of tags", i)
	case isDynptrType(ptr.Target):
		return argInfo{kind: argDynptr}, nil
	case set&tagTrusted != 0:
		return e.trustedArg(i, target, set)
	case set&tagUntrusted != 0:
		return e.untrustedArg(i, target, set)
	case set&tagArena != 0 && set != tagArena:
		return argInfo{}, e.reject(CodeBTF, "arg#%d arena cannot be combined with any other tags", i)
	case set&tagArena != 0:
		return argInfo{kind: argArena}, nil
	case !fn.Global:
		return argInfo{}, e.rejection(CodeBTF, "pointer parameter of a static function") // the kernel says nothing
	case set&tagNullable != 0:
		return argInfo{}, e.reject(CodeBTF, "arg#%d has invalid combination of tags", i)
	}
	size, err := btf.Sizeof(target)
	if _, void := target.(*btf.Void); err != nil || void || size < 0 {
		return argInfo{}, e.reject(CodeBTF, "arg#%d reference type('%s %s') size cannot be determined: -22", i, kindName(target), target.TypeName())
	}
	return argInfo{kind: argMem, size: size, nullable: set&tagNonnull == 0}, nil
}

// kindName is the kernel's name of a type's kind (btf_type_str).
func kindName(t btf.Type) string {
	switch t.(type) {
	case *btf.Void:
		return "UNKNOWN"
	case *btf.Int:
		return "INT"
	case *btf.Pointer:
		return "PTR"
	case *btf.Array:
		return "ARRAY"
	case *btf.Struct:
		return "STRUCT"
	case *btf.Union:
		return "UNION"
	case *btf.Enum:
		return "ENUM"
	case *btf.Fwd:
		return "FWD"
	case *btf.Func:
		return "FUNC"
	case *btf.FuncProto:
		return "FUNC_PROTO"
	case *btf.Float:
		return "FLOAT"
	}
	return "UNKNOWN"
}

// checkFuncCall checks a call of a function of the program and enters it if it is static (check_func_call).
func (e *env) checkFuncCall(in isa.Insn) error {
	f := e.callTarget(e.insn)
	fn, info := &e.prog.Funcs[f], &e.funcs[f]
	if f == 0 {
		return e.unsupported("calls of the main function")
	}
	if info.params > isa.MaxRegArgs && (!fn.Global || e.opt.GlobalStackArgs) {
		if err := e.needStackArgs(info.params); err != nil {
			return err
		}
	}
	err := e.matchArgs(f)
	if r, ok := err.(*rejection); ok && r.code == CodeInternal {
		return err
	}
	if fn.Global {
		return e.callGlobal(f, err)
	}
	if e.st.cur+1 >= isa.MaxFrames {
		return e.reject(CodeStackDepth, "the call stack of %d frames is too deep", e.st.cur+2)
	}
	caller := e.st.fr()
	callee := e.newFrame()
	*callee = frame{callsite: int32(e.insn), fn: int32(f), no: int32(e.st.cur + 1), written: ^uint64(0), stack: callee.stack[:0]}
	e.initFrame(callee)
	for r := isa.R1; r <= isa.R5; r++ {
		callee.regs[r] = caller.regs[r]
	}
	caller.dropRegs()
	e.st.cur++
	e.st.frames[e.st.cur] = callee
	e.insn = fn.Start - 1
	e.scratchedRegs, e.scratchedStack = ^uint32(0), ^uint64(0)
	if e.log.on() {
		e.log.printf("caller:\n")
		e.printState(e.st, caller, true)
		e.log.printf("callee:\n")
		e.printState(e.st, callee, true)
	}
	return nil
}

// dropRegs: a call leaves nothing in r0..r5.
func (fr *frame) dropRegs() {
	for r := isa.R0; r <= isa.R5; r++ {
		fr.regs[r].setNotInit()
	}
}

// matchArgs checks the arguments of a call against the function's BTF (btf_check_func_arg_match). For static functions
// a mismatch only means that the signature says nothing.
func (e *env) matchArgs(f int) error {
	if err := e.prepareArgs(f); err != nil {
		return err
	}
	if e.funcs[f].unreliable {
		return &rejection{code: CodeCall, msg: "unreliable signature", insn: e.insn}
	}
	err := e.matchEach(f)
	if err != nil && !e.prog.Funcs[f].Global {
		e.funcs[f].unreliable = true
	}
	return err
}

func (e *env) matchEach(f int) error {
	for i, a := range e.funcs[f].args {
		op := argOperand(i + 1)
		r := &e.st.fr().regs[op]
		switch a.kind {
		case argScalar:
			if r.typ != scalarValue {
				return e.reject(CodeType, "%s is not a scalar", operandName(op))
			}
		case argArena:
			if r.typ != ptrToArena && r.typ != scalarValue {
				return e.reject(CodeType, "%s is not a pointer to arena or scalar.", operandName(op))
			}
		case argUntrusted: // reads of what is no address do no harm
		case argStruct:
			if err := e.matchStruct(op, a); err != nil {
				return err
			}
		case argCtx:
			if err := e.argOffset(op, false); err != nil {
				return err
			}
			if r.typ != ptrToCtx {
				return e.reject(CodeType, "%s expects pointer to ctx", argName(i))
			}
		case argDynptr:
			if err := e.passDynptr(op, f); err != nil {
				return err
			}
		case argMem:
			if !e.prog.Funcs[f].Global {
				continue
			}
			if err := e.argOffset(op, false); err != nil {
				return err
			}
			if (r.typ.isPacket() || r.typ.isPacketSlice()) && e.funcs[f].does&movesPacket != 0 {
				// The function knows the pointer as one to memory, which stays where it is. The kernel (6.18) does not look.
				return e.reject(CodePermission, "%s points into the packet, which the function can move", argName(i))
			}
			if err := e.checkMemArg(op, a.size); err != nil {
				return err
			}
			if !a.nullable && (r.typ.mayBeNull() || r.isNull()) {
				return e.reject(CodeNull, "%s is expected to be non-NULL", argName(i))
			}
		}
	}
	return nil
}

// callGlobal accepts the call of a global function by its signature.
func (e *env) callGlobal(f int, err error) error {
	fn, info := &e.prog.Funcs[f], &e.funcs[f]
	if e.locked() {
		return e.reject(CodeCall, "global function calls are not allowed while holding a lock,\nuse static function instead")
	}
	if info.does&mightSleep != 0 && !e.mayCallSleeping() {
		return e.reject(CodeCall, "global functions that may sleep are not allowed in non-sleepable context,\n"+
			"i.e., in a RCU/IRQ/preempt-disabled section, or in\na non-sleepable BPF program context")
	}
	if err != nil {
		return e.why(err, "Caller passes invalid args into func#%d ('%s')", f, fn.Name)
	}
	e.log.printf("Func#%d ('%s') is global and assumed valid.\n", f, fn.Name)
	if info.does&mightThrow != 0 && e.opt.Kernel618 == LikeUs {
		// what the caller holds would be lost; the kernel (6.18) does not look
		if err := e.heldRefs(program.KfuncThrow); err != nil {
			return err
		}
	}
	if info.does&movesPacket != 0 {
		e.dropPackets()
	}
	info.called = true
	info.asleep = info.asleep || e.st.sleeps && e.prog.Flags&flagSleepable == 0 && e.opt.Kernel618 == LikeUs
	fr := e.st.fr()
	fr.dropRegs()
	fr.dropStackArgs()
	e.setUnknown(&fr.regs[isa.R0])
	return nil
}

// leaveFunc returns from a static function to its caller (prepare_func_exit).
func (e *env) leaveFunc() error {
	callee := e.st.fr()
	r0 := &callee.regs[isa.R0]
	if r0.typ == ptrToStack {
		return e.reject(CodeReturn, "cannot return stack pointer to the caller")
	}
	caller := e.st.frames[e.st.cur-1]
	round := callee.callback
	if round {
		if err := e.leaveCallback(callee); err != nil {
			return err
		}
		e.insn = int(callee.callsite)
	} else {
		caller.regs[isa.R0] = *r0
		caller.dropStackArgs()
		e.insn = int(callee.callsite) + 1
	}
	if e.log.on() {
		e.log.printf("returning from callee:\n")
		e.printState(e.st, callee, true)
		e.log.printf("to caller at %d:\n", e.insn)
		e.printState(e.st, caller, true)
	}
	e.st.frames[e.st.cur] = nil
	e.st.cur--
	e.freeFrame(callee)
	if round {
		e.widenRound()
	}
	return nil
}

// dropPackets forgets all packet pointers: the packet may have moved (clear_all_pkt_pointers).
func (e *env) dropPackets() {
	e.st.eachReg(func(r *reg) {
		if r.typ.isPacketAny() || r.typ.isPacketSlice() {
			e.invalidate(r)
		}
	})
}

// checkMain walks the program from its entry.
func (e *env) checkMain() error {
	e.findEffects()
	return e.check(0, func(fr *frame) error {
		e.readMainArgs()
		setPtr(&fr.regs[isa.R1], ptrToCtx)
		return nil
	})
}

// readMainArgs reads the entry's own signature: what is wrong with it shows in the log and has no other effect, since
// the context is what the program type says.
func (e *env) readMainArgs() {
	if info := &e.funcs[0]; e.prog.Funcs[0].Type != nil {
		info.argsDone = true
		info.args, info.argsErr = e.readArgs(0)
	}
}

// checkGlobals verifies each global function that something calls, by its BTF alone (do_check_subprogs).
func (e *env) checkGlobals() error {
	if e.exceptionCallback != 0 {
		e.funcs[e.exceptionCallback].called = true
	}
	for again := true; again; {
		again = false
		for f := 1; f < len(e.funcs); f++ {
			if !e.prog.Funcs[f].Global {
				continue
			}
			more, err := e.checkModes(f)
			if err != nil {
				return err
			}
			again = again || more
		}
	}
	return nil
}

// checkModes verifies a global function as often as it has to be: as code of the program, and, where callbacks call it that may sleep in a
// program that may not, once more as code that may. There it cannot rely on RCU, which the kernel (6.18) lets it. It says whether
// something was verified: that can have found calls of other functions.
func (e *env) checkModes(f int) (more bool, err error) {
	info := &e.funcs[f]
	if info.called && !info.verified {
		if err := e.checkGlobal(f); err != nil {
			return false, err
		}
		info.verified, more = true, true
	}
	if info.asleep && !info.awake {
		e.asleep = true
		err := e.checkGlobal(f)
		e.asleep = false
		if err != nil {
			return false, err
		}
		info.awake, more = true, true
	}
	return more, nil
}

func (e *env) checkGlobal(f int) error {
	name := e.prog.Funcs[f].Name
	err := e.check(f, func(fr *frame) error {
		e.log.printf("Validating %s() func#%d...\n", name, f)
		if err := e.prepareArgs(f); err != nil {
			return err
		}
		if err := e.checkExceptionArgs(f); err != nil {
			return err
		}
		info := &e.funcs[f]
		for i, a := range info.args {
			r := &info.entry[max(i-isa.MaxRegArgs, 0)]
			if i < isa.MaxRegArgs {
				r = &fr.regs[isa.R1+isa.Reg(i)]
			}
			e.entryArg(r, a)
		}
		return nil
	})
	if err == nil && e.log.on() {
		e.log.printf("Func#%d ('%s') is safe for any args that match its prototype\n", f, name)
	}
	return err
}

// entryArg is what a global function knows of a parameter at its entry.
func (e *env) entryArg(r *reg, a argInfo) {
	switch a.kind {
	case argScalar, argArena:
		e.setUnknown(r)
	case argCtx:
		setPtr(r, ptrToCtx)
	case argStruct, argUntrusted:
		e.entryStruct(r, a)
	case argDynptr:
		e.idGen++
		markDynptr(r, DynptrLocal, 0, e.idGen)
	case argMem:
		setPtr(r, ptrToMem)
		r.aux = int32(a.size)
		if a.nullable {
			r.typ |= maybeNull
			e.idGen++
			r.id = e.idGen
		}
	}
}

// checkReturn checks what the main function returns, or a global function that was walked on its own
// (check_return_code).
func (e *env) checkReturn(op isa.Reg, name string) error {
	if e.st.frames[0].fn == 0 && e.voidMethod() {
		return nil
	}
	r, err := e.readReg(op)
	if err != nil {
		return err
	}
	if err := e.noLeak(op, "R%d leaks addr as return value"); err != nil {
		return err
	}
	if kind := e.st.frames[0].async; kind != asyncNone {
		return e.asyncReturn(kind, op, name)
	}
	if e.st.frames[0].fn != 0 && !e.isException() {
		if r.typ != scalarValue {
			return e.reject(CodeReturn, "At subprogram exit the register %s is not a scalar value (%s)", name, r.typ)
		}
		return nil
	}
	return e.programReturn(op, name)
}

// programReturn checks a number that the program returns.
func (e *env) programReturn(op isa.Reg, name string) error {
	r := &e.st.fr().regs[op]
	lo, hi, limited := e.returnRange()
	if !limited {
		return nil
	}
	if r.typ != scalarValue {
		return e.reject(CodeReturn, "At program exit the register %s is not a known value (%s)", name, r.typ)
	}
	if err := e.markPrecise(int(op)); err != nil {
		return err
	}
	smin, smax := r.Smin, r.Smax
	if e.returns32() {
		smin, smax = int64(r.S32min), int64(r.S32max)
	}
	if smin >= lo && smax <= hi {
		return nil
	}
	return e.reject(CodeReturn, "At program exit the register %s has%s should have been in [%d, %d]", name, boundsText(&r.Scalar), lo, hi)
}

func boundsText(s *scalar.Scalar) string {
	out := ""
	if s.Smin > -1<<63 {
		out += " smin=" + itoa(int(s.Smin))
	}
	if s.Smax < 1<<63-1 {
		out += " smax=" + itoa(int(s.Smax))
	}
	if out == "" {
		return " unknown scalar value"
	}
	return out
}

// checkLdAbs checks the legacy packet loads, which take the context from r6 and return from the function where the
// packet is too short (check_ld_abs).
func (e *env) checkLdAbs(in isa.Insn) error {
	if !progtype.LegacyLoads(e.prog.Type) {
		return e.reject(CodeBadInsn, "BPF_LD_[ABS|IND] instructions not allowed for this program type")
	}
	if in.Dst != 0 || in.Off != 0 || in.Size() == isa.SizeDW || in.Mode() == isa.ModeABS && in.Src != 0 {
		return e.reject(CodeBadInsn, "BPF_LD_[ABS|IND] uses reserved fields")
	}
	ctx, err := e.readReg(isa.R6)
	if err != nil {
		return err
	}
	if err := e.heldRefs("BPF_LD_[ABS|IND]"); err != nil {
		return err
	}
	if ctx.typ != ptrToCtx {
		return e.reject(CodeType, "at the time of BPF_LD_ABS|IND R6 != pointer to skb")
	}
	if in.Mode() == isa.ModeIND {
		if _, err := e.readReg(in.Src); err != nil {
			return err
		}
	}
	if err := e.fixedOff(int(isa.R6), false); err != nil {
		return err
	}
	fr := e.st.fr()
	fr.dropRegs()
	fr.dropStackArgs()
	e.noMoreArgLoads()
	e.scratchedRegs |= 1<<isa.R0 | argRegs
	e.setUnknown(&fr.regs[isa.R0])
	if e.st.cur == 0 {
		return nil
	}
	if _, err := e.push(e.insn+1, e.insn); err != nil {
		return err
	}
	e.setConst(&fr.regs[isa.R0], 0)
	if err := e.leaveFunc(); err != nil {
		return err
	}
	e.insn--
	return nil
}
