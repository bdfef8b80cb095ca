//go:build linux && (amd64 || arm64)

package native

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/skep-bpf/skep/internal/ir"
	"github.com/skep-bpf/skep/internal/jit"
	"github.com/skep-bpf/skep/internal/rt"
)

// Supported returns nil if this process can run compiled programs, else why not.
func Supported() error { return start() }

// Code is a compiled program. It implements rt.Executable.
type Code struct {
	name string
	jit  *jit.Code
	addr uintptr
	size int
	// hosts is set if a run may call host functions, its own or those of a program it tail-calls.
	hosts     bool
	callbacks []int
	tgt       rt.Target
}

var _ rt.Executable = (*Code)(nil)

// loaded is all code by address, for faults.
var loaded struct {
	mu    sync.Mutex
	codes []*Code // ordered by addr
}

// Load compiles programs and maps their code, packed together. The programs' maps must outlive the code.
func Load(progs ...*ir.Program) ([]*Code, error) {
	if err := start(); err != nil {
		return nil, err
	}
	out := make([]*Code, len(progs))
	for i, p := range progs {
		j, err := compile(p)
		if err != nil {
			return nil, err
		}
		if j.Depth > maxDepth {
			return nil, fmt.Errorf("program %s: needs %d bytes of machine stack, at most %d are allowed", p.Name, j.Depth, maxDepth)
		}
		out[i] = &Code{name: p.Name, jit: j, size: len(j.Text), hosts: callsHost(p), callbacks: p.Callbacks}
	}
	if err := place(out); err != nil {
		return nil, err
	}
	return out, nil
}

// place puts the code of programs into executable memory.
func place(codes []*Code) error {
	var all []byte
	offs := make([]int, len(codes))
	for i, c := range codes {
		for len(all)%textUnit != 0 {
			all = append(all, fillByte)
		}
		offs[i] = len(all)
		all = append(all, c.jit.Text...)
	}
	base, err := text.add(all)
	if err != nil {
		return fmt.Errorf("%d programs of %d bytes: %w", len(codes), len(all), err)
	}
	loaded.mu.Lock()
	defer loaded.mu.Unlock()
	for i, c := range codes {
		c.addr = base + uintptr(offs[i])
		c.tgt.Entry = uint64(c.addr) + uint64(c.jit.Funcs[0])
		c.jit.Text = text.bytes(c.addr, c.size)
		k, _ := slices.BinarySearchFunc(loaded.codes, c.addr, byAddr)
		loaded.codes = slices.Insert(loaded.codes, k, c)
	}
	return nil
}

func callsHost(p *ir.Program) bool {
	return slices.ContainsFunc(p.Insns, func(in ir.Insn) bool { return in.Op == ir.CallHost || in.Op == ir.TailCall })
}

func byAddr(c *Code, addr uintptr) int {
	if c.addr < addr {
		return -1
	} else if c.addr > addr {
		return 1
	}
	return 0
}

// find returns the program whose code holds pc, nil if none does.
func find(pc uintptr) *Code {
	loaded.mu.Lock()
	defer loaded.mu.Unlock()
	k, exact := slices.BinarySearchFunc(loaded.codes, pc, byAddr)
	if !exact {
		k--
	}
	if k < 0 || k >= len(loaded.codes) || pc >= loaded.codes[k].addr+uintptr(loaded.codes[k].size) {
		return nil
	}
	return loaded.codes[k]
}

// Target returns what a program array holds for this program.
func (c *Code) Target() *rt.Target { return &c.tgt }

// Text returns the machine code as it lies in memory. It is valid until Close.
func (c *Code) Text() []byte { return c.jit.Text }

// Addr returns the address of the machine code.
func (c *Code) Addr() uint64 { return uint64(c.addr) }

// Funcs returns the offset of each function in the machine code.
func (c *Code) Funcs() []int { return c.jit.Funcs }

// PCAt returns the BPF instruction that the code at off belongs to, -1 if none.
func (c *Code) PCAt(off int) int { return c.jit.PCAt(off) }

// Close frees the code, at once or when the runs that may still be in it have ended.
func (c *Code) Close() error {
	if !c.forget() {
		return nil // closed before
	}
	c.jit.Text = nil
	rt.AfterRuns(func() { text.remove(c.addr, c.size) })
	return nil
}

// forget takes c out of loaded. It reports whether it was there.
func (c *Code) forget() bool {
	loaded.mu.Lock()
	defer loaded.mu.Unlock()
	k, ok := slices.BinarySearchFunc(loaded.codes, c.addr, byAddr)
	if !ok || loaded.codes[k] != c {
		return false
	}
	loaded.codes = slices.Delete(loaded.codes, k, k+1)
	return true
}

// Exec runs the program; see rt.Executable.
func (c *Code) Exec(ctx context.Context, r *rt.Run) (uint64, error) {
	return c.enterAt(ctx, r, uintptr(c.tgt.Entry))
}

// ExecCallback runs a callback of the program; see rt.Executable.
func (c *Code) ExecCallback(ctx context.Context, r *rt.Run, n int) (uint64, error) {
	return c.enterAt(ctx, r, c.addr+uintptr(c.jit.Funcs[c.callbacks[n]]))
}

func (c *Code) enterAt(ctx context.Context, r *rt.Run, entry uintptr) (uint64, error) {
	b, err := blockFor(r)
	if err != nil {
		return 0, fmt.Errorf("program %s: %w", c.name, err)
	}
	o := &owners[b.id]
	o.run = r
	if r.Stack.Base != o.stack.Base {
		r.Stack = o.stack
	}
	r.HoldIn(&b.held)
	b.code, b.ctx = entry, r.Ctx
	b.poll, b.tailCnt, b.thrown = 0, 0, 0
	if ctx != nil && ctx.Done() != nil {
		return c.cancellable(ctx, b, o)
	}
	if c.hosts {
		return c.guarded(b, o)
	}
	enter(b)
	if b.exit == exitReturn {
		return b.ret, nil
	}
	return c.ended(b, o)
}

// cancellable is Exec where ctx can end.
func (c *Code) cancellable(ctx context.Context, b *block, o *owner) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("program %s: not started: %w", c.name, err)
	}
	stop := context.AfterFunc(ctx, func() { requestPoll(b) })
	o.ctx = ctx
	defer func() {
		o.ctx = nil
		stop()
	}()
	return c.guarded(b, o)
}

// guarded is Exec where a host function may panic.
func (c *Code) guarded(b *block, o *owner) (ret uint64, err error) {
	defer func() {
		if b.exit != exitReturn { // only a panic comes here like this
			err = rt.PanicError(nameAt(b), insnAt(b), recover())
			b.exit = exitReturn
		}
	}()
	enter(b)
	if b.exit == exitReturn {
		return b.ret, nil
	}
	return c.ended(b, o)
}
