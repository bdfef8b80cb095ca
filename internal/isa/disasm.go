package isa

import (
	"io"
	"strconv"
)

// Names supplies the names that an instruction stream does not hold. Every field may be nil.
type Names struct {
	// Kfunc names the callee of a kfunc call; "" means unknown.
	Kfunc func(Insn) string
	// Imm gives the text of the operand of a 64-bit immediate load with value imm; "" means the number.
	Imm func(in Insn, imm uint64) string
}

// Format writes the instruction at slot pc as the kernel's verifier log shows it, e.g. "(07) r2 += -8", without a
// newline. names may be nil.
//
// The kernel prints the operand of a 64-bit immediate load in hexadecimal, and for maps, map values and kernel
// variables the address in the kernel if the user may see addresses, else 0x0. Addresses say nothing in user space, so
// without Names.Imm those show as 0x0, as they do for users without CAP_PERFMON.
func Format(w io.Writer, insns []Insn, pc int, names *Names) error {
	var buf [96]byte
	_, err := w.Write(AppendText(buf[:0], insns, pc, names))
	return err
}

// AppendText appends the text of Format to b. pc must be inside insns; a 64-bit immediate load in the last slot shows
// with an upper half of zero.
func AppendText(b []byte, insns []Insn, pc int, names *Names) []byte {
	in := insns[pc]
	if bug := bugText(in); bug != "" {
		return appendHex2(append(b, bug...), in.Op)
	}
	b = append(b, '(')
	b = appendHex2(b, in.Op)
	b = append(b, ") "...)
	switch in.Class() {
	case ClassALU, ClassALU64:
		return appendALU(b, in)
	case ClassLDX:
		return appendLoad(b, in)
	case ClassST:
		if in.Mode() == ModeATOMIC {
			return append(b, "nospec"...)
		}
		b = append(appendMem(b, in, in.Dst), " = "...)
		return appendInt(b, int64(in.Imm))
	case ClassSTX:
		if in.Mode() == ModeMEM {
			b = append(appendMem(b, in, in.Dst), " = "...)
			return appendReg(b, 'r', in.Src)
		}
		return appendAtomic(b, in)
	case ClassLD:
		return appendLD(b, insns, pc, names)
	}
	return appendJump(b, in, names)
}

// bugText returns the prefix that the kernel prints for a load or store that does not exist, "" for all others.
func bugText(in Insn) string {
	switch m := in.Mode(); in.Class() {
	case ClassLD:
		if m != ModeABS && m != ModeIND && !in.IsLdImm64() {
			return "BUG_ld_"
		}
	case ClassLDX:
		if m != ModeMEM && m != ModeMEMSX {
			return "BUG_ldx_"
		}
	case ClassST:
		if m != ModeMEM && m != ModeATOMIC {
			return "BUG_st_"
		}
	case ClassSTX:
		if m == ModeMEM || m == ModeATOMIC && atomicText(in.Imm) != "" {
			return ""
		}
		return "BUG_"
	}
	return ""
}

var (
	aluText = [16]string{
		AluADD >> 4: "+=", AluSUB >> 4: "-=", AluMUL >> 4: "*=", AluDIV >> 4: "/=", AluOR >> 4: "|=", AluAND >> 4: "&=",
		AluLSH >> 4: "<<=", AluRSH >> 4: ">>=", AluNEG >> 4: "neg", AluMOD >> 4: "%=", AluXOR >> 4: "^=", AluMOV >> 4: "=",
		AluARSH >> 4: "s>>=", AluEND >> 4: "endian", 14: "(null)", 15: "(null)",
	}
	jumpText = [16]string{
		JmpJA >> 4: "jmp", JmpJEQ >> 4: "==", JmpJGT >> 4: ">", JmpJGE >> 4: ">=", JmpJSET >> 4: "&", JmpJNE >> 4: "!=",
		JmpJSGT >> 4: "s>", JmpJSGE >> 4: "s>=", JmpCALL >> 4: "call", JmpEXIT >> 4: "exit", JmpJLT >> 4: "<",
		JmpJLE >> 4: "<=", JmpJSLT >> 4: "s<", JmpJSLE >> 4: "s<=", JmpJCOND >> 4: "(null)", 15: "(null)",
	}
	sizeText       = [4]string{SizeW >> 3: "u32", SizeH >> 3: "u16", SizeB >> 3: "u8", SizeDW >> 3: "u64"}
	signedSizeText = [4]string{SizeW >> 3: "s32", SizeH >> 3: "s16", SizeB >> 3: "s8", SizeDW >> 3: "s64"}
)

