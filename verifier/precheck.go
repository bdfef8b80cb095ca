package verifier

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/isa"
)

// This file holds the checks that need no walk: encodings, registers, jump ranges, maps.

// maxVarOff bounds variable offsets and maxVarSize variable sizes (BPF_MAX_VAR_OFF, BPF_MAX_VAR_SIZ).
const (
	maxVarOff  = 1 << 29
	maxVarSize = 1 << 29
)

// checkInsns checks each instruction by itself: registers, opcodes, wide immediates, the forms of r11.
func (e *env) checkInsns() error {
	insns := e.prog.Insns
	for i := 0; i < len(insns); i++ {
		e.insn = i
		in := insns[i]
		if !in.IsStackArgLoad() && !in.IsStackArgStore() || !e.has(stackArguments) {
			for _, r := range [2]isa.Reg{in.Dst, in.Src} {
				if r >= isa.MaxReg {
					return e.reject(CodeBadInsn, "R%d is invalid", r)
				}
			}
		}
		if in.Class() == isa.ClassLDX && (in.Mode() != isa.ModeMEM && in.Mode() != isa.ModeMEMSX || in.Imm != 0) {
			return e.reject(CodeBadInsn, "BPF_LDX uses reserved fields")
		}
		if in.IsLdImm64() {
			if err := e.checkWide(i); err != nil {
				return err
			}
			i++
			continue
		}
		if in.Info().Kind == isa.KindInvalid && !knownOpcode(in.Op) || e.narrowOrdered(in) {
			return e.reject(CodeBadInsn, "unknown opcode %02x", in.Op)
		}
		if in.IsMayGoto() {
			e.funcs[e.prog.FuncAt(i)].mayGoto = true
		}
	}
	return nil
}

// knownOpcode reports whether some instruction has this opcode, whatever its other fields.
func knownOpcode(op uint8) bool {
	for _, off := range [...]int16{0, 1, 8, 16, 32} {
		for _, imm := range [...]int32{0, 16, 32, 64, isa.AtomicLoadAcq} {
			if (isa.Insn{Op: op, Off: off, Imm: imm}).Info().Kind != isa.KindInvalid {
				return true
			}
		}
	}
	return false
}

func (e *env) checkWide(i int) error {
	insns := e.prog.Insns
	in := insns[i]
	if i+1 >= len(insns) {
		return e.reject(CodeBadInsn, "invalid bpf_ld_imm64 insn")
	}
	hi := insns[i+1]
	if hi.Op != 0 || hi.Dst != 0 || hi.Src != 0 || hi.Off != 0 {
		return e.reject(CodeBadInsn, "invalid bpf_ld_imm64 insn")
	}
	switch in.Src {
	case 0, isa.PseudoFunc:
		return nil
	case isa.PseudoMapFD, isa.PseudoMapValue:
		if in.Src == isa.PseudoMapFD && hi.Imm != 0 {
			return e.reject(CodeBadInsn, "unrecognized bpf_ld_imm64 insn")
		}
		if in.Imm < 0 || int(in.Imm) >= len(e.prog.Maps) {
			return e.reject(CodeBadInsn, "map index %d is out of range", in.Imm)
		}
		if in.Src == isa.PseudoMapValue {
			return e.checkDirectValue(int(in.Imm), uint32(hi.Imm))
		}
		return nil
	case isa.PseudoBTFID:
		return e.checkKsym(in)
	}
	return e.reject(CodeBadInsn, "unrecognized bpf_ld_imm64 insn")
}

// checkDirectValue checks a pointer straight into a map's value.
func (e *env) checkDirectValue(idx int, off uint32) error {
	m := &e.prog.Maps[idx]
	if off >= maxVarOff {
		return e.reject(CodeBounds, "direct value offset of %d is not allowed", off)
	}
	if m.Type == ebpf.Arena {
		return e.checkArenaValue(m, off)
	}
	if m.Type != ebpf.Array {
		return e.reject(CodeType, "no direct value access support for this map type")
	}
	if m.MaxEntries != 1 || off >= m.ValueSize {
		return e.reject(CodeBounds, "invalid access to map value pointer, value_size=%d off=%d", m.ValueSize, off)
	}
	return nil
}

