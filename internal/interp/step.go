package interp

import (
	"fmt"
	"math/bits"

	"github.com/skep-bpf/skep/internal/ir"
	"github.com/skep-bpf/skep/internal/rt"
)

// loop executes until the entry function returns or the run ends with an error.
func (m *machine) loop() {
	if m.bounded || m.code.opt.Hook != nil || m.code.opt.Counts != nil {
		m.watched()
		return
	}
	for m.err == nil {
		in := &m.insns[m.pc]
		switch {
		case in.Op <= ir.FuncAddr:
			m.compute(in)
			m.pc++
		case in.Op == ir.Exit:
			if !m.pop() {
				return
			}
		default:
			m.step(in)
		}
	}
}

// watched is loop with a budget, a hook or counts.
func (m *machine) watched() {
	hook := m.code.opt.Hook
	last := int32(-1)
	for m.err == nil {
		in := m.insn()
		if m.bounded && (in.Flag&ir.FlagInside == 0 || in.Op == ir.Yield) { // inside, a lock may be taken
			if m.budget--; m.budget < 0 {
				m.err = fmt.Errorf("program %s: instruction %d: %w", m.code.prog.Name, in.PC, rt.ErrBudget)
				return
			}
		}
		counts := m.code.opt.Counts // a tail call changes the code
		if (hook != nil || counts != nil) && in.Flag&ir.FlagInside == 0 && (in.PC != last || in.Op == ir.Yield) {
			if last = in.PC; in.Op == ir.Yield {
				last = -1 // the instruction behind it is what the state belongs to
			} else {
				m.seen(hook, counts, in)
			}
		}
		if in.Op == ir.Exit {
			last = -1
			if !m.pop() {
				return
			}
			continue
		}
		if in.Op.HasTarget() || in.Op == ir.Call || in.Op == ir.TailCall {
			last = -1
		}
		m.step(in)
		if counts != nil && in.Op == ir.Jcc && m.pc == int(in.Off) {
			counts.Taken[in.PC].Add(1)
		}
	}
}

// seen tells who watches that the BPF instruction of in is about to run.
func (m *machine) seen(hook func(HookState), counts *Counts, in *ir.Insn) {
	if counts != nil {
		counts.Ran[in.PC].Add(1)
	}
	if hook != nil {
		hook(HookState{PC: int(in.PC), Func: m.fn, Depth: m.depth, Regs: &m.regs, Frame: m.regs[10]})
	}
}

// step executes one instruction that is not Exit and moves on.
func (m *machine) step(in *ir.Insn) {
	switch in.Op {
	case ir.Jmp:
		m.pc = int(in.Off)
		return
	case ir.Jcc:
		if m.holds(in) {
			m.pc = int(in.Off)
			return
		}
	case ir.MayGoto:
		if m.loops == 0 {
			m.pc = int(in.Off)
			return
		}
		m.loops--
	case ir.IfThrown:
		if m.thrown {
			m.pc = int(in.Off)
			return
		}
	case ir.Call:
		m.call(int(in.Off))
		return
	case ir.TailCall:
		m.tailCall(in)
		return
	default:
		if in.Op <= ir.FuncAddr {
			m.compute(in)
		} else if in.Op <= ir.StoreRelease {
			m.memory(in)
		} else {
			m.special(in)
		}
	}
	if m.err == nil {
		m.pc++
	}
}

// operand returns B.
func (m *machine) operand(in *ir.Insn) uint64 {
	if in.UseImm() {
		return uint64(in.Imm)
	}
	return m.regs[in.Src&15]
}

