package arm64

import "encoding/binary"

// A register's number is its encoding. Number 31 is the zero register or the stack pointer, as the instruction has it.
const (
	x0 = iota
	x1
	x2
	x3
	x4
	x5
	x6
	x7
	x8
	x9
	x10
	x11
	x12
	x13
	x14
	x15
	x16
	x17
	x18
	x19
	x20
	x21
	x22
	x23
	x24
	x25
	x26
	x27
	x28
	fp // x29
	lr // x30
	zr
	sp = zr
)

// asm is the encoder: each method appends one instruction to buf. Widths are in bytes; operations of width 4 zero the upper
// half of their result. Encodings are those of the Arm Architecture Reference Manual (DDI 0487), section C4.1.
type asm struct{ buf []byte }

func (a *asm) word(w uint32) { a.buf = binary.LittleEndian.AppendUint32(a.buf, w) }

// reg is a register as an instruction's field.
type reg = uint8

// sf is the bit that makes a data-processing instruction one of 64 bits.
func sf(w uint8) uint32 { return uint32(w>>3) << 31 }

func rd(r reg) uint32 { return uint32(r) }
func rn(r reg) uint32 { return uint32(r) << 5 }
func ra(r reg) uint32 { return uint32(r) << 10 }
func rm(r reg) uint32 { return uint32(r) << 16 }

// Additions and subtractions: the bits that tell them apart, in every form.
const (
	opADD  = 0
	opADDS = 1 << 29
	opSUB  = 1 << 30
	opSUBS = opADDS | opSUB
)

// addImm appends d = n op imm. Register 31 is the stack pointer (as d only without flags). imm must be encodable: see
// fitsAdd.
func (a *asm) addImm(op uint32, w uint8, d, n reg, imm uint32) {
	shift := uint32(0)
	if imm>>12 != 0 {
		imm, shift = imm>>12, 1<<22
	}
	a.word(0x11000000 | sf(w) | op | shift | imm<<10 | rn(n) | rd(d))
}

// fitsAdd reports whether imm is twelve bits, or twelve bits above twelve zeros.
func fitsAdd(imm uint64) bool { return imm < 1<<12 || imm < 1<<24 && imm&0xfff == 0 }

// add appends d = n op (m << shift). Register 31 is zero.
func (a *asm) add(op uint32, w uint8, d, n, m reg, shift uint8) {
	a.word(0x0b000000 | sf(w) | op | rm(m) | uint32(shift)<<10 | rn(n) | rd(d))
}

// addUXTW appends d = n + (the lower half of m << shift), 64 bits, shift at most 4.
func (a *asm) addUXTW(d, n, m reg, shift uint8) {
	a.word(0x8b204000 | rm(m) | uint32(shift)<<10 | rn(n) | rd(d))
}

// Logical operations: the bits that tell them apart, in every form.
const (
	opAND  = 0
	opORR  = 1 << 29
	opEOR  = 2 << 29
	opANDS = 3 << 29
	opNOT  = 1 << 21 // of the second operand; only with registers
)

// logic appends d = n op m. Register 31 is zero.
func (a *asm) logic(op uint32, w uint8, d, n, m reg) {
	a.word(0x0a000000 | sf(w) | op | rm(m) | rn(n) | rd(d))
}

// logicImm appends d = n op the bit mask that the fields of bits (see bitmask) stand for. Register 31 as d is the stack
// pointer, except for ANDS, where it is zero.
func (a *asm) logicImm(op uint32, w uint8, d, n reg, bits uint32) {
	a.word(0x12000000 | sf(w) | op | bits<<10 | rn(n) | rd(d))
}

// mov appends d = m. Register 31 is zero.
func (a *asm) mov(w uint8, d, m reg) { a.logic(opORR, w, d, zr, m) }

// movSP appends d = n where one of them is the stack pointer.
func (a *asm) movSP(d, n reg) { a.addImm(opADD, 8, d, n, 0) }

// Moves of 16 bits, shifted left by 16*half.
const (
	opMOVN = 0x12800000
	opMOVZ = 0x52800000
	opMOVK = 0x72800000
)

