package arm64

import (
	"math/bits"

	"github.com/skep-bpf/skep/internal/ir"
)

// movInsn appends a move, together with an operation on its result behind it: that takes its operand from the source.
func (c *compiler) movInsn(in *ir.Insn) {
	dst := regs[in.Dst]
	if in.UseImm() {
		c.constant(in.W, dst, in.Imm)
		return
	}
	src := regs[in.Src]
	n := c.next()
	if n != nil && n.Dst == in.Dst && n.W <= in.W && in.Dst != in.Src && (n.Op.IsALU() && (n.UseImm() || n.Src != n.Dst) || n.Op == ir.Neg) {
		c.take()
		if n.Op == ir.Neg {
			c.add(opSUB, n.W, dst, zr, src, 0)
		} else {
			c.alu(n, src)
		}
		return
	}
	if in.W == 4 || dst != src {
		c.mov(in.W, dst, src)
	}
}

// unary appends an operation with one operand.
func (c *compiler) unary(in *ir.Insn) {
	dst, src := regs[in.Dst], regs[in.Src]
	switch in.Op {
	case ir.Neg:
		c.add(opSUB, in.W, dst, zr, dst, 0)
	case ir.Sext:
		c.sext(in.Sub, in.W, dst, src)
	case ir.Zext:
		c.zext(in.Sub, dst, src)
	case ir.Bswap:
		if in.W == 2 {
			c.rev16(dst, dst)
			c.zext(2, dst, dst)
		} else {
			c.rev(in.W, dst, dst)
		}
	default: // FuncAddr
		c.adrFunc(dst, in.Off)
	}
}

var logicOp = [ir.NumOps]uint32{ir.And: opAND, ir.Or: opORR, ir.Xor: opEOR}

var shiftOp = [ir.NumOps]uint32{ir.Lsh: opLSLV, ir.Rsh: opLSRV, ir.Arsh: opASRV}

// alu appends Dst = n op B.
func (c *compiler) alu(in *ir.Insn, n reg) {
	if in.UseImm() {
		c.aluImm(in, n)
		return
	}
	w, dst, m := in.W, regs[in.Dst], regs[in.Src]
	switch in.Op {
	case ir.Add:
		if !c.addLoad(in, n, m) {
			c.add(opADD, w, dst, n, m, 0)
		}
	case ir.Sub:
		c.add(opSUB, w, dst, n, m, 0)
	case ir.Mul:
		c.mul(w, dst, n, m)
	case ir.And, ir.Or, ir.Xor:
		c.logic(logicOp[in.Op], w, dst, n, m)
	case ir.Lsh, ir.Rsh, ir.Arsh:
		c.two(shiftOp[in.Op], w, dst, n, m)
	default:
		c.div(in, n, m)
	}
}

// mul appends dst = n * m, with an addition behind it that adds to the product.
func (c *compiler) mul(w uint8, dst, n, m reg) {
	x := reg(zr)
	if a := c.next(); a != nil && a.Op == ir.Add && !a.UseImm() && a.W == w && regs[a.Dst] == dst && a.Src != a.Dst {
		c.take()
		x = regs[a.Src]
	}
	c.madd(opMADD, w, dst, n, m, x)
}

// div appends a division or modulo of n by m. Where m is zero the processor's quotient is zero, as BPF's is, so n - 0*m leaves n
// for the modulo; the least value divided by -1 wraps.
func (c *compiler) div(in *ir.Insn, n, m reg) {
	op, dst := uint32(opUDIV), regs[in.Dst]
	if in.Op == ir.SDiv || in.Op == ir.SMod {
		op = opSDIV
	}
	if in.Op == ir.Div || in.Op == ir.SDiv {
		c.two(op, in.W, dst, n, m)
		return
	}
	c.two(op, in.W, x17, n, m)
	c.madd(opMSUB, in.W, dst, x17, m, n)
}

// immediate returns the second operand at the operation's width.
func immediate(in *ir.Insn) uint64 {
	if in.W == 4 {
		return uint64(uint32(in.Imm))
	}
	return uint64(in.Imm)
}

// aluImm appends Dst = n op Imm.
func (c *compiler) aluImm(in *ir.Insn, n reg) {
	w, dst := in.W, regs[in.Dst]
	switch in.Op {
	case ir.Add:
		c.addConst(w, dst, n, x16, in.Imm)
	case ir.Sub:
		c.addConst(w, dst, n, x16, -in.Imm)
	case ir.And, ir.Or, ir.Xor:
		c.logicConst(in, n)
	case ir.Lsh, ir.Rsh, ir.Arsh:
		c.shiftConst(in, n)
	case ir.Mul:
		c.mulConst(in, n)
	default:
		c.divConst(in, n)
	}
}

