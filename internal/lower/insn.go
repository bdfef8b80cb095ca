package lower

import (
	"github.com/skep-bpf/skep/internal/ir"
	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/progtype"
	"github.com/skep-bpf/skep/verifier"
)

// insn lowers one instruction.
func (l *lowerer) insn(in isa.Insn) {
	switch in.Class() {
	case isa.ClassALU, isa.ClassALU64:
		l.alu(in)
	case isa.ClassJMP, isa.ClassJMP32:
		l.jmp(in)
	case isa.ClassLDX:
		l.load(in)
	case isa.ClassST:
		l.store(in)
	case isa.ClassSTX:
		if in.Mode() == isa.ModeATOMIC {
			l.atomic(in)
		} else {
			l.store(in)
		}
	default:
		l.ld(in)
	}
}

var aluOps = [16]ir.Op{
	isa.AluADD >> 4: ir.Add, isa.AluSUB >> 4: ir.Sub, isa.AluMUL >> 4: ir.Mul, isa.AluDIV >> 4: ir.Div,
	isa.AluOR >> 4: ir.Or, isa.AluAND >> 4: ir.And, isa.AluLSH >> 4: ir.Lsh, isa.AluRSH >> 4: ir.Rsh,
	isa.AluNEG >> 4: ir.Neg, isa.AluMOD >> 4: ir.Mod, isa.AluXOR >> 4: ir.Xor, isa.AluMOV >> 4: ir.Mov,
	isa.AluARSH >> 4: ir.Arsh,
}

func (l *lowerer) alu(in isa.Insn) {
	o := ir.Insn{Dst: uint8(in.Dst), W: 4, Op: aluOps[in.AluOp()>>4]}
	if in.Class() == isa.ClassALU64 {
		o.W = 8
	}
	if in.SrcIsReg() {
		o.Src = uint8(in.Src)
	} else {
		o.Imm, o.Flag = int64(in.Imm), ir.FlagImm
	}
	switch in.AluOp() {
	case isa.AluEND:
		l.end(in)
		return
	case isa.AluNEG:
		o.Flag, o.Imm = 0, 0
	case isa.AluDIV, isa.AluMOD:
		if in.Off == 1 {
			o.Op += ir.SDiv - ir.Div
		} else if in.Off != 0 {
			l.fail("division with offset %d", in.Off)
		}
	case isa.AluMOV:
		if in.Off != 0 {
			l.movsx(in, o)
			return
		}
	}
	if o.Op == ir.Invalid {
		l.fail("unknown opcode %#02x", in.Op)
		return
	}
	l.emit(o)
}

// movsx lowers a move with sign extension; offset is the source width in bits.
func (l *lowerer) movsx(in isa.Insn, o ir.Insn) {
	o.Op, o.Sub = ir.Sext, uint8(in.Off/8)
	ok := in.Off == 8 || in.Off == 16 || in.Off == 32 && o.W == 8
	if !ok || !in.SrcIsReg() {
		if in.Info().Kind == isa.KindAddrSpaceCast {
			l.fail("pointers into arenas: %w", ErrNoRuntime)
		} else {
			l.fail("move with offset %d is not supported", in.Off)
		}
		return
	}
	l.emit(o)
}

// end lowers byte swaps. The machines are little-endian: to little-endian truncates, to big-endian swaps; the ALU64
// class swaps unconditionally.
func (l *lowerer) end(in isa.Insn) {
	o := ir.Insn{Op: ir.Bswap, Dst: uint8(in.Dst), Src: uint8(in.Dst), W: uint8(in.Imm / 8)}
	if in.Imm != 16 && in.Imm != 32 && in.Imm != 64 {
		l.fail("byte swap of %d bits", in.Imm)
		return
	}
	if in.Class() == isa.ClassALU && !in.SrcIsReg() {
		if in.Imm == 64 {
			return // already is
		}
		o.Op, o.Sub, o.W = ir.Zext, o.W, 0
	}
	l.emit(o)
}