func (a *asm) movWide(op uint32, w uint8, d reg, v uint16, half uint8) {
	a.word(op | sf(w) | uint32(half)<<21 | uint32(v)<<5 | rd(d))
}

// Bit-field moves.
const (
	opSBFM = 0x13000000
	opUBFM = 0x53000000
)

// bitfield appends a bit-field move with rotation r and last bit s.
func (a *asm) bitfield(op uint32, w uint8, d, n reg, r, s uint8) {
	a.word(op | sf(w) | uint32(w>>3)<<22 | uint32(r)<<16 | uint32(s)<<10 | rn(n) | rd(d))
}

// lslImm, lsrImm, asrImm append shifts by k, 0 <= k < width in bits.
func (a *asm) lslImm(w uint8, d, n reg, k uint8) {
	bits := 8 * w
	a.bitfield(opUBFM, w, d, n, (bits-k)%bits, bits-1-k)
}

func (a *asm) lsrImm(w uint8, d, n reg, k uint8) { a.bitfield(opUBFM, w, d, n, k, 8*w-1) }

func (a *asm) asrImm(w uint8, d, n reg, k uint8) { a.bitfield(opSBFM, w, d, n, k, 8*w-1) }

// zext appends d = the lower k (1, 2, 4) bytes of n, zero-extended to 64 bits.
func (a *asm) zext(k uint8, d, n reg) {
	if k == 4 {
		a.mov(4, d, n)
		return
	}
	a.bitfield(opUBFM, 4, d, n, 0, 8*k-1)
}

// sext appends d = the lower k (1, 2, 4) bytes of n, sign-extended to w bytes.
func (a *asm) sext(k, w uint8, d, n reg) { a.bitfield(opSBFM, w, d, n, 0, 8*k-1) }

// Operations of two registers that are not additions or logical.
const (
	opUDIV = 0x1ac00800
	opSDIV = 0x1ac00c00
	opLSLV = 0x1ac02000 // shift counts are taken modulo the width
	opLSRV = 0x1ac02400
	opASRV = 0x1ac02800
)

func (a *asm) two(op uint32, w uint8, d, n, m reg) { a.word(op | sf(w) | rm(m) | rn(n) | rd(d)) }

// Multiplications with addition: d = x + n*m, d = x - n*m, d = x + the 64-bit product of the lower halves of n and m (w 8).
const (
	opMADD   = 0x1b000000
	opMSUB   = 0x1b008000
	opUMADDL = 0x1ba00000
)

func (a *asm) madd(op uint32, w uint8, d, n, m, x reg) {
	a.word(op | sf(w) | rm(m) | ra(x) | rn(n) | rd(d))
}

// rev appends d = n with its w bytes reversed; rev16 reverses the bytes of each 16 bits of the lower half.
func (a *asm) rev(w uint8, d, n reg) { a.word(0x5ac00800 | sf(w) | uint32(w>>3)<<10 | rn(n) | rd(d)) }

func (a *asm) rev16(d, n reg) { a.word(0x5ac00400 | rn(n) | rd(d)) }

// Condition codes.
const (
	ccEQ = iota
	ccNE
	ccHS
	ccLO
	ccMI
	ccPL
	ccVS
	ccVC
	ccHI
	ccLS
	ccGE
	ccLT
	ccGT
	ccLE
)

// Branches whose distance a fix fills in. The lowest bit of a condition, and bit 24 of the others, turn them round.
const (
	opB    = 0x14000000
	opBL   = 0x94000000
	opBCC  = 0x54000000
	opCBZ  = 0x34000000
	opCBNZ = 0x35000000
	opTBZ  = 0x36000000
	opTBNZ = 0x37000000
	opADR  = 0x10000000
)

func (a *asm) br(n reg) { a.word(0xd61f0000 | rn(n)) }

func (a *asm) blr(n reg) { a.word(0xd63f0000 | rn(n)) }

func (a *asm) ret() { a.word(0xd65f0000 | rn(lr)) }

// udf is the instruction that is undefined for good: a fault.
func (a *asm) udf() { a.word(0) }

// dmb appends the barrier between all accesses before and all after it, for all processors of the process (ISH).
func (a *asm) dmb() { a.word(0xd5033bbf) }