// logicConst appends and, or, xor with a constant.
func (c *compiler) logicConst(in *ir.Insn, n reg) {
	w, dst, v := in.W, regs[in.Dst], immediate(in)
	ones := ^uint64(0) >> (64 - 8*w)
	b, isMask := bitmask(v, w)
	switch {
	case v == 0 && in.Op == ir.And:
		c.movImm(dst, 0)
	case v == 0 || v == ones && in.Op == ir.And:
		if w == 4 || dst != n {
			c.mov(w, dst, n)
		}
	case v == ones && in.Op == ir.Or:
		c.movImm(dst, ones)
	case v == ones:
		c.logic(opORR|opNOT, w, dst, zr, n)
	case isMask:
		c.logicImm(logicOp[in.Op], w, dst, n, b)
	default:
		c.constant(w, x16, in.Imm)
		c.logic(logicOp[in.Op], w, dst, n, x16)
	}
}

// shiftConst appends a shift by a constant, together with a shift back behind it: both extract or extend a field.
func (c *compiler) shiftConst(in *ir.Insn, n reg) {
	w, dst := in.W, regs[in.Dst]
	width := 8 * w
	k := uint8(in.Imm) & (width - 1)
	if in.Op == ir.Lsh && c.shiftBack(in, n, k) || in.Op == ir.Lsh && c.shiftAdd(in, n, k) {
		return
	}
	switch {
	case k == 0:
		if w == 4 || dst != n {
			c.mov(w, dst, n)
		}
	case in.Op == ir.Lsh:
		c.lslImm(w, dst, n, k)
	case in.Op == ir.Rsh:
		c.lsrImm(w, dst, n, k)
	default:
		c.asrImm(w, dst, n, k)
	}
}

// shiftBack appends (n << k) >> j as one instruction if that comes next.
func (c *compiler) shiftBack(in *ir.Insn, n reg, k uint8) bool {
	s := c.next()
	if s == nil || s.Op != ir.Rsh && s.Op != ir.Arsh || s.W != in.W || s.Dst != in.Dst || !s.UseImm() {
		return false
	}
	c.take()
	w := in.W
	width := 8 * w
	j := uint8(s.Imm) & (width - 1)
	op := uint32(opUBFM)
	if s.Op == ir.Arsh {
		op = opSBFM
	}
	switch {
	case op == opUBFM && j == k && k == 32:
		c.mov(4, regs[in.Dst], n)
	case j >= k: // the field from bit j-k on
		c.bitfield(op, w, regs[in.Dst], n, j-k, width-1-k)
	default: // the lowest bits, k-j up
		c.bitfield(op, w, regs[in.Dst], n, width-(k-j), width-1-k)
	}
	return true
}

// shiftAdd appends an addition of n << k as one instruction if that comes next and the shifted value is needed no more.
func (c *compiler) shiftAdd(in *ir.Insn, n reg, k uint8) bool {
	a := c.next()
	if a == nil || a.Op != ir.Add || a.UseImm() || a.W != in.W || a.Src != in.Dst || a.Dst == in.Dst || c.live[c.i+1].Has(in.Dst) {
		return false
	}
	c.take()
	c.add(opADD, in.W, regs[a.Dst], regs[a.Dst], n, k)
	return true
}

func isPow2(v uint64) bool { return v != 0 && v&(v-1) == 0 }

func log2(v uint64) uint8 { return uint8(bits.TrailingZeros64(v)) }

// mulConst appends a multiplication by a constant.
func (c *compiler) mulConst(in *ir.Insn, n reg) {
	w, dst, v := in.W, regs[in.Dst], immediate(in)
	minus := -v & (^uint64(0) >> (64 - 8*w))
	switch {
	case v == 0:
		c.movImm(dst, 0)
	case v == 1:
		if w == 4 || dst != n {
			c.mov(w, dst, n)
		}
	case isPow2(v):
		c.lslImm(w, dst, n, log2(v))
	case isPow2(v - 1): // n + (n << k)
		c.add(opADD, w, dst, n, n, log2(v-1))
	case isPow2(minus): // -(n << k)
		c.add(opSUB, w, dst, zr, n, log2(minus))
	case isPow2(minus + 1): // n - (n << k)
		c.add(opSUB, w, dst, n, n, log2(minus+1))
	default:
		c.constant(w, x16, in.Imm)
		c.mul(w, dst, n, x16)
	}
}

