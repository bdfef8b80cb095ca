// Package arm64 compiles lowered programs to arm64 machine code: one pass over the instructions into one buffer, then the
// filling in of distances. It is a pure function of its input and runs on every host.
//
// BPF r0..r5 are x8 x0 x1 x2 x3 x4, r6..r9 are x19..x22, r10 is the frame pointer x29. x23 is the context block (internal/abi),
// x5..x7 are arguments 6 to 8 and nothing else, x9..x17 are scratch. x18 belongs to the platform and x28 to Go: neither is
// touched. Calls follow AAPCS64: r0 is not x0, because x7, where it would fit as well, is argument 8; so a result comes in x0 and
// moves to x8. Frames are described in frame.go.
//
// The entry function starts with sp = x29, a multiple of 16, and 16 bytes there that are free for it: the trampoline's frame
// record, whose upper half is where it may save x30. It finds its context in x0, returns its result in x0, keeps x23, x29 and sp,
// and may destroy every other register but x18 and x28.
//
// The stubs of internal/native are called by way of the context block through x16. A host function: x8 is its handle, arguments
// are where C has them, the result comes in x8; x19..x23, x29 and sp are kept. A yield point: besides those also x0..x8.
package arm64

import (
	"fmt"

	"github.com/skep-bpf/skep/internal/abi"
	"github.com/skep-bpf/skep/internal/ir"
	"github.com/skep-bpf/skep/internal/jit"
)

// Options say what the processor can do beyond the base instruction set. Code for a processor without the feature does the same,
// in more instructions.
type Options struct {
	LSE bool // atomic operations (ARMv8.1)
}

// regs maps BPF registers to machine registers, block is the context block.
var regs = [11]reg{x8, x0, x1, x2, x3, x4, x19, x20, x21, x22, fp}

const block = x23

// compiler is one compilation.
type compiler struct {
	asm
	p      *ir.Program
	opt    Options
	live   []ir.RegSet
	target []bool  // per IR instruction: a jump goes there
	at     []int32 // per IR instruction: offset of its code
	fixes  []fix
	calls  []call
	labels []int32 // offsets; a fix names them by their number
	places []jit.Place
	frame  frame
	out    int   // outgoing slots of the running function
	exits  int32 // label of the shared epilogue
	stubs  []stub
	i      int // running IR instruction
	err    error
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
	c.buf = make([]byte, 0, 6*len(p.Insns)+64)
	c.at = make([]int32, len(p.Insns)+1)
	c.target = make([]bool, len(p.Insns)+1)
	c.live = ir.LiveOut(p, nil)
	for i := range p.Insns {
		if in := &p.Insns[i]; in.Op.HasTarget() {
			c.target[in.Off] = true
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
	if c.err == nil {
		c.err = c.resolve(starts)
	}
	if c.err != nil {
		return nil, fmt.Errorf("program %s: %w", p.Name, c.err)
	}
	code := &jit.Code{Text: c.buf, Places: c.places, Funcs: make([]int, len(p.Funcs))}
	for i, l := range starts {
		code.Funcs[i] = int(c.labels[l])
	}
	var err error
	code.Depth, err = jit.StackDepth(p, frames)
	return code, err
}

// fail notes that the running instruction is one that the lowering pass must not make.
func (c *compiler) fail(reason string) {
	if c.err == nil {
		c.err = &ir.Error{Program: c.p.Name, Index: c.i, Insn: c.p.Insns[c.i], Reason: reason}
	}
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
		case ir.Call, ir.CallNative, ir.CallHost, ir.Yield:
			n.calls = true
		case ir.TailCall:
			n.tailCall = true
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

// inlineEpilogue is the size in bytes up to which every exit has an epilogue of its own.
const inlineEpilogue = 8

// function appends the code of function i.
func (c *compiler) function(i int) {
	f := &c.p.Funcs[i]
	c.frame = layout(c.needsOf(i))
	c.out = f.OutArgs
	c.exits = c.label()
	c.stubs = c.stubs[:0]
	c.place(-1)
	c.frame.prologue(&c.asm)
	if c.frame.counter != 0 {
		c.movImm(x16, jit.MayGotoBudget)
		c.access(opSTR, 8, x16, c.counter())
	}
	last := -1 // the last exit holds the epilogue
	for k := f.Start; k < f.End; k++ {
		if c.p.Insns[k].Op == ir.Exit {
			last = k
		}
	}
	short := c.frame.epilogueSize() <= inlineEpilogue
	for c.i = f.Start; c.i < f.End; c.i++ {
		in := &c.p.Insns[c.i]
		c.at[c.i] = int32(len(c.buf))
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
		c.callBlock(abi.BlockYield)
		c.branch(s.back)
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
		c.branch(c.exits)
	}
}

// counter is the function's may_goto counter.
func (c *compiler) counter() mem { return c.frame.stackMem(8, int32(-c.frame.counter)) }

// place says that the code from here on belongs to BPF instruction pc.
func (c *compiler) place(pc int32) { c.places = jit.AddPlace(c.places, int32(len(c.buf)), pc) }

// next returns the instruction behind the running one if only the running one leads to it, so that both can become one.
func (c *compiler) next() *ir.Insn {
	i := c.i + 1
	if i >= len(c.p.Insns) || c.target[i] {
		return nil
	}
	return &c.p.Insns[i]
}

// take consumes the instruction behind the running one, whose code comes next.
func (c *compiler) take() *ir.Insn {
	c.i++
	c.at[c.i] = int32(len(c.buf))
	c.place(c.p.Insns[c.i].PC)
	return &c.p.Insns[c.i]
}

// liveAfter reports whether the value of BPF register r may be read behind the running instruction.
func (c *compiler) liveAfter(r uint8) bool { return c.live[c.i].Has(r) }

// insn appends the code of one instruction.
func (c *compiler) insn(in *ir.Insn) {
	switch {
	case in.Op == ir.Mov:
		c.movInsn(in)
	case in.Op <= ir.Arsh:
		c.alu(in, regs[in.Dst])
	case in.Op <= ir.FuncAddr:
		c.unary(in)
	case in.Op == ir.Load || in.Op == ir.Store:
		c.loadStore(in, regs[in.Src], regs[in.Dst])
	case in.Op == ir.LoadAcquire:
		c.ldar(in.W, regs[in.Dst], c.address(regs[in.Src], in.Off))
	case in.Op == ir.StoreRelease:
		c.stlr(in.W, regs[in.Src], c.address(regs[in.Dst], in.Off))
	case in.Op.IsAtomic():
		c.atomic(in)
	case in.Op == ir.Jcc:
		c.jcc(in)
	default:
		c.special(in)
	}
}
