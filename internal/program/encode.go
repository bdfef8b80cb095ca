package program

import (
	"fmt"
	"math"

	"github.com/cilium/ebpf/asm"

	"github.com/skep-bpf/skep/internal/isa"
)

// encode turns an instruction of cilium/ebpf into the one or two slots it stands for. cilium keeps parts of an
// instruction in a widened opcode (sign-extending moves, signed division, atomics); its own encoder drops the offset
// of every other ALU instruction, which is why it is not used.
func encode(ins *asm.Instruction) (slots [2]isa.Insn, n int, err error) {
	if ins.Dst > 15 || ins.Src > 15 {
		return slots, 0, fmt.Errorf("register number above 15: dst %d, src %d", ins.Dst, ins.Src)
	}
	in := isa.Insn{Op: uint8(ins.OpCode), Dst: isa.Reg(ins.Dst), Src: isa.Reg(ins.Src), Off: ins.Offset}
	if in.IsLdImm64() && ins.OpCode.IsDWordLoad() {
		in.Imm = int32(uint32(uint64(ins.Constant)))
		return [2]isa.Insn{in, {Imm: int32(ins.Constant >> 32)}}, 2, nil
	}
	imm, rest := ins.Constant, uint32(ins.OpCode)&^0xff
	switch {
	case ins.OpCode.Class().IsALU():
		rest, err = encodeALU(ins, &in)
	case ins.OpCode.AtomicOp() != asm.InvalidAtomic:
		imm |= int64(rest >> 8)
		rest = 0
	case ins.IsBuiltinCall() && imm >= 0:
		if imm>>28 != 0 {
			err = fmt.Errorf("helper %#x is not one of Linux", imm)
		}
	}
	if err == nil && rest != 0 {
		err = fmt.Errorf("invalid opcode %#x", uint32(ins.OpCode))
	}
	if err == nil && (imm < math.MinInt32 || imm > math.MaxUint32) {
		err = fmt.Errorf("immediate %d does not fit into 32 bits", imm)
	}
	in.Imm = int32(uint32(imm))
	return [2]isa.Insn{in}, 1, err
}

// encodeALU undoes cilium's extended ALU operations: they are plain ones told apart by the offset.
func encodeALU(ins *asm.Instruction, in *isa.Insn) (rest uint32, err error) {
	var plain asm.ALUOp
	var off int16
	switch ins.OpCode.ALUOp() {
	case asm.SDiv:
		plain, off = asm.Div, 1
	case asm.SMod:
		plain, off = asm.Mod, 1
	case asm.MovSX8:
		plain, off = asm.Mov, 8
	case asm.MovSX16:
		plain, off = asm.Mov, 16
	case asm.MovSX32:
		plain, off = asm.Mov, 32
	default:
		return uint32(ins.OpCode) &^ 0xff, nil
	}
	if ins.Offset != 0 {
		return 0, fmt.Errorf("offset %d on an instruction whose offset is its operation", ins.Offset)
	}
	op := ins.OpCode.SetALUOp(plain)
	in.Op, in.Off = uint8(op), off
	return uint32(op) &^ 0xff, nil
}
