package amd64

import "encoding/binary"

// A register's number is its encoding in ModRM and REX.
const (
	rax = iota
	rcx
	rdx
	rbx
	rsp
	rbp
	rsi
	rdi
	r8
	r9
	r10
	r11
	r12
	r13
	r14
	r15
)

// noIndex says that a memory operand has no index register.
const noIndex = rsp

// mem is a memory operand [base + index*2^scale + disp].
type mem struct {
	base, index uint8
	scale       uint8
	disp        int32
}

func at(base uint8, disp int32) mem { return mem{base: base, index: noIndex, disp: disp} }

// asm is the encoder: each method appends one instruction, in its shortest form, to buf. Widths are in bytes.
type asm struct{ buf []byte }

func (a *asm) b(bytes ...byte) { a.buf = append(a.buf, bytes...) }

func (a *asm) i32(v int32) { a.buf = binary.LittleEndian.AppendUint32(a.buf, uint32(v)) }

func (a *asm) i64(v uint64) { a.buf = binary.LittleEndian.AppendUint64(a.buf, v) }

func fits8(v int64) bool { return v == int64(int8(v)) }

func fits32(v int64) bool { return v == int64(int32(v)) }

// Opcodes are given as one number: 0x0fb6 is the bytes 0f b6, 0x0f38f0 three bytes. opByte marks an operand that is a
// byte register (so that spl..dil need an empty REX), op16 a 16-bit operation.
const (
	opByte = 1 << 31
	op16   = 1 << 30
	opMask = 1<<24 - 1
)

// op appends prefixes and opcode. w is 8 for REX.W.
func (a *asm) op(op uint32, w uint8, reg, index, base uint8, byteReg uint8) {
	if op&op16 != 0 {
		a.buf = append(a.buf, 0x66)
	}
	rex := byte(0)
	if w == 8 {
		rex |= 8
	}
	rex |= reg>>3<<2 | index>>3<<1 | base>>3
	if rex != 0 || op&opByte != 0 && byteReg >= rsp && byteReg <= rdi {
		a.buf = append(a.buf, 0x40|rex)
	}
	switch code := op & opMask; {
	case code > 0xffff:
		a.buf = append(a.buf, byte(code>>16), byte(code>>8), byte(code))
	case code > 0xff:
		a.buf = append(a.buf, byte(code>>8), byte(code))
	default:
		a.buf = append(a.buf, byte(code))
	}
}

// rr appends op with a register in ModRM.rm.
func (a *asm) rr(op uint32, w, reg, rm uint8) {
	a.op(op, w, reg, 0, rm, rm)
	a.buf = append(a.buf, 0xc0|reg&7<<3|rm&7)
}

// rm appends op with a memory operand.
func (a *asm) rm(op uint32, w, reg uint8, m mem) {
	a.op(op, w, reg, m.index, m.base, reg)
	mod := byte(0x80)
	switch {
	case m.disp == 0 && m.base&7 != rbp:
		mod = 0
	case fits8(int64(m.disp)):
		mod = 0x40
	}
	if m.index != noIndex || m.base&7 == rsp {
		a.buf = append(a.buf, mod|reg&7<<3|4, m.scale<<6|m.index&7<<3|m.base&7)
	} else {
		a.buf = append(a.buf, mod|reg&7<<3|m.base&7)
	}
	switch mod {
	case 0x40:
		a.buf = append(a.buf, byte(m.disp))
	case 0x80:
		a.i32(m.disp)
	}
}

// The eight two-operand operations by their number in the opcode map.
const (
	aluADD = 0
	aluOR  = 1
	aluAND = 4
	aluSUB = 5
	aluXOR = 6
	aluCMP = 7
)

// alu appends op dst, src.
func (a *asm) alu(op, w, dst, src uint8) { a.rr(uint32(op)<<3|1, w, src, dst) }

// aluImm appends op dst, imm.
func (a *asm) aluImm(op, w, dst uint8, imm int32) {
	switch {
	case fits8(int64(imm)):
		a.rr(0x83, w, op, dst)
		a.b(byte(imm))
	case dst == rax:
		a.op(uint32(op)<<3|5, w, 0, 0, 0, 0)
		a.i32(imm)
	default:
		a.rr(0x81, w, op, dst)
		a.i32(imm)
	}
}