var conds = [16]ir.Cond{
	isa.JmpJEQ >> 4: ir.EQ, isa.JmpJNE >> 4: ir.NE, isa.JmpJGT >> 4: ir.GT, isa.JmpJGE >> 4: ir.GE, isa.JmpJLT >> 4: ir.LT,
	isa.JmpJLE >> 4: ir.LE, isa.JmpJSGT >> 4: ir.SGT, isa.JmpJSGE >> 4: ir.SGE, isa.JmpJSLT >> 4: ir.SLT,
	isa.JmpJSLE >> 4: ir.SLE, isa.JmpJSET >> 4: ir.SET,
}

func (l *lowerer) jmp(in isa.Insn) {
	switch in.JmpOp() {
	case isa.JmpCALL:
		l.call(in)
		return
	case isa.JmpEXIT:
		l.emit(ir.Insn{Op: ir.Exit})
		return
	case isa.JmpJA:
		l.emit(ir.Insn{Op: ir.Jmp, Off: l.jump(in)})
		return
	case isa.JmpJCOND:
		if !in.IsMayGoto() {
			l.fail("unknown opcode %#02x", in.Op)
			return
		}
		l.emit(ir.Insn{Op: ir.MayGoto, Off: l.jump(in)})
		return
	}
	o := ir.Insn{Op: ir.Jcc, Sub: conds[in.JmpOp()>>4], Dst: uint8(in.Dst), W: 8, Off: l.jump(in)}
	if in.JmpOp() > isa.JmpJSLE {
		l.fail("unknown opcode %#02x", in.Op)
		return
	}
	if in.IsJump32() {
		o.W = 4
	}
	if in.SrcIsReg() {
		o.Src = uint8(in.Src)
	} else {
		o.Imm, o.Flag = int64(in.Imm), ir.FlagImm
	}
	switch l.fact(l.pc).Branch {
	case verifier.BranchAlways:
		o = ir.Insn{Op: ir.Jmp, Off: o.Off}
	case verifier.BranchNever:
		if !l.env.Exact {
			return
		}
		o = ir.Insn{Op: ir.Jmp, Off: int32(l.pc + 1)} // so that something runs for it
	}
	l.emit(o)
}

func (l *lowerer) load(in isa.Insn) {
	if in.IsStackArgLoad() {
		l.emit(ir.Insn{Op: ir.ArgLoad, Dst: uint8(in.Dst), Sub: uint8(isa.MaxRegArgs + in.Off/8)})
		return
	}
	o := ir.Insn{Op: ir.Load, Dst: uint8(in.Dst), Src: uint8(in.Src), Off: int32(in.Off), W: uint8(in.Bytes())}
	switch in.Mode() {
	case isa.ModeMEM:
	case isa.ModeMEMSX:
		o.Flag = ir.FlagSigned
		if o.W == 8 {
			l.fail("sign-extending load of 8 bytes")
		}
	default:
		l.fail("unknown opcode %#02x", in.Op)
	}
	l.reachable()
	if l.fact(l.pc).Ptr == verifier.PtrCtx {
		l.contextField(&o)
	}
	l.emit(o)
}

// contextField turns a load of a field that is a pointer into one from where its value lies.
func (l *lowerer) contextField(o *ir.Insn) {
	off := int(o.Off)
	if !l.p.Context("").Access(off, int(o.W), progtype.Read).Field.Loadable() {
		l.fail("pointer in the context at offset %d: %w", off, ErrNoRuntime)
	}
	if shadow, ok := progtype.ShadowOffset(l.p.Type, off); ok && o.W == 4 && l.p.Hook == nil {
		o.Off, o.W, o.Flag = int32(shadow), 8, 0
	}
}

