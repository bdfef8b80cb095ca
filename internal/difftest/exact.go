package difftest

import (
	"context"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/helpers"
	"github.com/skep-bpf/skep/internal/interp"
	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/lower"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/internal/rt"
	"github.com/skep-bpf/skep/verifier"
)

// Claims are what the verifier says of the registers that each instruction reads: for every state in which it walked
// the instruction, what it knew of them. A run is inside the claims if at each instruction some state covers all
// values read. (Registers that are not read here are claimed, if they matter, where they are.)
type Claims struct {
	prog *program.Program
	res  *verifier.Result
	at   []map[claim]struct{} // by slot
}

// claim is one state's part: the registers that the instruction reads, in ascending order.
type claim struct {
	depth int
	regs  [maxReads]verifier.RegView
}

const maxReads = 5 // a call reads r1..r5

// reads returns the registers whose values matter at slot pc: those the instruction names, of a call the arguments.
func (c *Claims) reads(pc int) isa.RegSet {
	in := c.prog.Insns[pc]
	n := 0
	switch {
	case in.IsPseudoCall():
		if f := c.prog.FuncAt(pc + 1 + int(in.Imm)); f >= 0 {
			n = c.prog.Funcs[f].Params()
		}
	case in.IsHelperCall():
		if p := helpers.Proto(in.Imm); p != nil {
			for n < len(p.Args) && p.Args[n].Kind != verifier.ArgDontCare {
				n++
			}
		}
	case in.IsCall():
	default:
		return in.Reads()
	}
	return isa.RegSet(1<<(min(n, isa.MaxRegArgs)+1) - 2)
}

// errTooLong is returned for programs whose states would need too much memory.
var errTooLong = errors.New("too many instructions to record")

// recordLimit bounds the instructions walked for claims.
const recordLimit = 60_000

// Record verifies p with exact pruning and keeps all states.
func Record(p *program.Program) (*Claims, error) {
	c := &Claims{prog: p, at: make([]map[claim]struct{}, len(p.Insns))}
	walked := 0
	res, err := verifier.Verify(p, verifier.Options{Helpers: helpers.Proto, Kernel: program.HostTypes, ExactStates: true, InsnLimit: recordLimit, Visit: func(pc int, s *verifier.StateView) {
		walked++
		if c.at[pc] == nil {
			c.at[pc] = map[claim]struct{}{}
		}
		k := claim{depth: s.Depth}
		n := 0
		rs := c.reads(pc)
		for r := isa.R0; r <= isa.R10 && n < maxReads; r++ {
			if rs.Has(r) {
				k.regs[n] = s.Regs[r]
				n++
			}
		}
		c.at[pc][k] = struct{}{}
	}})
	switch {
	case err != nil && walked >= recordLimit-1:
		return nil, errTooLong
	case err != nil:
		return nil, err
	}
	c.res = res
	return c, nil
}

// Check runs the program in the interpreter on w and returns an error at the first instruction whose registers no state
// covers. steps is the number of instructions checked.
func (c *Claims) Check(ctx context.Context, w *World, packet []byte) (steps int, err error) {
	env := w.Env()
	env.Exact = true
	code, err := lower.Lower(c.prog, WithoutFacts(c.prog, c.res), env)
	if err != nil {
		return 0, err
	}
	var bad error
	p, last := c.prog, -1
	frames := make([]frame, isa.MaxFrames+1)
	exe, err := interp.New(code, interp.Options{Budget: checkLimit, Hook: func(h interp.HookState) {
		if bad != nil {
			return
		}
		steps++
		if h.Depth >= len(frames) {
			bad = fmt.Errorf("insn %d: %d frames", h.PC, h.Depth+1)
			return
		}
		// A global function was verified by itself: its frame is the outermost one of its states.
		f := frame{fp: h.Frame, outer: h.Depth}
		if h.Depth > 0 && !c.prog.Funcs[c.prog.FuncAt(h.PC)].Global {
			f.outer = frames[h.Depth-1].outer
		}
		frames[h.Depth] = f
		before := last
		last = h.PC
		if before >= 0 && isLegacyLoad(p.Insns[before]) && h.PC == p.Funcs[p.FuncAt(h.PC)].End-1 {
			// A packet load outside the packet returns by code that stands at the function's end: no instruction.
			return
		}
		if bad = c.decided(before, &h); bad == nil {
			bad = c.covers(&h, frames)
		}
	}})
	if err != nil {
		return 0, err
	}
	_, err = w.Run(ctx, exe, c.prog.Type, packet)
	switch {
	case bad != nil:
		err = bad
	case errors.Is(err, rt.ErrBudget):
		err = nil // a loop that only may_goto ends: what ran was inside
	}
	return steps, err
}

// checkLimit bounds the instructions of one checked run.
const checkLimit = 500_000

func isLegacyLoad(in isa.Insn) bool {
	return in.Class() == isa.ClassLD && (in.Mode() == isa.ModeABS || in.Mode() == isa.ModeIND)
}

// frame is what Check knows of a running function: r10, and the depth of the frame that is 0 in its states.
type frame struct {
	fp    uint64
	outer int
}

