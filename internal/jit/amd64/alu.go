package amd64

import "github.com/skep-bpf/skep/internal/ir"

// movInsn appends a move, together with instructions behind it that make one machine instruction with it.
func (c *compiler) movInsn(in *ir.Insn) {
	dst := regs[in.Dst]
	if in.UseImm() {
		v := uint64(in.Imm)
		if in.W == 4 {
			v = uint64(uint32(v))
		}
		c.movImm(dst, v)
		return
	}
	src := regs[in.Src]
	if c.fuseMov(in, dst, src) {
		return
	}
	if in.W == 4 || dst != src {
		c.mov(in.W, dst, src)
	}
}

// fuseMov tries to append a move and the operation on its result behind it as one instruction.
func (c *compiler) fuseMov(in *ir.Insn, dst, src uint8) bool {
	n := c.next(1)
	if n == nil || n.Dst != in.Dst || n.W > in.W || in.Dst == in.Src {
		return false
	}
	other := regs[n.Src&15%11]
	switch {
	case n.Op == ir.Add && n.UseImm() && n.Imm != 0:
		c.lea(n.W, dst, at(src, int32(n.Imm)))
	case n.Op == ir.Sub && n.UseImm() && n.Imm != 0 && fits32(-n.Imm):
		c.lea(n.W, dst, at(src, int32(-n.Imm)))
	case n.Op == ir.Add && !n.UseImm() && n.Src != n.Dst:
		if src&7 == rbp && other&7 != rbp { // rbp and r13 as base need a displacement
			src, other = other, src
		}
		c.lea(n.W, dst, mem{base: src, index: other})
	case n.Op == ir.Mul && n.UseImm() && n.Imm != 0 && !isPow2(uint64(n.Imm)):
		c.mul(n.W, dst, src, n.Imm)
	case n.Op == ir.And && n.UseImm() && (n.Imm == 0xff || n.Imm == 0xffff):
		c.movzx(uint8(1+n.Imm>>8&1), dst, src)
	case n.Op == ir.Lsh && c.shiftPair(n, 2):
		c.extendPair(c.next(2), dst, src)
		c.take(2)
		return true
	default:
		return false
	}
	c.take(1)
	return true
}

// shiftPair reports whether n, a left shift by 32, and the k-th instruction behind the running one together extend the
// lower half of a register.
func (c *compiler) shiftPair(n *ir.Insn, k int) bool {
	if n.Op != ir.Lsh || n.W != 8 || !n.UseImm() || n.Imm != 32 {
		return false
	}
	s := c.next(k)
	return s != nil && (s.Op == ir.Rsh || s.Op == ir.Arsh) && s.W == 8 && s.UseImm() && s.Imm == 32 && s.Dst == n.Dst
}

func (c *compiler) extendPair(s *ir.Insn, dst, src uint8) {
	if s.Op == ir.Rsh {
		c.mov(4, dst, src)
	} else {
		c.movsx(4, 8, dst, src)
	}
}

// aluInsn appends an operation on registers other than moves and divisions.
func (c *compiler) aluInsn(in *ir.Insn) {
	dst, src := regs[in.Dst], regs[in.Src]
	switch in.Op {
	case ir.Neg:
		c.unary(unNEG, in.W, dst)
		c.setFlags(in)
	case ir.Sext:
		c.movsx(in.Sub, in.W, dst, src)
	case ir.Zext:
		c.movzx(in.Sub, dst, src)
	case ir.Bswap:
		c.swap(in.W, dst)
	case ir.FuncAddr:
		c.leaFunc(dst, in.Off)
	case ir.Lsh, ir.Rsh, ir.Arsh:
		c.shift(in, dst)
	case ir.Mul:
		if in.UseImm() {
			c.mul(in.W, dst, dst, in.Imm)
		} else {
			c.imul(in.W, dst, src)
		}
	default:
		if in.UseImm() {
			c.opImm(in, dst)
		} else {
			c.alu(aluCode[in.Op], in.W, dst, src)
			c.setFlags(in)
		}
	}
}

// aluCode holds the numbers of operations in the processor's opcodes, for two-operand ones and for shifts.
var aluCode = [ir.NumOps]uint8{
	ir.Add: aluADD, ir.Sub: aluSUB, ir.Or: aluOR, ir.And: aluAND, ir.Xor: aluXOR,
	ir.AtomicAdd: aluADD, ir.AtomicOr: aluOR, ir.AtomicAnd: aluAND, ir.AtomicXor: aluXOR,
	ir.Lsh: shSHL, ir.Rsh: shSHR, ir.Arsh: shSAR,
}

// setFlags notes that the zero and sign flags now tell of in's result.
func (c *compiler) setFlags(in *ir.Insn) { c.flags, c.flagsW = regs[in.Dst]+1, in.W }

// opImm appends add, sub, or, and, xor with an immediate.
func (c *compiler) opImm(in *ir.Insn, dst uint8) {
	imm, w := int32(in.Imm), in.W
	switch {
	case in.Op == ir.And && imm == 0xff:
		c.movzx(1, dst, dst)
		return
	case in.Op == ir.And && imm == 0xffff:
		c.movzx(2, dst, dst)
		return
	case in.Op == ir.And && imm >= 0 && w == 8:
		c.aluImm(aluAND, 4, dst, imm)
		c.setFlags(in)
		c.flagsW = 0 // the zero flag is right for both widths, the sign flag for none
		return
	case in.Op == ir.And && imm == 0:
		c.movImm(dst, 0)
		return
	case imm == 0 || in.Op == ir.And && imm == -1:
		c.zeroExtend(w, dst)
		return
	case in.Op == ir.Xor && imm == -1:
		c.unary(unNOT, w, dst)
		return
	case in.Op == ir.Add && imm == 1, in.Op == ir.Sub && imm == -1:
		c.inc(w, dst)
	case in.Op == ir.Sub && imm == 1, in.Op == ir.Add && imm == -1:
		c.dec(w, dst)
	case in.Op == ir.Add && imm == 128:
		c.aluImm(aluSUB, w, dst, -128)
	case in.Op == ir.Sub && imm == 128:
		c.aluImm(aluADD, w, dst, -128)
	default:
		c.aluImm(aluCode[in.Op], w, dst, imm)
	}
	c.setFlags(in)
}

