// Package interp runs lowered programs instruction by instruction and checks every access against the memory that the
// program owns. It is the oracle that compiled code is compared with, and the engine where there is no compiler.
package interp

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/skep-bpf/skep/internal/ir"
	"github.com/skep-bpf/skep/internal/rt"
)

// Options tune a program for tests.
type Options struct {
	// Budget bounds the IR instructions one run executes; the run ends with rt.ErrBudget. 0: no bound.
	Budget int64
	// Hook, if set, is called before the first IR instruction of each BPF instruction executed. It may not change
	// anything and may not keep regs.
	Hook func(h HookState)
	// Counts, if set, counts what runs.
	Counts *Counts
}

// Counts says how often each BPF instruction ran, by its number. A program that counts runs slower; others pay nothing. Many runs can
// count at a time.
type Counts struct {
	Ran   []atomic.Uint64
	Taken []atomic.Uint64 // conditional jumps: how often of those they jumped
}

// NewCounts makes counts for a program of n instructions.
func NewCounts(n int) *Counts { return &Counts{make([]atomic.Uint64, n), make([]atomic.Uint64, n)} }

// HookState is what a Hook sees: the BPF instruction about to run, the function it is in, r0..r10, and r10 of the
// running frame (the lowest address of its stack is Frame minus the function's stack size).
type HookState struct {
	PC, Func int
	Depth    int         // frames below this one
	Regs     *[16]uint64 // the first eleven count
	Frame    uint64
}

// Code is a program ready to be interpreted. It implements rt.Executable.
type Code struct {
	prog *ir.Program
	opt  Options
	tgt  rt.Target
}

// New checks p and prepares it. p may not be changed afterwards.
func New(p *ir.Program, opt Options) (*Code, error) {
	if err := ir.Check(p); err != nil {
		return nil, err
	}
	c := &Code{prog: p, opt: opt}
	c.tgt.Interp = c
	return c, nil
}

// Target returns what a program array holds for this program.
func (c *Code) Target() *rt.Target { return &c.tgt }

// Close frees nothing: an interpreted program is memory of the Go heap.
func (c *Code) Close() error { return nil }

var _ rt.Executable = (*Code)(nil)

// Exec runs the program; see rt.Executable.
func (c *Code) Exec(ctx context.Context, r *rt.Run) (uint64, error) { return c.enter(ctx, r, 0) }

// ExecCallback runs a callback of the program; see rt.Executable.
func (c *Code) ExecCallback(ctx context.Context, r *rt.Run, n int) (uint64, error) {
	return c.enter(ctx, r, c.prog.Callbacks[n])
}

func (c *Code) enter(ctx context.Context, r *rt.Run, fn int) (uint64, error) {
	if ctx != nil {
		if err := ctx.Err(); err != nil {
			return 0, fmt.Errorf("program %s: not started: %w", c.prog.Name, err)
		}
	}
	return c.exec(ctx, r, fn)
}