// compute executes the operations on registers alone.
func (m *machine) compute(in *ir.Insn) {
	d := &m.regs[in.Dst&15]
	if in.Op.IsALU() {
		b := m.operand(in)
		if in.W == 8 {
			*d = alu64(in.Op, *d, b)
		} else {
			*d = uint64(alu32(in.Op, uint32(*d), uint32(b)))
		}
		return
	}
	switch in.Op {
	case ir.Mov:
		*d = m.operand(in)
		if in.W == 4 {
			*d = uint64(uint32(*d))
		}
	case ir.Neg:
		*d = -*d
		if in.W == 4 {
			*d = uint64(uint32(*d))
		}
	case ir.Sext:
		v := m.regs[in.Src]
		switch in.Sub {
		case 1:
			v = uint64(int8(v))
		case 2:
			v = uint64(int16(v))
		case 4:
			v = uint64(int32(v))
		}
		if in.W == 4 {
			v = uint64(uint32(v))
		}
		*d = v
	case ir.Zext:
		*d = m.regs[in.Src] & (1<<(8*in.Sub) - 1)
	case ir.Bswap:
		*d = bits.ReverseBytes64(*d) >> (64 - 8*in.W)
	default: // FuncAddr
		*d = funcAddr + uint64(in.Off)
	}
}

// funcAddr is where functions begin for programs that load their addresses: no memory is there, and no pointer is.
const funcAddr = 1 << 63

func alu64(op ir.Op, a, b uint64) uint64 {
	switch op {
	case ir.Add:
		return a + b
	case ir.Sub:
		return a - b
	case ir.Mul:
		return a * b
	case ir.Div:
		if b == 0 {
			return 0
		}
		return a / b
	case ir.Mod:
		if b == 0 {
			return a
		}
		return a % b
	case ir.SDiv:
		if b == 0 {
			return 0
		}
		return uint64(int64(a) / int64(b)) // Go wraps on the least value divided by -1
	case ir.SMod:
		if b == 0 {
			return a
		}
		return uint64(int64(a) % int64(b))
	case ir.Or:
		return a | b
	case ir.And:
		return a & b
	case ir.Xor:
		return a ^ b
	case ir.Lsh:
		return a << (b & 63)
	case ir.Rsh:
		return a >> (b & 63)
	}
	return uint64(int64(a) >> (b & 63)) // Arsh
}

func alu32(op ir.Op, a, b uint32) uint32 {
	switch op {
	case ir.SDiv:
		if b == 0 {
			return 0
		}
		return uint32(int32(a) / int32(b))
	case ir.SMod:
		if b == 0 {
			return a
		}
		return uint32(int32(a) % int32(b))
	case ir.Lsh:
		return a << (b & 31)
	case ir.Rsh:
		return a >> (b & 31)
	case ir.Arsh:
		return uint32(int32(a) >> (b & 31))
	}
	return uint32(alu64(op, uint64(a), uint64(b))) // the others agree with the wide form on the lower half
}

// holds reports whether a conditional jump is taken.
func (m *machine) holds(in *ir.Insn) bool {
	a, b := m.regs[in.Dst], m.operand(in)
	sa, sb := int64(a), int64(b)
	if in.W == 4 {
		a, b = uint64(uint32(a)), uint64(uint32(b))
		sa, sb = int64(int32(a)), int64(int32(b))
	}
	switch in.Sub {
	case ir.EQ:
		return a == b
	case ir.NE:
		return a != b
	case ir.GT:
		return a > b
	case ir.GE:
		return a >= b
	case ir.LT:
		return a < b
	case ir.LE:
		return a <= b
	case ir.SGT:
		return sa > sb
	case ir.SGE:
		return sa >= sb
	case ir.SLT:
		return sa < sb
	case ir.SLE:
		return sa <= sb
	case ir.SET:
		return a&b != 0
	}
	return a&b == 0
}

// may reports whether in may access memory at a.
func (m *machine) may(in *ir.Insn, a uint64, write bool) bool {
	if in.Flag&ir.FlagOwn != 0 {
		return m.own(a, in.W)
	}
	return m.access(a, in.W, write)
}

