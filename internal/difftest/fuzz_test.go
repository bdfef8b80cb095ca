package difftest

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/helpers"
	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/kernel"
	"github.com/skep-bpf/skep/internal/lower"
	"github.com/skep-bpf/skep/internal/native"
	"github.com/skep-bpf/skep/internal/progen"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/verifier"
)

// fuzzConfig makes a configuration out of what the fuzzer gives.
func fuzzConfig(typ, statements, functions, maxArgs uint8, maps bool) progen.Config {
	return progen.Config{
		Type:       []ebpf.ProgramType{ebpf.XDP, ebpf.SchedCLS, ebpf.SocketFilter}[typ%3],
		Statements: 1 + int(statements%48), Functions: int(functions % 6), MaxArgs: int(maxArgs % 13), Maps: maps,
	}
}

func addConfigs(f *testing.F) {
	for seed := range uint64(12) {
		f.Add(seed, uint8(seed), uint8(4+3*seed), uint8(seed%5), uint8(12), seed%3 != 0)
	}
}

// FuzzEngines: every engine gives the same r0, packet and maps.
func FuzzEngines(f *testing.F) {
	addConfigs(f)
	e := newEngines(f)
	f.Fuzz(func(t *testing.T, seed uint64, typ, statements, functions, maxArgs uint8, maps bool) {
		p := progen.New(seed, fuzzConfig(typ, statements, functions, maxArgs, maps))
		if err := e.compare(p, seed); err != nil {
			t.Error(err)
		}
	})
}

// FuzzVerdict: both verifiers say the same of a program and of its mutation.
func FuzzVerdict(f *testing.F) {
	if err := kernel.Available(); err != nil {
		f.Skip(err)
	}
	addConfigs(f)
	f.Fuzz(func(t *testing.T, seed uint64, typ, statements, functions, maxArgs uint8, maps bool) {
		p := progen.New(seed, fuzzConfig(typ, statements, functions, maxArgs%6, maps))
		for n, q := range []*program.Program{p, progen.Mutate(p, seed)} {
			v, err := judge(q, 0, randomLimit)
			if err == nil && v.differs() {
				t.Errorf("variant %d: we %t (%s), the kernel %t (%s)", n, v.Ours, v.OurReason, v.Kernel, v.KernelReason)
			}
		}
	})
}

// FuzzExact: every value of a run lies inside a state that the verifier recorded, of random programs and of mutations.
func FuzzExact(f *testing.F) {
	addConfigs(f)
	e := newEngines(f)
	f.Fuzz(func(t *testing.T, seed uint64, typ, statements, functions, maxArgs uint8, maps bool) {
		p := progen.New(seed, fuzzConfig(typ, statements, functions, maxArgs, maps))
		for _, q := range []*program.Program{p, progen.Mutate(p, seed)} {
			_, err := exactOne(e.world, q, seed)
			var rejected *verifier.Error
			if err != nil && !errors.Is(err, errTooLong) && !errors.As(err, &rejected) {
				t.Error(err)
			}
		}
	})
}

// FuzzRaw takes any bytes for a program: the verifier must not panic, and what it accepts must run without a fault and
// inside the verifier's states, and compile.
func FuzzRaw(f *testing.F) {
	for seed := range uint64(24) {
		p := progen.New(seed, progen.ConfigFor(seed, 5))
		if len(p.Funcs) == 1 {
			f.Add(uint8(seed), isa.Encode(p.Insns, binary.LittleEndian))
		}
	}
	f.Add(uint8(0), isa.Encode([]isa.Insn{{Op: isa.ClassALU64 | isa.AluMOV}, {Op: isa.ClassJMP | isa.JmpEXIT}}, binary.LittleEndian))
	e := newEngines(f)
	maps := progen.New(0, progen.ConfigFor(0, 5)).Maps
	f.Fuzz(func(t *testing.T, typ uint8, code []byte) {
		insns, err := isa.Decode(code[:len(code)&^7], binary.LittleEndian)
		if err != nil || len(insns) == 0 || len(insns) > 4096 {
			return
		}
		p, err := program.New(&program.Program{
			Name: "raw", Type: []ebpf.ProgramType{ebpf.XDP, ebpf.SchedCLS, ebpf.SocketFilter}[typ%3], License: "GPL", Insns: insns, Maps: maps,
		})
		if err != nil {
			return
		}
		if _, err := verifier.Verify(p, verifier.Options{Helpers: helpers.Proto, Kernel: program.HostTypes, InsnLimit: recordLimit}); err != nil {
			return
		}
		c, err := Record(p)
		if errors.Is(err, errTooLong) {
			return
		}
		if err != nil {
			t.Fatalf("accepted, but refused with exact states: %v", err)
		}
		if err := e.world.Reset(progen.Prefill(0)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if _, err := c.Check(ctx, e.world, progen.Packet(0)); err != nil && ctx.Err() == nil {
			t.Errorf("accepted, but: %v", err)
		}
		if e.jit == nil {
			if err := compiles(p, c.res, e.world); err != nil {
				t.Error(err)
			}
		}
	})
}

// compiles lowers and compiles a program with its facts.
func compiles(p *program.Program, res *verifier.Result, w *World) error {
	code, err := lower.Lower(p, res, w.Env())
	if err != nil {
		return err
	}
	exes, err := native.Load(code)
	if err != nil {
		return err
	}
	return exes[0].Close()
}
