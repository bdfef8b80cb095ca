package arm64

import (
	"github.com/skep-bpf/skep/internal/abi"
	"github.com/skep-bpf/skep/internal/ir"
)

// special appends jumps, calls, arguments and what deals with the host.
func (c *compiler) special(in *ir.Insn) {
	switch in.Op {
	case ir.Jmp:
		if int(in.Off) != c.i+1 {
			c.branch(insnTarget(in.Off))
		}
	case ir.MayGoto:
		c.access(opLDR, 8, x16, c.counter())
		c.cbz(8, x16, insnTarget(in.Off))
		c.addImm(opSUB, 8, x16, x16, 1)
		c.access(opSTR, 8, x16, c.counter())
	case ir.Yield:
		c.access(opLDR, 4, x16, at(block, abi.BlockPoll))
		s := stub{label: c.label(), back: c.label(), pc: in.PC}
		c.cbnz(4, x16, s.label)
		c.bind(s.back)
		c.stubs = append(c.stubs, s)
	case ir.SetThrown:
		r := reg(zr)
		if in.Imm != 0 {
			r = x16
			c.movImm(r, 1)
		}
		c.access(opSTR, 4, r, at(block, abi.BlockThrown))
	case ir.IfThrown:
		c.access(opLDR, 4, x16, at(block, abi.BlockThrown))
		c.cbnz(4, x16, insnTarget(in.Off))
	case ir.Call:
		c.callFunc(in.Off)
		c.result()
	case ir.CallHost:
		c.callHost(in)
	case ir.CallNative:
		c.movImm(x16, uint64(in.Imm))
		c.blr(x16)
		c.result()
	case ir.ArgLoad, ir.ArgStore, ir.ArgExt:
		c.arg(in)
	case ir.ArrayLookup:
		c.lookup(in)
	case ir.CPU:
		c.access(opLDR, 4, regs[0], at(block, abi.BlockCPU))
	case ir.Held:
		c.addImm(opADD, 8, regs[in.Dst], block, abi.BlockHeld)
	case ir.TailCall:
		c.tailCall(in)
	default: // Trap
		c.udf()
	}
}

// result appends the move of a C function's result to where r0 lives.
func (c *compiler) result() {
	if c.liveAfter(0) {
		c.mov(8, regs[0], x0)
	}
}

// callBlock appends the call of a stub whose address is in the context block.
func (c *compiler) callBlock(field int32) {
	c.access(opLDR, 8, x16, at(block, field))
	c.blr(x16)
}

// callHost appends the call of a host function: its handle is in x8, where the result comes back.
func (c *compiler) callHost(in *ir.Insn) {
	c.movImm(x8, uint64(in.Imm))
	if int(in.Sub) > abi.RegArgs+abi.ARM64.SlotRegs {
		c.callBlock(abi.BlockCallMany)
	} else {
		c.callBlock(abi.BlockCallHost)
	}
}

// arg appends the access to a stack argument. ir.Check has asserted its number against the slots of the frame; that frame is the
// one whose area the operand lies in.
func (c *compiler) arg(in *ir.Insn) {
	n := int(in.Sub)
	loc := abi.ARM64.Args[n-1]
	if !loc.InMemory() {
		c.regArg(in, reg(loc.Reg))
		return
	}
	if in.Op == ir.ArgLoad {
		c.access(opLDR, 8, regs[in.Dst], at(fp, int32(loc.Callee)))
		return
	}
	m := c.frame.outSlot(n)
	if int(m.disp)+8 > abi.ARM64.Outgoing(c.out) {
		c.fail("the argument lies outside of the outgoing area")
		return
	}
	switch {
	case in.Op == ir.ArgExt && in.Signed():
		c.access(opLDRS, in.W, x16, m)
		c.access(opSTR, 8, x16, m)
	case in.Op == ir.ArgExt:
		c.access(opLDR, in.W, x16, m)
		c.access(opSTR, 8, x16, m)
	case in.UseImm() && in.Imm == 0:
		c.access(opSTR, 8, zr, m)
	case in.UseImm():
		c.movImm(x16, uint64(in.Imm))
		c.access(opSTR, 8, x16, m)
	default:
		c.access(opSTR, 8, regs[in.Src], m)
	}
}