// AluText returns the operator of an ALU operation as the log prints it: "+=", "s/=".
func AluText(op uint8, signed bool) string {
	switch {
	case signed && op == AluDIV:
		return "s/="
	case signed && op == AluMOD:
		return "s%="
	}
	return aluText[op>>4]
}

// JumpText returns the operator of a conditional jump: "==", "s<=".
func JumpText(op uint8) string { return jumpText[op>>4] }

// HelperName returns the full name of helper id, or "unknown".
func HelperName(id int32) string {
	if id >= 0 && int(id) < len(helperNames) {
		return helperNames[id]
	}
	return "unknown"
}

// HelperID returns the number of a helper from its name, with or without bpf_ in front.
func HelperID(name string) (id int32, ok bool) {
	id, ok = helperIDs[name]
	if !ok {
		id, ok = helperIDs["bpf_"+name]
	}
	return id, ok
}

var helperIDs = func() map[string]int32 {
	m := make(map[string]int32, len(helperNames))
	for i, n := range helperNames {
		m[n] = int32(i)
	}
	return m
}()

func appendALU(b []byte, in Insn) []byte {
	r := byte('r')
	if in.Class() == ClassALU {
		r = 'w'
	}
	op := in.AluOp()
	if op == AluEND {
		b = append(appendReg(b, 'r', in.Dst), " = "...)
		switch {
		case in.Class() == ClassALU64:
			b = append(b, "bswap"...)
		case in.SrcIsReg():
			b = append(b, "be"...)
		default:
			b = append(b, "le"...)
		}
		b = append(appendInt(b, int64(in.Imm)), ' ')
		return appendReg(b, 'r', in.Dst)
	}
	b = appendReg(b, r, in.Dst)
	if op == AluNEG {
		return appendReg(append(b, " = -"...), r, in.Dst)
	}
	if in.Op == ClassALU64|AluMOV|SrcX && in.Off == 1 {
		b = appendReg(append(b, " = addr_space_cast("...), 'r', in.Src)
		b = appendInt(append(b, ", "...), int64(uint32(in.Imm)>>16))
		b = appendInt(append(b, ", "...), int64(uint16(in.Imm)))
		return append(b, ')')
	}
	if in.Op == ClassALU64|AluMOV|SrcX && in.Off == -1 {
		b = appendReg(append(b, " = &(void __percpu *)("...), 'r', in.Src)
		return append(b, ')')
	}
	b = append(append(append(b, ' '), AluText(op, in.Off == 1)...), ' ')
	if !in.SrcIsReg() {
		return appendInt(b, int64(in.Imm))
	}
	if op == AluMOV {
		switch in.Off {
		case 8:
			b = append(b, "(s8)"...)
		case 16:
			b = append(b, "(s16)"...)
		case 32:
			b = append(b, "(s32)"...)
		}
	}
	return appendReg(b, r, in.Src)
}

func appendLoad(b []byte, in Insn) []byte {
	b = append(appendReg(b, 'r', in.Dst), " = "...)
	return appendMem(b, in, in.Src)
}

// appendMem appends the memory operand: *(u64 *)(r10 -8).
func appendMem(b []byte, in Insn, base Reg) []byte {
	return appendAddr(append(b, '*'), in, base)
}

func appendAddr(b []byte, in Insn, base Reg) []byte {
	text := &sizeText
	if in.Class() == ClassLDX && in.Mode() == ModeMEMSX {
		text = &signedSizeText
	}
	b = append(append(append(b, '('), text[in.Size()>>3]...), " *)("...)
	b = append(appendReg(b, 'r', base), ' ')
	return append(appendSigned(b, int64(in.Off)), ')')
}

// atomicText returns the text of an atomic operation: the operator for those without fetch, the function's name for
// the others; "" if there is no such operation.
func atomicText(imm int32) string {
	switch imm {
	case AtomicADD, AtomicOR, AtomicAND, AtomicXOR:
		return aluText[imm>>4]
	case AtomicADD | AtomicFETCH:
		return "fetch_add"
	case AtomicOR | AtomicFETCH:
		return "fetch_or"
	case AtomicAND | AtomicFETCH:
		return "fetch_and"
	case AtomicXOR | AtomicFETCH:
		return "fetch_xor"
	case AtomicXCHG:
		return "xchg"
	case AtomicCMPXCHG:
		return "cmpxchg"
	case AtomicLoadAcq:
		return "load_acquire"
	case AtomicStoreRel:
		return "store_release"
	}
	return ""
}

