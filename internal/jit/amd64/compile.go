// Package amd64 compiles lowered programs to x86-64 machine code: one pass over the instructions into one buffer, then
// the shortening of jumps. It is a pure function of its input and runs on every host.
//
// BPF r0..r10 are rax rdi rsi rdx rcx r8 rbx r13 r14 r15 rbp, r12 is the context block (internal/abi), r9 is argument 6
// and nothing else, r10 and r11 are scratch. Calls follow the System V psABI; frames are described in frame.go.
package amd64

import (
	"github.com/skep-bpf/skep/internal/abi"
	"github.com/skep-bpf/skep/internal/ir"
	"github.com/skep-bpf/skep/internal/jit"
)

// Options say what the processor can do beyond the base instruction set. Code for a processor without the feature is
// as good, only longer.
type Options struct {
	BMI2  bool // shlx, shrx, sarx
	MOVBE bool // movbe
}

// regs maps BPF registers to machine registers.
var regs = [11]uint8{rax, rdi, rsi, rdx, rcx, r8, rbx, r13, r14, r15, rbp}

// compiler is one compilation.
type compiler struct {
	asm
	p      *ir.Program
	opt    Options
	live   []ir.RegSet
	target []bool  // per IR instruction: a jump goes there
	back   []int32 // per IR instruction: the last jump back to it, 0 if there is none
	at     []int32 // per IR instruction: offset of its code
	fixes  []fix
	labels []int32 // offsets; a fix names them by negative numbers
	places []jit.Place
	frame  frame
	exits  int32 // label of the shared epilogue
	stubs  []stub
	i      int   // running IR instruction
	flags  uint8 // register + 1 whose value the zero and sign flags tell
	flagsW uint8
}

// stub is a yield point's code out of line.
type stub struct {
	label, back int32
	pc          int32
}

// Compile translates p, which it checks first.
func Compile(p *ir.Program, opt Options) (*jit.Code, error) {
	if err := jit.Check(p); err != nil {
		return nil, err
	}
	c := &compiler{p: p, opt: opt}
	c.buf = make([]byte, 0, 8*len(p.Insns)+64)
	c.at = make([]int32, len(p.Insns)+1)
	c.target = make([]bool, len(p.Insns)+1)
	c.live = ir.LiveOut(p, nil)
	c.back = make([]int32, len(p.Insns)+1)
	for i := range p.Insns {
		if in := &p.Insns[i]; in.Op.HasTarget() {
			c.target[in.Off] = true
			if int(in.Off) <= i {
				c.back[in.Off] = int32(i)
			}
		}
	}
	starts := make([]int32, len(p.Funcs))
	frames := make([]int, len(p.Funcs))
	for i := range p.Funcs {
		starts[i] = c.label()
		c.bind(starts[i])
		c.function(i)
		frames[i] = c.frame.depth()
	}
	code := &jit.Code{Text: c.relax(starts), Places: c.places, Funcs: make([]int, len(p.Funcs))}
	for i, l := range starts {
		code.Funcs[i] = int(c.labels[l])
	}
	var err error
	code.Depth, err = jit.StackDepth(p, frames)
	return code, err
}

// needsOf finds what function i asks of its frame.
func (c *compiler) needsOf(i int) needs {
	f := &c.p.Funcs[i]
	n := needs{entry: c.p.IsEntry(i), stack: f.Stack, in: f.InArgs, out: f.OutArgs, mayGoto: f.MayGoto}
	used := ir.RegSet(0)
	for k := f.Start; k < f.End; k++ {
		in := &c.p.Insns[k]
		used |= in.Uses() | in.Defs()
		switch in.Op {
		case ir.Call, ir.CallNative:
			n.calls = true
		case ir.CallHost, ir.Yield:
			n.leaves = true
		case ir.TailCall:
			n.tailCall = true
		case ir.Div, ir.Mod, ir.SDiv, ir.SMod:
			n.leaves = n.leaves || c.divPushes(k)
		}
	}
	n.fp = used.Has(10)
	for r := uint8(6); r <= 9; r++ {
		if used.Has(r) {
			n.saved |= 1 << regs[r]
		}
	}
	return n
}