func (l *lowerer) store(in isa.Insn) {
	o := ir.Insn{Op: ir.Store, Dst: uint8(in.Dst), Src: uint8(in.Src), Off: int32(in.Off), W: uint8(in.Bytes())}
	if in.Class() == isa.ClassST {
		o.Src, o.Imm, o.Flag = 0, int64(in.Imm), ir.FlagImm
	}
	if in.IsStackArgStore() {
		o.Op, o.Sub, o.Dst, o.Off, o.W = ir.ArgStore, uint8(isa.MaxRegArgs-in.Off/8), 0, 0, 0
	} else if l.reachable(); in.Mode() != isa.ModeMEM {
		l.fail("unknown opcode %#02x", in.Op)
	}
	l.emit(o)
}

func (l *lowerer) atomic(in isa.Insn) {
	o := ir.Insn{Dst: uint8(in.Dst), Src: uint8(in.Src), Off: int32(in.Off), W: uint8(in.Bytes())}
	switch in.Imm {
	case isa.AtomicLoadAcq:
		o.Op = ir.LoadAcquire
	case isa.AtomicStoreRel:
		o.Op = ir.StoreRelease
	case isa.AtomicXCHG:
		o.Op = ir.AtomicXchg
	case isa.AtomicCMPXCHG:
		o.Op = ir.AtomicCmpXchg
	default:
		switch in.Imm &^ isa.AtomicFETCH {
		case isa.AtomicADD:
			o.Op = ir.AtomicAdd
		case isa.AtomicOR:
			o.Op = ir.AtomicOr
		case isa.AtomicAND:
			o.Op = ir.AtomicAnd
		case isa.AtomicXOR:
			o.Op = ir.AtomicXor
		default:
			l.fail("unknown atomic operation %#x", in.Imm)
		}
		if in.Imm&isa.AtomicFETCH != 0 {
			o.Flag = ir.FlagFetch
		}
	}
	l.reachable()
	l.emit(o)
}

// reachable refuses an access through a pointer to what is not there at a run: whatever the verifier knows of the kernel's memory, here
// it is some address. The kinds that are there are listed, so that new ones are refused.
func (l *lowerer) reachable() {
	f := l.fact(l.pc)
	switch f.Ptr {
	case verifier.PtrCtx, verifier.PtrStack, verifier.PtrMapValue, verifier.PtrPacket, verifier.PtrMem, verifier.PtrBTF:
		return
	}
	if l.res != nil && f.Seen {
		l.fail("access through a pointer of a kind that is only verified: %w", ErrNoRuntime)
	}
}

// ld lowers the LD class: 64-bit immediates and legacy packet loads.
func (l *lowerer) ld(in isa.Insn) {
	switch in.Mode() {
	case isa.ModeIMM:
		if in.IsLdImm64() {
			l.ldImm64(in)
			return
		}
	case isa.ModeABS, isa.ModeIND:
		if in.Size() != isa.SizeDW {
			l.legacyLoad(in)
			return
		}
	}
	l.fail("unknown opcode %#02x", in.Op)
}

func (l *lowerer) ldImm64(in isa.Insn) {
	if l.pc+1 >= len(l.p.Insns) {
		l.fail("incomplete 64-bit immediate")
		return
	}
	hi := l.p.Insns[l.pc+1]
	o := ir.Insn{Op: ir.Mov, W: 8, Dst: uint8(in.Dst), Flag: ir.FlagImm, Imm: int64(isa.Imm64(in, hi))}
	switch in.Src {
	case 0:
	case isa.PseudoMapFD, isa.PseudoMapIdx, isa.PseudoMapValue, isa.PseudoMapIdxValue:
		if in.Imm < 0 || int(in.Imm) >= len(l.env.Maps) {
			l.fail("no map %d", in.Imm)
			return
		}
		m := &l.env.Maps[in.Imm]
		o.Imm = int64(m.Handle)
		if in.Src == isa.PseudoMapValue || in.Src == isa.PseudoMapIdxValue {
			if m.Values == 0 || m.Kind != ir.MapArray {
				l.fail("map %s has no directly addressable value", l.p.Maps[in.Imm].Name)
				return
			}
			o.Imm = int64(m.Values) + int64(uint32(hi.Imm))
		}
	case isa.PseudoFunc:
		f := l.p.FuncAt(l.pc + 1 + int(in.Imm))
		if f < 0 || l.funcOf[f] < 0 {
			l.fail("address of a function that is not there")
			return
		}
		o = ir.Insn{Op: ir.FuncAddr, Dst: uint8(in.Dst), Off: l.funcOf[f]}
	case isa.PseudoBTFID:
		name := ""
		if in.Imm >= 0 && int(in.Imm) < len(l.p.Ksyms) {
			name = l.p.Ksyms[in.Imm].Name
		}
		l.fail("kernel variable %s: %w", name, ErrNoRuntime)
		return
	default:
		l.fail("64-bit immediate of kind %d is not supported", in.Src)
		return
	}
	l.emit(o)
}