// zeroExtend appends what is left of a 32-bit operation that changes nothing else.
func (c *compiler) zeroExtend(w, r uint8) {
	if w == 4 {
		c.mov(4, r, r)
	}
}

// mul appends dst = src * imm.
func (c *compiler) mul(w, dst, src uint8, imm int64) {
	v := uint64(imm)
	if w == 4 {
		v = uint64(uint32(v))
	}
	switch {
	case v == 0:
		c.movImm(dst, 0)
		return
	case isPow2(v):
		if dst != src || v == 1 && w == 4 {
			c.mov(w, dst, src)
		}
		if v != 1 {
			c.shiftImm(shSHL, w, dst, uint8(log2(v)))
		}
		return
	case v == 3 || v == 5 || v == 9:
		if src&7 != rbp { // rbp and r13 as base need a displacement
			c.lea(w, dst, mem{base: src, index: src, scale: uint8(log2(v - 1))})
			return
		}
	}
	c.imulImm(w, dst, src, int32(imm))
}

// shift appends a shift. The processor takes counts modulo the width, as BPF does.
func (c *compiler) shift(in *ir.Insn, dst uint8) {
	op := aluCode[in.Op]
	if in.UseImm() {
		if c.shiftPair(in, 1) {
			c.extendPair(c.next(1), dst, dst)
			c.take(1)
			return
		}
		n := uint8(in.Imm) & (8*in.W - 1)
		if n == 0 {
			c.zeroExtend(in.W, dst)
			return
		}
		c.shiftImm(op, in.W, dst, n)
		c.setFlags(in)
		return
	}
	count := regs[in.Src]
	switch {
	case count == rcx && dst != rcx:
		c.shiftCL(op, in.W, dst)
	case c.opt.BMI2:
		c.shiftX(op, in.W, dst, dst, count)
	case dst == rcx:
		c.mov(8, r11, rcx)
		c.mov(4, rcx, count)
		c.shiftCL(op, in.W, r11)
		c.mov(in.W, rcx, r11)
	default:
		c.mov(8, r11, rcx)
		c.mov(4, rcx, count)
		c.shiftCL(op, in.W, dst)
		c.mov(8, rcx, r11)
	}
}

// swap appends the reversal of the lower w bytes of r, zero-extended.
func (c *compiler) swap(w, r uint8) {
	if w == 2 {
		c.rr(0xc1|op16, 4, shROL, r)
		c.b(8)
		c.movzx(2, r, r)
		return
	}
	c.bswap(w, r)
}

// loadInsn appends a load, together with a byte swap of its result behind it.
func (c *compiler) loadInsn(in *ir.Insn) {
	dst, m := regs[in.Dst], at(regs[in.Src], in.Off)
	if in.Signed() {
		c.loadSigned(in.W, dst, m)
		return
	}
	n := c.next(1)
	swapped := n != nil && n.Op == ir.Bswap && n.Dst == in.Dst && n.W == in.W
	switch {
	case swapped && in.W == 2:
		c.load(2, dst, m)
		c.rr(0xc1|op16, 4, shROL, dst) // the upper bits are zero already
		c.b(8)
	case swapped && in.W >= 4 && c.opt.MOVBE:
		c.loadSwapped(in.W, dst, m)
	default:
		c.load(in.W, dst, m)
		return
	}
	c.take(1)
}

var condCode = [ir.NumConds]uint8{ir.EQ: ccE, ir.NE: ccNE, ir.GT: ccA, ir.GE: ccAE, ir.LT: ccB, ir.LE: ccBE, ir.SGT: ccG,
	ir.SGE: ccGE, ir.SLT: ccL, ir.SLE: ccLE, ir.SET: ccNE, ir.NSET: ccE}

// jcc appends compare and branch.
func (c *compiler) jcc(in *ir.Insn) {
	dst, cc := regs[in.Dst], condCode[in.Sub]
	switch {
	case (in.Sub == ir.SET || in.Sub == ir.NSET) && in.UseImm():
		c.testImm(in.W, dst, int32(in.Imm))
	case in.Sub == ir.SET || in.Sub == ir.NSET:
		c.test(in.W, dst, regs[in.Src])
	case !in.UseImm():
		c.alu(aluCMP, in.W, dst, regs[in.Src])
	case in.Imm == 0:
		cc = c.compareZero(in, dst, cc)
	default:
		c.aluImm(aluCMP, in.W, dst, int32(in.Imm))
	}
	c.jump(cc, insnTarget(in.Off))
	c.flags = 0
}

// compareZero appends the comparison of dst with zero, unless the flags tell already, and returns the condition code.
func (c *compiler) compareZero(in *ir.Insn, dst, cc uint8) uint8 {
	known := c.flags == dst+1
	switch {
	case known && (in.Sub == ir.EQ || in.Sub == ir.NE) && c.flagsW <= in.W: // a narrow result is zero above
		return cc
	case known && (in.Sub == ir.SLT || in.Sub == ir.SGE) && c.flagsW == in.W:
	default:
		c.test(in.W, dst, dst)
	}
	switch in.Sub {
	case ir.SLT:
		return ccS
	case ir.SGE:
		return ccNS
	}
	return cc
}