// decided checks the decided jumps from instruction before up to the one at h, most of which were not run: their
// conditions, on the registers as they are, must say the same. (Jumps change no register.)
func (c *Claims) decided(before int, h *interp.HookState) error {
	if before < 0 || c.prog.FuncAt(before) != c.prog.FuncAt(h.PC) {
		return nil
	}
	insns, regs := c.prog.Insns, h.Regs[:]
	next := func(pc int) int {
		in := insns[pc]
		switch {
		case in.IsConditional() && holds(in, regs), in.Op == isa.ClassJMP|isa.JmpJA, in.Op == isa.ClassJMP32|isa.JmpJA:
			return in.JumpTarget(pc)
		case in.IsLdImm64():
			return pc + 2
		}
		return pc + 1
	}
	if in := insns[before]; in.IsCall() || in.IsExit() || in.IsMayGoto() || isLegacyLoad(in) {
		return nil
	}
	start := before
	if !insns[before].IsConditional() {
		start = next(before)
	}
	for pc, n := start, 0; pc != h.PC && pc < len(insns) && n < len(insns); pc, n = next(pc), n+1 {
		in, fact := insns[pc], c.res.Insns[pc].Branch
		if in.IsConditional() && fact != verifier.BranchUnknown && holds(in, regs) != (fact == verifier.BranchAlways) {
			return fmt.Errorf("insn %d: %s: decided wrongly for r%d=%#x", pc, isa.AppendText(nil, insns, pc, nil), in.Dst, regs[in.Dst])
		}
	}
	return nil
}

// covers looks for a state that covers the registers which the instruction at h reads.
func (c *Claims) covers(h *interp.HookState, frames []frame) error {
	rs := c.reads(h.PC)
	states := frames[frames[h.Depth].outer:]
	for k := range c.at[h.PC] {
		if k.depth == h.Depth-frames[h.Depth].outer && c.inside(&k, rs, h, states) {
			return nil
		}
	}
	msg := fmt.Sprintf("insn %d: %s: no state covers", h.PC, isa.AppendText(nil, c.prog.Insns, h.PC, nil))
	for r := isa.R0; r <= isa.R10; r++ {
		if rs.Has(r) {
			msg += fmt.Sprintf(" r%d=%#x", r, h.Regs[r])
		}
	}
	msg += fmt.Sprintf(" at depth %d; states:", h.Depth)
	n := 0
	for k := range c.at[h.PC] {
		if n++; n > 8 {
			break
		}
		msg += fmt.Sprintf("\n  depth %d:", k.depth)
		i := 0
		for r := isa.R0; r <= isa.R10 && i < maxReads; r++ {
			if rs.Has(r) {
				v := &k.regs[i]
				msg += fmt.Sprintf(" r%d{known %t scalar %t %s off %d kind %d}", r, v.Known, v.Scalar, v.Value.String(), v.Off, v.Kind)
				i++
			}
		}
	}
	return errors.New(msg)
}

// inside reports whether a claim covers registers.
func (c *Claims) inside(k *claim, rs isa.RegSet, h *interp.HookState, frames []frame) bool {
	i := 0
	for r := isa.R0; r <= isa.R10 && i < maxReads; r++ {
		if !rs.Has(r) {
			continue
		}
		v, x := &k.regs[i], h.Regs[r]
		i++
		switch {
		case !v.Known: // an argument that a call does not have
		case v.Scalar:
			if !v.Value.Contains(x) {
				return false
			}
		case x == 0:
			if !v.OrNull && !c.noPacket(v.Kind) {
				return false
			}
		case v.Kind == verifier.PtrStack && v.Frame < len(frames):
			off := x - frames[v.Frame].fp - uint64(int64(v.Off))
			if !v.Value.Contains(off) {
				return false
			}
		}
	}
	return true
}

// noPacket reports whether a pointer of a kind can be that to a packet, or to its end, in a program that has none.
func (c *Claims) noPacket(k verifier.PtrKind) bool {
	return c.prog.Type == ebpf.SockOps && (k == verifier.PtrPacket || k == verifier.PtrNone)
}

// WithoutFacts forgets what the proof knows but for the kinds of pointers (loads of packet pointers from a context are
// not what they look like), the sizes of frames, which code is dead (dead code need not make sense) and which jumps lead
// there.
func WithoutFacts(p *program.Program, res *verifier.Result) *verifier.Result {
	r := *res
	r.Insns = make([]verifier.InsnFact, len(res.Insns))
	for i := range r.Insns {
		f := &res.Insns[i]
		r.Insns[i] = verifier.InsnFact{Seen: f.Seen, Ptr: f.Ptr, Map: -1, TailCallIndex: -1}
		if in := p.Insns[i]; f.Seen && in.IsConditional() && !(res.Insns[i+1].Seen && res.Insns[in.JumpTarget(i)].Seen) {
			r.Insns[i].Branch = f.Branch
		}
	}
	return &r
}

// holds evaluates the condition of a conditional jump.
func holds(in isa.Insn, regs []uint64) bool {
	x, y := regs[in.Dst], uint64(int64(in.Imm))
	if in.SrcIsReg() {
		y = regs[in.Src]
	}
	sx, sy := int64(x), int64(y)
	if in.IsJump32() {
		x, y, sx, sy = uint64(uint32(x)), uint64(uint32(y)), int64(int32(x)), int64(int32(y))
	}
	switch in.JmpOp() {
	case isa.JmpJEQ:
		return x == y
	case isa.JmpJNE:
		return x != y
	case isa.JmpJGT:
		return x > y
	case isa.JmpJGE:
		return x >= y
	case isa.JmpJLT:
		return x < y
	case isa.JmpJLE:
		return x <= y
	case isa.JmpJSGT:
		return sx > sy
	case isa.JmpJSGE:
		return sx >= sy
	case isa.JmpJSLT:
		return sx < sy
	case isa.JmpJSLE:
		return sx <= sy
	}
	return x&y != 0 // JSET
}