// checkJumps checks that jumps stay in their function and that functions end in an exit or a jump (check_subprogs).
func (e *env) checkJumps() error {
	insns := e.prog.Insns
	if e.log.all() {
		for i, f := range e.prog.Funcs {
			e.log.printf("func#%d @%d\n", i, f.Start)
		}
	}
	for f := range e.prog.Funcs {
		fn := &e.prog.Funcs[f]
		for i := fn.Start; i < fn.End; i++ {
			e.insn = i
			in := insns[i]
			if in.IsHelperCall() && in.Imm == fnTailCall {
				e.funcs[f].tailCall, e.funcs[f].tailReach = true, true
			}
			if in.Class() == isa.ClassLD && (in.Mode() == isa.ModeABS || in.Mode() == isa.ModeIND) {
				e.funcs[f].ldAbs = true
			}
			if c := in.Class(); (c == isa.ClassJMP || c == isa.ClassJMP32) && in.JmpOp() != isa.JmpEXIT && in.JmpOp() != isa.JmpCALL {
				if to := in.JumpTarget(i); to < fn.Start || to >= fn.End {
					return e.reject(CodeControlFlow, "jump out of range from insn %d to %d", i, to)
				}
			}
			if i == fn.End-1 && in.Op != isa.ClassJMP|isa.JmpEXIT && in.Op != isa.ClassJMP32|isa.JmpJA && in.Op != isa.ClassJMP|isa.JmpJA {
				return e.reject(CodeControlFlow, "last insn is not an exit or jmp")
			}
		}
	}
	return nil
}

// funcOf returns the function that starts at slot pc, or -1.
func (e *env) funcOf(pc int) int {
	if pc < 0 || pc >= len(e.prog.Insns) {
		return -1
	}
	if f := e.prog.FuncAt(pc); f >= 0 && e.prog.Funcs[f].Start == pc {
		return f
	}
	return -1
}

// callTarget returns the function that the call or function pointer at slot pc names, or -1.
func (e *env) callTarget(pc int) int { return e.funcOf(pc + int(e.prog.Insns[pc].Imm) + 1) }

// resolveFuncs finds what each function calls and how many parameters it has.
func (e *env) resolveFuncs() error {
	for f := range e.prog.Funcs {
		fn := &e.prog.Funcs[f]
		info := &e.funcs[f]
		info.params = fn.Params()
		info.inArgs = max(info.params-isa.MaxRegArgs, 0)
		if info.params > isa.MaxFuncArgs {
			e.insn = fn.Start
			return e.reject(CodeStackArgs, "kernel supports at most %d parameters, function %s has %d", isa.MaxFuncArgs, fn.Name, info.params)
		}
		if f == 0 {
			info.inArgs = 0 // the entry gets the context and nothing else
		} else if err := e.targetTakes("function", fn.Name, info.params); err != nil {
			return err
		}
		for i := fn.Start; i < fn.End; i++ {
			in := e.prog.Insns[i]
			if !in.IsPseudoCall() && !in.IsPseudoFunc() {
				if in.IsLdImm64() {
					i++
				}
				continue
			}
			e.insn = i
			t := e.callTarget(i)
			if t < 0 {
				return e.reject(CodeControlFlow, "call to invalid destination")
			}
			info.calls, info.direct = append(info.calls, t), append(info.direct, in.IsPseudoCall())
		}
	}
	return e.checkAbnormalReturn()
}

// checkAbnormalReturn refuses implicit returns in functions without BTF, or that return nothing
// (check_abnormal_return, check_btf_func).
func (e *env) checkAbnormalReturn() error {
	for i := 1; i < len(e.funcs); i++ {
		e.insn = e.prog.Funcs[i].Start
		if p := e.prog.Funcs[i].Proto(); p != nil {
			if isIntOrEnum(btf.UnderlyingType(p.Return)) {
				continue
			}
			if e.funcs[i].ldAbs {
				return e.reject(CodeBTF, "LD_ABS is only allowed in functions that return 'int'.")
			}
			if e.funcs[i].tailCall {
				return e.reject(CodeBTF, "tail_call is only allowed in functions that return 'int'.")
			}
			continue
		}
		if e.funcs[i].ldAbs {
			return e.reject(CodeBTF, "LD_ABS is not allowed in subprogs without BTF")
		}
		if e.funcs[i].tailCall {
			return e.reject(CodeBTF, "tail_call is not allowed in subprogs without BTF")
		}
	}
	return nil
}