// memory executes loads, stores and atomic operations.
func (m *machine) memory(in *ir.Insn) {
	switch in.Op {
	case ir.Load, ir.LoadAcquire:
		a := m.regs[in.Src] + uint64(int64(in.Off))
		if !m.may(in, a, false) {
			return
		}
		switch {
		case in.Op == ir.LoadAcquire && in.W >= 4 && a%uint64(in.W) == 0:
			m.regs[in.Dst] = atomicLoad(a, in.W)
		case in.Signed():
			m.regs[in.Dst] = loadSigned(a, in.W)
		default:
			m.regs[in.Dst] = load(a, in.W)
		}
	case ir.Store, ir.StoreRelease:
		a := m.regs[in.Dst] + uint64(int64(in.Off))
		if !m.may(in, a, true) {
			return
		}
		if in.Op == ir.StoreRelease && in.W >= 4 && a%uint64(in.W) == 0 {
			atomicStore(a, in.W, m.operand(in))
		} else {
			store(a, in.W, m.operand(in))
		}
	default:
		m.atomic(in)
	}
}

// atomic executes a read-modify-write operation as a loop around compare-and-swap.
func (m *machine) atomic(in *ir.Insn) {
	a := m.regs[in.Dst] + uint64(int64(in.Off))
	if !m.may(in, a, true) {
		return
	}
	if a%uint64(in.W) != 0 {
		m.fault(a, "misaligned atomic operation")
		return
	}
	src, mask := m.regs[in.Src], ^uint64(0)
	if in.W == 4 {
		mask = 1<<32 - 1
	}
	for {
		old := atomicLoad(a, in.W)
		v := src
		switch in.Op {
		case ir.AtomicAdd:
			v += old
		case ir.AtomicOr:
			v |= old
		case ir.AtomicAnd:
			v &= old
		case ir.AtomicXor:
			v ^= old
		case ir.AtomicCmpXchg:
			if old != m.regs[0]&mask {
				m.regs[0] = old
				return
			}
		}
		if !swapIf(a, in.W, old, v) {
			continue
		}
		switch {
		case in.Op == ir.AtomicCmpXchg:
			m.regs[0] = old
		case in.Op == ir.AtomicXchg || in.Fetch():
			m.regs[in.Src] = old
		}
		return
	}
}

// special executes what deals with arguments, maps and the host.
func (m *machine) special(in *ir.Insn) {
	switch in.Op {
	case ir.Yield:
		m.yield()
	case ir.SetThrown:
		m.thrown = in.Imm != 0
	case ir.CallHost:
		m.host(in)
	case ir.CallNative:
		m.err = fmt.Errorf("program %s: instruction %d: %w", m.code.prog.Name, in.PC, errNative)
	case ir.ArgLoad:
		m.regs[in.Dst] = m.in[in.Sub-6]
	case ir.ArgStore:
		m.out[in.Sub-6] = m.operand(in)
	case ir.ArgExt:
		shift := 64 - 8*in.W
		if v := m.out[in.Sub-6] << shift; in.Signed() {
			m.out[in.Sub-6] = uint64(int64(v) >> shift)
		} else {
			m.out[in.Sub-6] = v >> shift
		}
	case ir.ArrayLookup:
		m.lookup(in)
	case ir.Held:
		m.regs[in.Dst] = m.held()
	case ir.CPU:
		m.regs[0] = uint64(m.run.CPU)
	default:
		m.fault(0, "reached an instruction that the proof excluded")
	}
}

func (m *machine) lookup(in *ir.Insn) {
	i := uint64(uint32(m.regs[in.Src]))
	if !in.KeyInReg() {
		if !m.access(m.regs[in.Src], 4, false) {
			return
		}
		i = load(m.regs[in.Src], 4)
	}
	mp := &m.code.prog.Maps[in.Off]
	m.regs[0] = 0
	if i < uint64(mp.MaxEntries) {
		m.regs[0] = mp.Base + i*uint64(mp.Stride)
		if mp.Kind == ir.MapPerCPUArray {
			m.regs[0] += uint64(m.run.CPU) * mp.PerCPUStride
		}
	}
}
