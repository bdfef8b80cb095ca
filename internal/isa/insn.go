// Package isa is the BPF instruction set: encoding, decoding, operand roles and disassembly, from one table.
//
// The encoding is that of RFC 9669 with the kernel's later additions (load-acquire, store-release, may_goto,
// addr_space_cast) and the parameter register r11 of the stack-argument convention.
// It knows nothing of object files, of the verifier or of any machine.
package isa

// Insn is one 8-byte slot of a BPF program, as it stands in an object file. A 64-bit immediate load takes two slots,
// so instruction numbers here are the kernel's instruction numbers.
type Insn struct {
	Op  uint8
	Dst Reg // 4 bits
	Src Reg // 4 bits
	Off int16
	Imm int32
}

// Reg is a BPF register number.
type Reg uint8

// The registers. R10 is the read-only frame pointer. R11 (BPF_REG_PARAMS) names the stack-argument slots; R12 does so
// in the older dialect. Neither is a register that holds a value.
const (
	R0 Reg = iota
	R1
	R2
	R3
	R4
	R5
	R6
	R7
	R8
	R9
	R10
	R11
	R12

	RFP         = R10
	RParams     = R11
	ROldParams  = R12
	MaxReg      = 11  // registers a program can name as values: r0..r10
	MaxInsns    = 1e6 // BPF_COMPLEXITY_LIMIT_INSNS: also the largest program (privileged)
	StackSize   = 512 // MAX_BPF_STACK
	MaxFrames   = 8   // MAX_CALL_FRAMES
	MaxSubprogs = 256 // BPF_MAX_SUBPROGS
)

// Stack-argument limits (see stack_arguments.md section 1).
const (
	MaxRegArgs   = 5  // arguments passed in r1..r5
	MaxFuncArgs  = 12 // MAX_BPF_FUNC_ARGS
	MaxStackArgs = MaxFuncArgs - MaxRegArgs
)

// Instruction classes (low three bits of the opcode).
const (
	ClassLD    = 0x00
	ClassLDX   = 0x01
	ClassST    = 0x02
	ClassSTX   = 0x03
	ClassALU   = 0x04
	ClassJMP   = 0x05
	ClassJMP32 = 0x06
	ClassALU64 = 0x07
)

// Source of the second operand (bit 3 of ALU and JMP opcodes).
const (
	SrcK = 0x00
	SrcX = 0x08
)

// Access sizes (bits 3-4 of load and store opcodes).
const (
	SizeW  = 0x00
	SizeH  = 0x08
	SizeB  = 0x10
	SizeDW = 0x18
)

// Access modes (bits 5-7 of load and store opcodes).
const (
	ModeIMM      = 0x00
	ModeABS      = 0x20
	ModeIND      = 0x40
	ModeMEM      = 0x60
	ModeMEMSX    = 0x80
	ModePROBEMEM = 0x20 // as the kernel rewrites LDX loads; never in input
	ModeATOMIC   = 0xc0
)

// ALU operations (bits 4-7).
const (
	AluADD  = 0x00
	AluSUB  = 0x10
	AluMUL  = 0x20
	AluDIV  = 0x30
	AluOR   = 0x40
	AluAND  = 0x50
	AluLSH  = 0x60
	AluRSH  = 0x70
	AluNEG  = 0x80
	AluMOD  = 0x90
	AluXOR  = 0xa0
	AluMOV  = 0xb0
	AluARSH = 0xc0
	AluEND  = 0xd0
)

// Jump operations (bits 4-7).
const (
	JmpJA    = 0x00
	JmpJEQ   = 0x10
	JmpJGT   = 0x20
	JmpJGE   = 0x30
	JmpJSET  = 0x40
	JmpJNE   = 0x50
	JmpJSGT  = 0x60
	JmpJSGE  = 0x70
	JmpCALL  = 0x80
	JmpEXIT  = 0x90
	JmpJLT   = 0xa0
	JmpJLE   = 0xb0
	JmpJSLT  = 0xc0
	JmpJSLE  = 0xd0
	JmpJCOND = 0xe0 // may_goto
)

// Atomic operations (immediate of an STX | ATOMIC instruction).
const (
	AtomicADD      = 0x00
	AtomicOR       = 0x40
	AtomicAND      = 0x50
	AtomicXOR      = 0xa0
	AtomicFETCH    = 0x01
	AtomicXCHG     = 0xe0 | AtomicFETCH
	AtomicCMPXCHG  = 0xf0 | AtomicFETCH
	AtomicLoadAcq  = 0x100
	AtomicStoreRel = 0x110
)

