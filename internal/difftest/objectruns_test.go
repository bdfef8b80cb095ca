package difftest

import (
	"context"
	"errors"
	"flag"
	"testing"
	"time"

	"github.com/skep-bpf/skep/helpers"
	"github.com/skep-bpf/skep/internal/asmtext"
	"github.com/skep-bpf/skep/internal/lower"
	"github.com/skep-bpf/skep/internal/native"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/internal/rt"
	"github.com/skep-bpf/skep/verifier"
)

var objRuns = flag.Int("object-runs", 600, "random programs on objects that run on every engine, those that are valid")

// objWorld is a program on one engine, with maps and objects of its own.
type objWorld struct {
	*World
	exe rt.Executable
}

func newObjWorld(p *program.Program, res *verifier.Result, load func(*program.Program, *verifier.Result, *lower.Env) (rt.Executable, error)) (*objWorld, error) {
	w, err := newWorld(p.Maps, p.Types)
	if err != nil {
		return nil, err
	}
	w.kfuncs = make([]lower.KfuncBinding, len(p.Kfuncs))
	env := w.Env()
	w.MakeObjects(env, res.Objects)
	exe, err := load(p, res, env)
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return &objWorld{w, exe}, nil
}

// TestObjectRuns runs random programs on objects a few times on the same maps: the interpreter finds no fault, compiled code leaves the same
// behind, and with the maps all objects go.
func TestObjectRuns(t *testing.T) {
	if program.HostTypes() == nil {
		t.Skip("the running kernel has no BTF")
	}
	loaders := map[string]func(*program.Program, *verifier.Result, *lower.Env) (rt.Executable, error){"interpreter": interpreted}
	if native.Supported() == nil {
		loaders["compiled"] = machineCode
	}
	ran, noted := 0, 0
	for i := range *objRuns {
		seed := *objSeed + uint64(i)
		src := objProgram(seed)
		p, err := asmtext.Program(src, asmtext.ProgramOptions{Name: "prog"})
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, src)
		}
		res, err := verifier.Verify(p, verifier.Options{Helpers: helpers.Proto, Kernel: program.HostTypes, InsnLimit: randomLimit})
		if err != nil {
			continue
		}
		var want []Outcome
		for _, name := range []string{"interpreter", "compiled"} {
			if loaders[name] == nil {
				continue
			}
			w, err := newObjWorld(p, res, loaders[name])
			if err != nil {
				t.Fatalf("seed %d: %s: %v\n%s", seed, name, err, src)
			}
			for n := range 4 {
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
				out, err := w.Run(ctx, w.exe, p.Type, make([]byte, 64))
				cancel()
				if err != nil {
					t.Fatalf("seed %d: %s, run %d: %v\n%s", seed, name, n, err, src)
				}
				if name == "interpreter" {
					want = append(want, out)
					if n > 0 && Diff(want[0], out, false) != "" {
						noted++
					}
				} else if d := Diff(want[n], out, false); d != "" {
					t.Fatalf("seed %d: run %d, interpreter and compiled code: %s\n%s", seed, n, d, src)
				}
			}
			w.close(t, seed)
		}
		ran++
	}
	t.Logf("%d programs ran, %d runs left something else than the first of the program", ran, noted)
	if ran < *objRuns/4 || noted < *objRuns/40 {
		t.Error("too few")
	}
}

func (w *objWorld) close(t *testing.T, seed uint64) {
	t.Helper()
	if err := errors.Join(w.exe.Close(), w.Close()); err != nil {
		t.Error(err)
	}
	for range 1000 {
		if n, _ := w.heap.InUse(); n == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
	n, _ := w.heap.InUse()
	t.Errorf("seed %d: %d objects are left", seed, n)
}