func appendAtomic(b []byte, in Insn) []byte {
	name := atomicText(in.Imm)
	switch in.Imm {
	case AtomicADD, AtomicOR, AtomicAND, AtomicXOR:
		b = append(appendMem(append(b, "lock "...), in, in.Dst), ' ')
		return appendReg(append(append(b, name...), ' '), 'r', in.Src)
	case AtomicLoadAcq:
		b = append(append(appendReg(b, 'r', in.Dst), " = "...), name...)
		return append(appendAddr(append(b, '('), in, in.Src), ')')
	case AtomicStoreRel:
		b = appendAddr(append(append(b, name...), '('), in, in.Dst)
		return append(appendReg(append(b, ", "...), 'r', in.Src), ')')
	case AtomicCMPXCHG:
		b = append(b, "r0"...)
	default:
		b = appendReg(b, 'r', in.Src)
	}
	b = append(b, " = atomic"...)
	if in.Size() == SizeDW {
		b = append(b, "64"...)
	}
	b = append(append(append(b, '_'), name...), '(')
	b = append(appendAddr(b, in, in.Dst), ", "...)
	if in.Imm == AtomicCMPXCHG {
		b = append(b, "r0, "...)
	}
	return append(appendReg(b, 'r', in.Src), ')')
}

func appendLD(b []byte, insns []Insn, pc int, names *Names) []byte {
	in := insns[pc]
	if in.Mode() == ModeABS || in.Mode() == ModeIND {
		b = append(append(append(b, "r0 = *("...), sizeText[in.Size()>>3]...), " *)skb["...)
		if in.Mode() == ModeIND {
			b = append(appendReg(b, 'r', in.Src), " + "...)
		}
		return append(appendInt(b, int64(in.Imm)), ']')
	}
	imm := uint64(uint32(in.Imm))
	if pc+1 < len(insns) {
		imm = Imm64(in, insns[pc+1])
	}
	b = append(appendReg(b, 'r', in.Dst), " = "...)
	if names != nil && names.Imm != nil {
		if s := names.Imm(in, imm); s != "" {
			return append(b, s...)
		}
	}
	switch in.Src {
	case PseudoMapFD, PseudoMapValue, PseudoMapIdx, PseudoMapIdxValue, PseudoBTFID:
		imm = 0
	}
	return strconv.AppendUint(append(b, "0x"...), imm, 16)
}

func appendJump(b []byte, in Insn, names *Names) []byte {
	switch op := in.JmpOp(); {
	case op == JmpCALL:
		return appendCall(b, in, names)
	case in.Op == ClassJMP|JmpJA:
		return appendSigned(append(b, "goto pc"...), int64(in.Off))
	case in.IsMayGoto():
		return appendSigned(append(b, "may_goto pc"...), int64(in.Off))
	case in.Op == ClassJMP32|JmpJA:
		return appendSigned(append(b, "gotol pc"...), int64(in.Imm))
	case in.IsExit():
		return append(b, "exit"...)
	}
	r := byte('r')
	if in.IsJump32() {
		r = 'w'
	}
	b = append(appendReg(append(b, "if "...), r, in.Dst), ' ')
	b = append(append(b, jumpText[in.JmpOp()>>4]...), ' ')
	if in.SrcIsReg() {
		b = appendReg(b, r, in.Src)
	} else {
		b = strconv.AppendUint(append(b, "0x"...), uint64(uint32(in.Imm)), 16)
	}
	return appendSigned(append(b, " goto pc"...), int64(in.Off))
}

func appendCall(b []byte, in Insn, names *Names) []byte {
	b = append(b, "call "...)
	if in.Src == PseudoCall {
		return appendSigned(append(b, "pc"...), int64(in.Imm))
	}
	name := ""
	switch {
	case in.Src == 0:
		name = HelperName(in.Imm)
	case in.Src == PseudoKfuncCall:
		if names != nil && names.Kfunc != nil {
			name = names.Kfunc(in)
		}
		if name == "" {
			name = "kernel-function"
		}
	default:
		name = "unknown"
	}
	return appendInt(append(append(b, name...), '#'), int64(in.Imm))
}

func appendReg(b []byte, kind byte, r Reg) []byte {
	return strconv.AppendUint(append(b, kind), uint64(r), 10)
}

func appendInt(b []byte, n int64) []byte { return strconv.AppendInt(b, n, 10) }

// appendSigned appends n with its sign, as %+d does.
func appendSigned(b []byte, n int64) []byte {
	if n >= 0 {
		b = append(b, '+')
	}
	return strconv.AppendInt(b, n, 10)
}

func appendHex2(b []byte, v uint8) []byte {
	const digits = "0123456789abcdef"
	return append(b, digits[v>>4], digits[v&15])
}