// divConst appends a division or modulo by a constant.
func (c *compiler) divConst(in *ir.Insn, n reg) {
	w, dst, v := in.W, regs[in.Dst], immediate(in)
	mod := in.Op == ir.Mod || in.Op == ir.SMod
	signed := in.Op == ir.SDiv || in.Op == ir.SMod
	switch {
	case v == 0 && mod, v == 1 && !mod:
		if w == 4 || dst != n {
			c.mov(w, dst, n)
		}
	case v == 0, v == 1:
		c.movImm(dst, 0)
	case isPow2(v) && !signed && !mod:
		c.lsrImm(w, dst, n, log2(v))
	case isPow2(v) && !signed:
		b, _ := bitmask(v-1, w) // a run of ones
		c.logicImm(opAND, w, dst, n, b)
	default:
		c.constant(w, x16, in.Imm)
		c.div(in, n, x16)
	}
}

var condCode = [ir.NumConds]uint32{ir.EQ: ccEQ, ir.NE: ccNE, ir.GT: ccHI, ir.GE: ccHS, ir.LT: ccLO, ir.LE: ccLS, ir.SGT: ccGT,
	ir.SGE: ccGE, ir.SLT: ccLT, ir.SLE: ccLE, ir.SET: ccNE, ir.NSET: ccEQ}

// jcc appends compare and branch.
func (c *compiler) jcc(in *ir.Insn) {
	w, dst, target := in.W, regs[in.Dst], insnTarget(in.Off)
	set := in.Sub == ir.SET || in.Sub == ir.NSET
	switch {
	case in.UseImm() && set:
		c.jumpBits(in, dst, target)
		return
	case in.UseImm():
		c.jumpConst(in, dst, target)
		return
	case set:
		c.logic(opANDS, w, zr, dst, regs[in.Src])
	default:
		c.add(opSUBS, w, zr, dst, regs[in.Src], 0)
	}
	c.branchIf(condCode[in.Sub], target)
}

// jumpBits appends a branch on whether any of the bits of a constant is set.
func (c *compiler) jumpBits(in *ir.Insn, r reg, target int32) {
	v := immediate(in)
	switch b, ok := bitmask(v, in.W); {
	case v == 0 && in.Sub == ir.SET: // never
	case v == 0:
		c.branch(target)
	case isPow2(v) && in.Sub == ir.SET:
		c.testBit(opTBNZ, r, log2(v), target)
	case isPow2(v):
		c.testBit(opTBZ, r, log2(v), target)
	case ok:
		c.logicImm(opANDS, in.W, zr, r, b)
		c.branchIf(condCode[in.Sub], target)
	default:
		c.constant(in.W, x16, in.Imm)
		c.logic(opANDS, in.W, zr, r, x16)
		c.branchIf(condCode[in.Sub], target)
	}
}

// jumpConst appends a comparison with a constant and a branch, as one instruction where it asks for zero or for the sign.
func (c *compiler) jumpConst(in *ir.Insn, r reg, target int32) {
	w, sign := in.W, 8*in.W-1
	type ask struct {
		cond uint8
		imm  int64
	}
	switch (ask{in.Sub, in.Imm}) {
	case ask{ir.EQ, 0}, ask{ir.LT, 1}, ask{ir.LE, 0}:
		c.cbz(w, r, target)
	case ask{ir.NE, 0}, ask{ir.GE, 1}, ask{ir.GT, 0}:
		c.cbnz(w, r, target)
	case ask{ir.SLT, 0}, ask{ir.SLE, -1}:
		c.testBit(opTBNZ, r, sign, target)
	case ask{ir.SGE, 0}, ask{ir.SGT, -1}:
		c.testBit(opTBZ, r, sign, target)
	default:
		c.compareConst(w, r, in.Imm)
		c.branchIf(condCode[in.Sub], target)
	}
}

// compareConst sets the flags for r compared with v.
func (c *compiler) compareConst(w uint8, r reg, v int64) {
	switch {
	case v >= 0 && fitsAdd(uint64(v)):
		c.addImm(opSUBS, w, zr, r, uint32(v))
	case v < 0 && fitsAdd(uint64(-v)): // r + |v| carries when r >= v, as r - v does not borrow, for v other than zero
		c.addImm(opADDS, w, zr, r, uint32(-v))
	default:
		c.constant(w, x16, v)
		c.add(opSUBS, w, zr, r, x16, 0)
	}
}