// aluMemImm appends op [m], imm8.
func (a *asm) aluMemImm(op, w uint8, m mem, imm int8) {
	a.rm(0x83, w, op, m)
	a.b(byte(imm))
}

func (a *asm) mov(w, dst, src uint8) { a.rr(0x89, w, src, dst) }

// movImm loads a constant without touching flags, except that zero is made by xor.
func (a *asm) movImm(dst uint8, v uint64) {
	switch {
	case v == 0:
		a.alu(aluXOR, 4, dst, dst)
	case v>>32 == 0:
		a.op(0xb8|uint32(dst&7), 4, 0, 0, dst, 0)
		a.i32(int32(v))
	case fits32(int64(v)):
		a.rr(0xc7, 8, 0, dst)
		a.i32(int32(v))
	default:
		a.op(0xb8|uint32(dst&7), 8, 0, 0, dst, 0)
		a.i64(v)
	}
}

func (a *asm) test(w, x, y uint8) { a.rr(0x85, w, y, x) }

// testImm appends test x, imm, narrowed where the result is the same.
func (a *asm) testImm(w, x uint8, imm int32) {
	if imm >= 0 {
		w = 4
	}
	switch {
	case imm >= 0 && imm <= 0x7f:
		if x == rax {
			a.b(0xa8)
		} else {
			a.rr(0xf6|opByte, 4, 0, x)
		}
		a.b(byte(imm))
	case x == rax:
		a.op(0xa9, w, 0, 0, 0, 0)
		a.i32(imm)
	default:
		a.rr(0xf7, w, 0, x)
		a.i32(imm)
	}
}

// Unary operations: numbers in opcode f7.
const (
	unNOT  = 2
	unNEG  = 3
	unDIV  = 6
	unIDIV = 7
)

func (a *asm) unary(op, w, r uint8) { a.rr(0xf7, w, op, r) }

func (a *asm) inc(w, r uint8) { a.rr(0xff, w, 0, r) }

func (a *asm) dec(w, r uint8) { a.rr(0xff, w, 1, r) }

func (a *asm) imul(w, dst, src uint8) { a.rr(0x0faf, w, dst, src) }

func (a *asm) imulImm(w, dst, src uint8, imm int32) {
	if fits8(int64(imm)) {
		a.rr(0x6b, w, dst, src)
		a.b(byte(imm))
		return
	}
	a.rr(0x69, w, dst, src)
	a.i32(imm)
}

// Shifts: numbers in opcodes c1, d1, d3.
const (
	shROL = 0
	shSHL = 4
	shSHR = 5
	shSAR = 7
)

// shiftImm appends a shift by n, 0 < n < width.
func (a *asm) shiftImm(op, w, r, n uint8) {
	if n == 1 {
		a.rr(0xd1, w, op, r)
		return
	}
	a.rr(0xc1, w, op, r)
	a.b(n)
}

func (a *asm) shiftCL(op, w, r uint8) { a.rr(0xd3, w, op, r) }

// shiftX appends shlx, shrx or sarx dst, src, count (BMI2).
func (a *asm) shiftX(op, w, dst, src, count uint8) {
	pp := vexPrefix(op)
	a.b(0xc4, (dst>>3^1)<<7|1<<6|(src>>3^1)<<5|2, (w>>3)<<7|(count^0xf)<<3|pp, 0xf7, 0xc0|dst&7<<3|src&7)
}

// vexPrefix returns the prefix bits that tell the three shifts apart.
func vexPrefix(op uint8) byte {
	switch op {
	case shSHL:
		return 1
	case shSHR:
		return 3
	}
	return 2
}

// movzx appends dst = the lower n bytes of src, zero-extended to 64 bits.
func (a *asm) movzx(n, dst, src uint8) {
	switch n {
	case 1:
		a.op(0x0fb6|opByte, 4, dst, 0, src, src)
	case 2:
		a.op(0x0fb7, 4, dst, 0, src, 0)
	default:
		a.mov(4, dst, src)
		return
	}
	a.b(0xc0 | dst&7<<3 | src&7)
}

