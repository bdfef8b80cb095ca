package difftest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/skep-bpf/skep/helpers"
	"github.com/skep-bpf/skep/internal/interp"
	"github.com/skep-bpf/skep/internal/kernel"
	"github.com/skep-bpf/skep/internal/lower"
	"github.com/skep-bpf/skep/internal/native"
	"github.com/skep-bpf/skep/internal/progen"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/internal/rt"
	"github.com/skep-bpf/skep/verifier"
)

var (
	enginePrograms = flag.Int("engine-programs", 400, "random programs that run on every engine")
	engineSeed     = flag.Uint64("engine-seed", 1, "seed of the first of them")
	engineKernel   = flag.Bool("engine-kernel", true, "the kernel runs those of up to five arguments as well")
)

// randomLimit bounds the instructions that proving a random program may take; longer proofs are left out, because some
// take minutes, in the kernel too.
const randomLimit = 100_000

// engines runs programs of one shape on each engine there is.
type engines struct {
	world  *World
	jit    error // why there is no compiled code
	kernel error // why the kernel does not take part
	counts engineCounts
}

type engineCounts struct{ refused, interp, plain, jit, kernel, size, none, faults, bug int }

func newEngines(tb testing.TB) *engines {
	p := progen.New(0, progen.ConfigFor(0, 5))
	w, err := NewWorld(p.Maps)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := w.Close(); err != nil {
			tb.Error(err)
		}
	})
	e := &engines{world: w, jit: native.Supported(), kernel: kernel.Available()}
	if !*engineKernel {
		e.kernel = fmt.Errorf("switched off")
	}
	return e
}

// compare runs one program everywhere and returns how the outcomes differ. A program that the verifier refuses runs
// nowhere.
func (e *engines) compare(p *program.Program, seed uint64) error {
	res, err := verifier.Verify(p, verifier.Options{Helpers: helpers.Proto, Kernel: program.HostTypes, InsnLimit: randomLimit})
	if err != nil {
		e.counts.refused++
		return nil
	}
	packet, fill := progen.Packet(seed), progen.Prefill(seed)
	run := func(exe rt.Executable) (Outcome, error) {
		if err := e.world.Reset(fill); err != nil {
			return Outcome{}, err
		}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		return e.world.Run(ctx, exe, p.Type, packet)
	}
	// The reference: of the proof's facts only those are used without which a program has no meaning.
	env := e.world.Env()
	env.Exact = true
	want, err := e.interpret(p, WithoutFacts(p, res), env, run)
	if err != nil {
		return fmt.Errorf("interpreter without facts: %w", err)
	}
	e.counts.plain++
	got, err := e.interpret(p, res, e.world.Env(), run)
	if err != nil {
		return fmt.Errorf("interpreter: %w", err)
	}
	e.counts.interp++
	if d := Diff(want, got, false); d != "" {
		return fmt.Errorf("interpreter without and with facts: %s", d)
	}
	if e.jit == nil {
		code, err := lower.Lower(p, res, e.world.Env())
		if err != nil {
			return fmt.Errorf("lower: %w", err)
		}
		exes, err := native.Load(code)
		if err != nil {
			return fmt.Errorf("compile: %w", err)
		}
		got, err := run(exes[0])
		if err := exes[0].Close(); err != nil {
			return err
		}
		if err != nil {
			return fmt.Errorf("compiled: %w", err)
		}
		e.counts.jit++
		if d := Diff(want, got, false); d != "" {
			return fmt.Errorf("interpreter and compiled code: %s", d)
		}
	}
	// 6.18.44 never comes back from some programs with an exception callback (kfuncfuzz_test.go).
	if e.kernel == nil && maxParams(p) <= 5 && res.ExceptionCallback == 0 {
		return e.inKernel(p, fill, packet, want, run)
	}
	return nil
}

func (e *engines) interpret(p *program.Program, res *verifier.Result, env *lower.Env, run func(rt.Executable) (Outcome, error)) (Outcome, error) {
	code, err := lower.Lower(p, res, env)
	if err != nil {
		return Outcome{}, fmt.Errorf("lower: %w", err)
	}
	exe, err := interp.New(code, interp.Options{})
	if err != nil {
		return Outcome{}, err
	}
	return run(exe)
}

