package amd64

import "github.com/skep-bpf/skep/internal/ir"

// atomic appends a read-modify-write operation. Locked instructions are sequentially consistent, as BPF wants it.
func (c *compiler) atomic(in *ir.Insn) {
	m, src := at(regs[in.Dst], in.Off), regs[in.Src]
	switch {
	case in.Op == ir.AtomicXchg:
		c.xchg(in.W, m, src) // locks by itself
	case in.Op == ir.AtomicCmpXchg:
		c.lock()
		c.cmpxchg(in.W, m, src)
		c.zeroExtend(in.W, rax) // rax is not written where the values are equal
	case in.Op == ir.AtomicAdd && in.Fetch():
		c.lock()
		c.xadd(in.W, m, src)
	case in.Fetch():
		c.fetchLoop(in, m, src)
	default:
		c.lock()
		c.rm(uint32(aluCode[in.Op])<<3|1, in.W, src, m)
	}
}

// fetchLoop appends or, and, xor with the old value as result: a loop around cmpxchg.
func (c *compiler) fetchLoop(in *ir.Insn, m mem, src uint8) {
	keep := src != rax && c.liveAfter(0)
	operand := src
	if keep || src == rax || m.base == rax {
		c.mov(8, r10, rax)
	}
	if src == rax {
		operand = r10
	}
	if m.base == rax {
		m.base = r10
	}
	c.load(in.W, rax, m)
	again := len(c.buf)
	c.mov(in.W, r11, rax)
	c.alu(aluCode[in.Op], in.W, r11, operand)
	c.lock()
	c.cmpxchg(in.W, m, r11)
	c.b(0x70|ccNE, byte(again-len(c.buf)-2))
	if src != rax {
		c.mov(in.W, src, rax)
	} else {
		c.zeroExtend(in.W, rax)
	}
	if keep {
		c.mov(8, rax, r10)
	}
}
