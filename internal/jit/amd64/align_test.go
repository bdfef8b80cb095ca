package amd64

import (
	"testing"

	"golang.org/x/arch/x86/x86asm"

	"github.com/skep-bpf/skep/internal/ir"
)

// TestLoopLines: whatever stands in front of it, a loop that fits into a line of the cache lies in one, and a larger one
// begins at a multiple of 16. Nested loops and jumps over a loop keep their targets.
func TestLoopLines(t *testing.T) {
	for body := 1; body < 24; body++ {
		for before := range 70 {
			var in []ir.Insn
			add := func(i ir.Insn) { in = append(in, i) }
			add(imm(ir.Mov, 8, 0, 0))
			for range before {
				add(imm(ir.Xor, 8, 0, 5))
			}
			head := len(in)
			for range body {
				add(imm(ir.Add, 8, 0, 3))
			}
			add(ir.Insn{Op: ir.Jcc, Sub: ir.LT, W: 8, Dst: 0, Imm: 100, Flag: ir.FlagImm, Off: int32(head)})
			add(exit)
			p := &ir.Program{Name: "loop", Insns: in, Funcs: []ir.Func{{End: len(in)}}}
			code, err := Compile(p, Options{})
			if err != nil {
				t.Fatal(err)
			}
			checkLoop(t, code.Text, before, body)
		}
	}
}

// checkLoop finds the one jump back in code and looks where it and its target lie.
func checkLoop(t *testing.T, code []byte, before, body int) {
	t.Helper()
	starts := map[int]bool{}
	loops := 0
	for pc := 0; pc < len(code); {
		starts[pc] = true
		in, err := x86asm.Decode(code[pc:], 64)
		if err != nil {
			t.Fatalf("%d before, body of %d, at %#x: % x: %v", before, body, pc, code[pc:], err)
		}
		pc += in.Len
		rel, ok := in.Args[0].(x86asm.Rel)
		if !ok || rel >= 0 {
			continue
		}
		loops++
		head := pc + int(rel)
		const shortest = 6 // bytes of the jump back of these loops, which counts as backBytes
		switch size := pc - head + backBytes - shortest; {
		case !starts[head]:
			t.Errorf("%d before, body of %d: the jump back goes into the middle of an instruction, %#x", before, body, head)
		case size <= cacheLine && head/cacheLine != (pc-1)/cacheLine:
			t.Errorf("%d before, body of %d: a loop of %d bytes lies at %#x", before, body, size, head)
		case size > cacheLine && size <= largeLoops && head%loopAlign != 0:
			t.Errorf("%d before, body of %d: a loop of %d bytes begins at %#x", before, body, size, head)
		}
	}
	if loops != 1 {
		t.Errorf("%d before, body of %d: %d jumps back", before, body, loops)
	}
}

// TestNops: every length is made of instructions that do nothing.
func TestNops(t *testing.T) {
	for n := range maxPad + 1 {
		b := make([]byte, n)
		nops(b)
		for len(b) > 0 {
			in, err := x86asm.Decode(b, 64)
			if err != nil || in.Op != x86asm.NOP {
				t.Fatalf("%d bytes: % x: %v, %v", n, b, in, err)
			}
			b = b[in.Len:]
		}
	}
}