// regArg appends the access to a stack argument that lives in register r.
func (c *compiler) regArg(in *ir.Insn, r reg) {
	switch {
	case in.Op == ir.ArgLoad:
		c.mov(8, regs[in.Dst], r)
	case in.Op == ir.ArgStore && in.UseImm():
		c.movImm(r, uint64(in.Imm))
	case in.Op == ir.ArgStore:
		c.mov(8, r, regs[in.Src])
	case in.Signed():
		c.sext(in.W, 8, r, r)
	default:
		c.zext(in.W, r, r)
	}
}

// lookup appends r0 = address of an array's value for the key at Src, 0 if it is out of range.
func (c *compiler) lookup(in *ir.Insn) {
	m := &c.p.Maps[in.Off]
	key := regs[in.Src]
	switch {
	case !in.KeyInReg():
		c.access(opLDR, 4, x17, c.operand(4, key, 0))
		key = x17
	case key == regs[0]:
		c.mov(4, x17, key)
		key = x17
	}
	c.movImm(regs[0], 0)
	c.compareConst(4, key, int64(int32(m.MaxEntries)))
	// A null check behind the lookup has the same outcome as the range check.
	n := c.next()
	if n != nil && (n.Op != ir.Jcc || n.Dst != 0 || n.W != 8 || !n.UseImm() || n.Imm != 0 || n.Sub != ir.EQ && n.Sub != ir.NE) {
		n = nil
	}
	out := c.label()
	if n != nil && n.Sub == ir.EQ {
		c.branchIf(ccHS, insnTarget(n.Off))
	} else {
		c.branchIf(ccHS, out)
	}
	c.elementAddress(m, key)
	if n != nil && n.Sub == ir.NE {
		c.branch(insnTarget(n.Off))
	}
	c.bind(out)
	if n != nil {
		c.take()
	}
}

// elementAddress appends r0 = address of the value with the index in the lower half of key, which is in range.
func (c *compiler) elementAddress(m *ir.Map, key reg) {
	r0 := regs[0]
	c.movImm(r0, m.Base)
	const mostShift = 4
	switch k := log2(uint64(m.Stride)); {
	case m.MaxEntries == 1:
	case isPow2(uint64(m.Stride)) && k <= mostShift:
		c.addUXTW(r0, r0, key, k)
	default:
		c.movImm(x16, uint64(m.Stride))
		c.madd(opUMADDL, 8, r0, key, x16, r0)
	}
	if m.Kind == ir.MapPerCPUArray {
		c.access(opLDR, 4, x17, at(block, abi.BlockCPU))
		c.movImm(x16, m.PerCPUStride)
		c.madd(opMADD, 8, r0, x17, x16, r0)
	}
}

// tailCall appends a tail call through a program array: its index is r3. Where it cannot go it falls through with every
// register but the scratch ones unchanged.
func (c *compiler) tailCall(in *ir.Insn) {
	m := &c.p.Maps[in.Off]
	out := c.label()
	count := at(block, abi.BlockTailCnt)
	c.compareConst(4, regs[3], int64(int32(m.MaxEntries)))
	c.branchIf(ccHS, out)
	c.access(opLDR, 4, x15, count)
	c.compareConst(4, x15, abi.MaxTailCalls)
	c.branchIf(ccHS, out)
	c.movImm(x17, m.Base)
	c.loadScaled(x17, x17, regs[3])
	c.cbz(8, x17, out)
	c.addImm(opADD, 4, x15, x15, 1)
	c.access(opSTR, 4, x15, count)
	if c.frame.entry {
		c.frame.unwind(&c.asm)
		c.br(x17)
	} else {
		// The other program's entry function runs below this frame, with a frame record of its own, which then returns for it.
		c.pair(opSTPPre, fp, zr, sp, -16)
		c.movSP(fp, sp)
		c.blr(x17)
		c.pair(opLDPPost, fp, zr, sp, 16)
		c.frame.unwind(&c.asm)
		c.ret()
	}
	c.bind(out)
}
