package verifier

import "github.com/skep-bpf/skep/internal/isa"

// Stack arguments: arguments 6 to 12 of functions and kfuncs (stack_arguments.md). A frame's outgoing slots are operands
// firstSlot.. of the frame; a callee has no copy, its loads read its caller's. This file holds the loads and stores, the
// checks at calls, and the rules of the program as a whole. That slots take part in pruning, precision, null checks,
// released references and invalidated packet pointers follows from their being operands.

// slotOf returns the slot (0..) that a stack-argument load or store names.
func slotOf(in isa.Insn) int {
	off := int(in.Off)
	if off < 0 {
		off = -off
	}
	return off/8 - 1
}

// oldDialect says that messages use the first design's words.
func (e *env) oldDialect() bool { return e.prog.OldDialect }

// storeStackArg checks a store to an outgoing slot: the whole register state is kept, pointers too.
func (e *env) storeStackArg(in isa.Insn) error {
	var v reg
	if in.Class() == isa.ClassSTX {
		src, err := e.readReg(in.Src)
		if err != nil {
			return err
		}
		e.linkScalar(src)
		v = *src
	} else {
		e.setConst(&v, uint64(int64(in.Imm)))
	}
	slot := slotOf(in)
	if slot >= isa.MaxStackArgs {
		return e.reject(CodeStackArgs, "stack arg write offset %d exceeds max %d stack args", in.Off, isa.MaxStackArgs)
	}
	fr := e.st.fr()
	fr.regs[firstSlot+slot] = v
	fr.noArgLoads = true
	e.scratchedRegs |= 1 << (firstSlot + slot)
	info := &e.funcs[fr.fn]
	info.maxStored = max(info.maxStored, slot+1)
	return nil
}

// loadStackArg checks a load of an incoming slot: the value is the caller's.
func (e *env) loadStackArg(in isa.Insn) error {
	dst, err := e.writeReg(in.Dst)
	if err != nil {
		return err
	}
	fr := e.st.fr()
	if fr.noArgLoads {
		return e.reject(CodeStackArgs, "r11 load must be before any r11 store or call insn")
	}
	slot, incoming := slotOf(in), e.funcs[fr.fn].inArgs
	if slot >= incoming {
		off := int(in.Off)
		if e.oldDialect() {
			off = -off // r12-8 was the first incoming argument
		}
		return e.reject(CodeStackArgs, "invalid read from stack arg off %d depth %d", off, 8*incoming)
	}
	if e.st.cur == 0 {
		return e.loadGlobalArg(dst, slot)
	}
	*dst = e.st.frames[e.st.cur-1].regs[firstSlot+slot]
	return nil
}

// loadGlobalArg loads an incoming slot of a global function that is verified on its own: what its BTF says of it.
func (e *env) loadGlobalArg(dst *reg, slot int) error {
	info := &e.funcs[e.st.fr().fn]
	n := isa.MaxRegArgs + slot
	if n >= len(info.args) {
		return e.reject(CodeStackArgs, "invalid read from stack arg off %d depth %d", 8*(slot+1), 8*info.inArgs)
	}
	*dst = info.entry[slot]
	return nil
}

// noMoreArgLoads is called at every call: argument 6 arrives in a register that calls clobber.
func (e *env) noMoreArgLoads() {
	if fr := e.st.fr(); e.funcs[fr.fn].params > isa.MaxRegArgs {
		fr.noArgLoads = true
	}
}

// needStackArgs checks that every slot of a call with n parameters is initialised. A missing one is always fatal.
func (e *env) needStackArgs(n int) error {
	fr := e.st.fr()
	info := &e.funcs[fr.fn]
	if n <= isa.MaxRegArgs {
		return nil
	}
	info.outArgs = max(info.outArgs, n-isa.MaxRegArgs)
	for s := 0; s < n-isa.MaxRegArgs; s++ {
		if fr.regs[firstSlot+s].typ != notInit {
			continue
		}
		if e.oldDialect() {
			return e.reject(CodeStackArgs, "stack arg#%d not properly initialized", s+isa.MaxRegArgs+1)
		}
		return e.reject(CodeStackArgs, "callee expects %d args, stack arg%d is not initialized", n, s+1)
	}
	return nil
}

// targetTakes refuses a function or kfunc with n parameters where the target cannot pass them.
func (e *env) targetTakes(kind, name string, n int) error {
	switch {
	case n <= isa.MaxRegArgs || e.opt.JIT == JITStackArgs:
		return nil
	case e.opt.JIT == JITNone:
		return e.reject(CodeStackArgs, "stack args are not supported in non-JITed programs")
	}
	return e.reject(CodeStackArgs, "JIT does not support %s %s() with %d args", kind, name, n)
}

// dropStackArgs: after a call all outgoing slots are uninitialised.
func (fr *frame) dropStackArgs() {
	for s := firstSlot; s < numOperands; s++ {
		fr.regs[s].setNotInit()
	}
}

// checkStackArgs holds the rules that need the whole program: no slots stored that no call takes, no tail calls where
// slots are in use.
func (e *env) checkStackArgs() error {
	for i := range e.funcs {
		f := &e.funcs[i]
		if f.maxStored > f.outArgs {
			e.insn = e.prog.Funcs[i].Start
			return e.reject(CodeStackArgs, "func#%d writes %d stack arg slots, but calls only require %d", i, f.maxStored, f.outArgs)
		}
	}
	return e.checkTailCallSlots()
}

// checkTailCallSlots refuses a tail call that is reachable from a function with slots, incoming or outgoing, and one in
// a function on whose chain of calls slots are used. A tail call in another function called from that chain is fine.
func (e *env) checkTailCallSlots() error {
	uses := make([]bool, len(e.funcs)) // the function or one it calls has slots
	for changed := true; changed; {
		changed = false
		for i := range e.funcs {
			f := &e.funcs[i]
			use := f.inArgs > 0 || f.outArgs > 0
			for _, c := range f.calls {
				use = use || uses[c]
			}
			if use && !uses[i] {
				uses[i], changed = true, true
			}
		}
	}
	for i := range e.funcs {
		f := &e.funcs[i]
		if f.tailReach && (f.inArgs > 0 || f.outArgs > 0) || f.tailCall && uses[i] {
			e.insn = e.prog.Funcs[i].Start
			return e.reject(CodeStackArgs, "tail_calls are not allowed in programs with stack args")
		}
	}
	return nil
}