// Source-register values that give a 64-bit immediate load or a call its meaning.
const (
	PseudoMapFD       = 1 // ld_imm64: imm is a map (here: an index into program.Program.Maps)
	PseudoMapValue    = 2 // ld_imm64: as above, plus the offset into the value in the second slot
	PseudoBTFID       = 3 // ld_imm64: a kernel variable by BTF id
	PseudoFunc        = 4 // ld_imm64: a function of this program, relative to the next instruction
	PseudoMapIdx      = 5
	PseudoMapIdxValue = 6

	PseudoCall      = 1 // call: a function of this program, relative to the next instruction
	PseudoKfuncCall = 2 // call: a kfunc (here: imm is an index into program.Program.Kfuncs)
)

// Class returns the instruction class.
func (in Insn) Class() uint8 { return in.Op & 0x07 }

// Size returns the size field (SizeB..SizeDW) of a load or store.
func (in Insn) Size() uint8 { return in.Op & 0x18 }

// Bytes returns the width in bytes of a load or store.
func (in Insn) Bytes() int {
	switch in.Size() {
	case SizeB:
		return 1
	case SizeH:
		return 2
	case SizeW:
		return 4
	}
	return 8
}

// Mode returns the mode field of a load or store.
func (in Insn) Mode() uint8 { return in.Op & 0xe0 }

// AluOp returns the operation of an ALU instruction, JmpOp that of a jump.
func (in Insn) AluOp() uint8 { return in.Op & 0xf0 }

// JmpOp returns the operation of a JMP or JMP32 instruction.
func (in Insn) JmpOp() uint8 { return in.Op & 0xf0 }

// SrcIsReg reports whether the second operand of an ALU or jump instruction is a register.
func (in Insn) SrcIsReg() bool { return in.Op&SrcX != 0 }

// IsLdImm64 reports whether this is the first slot of a two-slot immediate load.
func (in Insn) IsLdImm64() bool { return in.Op == ClassLD|ModeIMM|SizeDW }

// IsCall reports whether this is any call: helper, kfunc or function of the program.
func (in Insn) IsCall() bool { return in.Op == ClassJMP|JmpCALL }

// IsPseudoCall reports whether this calls a function of the same program.
func (in Insn) IsPseudoCall() bool { return in.IsCall() && in.Src == PseudoCall }

// IsKfuncCall reports whether this calls a kfunc.
func (in Insn) IsKfuncCall() bool { return in.IsCall() && in.Src == PseudoKfuncCall }

// IsHelperCall reports whether this calls a helper by number.
func (in Insn) IsHelperCall() bool { return in.IsCall() && in.Src == 0 }

// IsPseudoFunc reports whether this loads the address of a function of the same program.
func (in Insn) IsPseudoFunc() bool { return in.IsLdImm64() && in.Src == PseudoFunc }

// IsExit reports whether this returns from a function.
func (in Insn) IsExit() bool { return in.Op == ClassJMP|JmpEXIT }

// IsJump32 reports whether the class is JMP32.
func (in Insn) IsJump32() bool { return in.Class() == ClassJMP32 }

// IsMayGoto reports whether this is a may_goto.
func (in Insn) IsMayGoto() bool { return in.Op == ClassJMP|JmpJCOND && in.Src == 0 }

// IsConditional reports whether in is a conditional jump. may_goto is none: it has no condition of its own.
func (in Insn) IsConditional() bool {
	if c := in.Class(); c != ClassJMP && c != ClassJMP32 {
		return false
	}
	op := in.JmpOp()
	return op != JmpJA && op != JmpCALL && op != JmpEXIT && op != JmpJCOND
}

// IsStackArgLoad reports whether this loads an incoming stack argument in the r11 dialect.
func (in Insn) IsStackArgLoad() bool {
	return in.Op == ClassLDX|ModeMEM|SizeDW && in.Src == RParams && in.Off > 0 && in.Off%8 == 0
}

// IsStackArgStore reports whether this stores an outgoing stack argument in the r11 dialect.
func (in Insn) IsStackArgStore() bool {
	return (in.Op == ClassSTX|ModeMEM|SizeDW || in.Op == ClassST|ModeMEM|SizeDW) && in.Dst == RParams && in.Off < 0 && in.Off%8 == 0
}

// JumpTarget returns the slot a jump at slot pc goes to when taken. It holds for every JMP and JMP32 jump but calls
// and exits.
func (in Insn) JumpTarget(pc int) int {
	if in.Op == ClassJMP32|JmpJA {
		return pc + 1 + int(in.Imm)
	}
	return pc + 1 + int(in.Off)
}

// Imm64 joins the two slots of a 64-bit immediate load.
func Imm64(lo, hi Insn) uint64 { return uint64(uint32(lo.Imm)) | uint64(uint32(hi.Imm))<<32 }