// function appends the code of function i.
func (c *compiler) function(i int) {
	f := &c.p.Funcs[i]
	c.frame = layout(c.needsOf(i))
	c.exits = c.label()
	c.stubs = c.stubs[:0]
	c.place(-1)
	c.frame.prologue(&c.asm)
	if c.frame.counter != 0 {
		c.storeImm(8, at(rbp, int32(-c.frame.counter)), jit.MayGotoBudget)
	}
	last := -1 // the last exit holds the epilogue
	for k := f.Start; k < f.End; k++ {
		if c.p.Insns[k].Op == ir.Exit {
			last = k
		}
	}
	short := c.frame.epilogueSize() <= 4
	c.flags = 0
	for c.i = f.Start; c.i < f.End; c.i++ {
		in := &c.p.Insns[c.i]
		if back := c.back[c.i]; back > 0 {
			c.padLoop(back)
		}
		c.at[c.i] = int32(len(c.buf))
		if c.target[c.i] {
			c.flags = 0
		}
		c.place(in.PC)
		if in.Op == ir.Exit {
			c.exit(short, c.i == last)
			continue
		}
		c.insn(in)
	}
	for _, s := range c.stubs {
		c.place(s.pc)
		c.bind(s.label)
		c.callMem(at(r12, abi.BlockYield))
		c.jump(ccJ, s.back)
	}
}

func (c *compiler) exit(short, last bool) {
	switch {
	case short:
		c.frame.epilogue(&c.asm)
	case last:
		c.bind(c.exits)
		c.frame.epilogue(&c.asm)
	default:
		c.jump(ccJ, c.exits)
	}
}

// place says that the code from here on belongs to BPF instruction pc.
func (c *compiler) place(pc int32) { c.places = jit.AddPlace(c.places, int32(len(c.buf)), pc) }

// next returns the instruction behind the running one if only the running one leads to it, so that both can become
// one machine instruction.
func (c *compiler) next(k int) *ir.Insn {
	i := c.i + k
	for j := c.i + 1; j <= i; j++ {
		if j >= len(c.p.Insns) || c.target[j] {
			return nil
		}
	}
	if i >= len(c.p.Insns) {
		return nil
	}
	return &c.p.Insns[i]
}

// take consumes the k instructions behind the running one.
func (c *compiler) take(k int) {
	for ; k > 0; k-- {
		c.i++
		c.at[c.i] = int32(len(c.buf))
	}
}

// liveAfter reports whether the value of BPF register r may be read behind the running instruction.
func (c *compiler) liveAfter(r uint8) bool { return c.live[c.i].Has(r) }

// insn appends the code of one instruction.
func (c *compiler) insn(in *ir.Insn) {
	flags := c.flags
	c.flags = 0
	switch {
	case in.Op == ir.Mov:
		c.movInsn(in)
	case in.Op >= ir.Div && in.Op <= ir.SMod:
		c.div(in)
	case in.Op <= ir.FuncAddr:
		c.aluInsn(in)
	case in.Op == ir.Load || in.Op == ir.LoadAcquire:
		c.loadInsn(in)
	case in.Op == ir.Store:
		m := at(regs[in.Dst], in.Off)
		if in.UseImm() {
			c.storeImm(in.W, m, int32(in.Imm))
		} else {
			c.store(in.W, m, regs[in.Src])
		}
	case in.Op == ir.StoreRelease:
		c.store(in.W, at(regs[in.Dst], in.Off), regs[in.Src])
	case in.Op.IsAtomic():
		c.atomic(in)
	case in.Op == ir.Jcc:
		c.flags = flags
		c.jcc(in)
	default:
		c.special(in)
	}
}