func (e *engines) inKernel(p *program.Program, fill []progen.Entry, packet []byte, want Outcome, run func(rt.Executable) (Outcome, error)) error {
	k, err := kernel.Load(p)
	if err != nil && tooLarge(err.Error()) {
		e.counts.size++
		return nil
	}
	if err != nil && len(p.Kfuncs) > 0 && strings.Contains(err.Error(), "verifier bug: scc exit") {
		e.counts.bug++
		return nil
	}
	if errors.Is(err, kernel.ErrNoVerdict) {
		e.counts.none++
		return nil
	}
	if err != nil {
		return fmt.Errorf("the verifier accepts, the kernel does not: %w", err)
	}
	defer k.Close()
	got, err := RunKernel(k, p, fill, packet)
	if err != nil {
		return fmt.Errorf("kernel: %w", err)
	}
	e.counts.kernel++
	if d := Diff(want, got, true); d != "" {
		if e.faulty(p, got, run) {
			e.counts.faults++
			return nil
		}
		return fmt.Errorf("interpreter and kernel: %s", d)
	}
	return nil
}

// faulty reports whether the kernel's outcome comes from its known wrong deductions, by which it took live code for dead: the
// interpreter, which is safe whatever it is told, gives the same when it believes them.
func (e *engines) faulty(p *program.Program, kernels Outcome, run func(rt.Executable) (Outcome, error)) bool {
	res, err := verifier.Verify(p, verifier.Options{Helpers: helpers.Proto, Kernel: program.HostTypes, InsnLimit: randomLimit, Kernel618: verifier.LikeFaults,
		Target: kernel.Target()})
	if err != nil {
		return false
	}
	got, err := e.interpret(p, res, e.world.Env(), run)
	return err == nil && Diff(got, kernels, true) == ""
}

func maxParams(p *program.Program) int {
	n := 0
	for i := range p.Funcs {
		n = max(n, p.Funcs[i].Params())
	}
	return n
}

// foundSeeds are programs that engines once disagreed on.
var foundSeeds = []uint64{
	17698, 18642, 55744, // precision was lost at the second slot of a wide load: live code was taken for dead
	40001624, // the kernel takes live code for dead, by a sign-extended fill that kept its link
}

// TestEngines runs random programs on the interpreter (without and with the verifier's facts), as compiled code and in
// the kernel: r0, packet and maps must be equal. -engine-programs and -engine-seed choose how many and which.
func TestEngines(t *testing.T) {
	e := newEngines(t)
	failed := 0
	seeds := foundSeeds
	for i := range *enginePrograms {
		seeds = append(seeds, *engineSeed+uint64(i))
		if i%4 == 0 {
			seeds = append(seeds, 1<<20+*engineSeed+uint64(i)) // these use more maps, and iterators
		}
		if i%8/2 == 1 {
			seeds = append(seeds, progen.ThrowSeeds+*engineSeed+uint64(i))
		}
	}
	for _, seed := range seeds {
		maxArgs := 5
		if seed%2 == 0 {
			maxArgs = 12
		}
		p := progen.New(seed, progen.ConfigFor(seed, maxArgs))
		if err := e.compare(p, seed); err != nil {
			t.Errorf("go test ./internal/difftest -run TestEngines -engine-seed %d -engine-programs 1\n%v", seed, err)
			if failed++; failed == 5 {
				t.FailNow()
			}
		}
	}
	c := e.counts
	t.Logf("%d programs: %d refused, %d interpreted without and %d with facts, %d compiled (%v), %d in the kernel (%v), wrong there by its known faults %d, too large for the kernel alone %d, throws in loops that it stumbles on %d, no verdict %d",
		len(seeds), c.refused, c.plain, c.interp, c.jit, e.jit, c.kernel, e.kernel, c.faults, c.size, c.bug, c.none)
	if c.none*1000 > len(seeds) && c.none > 2 {
		t.Errorf("the kernel gives no verdict on %d of %d programs", c.none, len(seeds))
	}
	if c.faults*1000 > len(seeds) && c.faults > 2 {
		t.Errorf("the kernel runs %d of %d programs wrong", c.faults, len(seeds))
	}
	if c.size*1000 > len(seeds) && c.size > 2 {
		t.Errorf("%d of %d programs are too large for the kernel alone", c.size, len(seeds))
	}
	if c.refused*20 > len(seeds) {
		t.Errorf("%d of %d programs refused", c.refused, len(seeds))
	}
}