// maxInlineOffset bounds the constant offsets of legacy loads that are made without a call: no packet is longer.
const maxInlineOffset = 1 << 20

// legacyLoad lowers BPF_LD_ABS and BPF_LD_IND: a load from the packet of the context in r6, in network byte order. One
// outside the packet returns 0 from the function. The program loses r1..r5.
func (l *lowerer) legacyLoad(in isa.Insn) {
	n := uint8(in.Bytes())
	if in.Mode() == isa.ModeABS && in.Imm >= 0 && in.Imm < maxInlineOffset && progtype.HasSkb(l.p.Type) {
		l.emit(ir.Insn{Op: ir.Load, W: 8, Dst: 1, Src: 6, Off: progtype.ShadowData})
		l.emit(ir.Insn{Op: ir.Load, W: 8, Dst: 2, Src: 6, Off: progtype.ShadowDataEnd})
		l.emit(ir.Insn{Op: ir.Mov, W: 8, Dst: 3, Src: 1})
		l.emit(ir.Insn{Op: ir.Add, W: 8, Dst: 3, Imm: int64(in.Imm) + int64(n), Flag: ir.FlagImm})
		l.failIf(ir.Insn{Op: ir.Jcc, Sub: ir.GT, W: 8, Dst: 3, Src: 2})
		l.emit(ir.Insn{Op: ir.Load, W: n, Src: 1, Off: in.Imm})
		if n > 1 {
			l.emit(ir.Insn{Op: ir.Bswap, W: n})
		}
		return
	}
	off := ir.Insn{Op: ir.Mov, W: 4, Dst: 1, Imm: int64(in.Imm), Flag: ir.FlagImm}
	if in.Mode() == isa.ModeIND {
		if in.Src != isa.R1 {
			l.emit(ir.Insn{Op: ir.Mov, W: 4, Dst: 1, Src: uint8(in.Src)})
		}
		off.Op = ir.Add
	}
	l.emit(off)
	l.emit(ir.Insn{Op: ir.Mov, W: 4, Dst: 2, Imm: int64(n), Flag: ir.FlagImm})
	l.emit(ir.Insn{Op: ir.CallHost, Imm: int64(loadPacket), Sub: 2})
	l.failIf(ir.Insn{Op: ir.Jcc, Sub: ir.SLT, W: 8, Flag: ir.FlagImm})
}

// failIf emits a jump to code at the function's end that returns 0.
func (l *lowerer) failIf(j ir.Insn) {
	l.fails = append(l.fails, len(l.out.Insns))
	j.Flag |= flagLocal
	l.emit(j)
}

// failures emits that code, if there are jumps to it.
func (l *lowerer) failures() {
	for _, i := range l.fails {
		l.out.Insns[i].Off = int32(len(l.out.Insns))
	}
	if len(l.fails) > 0 {
		l.emit(ir.Insn{Op: ir.Mov, W: 4, Flag: ir.FlagImm})
		l.emit(ir.Insn{Op: ir.Exit})
	}
	l.fails = l.fails[:0]
}