// special appends jumps, calls, arguments and what deals with the host.
func (c *compiler) special(in *ir.Insn) {
	switch in.Op {
	case ir.Jmp:
		c.jump(ccJ, insnTarget(in.Off))
	case ir.MayGoto:
		m := at(rbp, int32(-c.frame.counter))
		c.aluMemImm(aluCMP, 8, m, 0)
		c.jump(ccE, insnTarget(in.Off))
		c.rm(0xff, 8, 1, m) // dec
	case ir.Yield:
		c.aluMemImm(aluCMP, 4, at(r12, abi.BlockPoll), 0)
		s := stub{label: c.label(), back: c.label(), pc: in.PC}
		c.jump(ccNE, s.label)
		c.bind(s.back)
		c.stubs = append(c.stubs, s)
	case ir.SetThrown:
		c.storeImm(4, at(r12, abi.BlockThrown), int32(in.Imm))
	case ir.IfThrown:
		c.aluMemImm(aluCMP, 4, at(r12, abi.BlockThrown), 0)
		c.jump(ccNE, insnTarget(in.Off))
	case ir.Call:
		c.callFunc(in.Off)
	case ir.CallHost:
		c.movImm(rax, uint64(in.Imm))
		if in.Sub > 6 {
			c.callMem(at(r12, abi.BlockCallMany))
		} else {
			c.callMem(at(r12, abi.BlockCallHost))
		}
	case ir.CallNative:
		c.movImm(rax, uint64(in.Imm))
		c.callReg(rax)
	case ir.ArgLoad, ir.ArgStore, ir.ArgExt:
		c.arg(in)
	case ir.ArrayLookup:
		c.lookup(in)
	case ir.CPU:
		c.load(4, rax, at(r12, abi.BlockCPU))
	case ir.Held:
		c.lea(8, regs[in.Dst], at(r12, abi.BlockHeld))
	case ir.TailCall:
		c.tailCall(in)
	default: // Trap
		c.hlt()
	}
}

// arg appends the access to a stack argument.
func (c *compiler) arg(in *ir.Insn) {
	n := int(in.Sub)
	loc := abi.AMD64.Args[n-1]
	switch {
	case in.Op == ir.ArgLoad && loc.InMemory():
		c.load(8, regs[in.Dst], at(rbp, int32(loc.Callee)))
	case in.Op == ir.ArgLoad:
		c.mov(8, regs[in.Dst], uint8(loc.Reg))
	case in.Op == ir.ArgStore && in.UseImm():
		if loc.InMemory() {
			c.storeImm(8, c.frame.outSlot(n), int32(in.Imm))
		} else {
			c.movImm(uint8(loc.Reg), uint64(in.Imm))
		}
	case in.Op == ir.ArgStore && loc.InMemory():
		c.store(8, c.frame.outSlot(n), regs[in.Src])
	case in.Op == ir.ArgStore:
		c.mov(8, uint8(loc.Reg), regs[in.Src])
	case loc.InMemory(): // ArgExt
		if in.Signed() {
			c.loadSigned(in.W, r11, c.frame.outSlot(n))
		} else {
			c.load(in.W, r11, c.frame.outSlot(n))
		}
		c.store(8, c.frame.outSlot(n), r11)
	case in.Signed():
		c.movsx(in.W, 8, uint8(loc.Reg), uint8(loc.Reg))
	default:
		c.movzx(in.W, uint8(loc.Reg), uint8(loc.Reg))
	}
}

