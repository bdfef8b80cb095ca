package arm64

import "github.com/skep-bpf/skep/internal/ir"

// operand returns the operand for an access of w bytes at base+disp in the form that takes fewest instructions, computing into x16
// what no form can hold.
func (c *compiler) operand(w uint8, base reg, disp int32) mem {
	m := at(base, disp)
	if base == fp {
		m = c.frame.stackMem(w, disp)
	}
	if fitsScaled(w, m.disp) || fitsUnscaled(m.disp) {
		return m
	}
	c.constant(8, x16, int64(disp))
	return indexed(base, x16)
}

// address returns a register that holds base+disp: base itself, or x16.
func (c *compiler) address(base reg, disp int32) reg {
	if disp == 0 {
		return base
	}
	c.addConst(8, x16, base, x17, int64(disp))
	return x16
}

// loadStore appends a load from src+off or a store to dst+off.
func (c *compiler) loadStore(in *ir.Insn, src, dst reg) {
	switch {
	case in.Op == ir.Load:
		c.load(in, c.operand(in.W, src, in.Off))
	case in.UseImm():
		m := c.operand(in.W, dst, in.Off)
		c.access(opSTR, in.W, c.stored(in), m)
	default:
		c.access(opSTR, in.W, src, c.operand(in.W, dst, in.Off))
	}
}

// stored returns a register that holds the constant that in stores, of which the lower W bytes count: zr, or x17.
func (c *compiler) stored(in *ir.Insn) reg {
	v := uint64(in.Imm) & (^uint64(0) >> (64 - 8*in.W))
	if v == 0 {
		return zr
	}
	c.movImm(x17, v)
	return x17
}

// load appends a load, together with a byte swap of its result behind it.
func (c *compiler) load(in *ir.Insn, m mem) {
	dst := regs[in.Dst]
	if in.Signed() && in.W < 8 {
		c.access(opLDRS, in.W, dst, m)
		return
	}
	c.access(opLDR, in.W, dst, m)
	if n := c.next(); n != nil && n.Op == ir.Bswap && n.Dst == in.Dst && n.W == 2 && in.W == 2 {
		c.take()
		c.rev16(dst, dst) // the upper bits are zero already
	}
}

// addLoad appends the addition n + m together with a load from the sum into the same register behind it.
func (c *compiler) addLoad(in *ir.Insn, n, m reg) bool {
	l := c.next()
	if in.W != 8 || l == nil || l.Op != ir.Load || l.Src != in.Dst || l.Dst != in.Dst || l.Off != 0 {
		return false
	}
	c.load(c.take(), indexed(n, m))
	return true
}
