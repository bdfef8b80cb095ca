package amd64

import "github.com/skep-bpf/skep/internal/ir"

// divPlan says which registers a division must save. The processor divides rdx:rax and leaves the quotient in rax, the
// remainder in rdx.
type divPlan struct {
	saveRAX, saveRDX bool
	divisor          uint8 // register that holds it while rax and rdx are in use
	push             bool  // rdx goes to the stack because r11 holds the divisor
}

// plan decides for the division at index i.
func (c *compiler) plan(i int) divPlan {
	in := &c.p.Insns[i]
	dst := regs[in.Dst]
	p := divPlan{divisor: r11}
	if src := regs[in.Src]; !in.UseImm() && src != rax && src != rdx {
		p.divisor = src
	}
	p.saveRAX = dst != rax && c.live[i].Has(0)
	p.saveRDX = dst != rdx && c.live[i].Has(3)
	p.push = p.saveRDX && p.divisor == r11
	return p
}

// divPushes reports whether the code of the division at index i uses the stack.
func (c *compiler) divPushes(i int) bool {
	in := &c.p.Insns[i]
	return c.plan(i).push && !(in.UseImm() && simpleDivisor(in))
}

// simpleDivisor reports whether divImm makes do without a division.
func simpleDivisor(in *ir.Insn) bool {
	d := immediate(in)
	signed := in.Op == ir.SDiv || in.Op == ir.SMod
	return d == 0 || d == 1 || signed && isMinusOne(in, d) || !signed && isPow2(d)
}

// immediate returns the second operand at the operation's width.
func immediate(in *ir.Insn) uint64 {
	if in.W == 4 {
		return uint64(uint32(in.Imm))
	}
	return uint64(in.Imm)
}

func isMinusOne(in *ir.Insn, d uint64) bool { return d == ^uint64(0)>>(64-8*in.W) }

// div appends Div, Mod, SDiv, SMod. Division by zero gives 0, modulo by zero leaves the dividend; the processor would
// fault on both, and on the least value divided by -1.
func (c *compiler) div(in *ir.Insn) {
	dst, src := regs[in.Dst], regs[in.Src]
	if in.UseImm() {
		if simpleDivisor(in) {
			c.divSimple(in, dst)
		} else {
			c.divide(in, dst)
		}
		return
	}
	mod := in.Op == ir.Mod || in.Op == ir.SMod
	c.test(in.W, src, src)
	if mod && in.W == 8 {
		zero := c.skip(ccE)
		c.divNonZero(in, dst, src)
		c.land(zero)
		return
	}
	work := c.skip(ccNE)
	if mod {
		c.mov(4, dst, dst)
	} else {
		c.movImm(dst, 0)
	}
	end := c.skip(ccJ)
	c.land(work)
	c.divNonZero(in, dst, src)
	c.land(end)
}

// divNonZero divides by a register that is not zero.
func (c *compiler) divNonZero(in *ir.Insn, dst, src uint8) {
	if in.Op == ir.Div || in.Op == ir.Mod {
		c.divide(in, dst)
		return
	}
	c.aluImm(aluCMP, in.W, src, -1)
	work := c.skip(ccNE)
	c.divMinusOne(in, dst)
	end := c.skip(ccJ)
	c.land(work)
	c.divide(in, dst)
	c.land(end)
}

func (c *compiler) divMinusOne(in *ir.Insn, dst uint8) {
	if in.Op == ir.SDiv {
		c.unary(unNEG, in.W, dst)
	} else {
		c.movImm(dst, 0)
	}
}

// divSimple divides by 0, 1, -1 and powers of two.
func (c *compiler) divSimple(in *ir.Insn, dst uint8) {
	d := immediate(in)
	mod := in.Op == ir.Mod || in.Op == ir.SMod
	switch {
	case d == 0 && mod, d == 1 && !mod:
		c.zeroExtend(in.W, dst)
	case d == 0, d == 1:
		c.movImm(dst, 0)
	case in.Op == ir.SDiv || in.Op == ir.SMod:
		c.divMinusOne(in, dst)
	case !mod:
		c.shiftImm(shSHR, in.W, dst, uint8(log2(d)))
	case d-1 <= 1<<31-1:
		c.aluImm(aluAND, 4, dst, int32(d-1))
	default:
		c.movImm(r11, d-1)
		c.alu(aluAND, in.W, dst, r11)
	}
}

// divide appends the division proper, with what it needs saved.
func (c *compiler) divide(in *ir.Insn, dst uint8) {
	p := c.plan(c.i)
	switch {
	case in.UseImm():
		c.movImm(r11, immediate(in))
	case p.divisor == r11:
		c.mov(in.W, r11, regs[in.Src])
	}
	if p.push {
		c.push(rdx)
	} else if p.saveRDX {
		c.mov(8, r11, rdx)
	}
	if p.saveRAX {
		c.mov(8, r10, rax)
	}
	if dst != rax {
		c.mov(in.W, rax, dst)
	}
	if in.Op == ir.SDiv || in.Op == ir.SMod {
		c.op(0x99, in.W, 0, 0, 0, 0) // cdq, cqo
		c.unary(unIDIV, in.W, p.divisor)
	} else {
		c.alu(aluXOR, 4, rdx, rdx)
		c.unary(unDIV, in.W, p.divisor)
	}
	result := uint8(rax)
	if in.Op == ir.Mod || in.Op == ir.SMod {
		result = rdx
	}
	if dst != result {
		c.mov(in.W, dst, result)
	}
	if p.saveRAX {
		c.mov(8, rax, r10)
	}
	if p.push {
		c.pop(rdx)
	} else if p.saveRDX {
		c.mov(8, rdx, r11)
	}
}