// movsx appends dst = the lower n bytes of src, sign-extended to w bytes.
func (a *asm) movsx(n, w, dst, src uint8) {
	switch n {
	case 1:
		a.op(0x0fbe|opByte, w, dst, 0, src, src)
	case 2:
		a.op(0x0fbf, w, dst, 0, src, 0)
	default:
		a.op(0x63, 8, dst, 0, src, 0)
	}
	a.b(0xc0 | dst&7<<3 | src&7)
}

// load appends a load of n bytes, zero-extended to 64 bits.
func (a *asm) load(n, dst uint8, m mem) {
	switch n {
	case 1:
		a.rm(0x0fb6, 4, dst, m)
	case 2:
		a.rm(0x0fb7, 4, dst, m)
	default:
		a.rm(0x8b, n, dst, m)
	}
}

// loadSigned appends a load of n bytes, sign-extended to 64 bits.
func (a *asm) loadSigned(n, dst uint8, m mem) {
	switch n {
	case 1:
		a.rm(0x0fbe, 8, dst, m)
	case 2:
		a.rm(0x0fbf, 8, dst, m)
	default:
		a.rm(0x63, 8, dst, m)
	}
}

// store appends a store of the lower n bytes of src.
func (a *asm) store(n uint8, m mem, src uint8) {
	switch n {
	case 1:
		a.rm(0x88|opByte, 4, src, m)
	case 2:
		a.rm(0x89|op16, 4, src, m)
	default:
		a.rm(0x89, n, src, m)
	}
}

// storeImm appends a store of an immediate, sign-extended to 8 bytes.
func (a *asm) storeImm(n uint8, m mem, v int32) {
	switch n {
	case 1:
		a.rm(0xc6, 4, 0, m)
		a.b(byte(v))
	case 2:
		a.rm(0xc7|op16, 4, 0, m)
		a.b(byte(v), byte(v>>8))
	default:
		a.rm(0xc7, n, 0, m)
		a.i32(v)
	}
}

// loadSwapped appends movbe dst, [m] for 4 and 8 bytes.
func (a *asm) loadSwapped(n, dst uint8, m mem) { a.rm(0x0f38f0, n, dst, m) }

func (a *asm) lea(w, dst uint8, m mem) { a.rm(0x8d, w, dst, m) }

func (a *asm) bswap(w, r uint8) { a.op(0x0fc8|uint32(r&7), w, 0, 0, r, 0) }

func (a *asm) push(r uint8) { a.op(0x50|uint32(r&7), 4, 0, 0, r, 0) }

func (a *asm) pop(r uint8) { a.op(0x58|uint32(r&7), 4, 0, 0, r, 0) }

func (a *asm) ret() { a.b(0xc3) }

func (a *asm) leave() { a.b(0xc9) }

func (a *asm) callReg(r uint8) { a.rr(0xff, 4, 2, r) }

func (a *asm) callMem(m mem) { a.rm(0xff, 4, 2, m) }

func (a *asm) jmpReg(r uint8) { a.rr(0xff, 4, 4, r) }

// lock appends the lock prefix of the next instruction.
func (a *asm) lock() { a.b(0xf0) }

func (a *asm) xadd(w uint8, m mem, r uint8) { a.rm(0x0fc1, w, r, m) }

func (a *asm) xchg(w uint8, m mem, r uint8) { a.rm(0x87, w, r, m) }

func (a *asm) cmpxchg(w uint8, m mem, r uint8) { a.rm(0x0fb1, w, r, m) }

// hlt is privileged: in user space it is a fault.
func (a *asm) hlt() { a.b(0xf4) }

// Conditions of jcc: the low four bits of its opcode.
const (
	ccB  = 2
	ccAE = 3
	ccE  = 4
	ccNE = 5
	ccBE = 6
	ccA  = 7
	ccS  = 8
	ccNS = 9
	ccL  = 12
	ccGE = 13
	ccLE = 14
	ccG  = 15
	ccJ  = 16 // always
)

// skip appends a short jump over code that follows at once and returns the place to give to land.
func (a *asm) skip(cc uint8) int {
	if cc == ccJ {
		a.b(0xeb, 0)
	} else {
		a.b(0x70|cc, 0)
	}
	return len(a.buf)
}

// land makes the jump that skip returned end here. The distance is at most 127 bytes: such code is a few instructions.
func (a *asm) land(from int) { a.buf[from-1] = byte(len(a.buf) - from) }
