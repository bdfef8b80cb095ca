package difftest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/skep-bpf/skep/helpers"
	"github.com/skep-bpf/skep/internal/asmtext"
	"github.com/skep-bpf/skep/internal/interp"
	"github.com/skep-bpf/skep/internal/ir"
	"github.com/skep-bpf/skep/internal/kernel"
	"github.com/skep-bpf/skep/internal/lower"
	"github.com/skep-bpf/skep/internal/native"
	"github.com/skep-bpf/skep/internal/progen"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/internal/rt"
	"github.com/skep-bpf/skep/verifier"
)

// TestDynptrEngines runs the random programs on dynptrs that verify on every engine and in the kernel: results, packets and values are
// the same.
func TestDynptrEngines(t *testing.T) {
	noKernel := kernel.Available()
	ran, failed := 0, 0
	for i := range 2 * *enginePrograms {
		seed := *engineSeed + uint64(i)
		src := dynptrProgram(seed)
		p, err := asmtext.Program(src, asmtext.ProgramOptions{Name: "dynptrs"})
		if err != nil {
			t.Fatal(err)
		}
		res, err := verifier.Verify(p, verifier.Options{Helpers: helpers.Proto, Kernel: program.HostTypes, InsnLimit: randomLimit})
		if err != nil {
			continue
		}
		ran++
		if err := dynptrOnEngines(p, res, progen.Packet(seed), noKernel == nil); err != nil {
			if failed++; failed <= 5 {
				t.Errorf("seed %d: %v\n%s", seed, err, src)
			}
		}
	}
	t.Logf("%d programs on every engine (compiled code: %v, kernel: %v)", ran, native.Supported(), noKernel)
	if ran == 0 {
		t.Error("no program was accepted")
	}
}

// dynptrOnEngines runs one program everywhere, each time with new maps: what a ring was used for before can be read in it.
func dynptrOnEngines(p *program.Program, res *verifier.Result, packet []byte, inKernel bool) error {
	want, err := runFresh(p, res, packet, func(code *ir.Program) (rt.Executable, error) { return interp.New(code, interp.Options{}) })
	if err != nil {
		return fmt.Errorf("interpreter: %w", err)
	}
	if native.Supported() == nil {
		got, err := runFresh(p, res, packet, func(code *ir.Program) (rt.Executable, error) {
			exes, err := native.Load(code)
			if err != nil {
				return nil, err
			}
			return exes[0], nil
		})
		if err != nil {
			return fmt.Errorf("compiled: %w", err)
		}
		if d := Diff(want, got, false); d != "" {
			return fmt.Errorf("interpreter and compiled code: %s", d)
		}
	}
	if !inKernel {
		return nil
	}
	k, err := kernel.Load(p)
	if err != nil {
		return fmt.Errorf("kernel: %w", err)
	}
	defer k.Close()
	got, err := RunKernel(k, p, nil, packet)
	if err != nil {
		return fmt.Errorf("kernel: %w", err)
	}
	if d := Diff(want, got, true); d != "" {
		return fmt.Errorf("interpreter and kernel: %s", d)
	}
	return nil
}

func runFresh(p *program.Program, res *verifier.Result, packet []byte, load func(*ir.Program) (rt.Executable, error)) (Outcome, error) {
	w, err := NewWorld(p.Maps)
	if err != nil {
		return Outcome{}, err
	}
	defer w.Close()
	putRecords(w)
	code, err := lower.Lower(p, res, w.Env())
	if err != nil {
		return Outcome{}, err
	}
	exe, err := load(code)
	if err != nil {
		return Outcome{}, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	out, err := w.Run(ctx, exe, p.Type, packet)
	if c, ok := exe.(interface{ Close() error }); ok {
		if cerr := c.Close(); err == nil {
			err = cerr
		}
	}
	return out, err
}
