package difftest

import (
	"context"
	"errors"
	"flag"
	"testing"
	"time"

	"github.com/skep-bpf/skep/internal/progen"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/verifier"
)

var (
	exactPrograms = flag.Int("exact-programs", 400, "random programs of which each value is checked against the verifier's states")
	exactSeed     = flag.Uint64("exact-seed", 1, "seed of the first of them")
)

// TestConcreteInsideAbstract runs random programs in the interpreter and asks at every instruction whether the values
// it reads lie inside a state that the verifier recorded there.
func TestConcreteInsideAbstract(t *testing.T) {
	e := newEngines(t)
	var checked, long, refused, failed, steps int
	for i := range *exactPrograms {
		seed := *exactSeed + uint64(i)
		if i%8 == 7 {
			seed += progen.ThrowSeeds
		}
		maxArgs := 5
		if seed%2 == 0 {
			maxArgs = 12
		}
		p := progen.New(seed, progen.ConfigFor(seed, maxArgs))
		variant := "as made"
		n, err := exactOne(e.world, p, seed)
		var rejected *verifier.Error
		if err == nil {
			// What a mutation leaves acceptable does stranger things.
			variant = "mutated"
			var m int
			m, err = exactOne(e.world, progen.Mutate(p, seed), seed)
			n += m
			if errors.As(err, &rejected) {
				err = nil
			}
		}
		switch {
		case errors.Is(err, errTooLong):
			long++
		case errors.As(err, &rejected):
			refused++
		case err != nil:
			t.Errorf("go test ./internal/difftest -run TestConcreteInsideAbstract -exact-seed %d -exact-programs 1\n%s: %v", seed, variant, err)
			if failed++; failed == 5 {
				t.FailNow()
			}
		default:
			checked++
		}
		steps += n
	}
	t.Logf("%d programs: %d checked at %d instructions, %d too long, %d refused", *exactPrograms, checked, steps, long, refused)
	if (long+refused)*5 > *exactPrograms {
		t.Errorf("%d of %d programs not checked", long+refused, *exactPrograms)
	}
}

func exactOne(w *World, p *program.Program, seed uint64) (steps int, err error) {
	c, err := Record(p)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	// Several packets and fillings of the maps reach more of the program.
	for k := range uint64(4) {
		if err := w.Reset(progen.Prefill(seed + k)); err != nil {
			return steps, err
		}
		n, err := c.Check(ctx, w, progen.Packet(seed+k))
		steps += n
		if err != nil {
			return steps, err
		}
	}
	return steps, nil
}

// TestClaimsCatch makes sure that the check can fail: with the states, or a decided jump, of a program spoilt it must
// object.
func TestClaimsCatch(t *testing.T) {
	e := newEngines(t)
	p := progen.New(3, progen.ConfigFor(3, 5))
	c, err := Record(p)
	if err != nil {
		t.Fatal(err)
	}
	objects := func() bool {
		if err := e.world.Reset(nil); err != nil {
			t.Fatal(err)
		}
		_, err := c.Check(context.Background(), e.world, progen.Packet(3))
		return err != nil
	}
	if objects() {
		t.Fatal("an unspoilt program does not pass")
	}
	states, jumps := 0, 0
	for pc := range c.at {
		saved := c.at[pc]
		c.at[pc] = nil
		if objects() {
			states++
		}
		c.at[pc] = saved
		if fact := &c.res.Insns[pc].Branch; *fact != verifier.BranchUnknown {
			right := *fact
			*fact = verifier.BranchAlways + verifier.BranchNever - right
			if objects() {
				jumps++
			}
			*fact = right
		}
	}
	if states == 0 || jumps == 0 {
		t.Errorf("noticed %d instructions without states and %d wrong jumps", states, jumps)
	}
}
