package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/internal/kernel"
	"github.com/skep-bpf/skep/internal/progtype"
)

// runner is a loaded program on one engine, the kernel's among them.
type runner struct {
	engine string
	run    func(pkt, ctx []byte, repeat uint32) (runOutput, error)
	maps   map[string]dumper
	close  func()
}

type runOutput struct {
	ret       uint32
	data, ctx []byte
	ns        float64
	redirect  string
}

// dumper is a map whose contents can be listed: ours or the kernel's.
type dumper interface {
	Type() ebpf.MapType
	NextKeyBytes(key any) ([]byte, error)
	LookupBytes(key any) ([]byte, error)
}

// outRoom is how much a packet can grow.
const outRoom = 4096

// engineNames are what -engine may be; without one it is the best of this machine.
var engineNames = []string{"", "jit", "interp", "kernel"}

func openRunner(engine string, spec *ebpf.CollectionSpec, name string, perfMap bool, e *env) (*runner, error) {
	opts := skep.Options{Programs: []string{name}, PerfMap: perfMap}
	opts.Env.Printk = func(line string) { fmt.Fprintln(e.stderr, "printk:", line) }
	switch engine {
	case "jit":
		opts.Engine = skep.EngineJIT
	case "interp":
		opts.Engine = skep.EngineInterpreter
	case "kernel":
		return openKernel(spec, name)
	}
	c, err := skep.NewCollectionWithOptions(spec, opts)
	if err != nil {
		return nil, err
	}
	p := c.Programs[name]
	r := &runner{engine: p.Engine().String(), maps: map[string]dumper{}, close: c.Close}
	for n, m := range c.Maps {
		r.maps[n] = m
	}
	r.run = func(pkt, ctx []byte, repeat uint32) (runOutput, error) {
		ro := runOptions(p.Type(), pkt, ctx, repeat)
		res, err := p.RunContext(context.Background(), ro) // an interrupt from the keyboard ends the whole command
		out := runOutput{ret: res.Return, data: ro.DataOut, ctx: contextOf(ro), ns: res.NSPerRun}
		if d := res.Redirect; d.Set {
			out.redirect = fmt.Sprintf("interface %d", d.IfIndex)
			if d.Map != "" {
				out.redirect = fmt.Sprintf("key %d of map %s", d.Key, d.Map)
			}
		}
		return out, err
	}
	return r, nil
}

// runOptions makes the options of a run, the same for every engine.
func runOptions(t ebpf.ProgramType, pkt, ctx []byte, repeat uint32) *ebpf.RunOptions {
	o := &ebpf.RunOptions{Data: pkt, Repeat: repeat}
	if progtype.TakesPacket(t) {
		o.DataOut = make([]byte, len(pkt)+outRoom)
	} else if repeat <= 1 {
		o.Repeat = 0
	}
	if len(ctx) > 0 {
		o.Context = ctx
		if n := progtype.ContextOut(t, len(ctx)); n > 0 {
			o.ContextOut = make([]byte, n)
		}
	}
	return o
}

func contextOf(o *ebpf.RunOptions) []byte {
	b, _ := o.ContextOut.([]byte)
	return b
}

// openKernel loads the object through bpf(2).
func openKernel(spec *ebpf.CollectionSpec, name string) (*runner, error) {
	spec = spec.Copy()
	for n := range spec.Programs {
		if n != name {
			delete(spec.Programs, n)
		}
	}
	for _, m := range spec.Maps {
		if m.Type == ebpf.ProgramArray {
			m.Contents = nil
		}
	}
	c, err := ebpf.NewCollection(spec)
	if err != nil {
		var ve *ebpf.VerifierError
		if errors.As(err, &ve) {
			return nil, fmt.Errorf("the kernel refuses the program: %w", err)
		}
		return nil, fmt.Errorf("the kernel cannot be used (are you root?): %w", err)
	}
	p := c.Programs[name]
	r := &runner{engine: "kernel", maps: map[string]dumper{}, close: c.Close}
	for n, m := range c.Maps {
		r.maps[n] = m
	}
	r.run = func(pkt, ctx []byte, repeat uint32) (runOutput, error) { return runInKernel(p, pkt, ctx, repeat) }
	return r, nil
}

// runInKernel measures where the kernel does: for programs that get packets.
func runInKernel(p *ebpf.Program, pkt, ctx []byte, repeat uint32) (runOutput, error) {
	ro := runOptions(p.Type(), pkt, ctx, repeat)
	if ro.DataOut == nil && repeat <= 1 {
		ret, err := p.Run(ro)
		return runOutput{ret: ret, data: ro.DataOut, ctx: contextOf(ro)}, err
	}
	in := kernel.RunInput{Data: pkt, Ctx: ctx, Repeat: int(repeat), DataOut: len(ro.DataOut), CtxOut: len(contextOf(ro))}
	out, err := kernel.RunFD(p.FD(), in)
	return runOutput{ret: out.Ret, data: out.Data, ctx: out.Ctx, ns: float64(out.Duration.Nanoseconds())}, err
}

// printMaps lists all maps.
func (e *env) printMaps(r *runner) error {
	for _, n := range slices.Sorted(maps.Keys(r.maps)) {
		fmt.Fprintf(e.stdout, "map %s (%s):\n", n, r.maps[n].Type())
		err := eachEntry(r.maps[n], func(key, value []byte) { fmt.Fprintf(e.stdout, "  %x: %x\n", key, value) })
		if err != nil {
			return fmt.Errorf("map %s: %w", n, err)
		}
	}
	return nil
}

// printJSONMaps prints all maps as one JSON object: by name, values by key, in hexadecimal digits.
func (e *env) printJSONMaps(r *runner) error {
	all := map[string]map[string]string{}
	for n, m := range r.maps {
		entries := map[string]string{}
		all[n] = entries
		err := eachEntry(m, func(key, value []byte) { entries[hex.EncodeToString(key)] = hex.EncodeToString(value) })
		if err != nil {
			return fmt.Errorf("map %s: %w", n, err)
		}
	}
	return e.printJSON(map[string]any{"maps": all})
}

// eachEntry calls f with every entry of a map.
func eachEntry(m dumper, f func(key, value []byte)) error {
	var key any
	for {
		k, err := m.NextKeyBytes(key)
		if err != nil || k == nil {
			return err
		}
		key = k
		v, err := m.LookupBytes(k)
		if err != nil {
			return err
		}
		if v != nil {
			f(k, v)
		}
	}
}
