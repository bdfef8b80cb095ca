package skeptest

//lint:file-ignore ST1005 errors begin with the name of a field of Case or Suite

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/internal/progtype"
)

// run is a case on one engine.
type run struct {
	s      *Suite
	c      *Case
	engine skep.Engine
	clock  *skep.FakeClock
	seed   uint64
	calls  *calls

	coll *skep.Collection
	name string        // of the program that runs
	prog *skep.Program // that
	step string        // "", or which of Case.Then it is

	mu     sync.Mutex
	random *rand.Rand
	diffs  []string
	printk []string
}

// check runs a case on an engine.
func (s *Suite) check(c *Case, e skep.Engine) (err error) {
	r := &run{s: s, c: c, engine: e, seed: c.Seed, calls: new(calls)}
	now := c.Now
	if now == 0 {
		now = defaultNow
	}
	r.clock = skep.NewFakeClock(now)
	if r.seed == 0 {
		h := fnv.New64a()
		_, _ = h.Write([]byte(c.Name))
		r.seed = h.Sum64() | 1
	}
	r.random = rand.New(rand.NewPCG(r.seed, 0))
	if r.coll, err = s.load(r); err != nil {
		return err
	}
	defer r.coll.Close()
	if err := r.one(c); err != nil {
		return r.couldNot(err)
	}
	for i := range c.Then {
		then := &c.Then[i]
		if r.step = fmt.Sprintf("Then[%d]", i); then.Name != "" {
			r.step += " " + then.Name
		}
		if len(then.Then) != 0 || then.Consts != nil || then.Now != 0 || then.Seed != 0 {
			return r.couldNot(errors.New("a step of Then cannot have Consts, Now, Seed and Then"))
		}
		if err := r.one(then); err != nil {
			return r.couldNot(err)
		}
	}
	if len(r.diffs) > 0 {
		return &Failure{Diffs: r.diffs, Where: r.where(), Printk: r.printk}
	}
	return nil
}

// couldNot is the reason why a case could not run, and where it was.
func (r *run) couldNot(err error) error {
	if r.step != "" {
		err = fmt.Errorf("%s: %w", r.step, err)
	}
	return fmt.Errorf("%w\n(%s)", err, r.where())
}

// where is Failure.Where.
func (r *run) where() string {
	engine := r.engine
	if r.prog != nil {
		engine = r.prog.Engine()
	}
	return fmt.Sprintf("program %s, engine %s, seed %#x, clock %s", r.name, engine, r.seed, time.Duration(r.clock.Now()))
}

// failf notes a difference.
func (r *run) failf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if r.step != "" {
		text = r.step + ": " + text
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.diffs = append(r.diffs, text)
}

// env puts what is the case's own into the surroundings of a program.
func (r *run) env(e skep.Env) skep.Env {
	e.Clock = r.clock
	e.Random = func() uint32 {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.random.Uint32()
	}
	e.Printk = func(line string) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.printk = append(r.printk, line)
	}
	e.Errors = func(err error) { r.failf("a callback failed: %v", err) }
	return e
}

// one runs a step: c is the case or one of its Then.
func (r *run) one(c *Case) error {
	if err := r.choose(c.Program); err != nil {
		return err
	}
	if err := r.prepare(c); err != nil {
		return err
	}
	before, err := r.snapshot(c.MapsAfter)
	if err != nil {
		return err
	}
	r.calls.expect(c.Kfuncs)
	r.clock.Advance(c.Advance)
	in, opts, err := r.options(c)
	if err != nil {
		return err
	}
	res, err := r.prog.RunAs(context.Background(), r.env(c.Env), opts)
	if err != nil {
		return err
	}
	r.clock.Advance(c.AdvanceAfter)
	r.compare(c, &res, in, opts)
	r.calls.compare(r.failf)
	if err := r.compareVars(c.VarsAfter); err != nil {
		return err
	}
	if err := r.compareMaps(c, before); err != nil {
		return err
	}
	if c.Check != nil {
		if err := c.Check(r.coll, res); err != nil {
			r.failf("%v", err)
		}
	}
	return nil
}

// choose finds the program of a step.
func (r *run) choose(name string) error {
	if name == "" {
		name = r.name
	}
	if name == "" && len(r.coll.Programs) == 1 {
		name = names(r.coll.Programs)
	}
	if r.coll.Programs[name] == nil {
		if name == "" {
			return fmt.Errorf("Program is not set; there are: %s", names(r.coll.Programs))
		}
		return fmt.Errorf("there is no program %s; there are: %s", name, names(r.coll.Programs))
	}
	r.name, r.prog = name, r.coll.Programs[name]
	return nil
}

// prepare fills maps and variables of a step.
func (r *run) prepare(c *Case) error {
	if err := r.setVars(c.VarsBefore); err != nil {
		return err
	}
	if err := r.putMaps(c); err != nil {
		return err
	}
	if r.step == "" && r.s.Setup != nil {
		if err := r.s.Setup(r.coll); err != nil {
			return fmt.Errorf("Suite.Setup: %w", err)
		}
	}
	if c.Setup != nil {
		if err := c.Setup(r.coll); err != nil {
			return fmt.Errorf("Setup: %w", err)
		}
	}
	return nil
}

// defaultPacket is what programs run on that take packets if a case has none; maxGrowth is how much longer one may become.
const (
	defaultPacket = 64
	maxGrowth     = 4096
	runOnCPU      = 1 // BPF_F_TEST_RUN_ON_CPU
)

// options makes the options of a run. in is the packet that goes in.
func (r *run) options(c *Case) (in []byte, o *ebpf.RunOptions, err error) {
	o = &ebpf.RunOptions{Data: c.Packet, CPU: c.CPU, Flags: runOnCPU}
	if progtype.TakesPacket(r.prog.Type()) {
		if o.Data == nil {
			o.Data = make([]byte, defaultPacket)
		}
		o.Repeat = 1
		o.DataOut = make([]byte, len(o.Data)+maxGrowth)
	}
	if c.Context == nil && c.WantContext == nil {
		return o.Data, o, nil
	}
	given := 0
	if c.Context != nil {
		b, err := encodeAny(c.Context)
		if err != nil {
			return nil, nil, fmt.Errorf("Context: %w", err)
		}
		o.Context, given = b, len(b)
	}
	if n := progtype.ContextOut(r.prog.Type(), given); n > 0 && c.WantContext != nil {
		o.ContextOut = make([]byte, n)
	} else if c.WantContext != nil {
		return nil, nil, fmt.Errorf("WantContext: %s programs have no context afterwards", r.prog.Type())
	}
	return o.Data, o, nil
}

// setVars writes variables.
func (r *run) setVars(vars map[string]any) error {
	return r.eachVar("VarsBefore", vars, func(name string, v *skep.Variable, b []byte) error { return v.Set(b) })
}

// eachVar calls f with every variable that a step names, in order, and the bytes of its value.
func (r *run) eachVar(what string, vars map[string]any, f func(name string, v *skep.Variable, b []byte) error) error {
	for _, name := range sortedKeys(vars) {
		v := r.coll.Variables[name]
		if v == nil {
			return fmt.Errorf("%s: the object has no variable %s; it has: %s", what, name, names(r.coll.Variables))
		}
		b, err := encode(vars[name], int(v.Size()))
		if err == nil {
			err = f(name, v, b)
		}
		if err != nil {
			return fmt.Errorf("%s: %s: %w", what, name, err)
		}
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
