package progen_test

import (
	"flag"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/kernel"
	"github.com/skep-bpf/skep/internal/progen"
)

var programs = flag.Int("progen-programs", 400, "programs that the kernel judges")

// TestDeterministic makes each program twice.
func TestDeterministic(t *testing.T) {
	for seed := range uint64(50) {
		c := progen.ConfigFor(seed, 12)
		a, b := progen.New(seed, c), progen.New(seed, c)
		if d := cmp.Diff(a.Insns, b.Insns); d != "" {
			t.Fatalf("seed %d: %s", seed, d)
		}
		if d := cmp.Diff(progen.Mutate(a, seed).Insns, progen.Mutate(b, seed).Insns); d != "" {
			t.Fatalf("seed %d: mutations differ: %s", seed, d)
		}
		if d := cmp.Diff(progen.Packet(seed), progen.Packet(seed)); d != "" {
			t.Fatalf("seed %d: packets differ: %s", seed, d)
		}
	}
}

// TestCoverage counts what programs use: every operation of the instruction set has to appear, and calls of each
// number of arguments.
func TestCoverage(t *testing.T) {
	ops := map[uint8]int{}
	atomics := map[int32]int{}
	args := map[int]int{}
	for seed := range uint64(600) {
		p := progen.New(seed, progen.ConfigFor(seed, 12))
		for pc := 0; pc < len(p.Insns); pc++ {
			in := p.Insns[pc]
			ops[in.Op]++
			if in.Class() == isa.ClassSTX && in.Mode() == isa.ModeATOMIC {
				atomics[in.Imm]++
			}
			if in.IsPseudoCall() {
				args[p.Funcs[p.FuncAt(pc+1+int(in.Imm))].Params()]++
			}
			if in.IsLdImm64() {
				pc++
			}
		}
	}
	for _, class := range []uint8{isa.ClassALU, isa.ClassALU64} {
		for op := uint8(isa.AluADD); op <= isa.AluEND && op != 0xe0; op += 0x10 {
			if ops[class|op] == 0 || op != isa.AluNEG && op != isa.AluEND && ops[class|op|isa.SrcX] == 0 {
				t.Errorf("no %#x", class|op)
			}
		}
	}
	for _, class := range []uint8{isa.ClassJMP, isa.ClassJMP32} {
		for op := uint8(isa.JmpJEQ); op <= isa.JmpJSLE; op += 0x10 {
			if op != isa.JmpCALL && op != isa.JmpEXIT && (ops[class|op] == 0 || ops[class|op|isa.SrcX] == 0) {
				t.Errorf("no %#x", class|op)
			}
		}
	}
	for _, size := range []uint8{isa.SizeB, isa.SizeH, isa.SizeW, isa.SizeDW} {
		for _, op := range []uint8{isa.ClassLDX | isa.ModeMEM, isa.ClassLDX | isa.ModeMEMSX, isa.ClassST | isa.ModeMEM, isa.ClassSTX | isa.ModeMEM} {
			if ops[op|size] == 0 && op|size != isa.ClassLDX|isa.ModeMEMSX|isa.SizeDW {
				t.Errorf("no %#x", op|size)
			}
		}
	}
	for _, imm := range []int32{isa.AtomicADD, isa.AtomicOR, isa.AtomicAND, isa.AtomicXOR, isa.AtomicADD | isa.AtomicFETCH,
		isa.AtomicOR | isa.AtomicFETCH, isa.AtomicAND | isa.AtomicFETCH, isa.AtomicXOR | isa.AtomicFETCH, isa.AtomicXCHG, isa.AtomicCMPXCHG} {
		if atomics[imm] == 0 {
			t.Errorf("no atomic %#x", imm)
		}
	}
	for n := range 13 {
		if args[n] == 0 {
			t.Errorf("no call with %d arguments", n)
		}
	}
}

// TestKernelAccepts has the kernel judge programs of up to five arguments: nearly all must be valid, or comparing runs
// would compare little.
func TestKernelAccepts(t *testing.T) {
	if err := kernel.Available(); err != nil {
		t.Skip(err)
	}
	rejected := map[string]int{}
	bad, insns := 0, 0
	for seed := range uint64(*programs) {
		p := progen.New(seed, progen.ConfigFor(seed, 5))
		insns += len(p.Insns)
		ok, log, err := kernel.Verify(p, 0)
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, log)
		}
		if !ok {
			bad++
			lines := strings.Split(strings.TrimSpace(log), "\n")
			for len(lines) > 1 && (strings.HasPrefix(lines[len(lines)-1], "processed") || strings.HasPrefix(lines[len(lines)-1], "stack depth") ||
				strings.HasPrefix(lines[len(lines)-1], "verification time")) {
				lines = lines[:len(lines)-1]
			}
			rejected[lines[len(lines)-1]]++
			if testing.Verbose() {
				t.Logf("seed %d: %s", seed, lines[len(lines)-1])
			}
		}
	}
	t.Logf("%d programs of %d instructions on average, %d refused", *programs, insns/(*programs), bad)
	if bad*50 > *programs {
		t.Errorf("%d of %d programs are refused: %v", bad, *programs, rejected)
	}
}
