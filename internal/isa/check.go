package isa

import "fmt"

// fields are the parts of a slot that an instruction may use; all others must be zero.
type fields uint8

const (
	fDst fields = 1 << iota
	fSrc
	fOff
	fImm
)

// used returns the fields that carry meaning for an instruction of this description.
func (i Info) used() fields {
	operand := func(f fields) fields {
		if i.SrcReg {
			return f | fSrc
		}
		return f | fImm
	}
	switch i.Kind {
	case KindALU, KindMov:
		return operand(fDst)
	case KindMovSX:
		return fDst | fSrc | fOff
	case KindAddrSpaceCast:
		return fDst | fSrc | fOff | fImm
	case KindNeg:
		return fDst
	case KindEndian, KindBswap:
		return fDst | fImm
	case KindLdImm64:
		return fDst | fSrc | fImm
	case KindLdAbs:
		return fImm
	case KindLdInd:
		return fSrc | fImm
	case KindLoad, KindLoadSX, KindStore:
		return fDst | fSrc | fOff
	case KindStoreImm:
		return fDst | fOff | fImm
	case KindAtomic, KindAtomicFetch, KindXchg, KindCmpxchg, KindLoadAcquire, KindStoreRelease:
		return fDst | fSrc | fOff | fImm
	case KindJumpIf:
		return operand(fDst) | fOff
	case KindMayGoto:
		return fOff
	case KindCall:
		return fSrc | fOff | fImm // off: the module of a kfunc
	}
	return 0
}

// Check tests that every slot is an instruction of the table with all unused fields zero, and that 64-bit immediate
// loads are complete. The error names the slot and the field. It says nothing about registers' numbers, jump targets
// or meaning: those are the verifier's.
func Check(insns []Insn) error {
	for pc := 0; pc < len(insns); pc++ {
		if err := checkOne(insns, pc); err != nil {
			return fmt.Errorf("insn %d: %w", pc, err)
		}
		pc += insns[pc].Slots() - 1
	}
	return nil
}

func checkOne(insns []Insn, pc int) error {
	in := insns[pc]
	info := in.Info()
	if info.Kind == KindInvalid {
		return fmt.Errorf("unknown opcode %02x (off %d, imm %d)", in.Op, in.Off, in.Imm)
	}
	u := info.used()
	if info.Kind == KindALU && info.Signed {
		u |= fOff
	}
	if info.Kind == KindJump {
		u = fOff
		if in.IsJump32() {
			u = fImm
		}
	}
	switch {
	case in.Dst != 0 && u&fDst == 0:
		return fmt.Errorf("%02x: unused dst register is %d", in.Op, in.Dst)
	case in.Src != 0 && u&fSrc == 0:
		return fmt.Errorf("%02x: unused src register is %d", in.Op, in.Src)
	case in.Off != 0 && u&fOff == 0:
		return fmt.Errorf("%02x: unused offset is %d", in.Op, in.Off)
	case in.Imm != 0 && u&fImm == 0:
		return fmt.Errorf("%02x: unused immediate is %d", in.Op, in.Imm)
	}
	if info.Kind == KindLdImm64 {
		if pc+1 >= len(insns) {
			return fmt.Errorf("64-bit immediate without its second half")
		}
		if hi := insns[pc+1]; hi.Op != 0 || hi.Dst != 0 || hi.Src != 0 || hi.Off != 0 {
			return fmt.Errorf("second half of a 64-bit immediate has non-zero fields")
		}
	}
	return nil
}