// lookup appends r0 = address of an array's value for the key at Src, 0 if it is out of range.
func (c *compiler) lookup(in *ir.Insn) {
	m := &c.p.Maps[in.Off]
	switch {
	case !in.KeyInReg():
		c.load(4, r10, at(regs[in.Src], 0))
	default:
		c.mov(4, r10, regs[in.Src])
	}
	c.movImm(rax, 0)
	c.aluImm(aluCMP, 4, r10, int32(m.MaxEntries))
	// A null check behind the lookup has the same outcome as the range check.
	n := c.next(1)
	if n != nil && (n.Op != ir.Jcc || n.Dst != 0 || n.W != 8 || !n.UseImm() || n.Imm != 0 || n.Sub != ir.EQ && n.Sub != ir.NE) {
		n = nil
	}
	if n != nil && n.Sub == ir.EQ {
		c.jump(ccAE, insnTarget(n.Off))
		c.elementAddress(m)
		c.take(1)
		return
	}
	if n == nil {
		out := c.skip(ccAE)
		c.elementAddress(m)
		c.land(out)
		return
	}
	out := c.label() // not a skip: the jump between may be shortened
	c.jump(ccAE, out)
	c.elementAddress(m)
	c.jump(ccJ, insnTarget(n.Off))
	c.bind(out)
	c.take(1)
}

// elementAddress appends rax = address of the value with index r10, which is in range.
func (c *compiler) elementAddress(m *ir.Map) {
	scale, scaled := uint8(0), uint64(m.MaxEntries)*uint64(m.Stride)
	switch {
	case m.MaxEntries == 1:
	case m.Stride == 1, m.Stride == 2, m.Stride == 4, m.Stride == 8:
		scale = uint8(log2(uint64(m.Stride)))
	default:
		w := uint8(8)
		if scaled < 1<<32 {
			w = 4
		}
		if isPow2(uint64(m.Stride)) {
			c.shiftImm(shSHL, w, r10, uint8(log2(uint64(m.Stride))))
		} else {
			c.imulImm(w, r10, r10, int32(m.Stride))
		}
	}
	c.movImm(rax, m.Base)
	if m.MaxEntries != 1 {
		c.lea(8, rax, mem{base: rax, index: r10, scale: scale})
	}
	if m.Kind == ir.MapPerCPUArray {
		c.load(4, r10, at(r12, abi.BlockCPU))
		if m.PerCPUStride <= 1<<31-1 {
			c.imulImm(8, r10, r10, int32(m.PerCPUStride))
		} else {
			c.movImm(r11, m.PerCPUStride)
			c.imul(8, r10, r11)
		}
		c.alu(aluADD, 8, rax, r10)
	}
}

// tailCall appends a tail call through a program array: its index is r3. Where it cannot go it falls through with every
// register but the scratch ones unchanged.
func (c *compiler) tailCall(in *ir.Insn) {
	m := &c.p.Maps[in.Off]
	c.aluImm(aluCMP, 4, regs[3], int32(m.MaxEntries))
	out1 := c.skip(ccAE)
	c.aluMemImm(aluCMP, 4, at(r12, abi.BlockTailCnt), abi.MaxTailCalls)
	out2 := c.skip(ccAE)
	c.mov(4, r10, regs[3])
	c.movImm(r11, m.Base)
	c.load(8, r11, mem{base: r11, index: r10, scale: 3})
	c.test(8, r11, r11)
	out3 := c.skip(ccE)
	c.rm(0xff, 4, 0, at(r12, abi.BlockTailCnt)) // inc
	if c.frame.entry {
		if c.frame.size() != 0 {
			c.mov(8, rsp, rbp)
		}
		c.jmpReg(r11)
	} else {
		// The other program's entry function expects rbp where its return address will be, and keeps no register: it
		// runs below this frame, which then returns for it.
		c.lea(8, rbp, at(rsp, -8))
		c.callReg(r11)
		c.lea(8, rbp, at(rsp, int32(c.frame.size())))
		c.frame.epilogue(&c.asm)
	}
	c.land(out1)
	c.land(out2)
	c.land(out3)
}

func isPow2(v uint64) bool { return v != 0 && v&(v-1) == 0 }

func log2(v uint64) int {
	n := 0
	for ; v > 1; v >>= 1 {
		n++
	}
	return n
}
