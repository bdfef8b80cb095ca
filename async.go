package skep

import (
	"context"
	"fmt"

	"github.com/skep-bpf/skep/helpers"
	"github.com/skep-bpf/skep/internal/async"
	"github.com/skep-bpf/skep/internal/ir"
	"github.com/skep-bpf/skep/internal/rt"
	"github.com/skep-bpf/skep/maps"
)

// callback is a function of a program that a timer or a work queue calls (async.Callback). Whoever holds it holds the program, which the
// program's owner may have closed by then.
type callback struct {
	p *Program
	n int // its number in the program
}

// setCallback makes the host function by which the program sets callbacks (lower.Env).
func (p *Program) setCallback() rt.Handle {
	if p.setter == 0 {
		p.setter = rt.Register(func(_ *rt.Run, a *[12]uint64) uint64 {
			return helpers.SetCallback(a[0], callback{p, int(a[1])})
		})
		p.handles = append(p.handles, p.setter)
	}
	return p.setter
}

// Hold keeps the program until Unhold.
func (c callback) Hold() bool { return c.p.holdCode() }

// Unhold undoes Hold.
func (c callback) Unhold() { c.p.Unhold() }

// Run runs the function once there is a slot for it; see async.Callback.
func (c callback) Run(f *async.Field, begin func() (args [3]uint64, ok bool)) {
	r := rt.Acquire()
	defer r.Release()
	args, ok := begin()
	if !ok {
		return
	}
	if err := c.exec(r, f, args); err != nil {
		c.p.env.Errors(fmt.Errorf("callback of program %s: %w", c.p.name, err))
	}
}

func (c callback) exec(r *rt.Run, f *async.Field, args [3]uint64) error {
	fr, err := frameFor(r)
	if err != nil {
		return err
	}
	for i, v := range args {
		put64(fr.ctx.Bytes()[8*i:], v)
	}
	r.Env, r.Ctx, r.CtxLen, r.Async = c.p.env, fr.ctx.Addr(), ir.CallbackContext, f
	if g := maps.SideOf(maps.FromHandle(args[0])).KeyMemory(); g.Size > 0 {
		r.AddMem(g)
	}
	_, err = c.p.exec.ExecCallback(context.Background(), r, c.n)
	return err
}
