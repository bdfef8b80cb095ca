package program

import (
	"fmt"

	"github.com/skep-bpf/skep/internal/isa"
)

// InsnError is a program refused because of one instruction, before verification. Text is worded as the kernel's log
// words such things.
type InsnError struct {
	Program string
	Insn    int
	Text    string
}

func (e *InsnError) Error() string {
	return fmt.Sprintf("program %s: insn %d: %s", e.Program, e.Insn, e.Text)
}

// convertDialect rewrites a program of the older stack-argument dialect, which names r12, to the r11 form, and sets
// OldDialect (stack_arguments.md section 1, "The older dialect"). There one register with negative offsets only serves
// both directions: a function with I incoming stack arguments has them at r12-8..-8*I, and its outgoing ones behind
// those. Funcs must be complete; I comes from BTF and is 0 without it.
//
// Instructions that name r12 in another way than a memory access stay as they are: no dialect has a meaning for them
// and the verifier names the register. Memory accesses that the old dialect refuses give an *InsnError in its wording.
func convertDialect(p *Program) error {
	old, params := -1, -1
	eachInsn(p.Insns, func(pc int, in isa.Insn) {
		if in.Dst == isa.ROldParams || usesSrc(in) && in.Src == isa.ROldParams {
			old = pc
		}
		if in.Dst == isa.RParams || usesSrc(in) && in.Src == isa.RParams {
			params = pc
		}
	})
	if old < 0 {
		return nil
	}
	if params >= 0 {
		return &InsnError{p.Name, old, fmt.Sprintf("r12 and r11 (insn %d) in one program: the two dialects of stack arguments do not mix", params)}
	}
	p.OldDialect = true
	var err error
	eachInsn(p.Insns, func(pc int, in isa.Insn) {
		if err != nil {
			return
		}
		incoming := 0
		if f := p.FuncAt(pc); f >= 0 {
			incoming = max(p.Funcs[f].Params()-isa.MaxRegArgs, 0)
		}
		var text string
		if p.Insns[pc], text = convertInsn(in, incoming); text != "" {
			err = &InsnError{p.Name, pc, text}
		}
	})
	return err
}

// convertInsn gives the r11 form of one instruction of a function with the given number of incoming stack arguments,
// or the message of its refusal.
func convertInsn(in isa.Insn, incoming int) (isa.Insn, string) {
	info := in.Info()
	depth := -int(in.Off) // distance below r12
	switch {
	case info.Kind == isa.KindLoad && in.Src == isa.ROldParams:
		switch {
		case info.Bits != 64:
			return in, fmt.Sprintf("stack arg read must be 8 bytes, got %d", info.Bits/8)
		case depth%8 != 0:
			return in, fmt.Sprintf("stack arg read offset %d not aligned to 8", in.Off)
		case depth <= 0 || depth > 8*incoming:
			return in, fmt.Sprintf("invalid read from stack arg off %d depth %d", in.Off, 8*incoming)
		}
		in.Src, in.Off = isa.RParams, int16(depth)
	case (info.Kind == isa.KindStore || info.Kind == isa.KindStoreImm) && in.Dst == isa.ROldParams:
		switch {
		case info.Bits != 64:
			return in, fmt.Sprintf("stack arg write must be 8 bytes, got %d", info.Bits/8)
		case depth%8 != 0:
			return in, fmt.Sprintf("stack arg write offset %d not aligned to 8", in.Off)
		case depth <= 8*incoming:
			return in, fmt.Sprintf("invalid write to stack arg off %d depth %d", in.Off, 8*incoming)
		}
		in.Dst, in.Off = isa.RParams, int16(-(depth - 8*incoming))
	}
	return in, ""
}

// usesSrc reports whether the src field of in is a register. In calls, 64-bit immediates and may_goto it selects a
// meaning; in anything else that does not use it, it must be zero and the verifier says so.
func usesSrc(in isa.Insn) bool {
	switch in.Info().Kind {
	case isa.KindCall, isa.KindLdImm64, isa.KindMayGoto:
		return false
	}
	return true
}

// eachInsn calls f for each instruction, once for one that takes two slots.
func eachInsn(insns []isa.Insn, f func(pc int, in isa.Insn)) {
	for pc := 0; pc < len(insns); pc += insns[pc].Slots() {
		f(pc, insns[pc])
	}
}
