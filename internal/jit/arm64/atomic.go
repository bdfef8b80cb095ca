package arm64

import "github.com/skep-bpf/skep/internal/ir"

// atomic appends a read-modify-write operation, ordered with all accesses before and behind it, as BPF wants it.
func (c *compiler) atomic(in *ir.Insn) {
	m, src := c.address(regs[in.Dst], in.Off), regs[in.Src]
	switch {
	case in.Op == ir.AtomicCmpXchg && c.opt.LSE:
		c.casal(in.W, regs[0], src, m)
	case in.Op == ir.AtomicCmpXchg:
		c.compareExchange(in.W, src, m)
	case c.opt.LSE:
		c.atomicLSE(in, src, m)
	default:
		c.exclusiveLoop(in, src, m)
	}
}

var lseOp = [ir.NumOps]uint32{ir.AtomicAdd: opLDADDAL, ir.AtomicOr: opLDSETAL, ir.AtomicXor: opLDEORAL, ir.AtomicXchg: opSWPAL,
	ir.AtomicAnd: opLDCLRAL}

// atomicLSE appends one instruction. The old value goes to a register also where nobody wants it: without one the instruction
// would not order later loads.
func (c *compiler) atomicLSE(in *ir.Insn, src, m reg) {
	old := reg(x15)
	if in.Fetch() || in.Op == ir.AtomicXchg {
		old = src
	}
	if in.Op == ir.AtomicAnd {
		c.logic(opORR|opNOT, in.W, x17, zr, src)
		src = x17
	}
	c.atomicOp(lseOp[in.Op], in.W, src, old, m)
}

// exclusiveLoop appends the same for processors without LSE: x17 = old value, x15 = new value, x14 = whether it was stored.
func (c *compiler) exclusiveLoop(in *ir.Insn, src, m reg) {
	again := c.label()
	c.bind(again)
	c.ldxr(in.W, x17, m)
	value := reg(x15)
	switch in.Op {
	case ir.AtomicAdd:
		c.add(opADD, in.W, x15, x17, src, 0)
	case ir.AtomicXchg:
		value = src
	case ir.AtomicAnd:
		c.logic(opAND, in.W, x15, x17, src)
	case ir.AtomicOr:
		c.logic(opORR, in.W, x15, x17, src)
	default:
		c.logic(opEOR, in.W, x15, x17, src)
	}
	c.stlxr(in.W, x14, value, m)
	c.cbnz(4, x14, again)
	c.dmb()
	if in.Fetch() || in.Op == ir.AtomicXchg {
		c.mov(in.W, src, x17)
	}
}

// compareExchange appends: if memory == r0 then memory = src; r0 = old value.
func (c *compiler) compareExchange(w uint8, src, m reg) {
	again, end := c.label(), c.label()
	c.bind(again)
	c.ldxr(w, x17, m)
	c.add(opSUBS, w, zr, x17, regs[0], 0)
	c.branchIf(ccNE, end)
	c.stlxr(w, x14, src, m)
	c.cbnz(4, x14, again)
	c.bind(end)
	c.dmb()
	c.mov(w, regs[0], x17)
}
