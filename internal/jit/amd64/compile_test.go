package amd64

import (
	"math/rand/v2"
	"testing"

	"github.com/skep-bpf/skep/internal/ir"
)

// mixed makes a program of about n instructions with jumps, memory accesses and arithmetic.
func mixed(n int) *ir.Program {
	r := rand.New(rand.NewPCG(1, 1))
	p := &ir.Program{Name: "mixed"}
	for i := range n {
		in := ir.Insn{Op: ir.Add + ir.Op(r.IntN(int(ir.Arsh-ir.Add))), W: 8, Dst: uint8(r.IntN(10)), Src: uint8(r.IntN(10)), PC: int32(i)}
		switch r.IntN(6) {
		case 0:
			in = ir.Insn{Op: ir.Jcc, Sub: uint8(r.IntN(int(ir.NumConds))), W: 8, Dst: in.Dst, Imm: int64(r.IntN(300)), Flag: ir.FlagImm, Off: int32(min(i+1+r.IntN(60), n)), PC: int32(i)}
		case 1:
			in = ir.Insn{Op: ir.Load, W: 8, Dst: in.Dst, Src: 10, Off: -8, PC: int32(i)}
		case 2:
			in = ir.Insn{Op: ir.Store, W: 4, Dst: 10, Src: in.Src, Off: -16, PC: int32(i)}
		case 3:
			in.Src, in.Imm, in.Flag = 0, int64(r.Int32()), ir.FlagImm
		}
		if in.Op >= ir.Div && in.Op <= ir.SMod && r.IntN(5) != 0 {
			in.Op = ir.Xor
		}
		p.Insns = append(p.Insns, in)
	}
	p.Insns = append(p.Insns, ir.Insn{Op: ir.Exit, PC: int32(n)})
	p.Funcs = []ir.Func{{End: len(p.Insns), Stack: 16}}
	return p
}

func BenchmarkCompile1000(b *testing.B) {
	p := mixed(1000)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Compile(p, Options{BMI2: true}); err != nil {
			b.Fatal(err)
		}
	}
}

// TestCompileAllocations: the number of allocations does not grow with the program.
func TestCompileAllocations(t *testing.T) {
	count := func(p *ir.Program) float64 {
		return testing.AllocsPerRun(10, func() {
			if _, err := Compile(p, Options{}); err != nil {
				t.Fatal(err)
			}
		})
	}
	small, large := count(mixed(100)), count(mixed(5000))
	if large > 2*small+16 {
		t.Errorf("%v allocations for 100 instructions, %v for 5000", small, large)
	}
}

// TestPlaces: places ascend and are inside the code, and every instruction's code is found from its offset.
func TestPlaces(t *testing.T) {
	c, err := Compile(mixed(2000), Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range c.Places {
		if i > 0 && c.Places[i].Off <= c.Places[i-1].Off && c.Places[i].Off != c.Places[i-1].Off {
			t.Fatalf("place %d at %d, the one before at %d", i, c.Places[i].Off, c.Places[i-1].Off)
		}
		if int(c.Places[i].Off) > len(c.Text) {
			t.Fatalf("place %d behind the code", i)
		}
	}
	if c.PCAt(-1) != -1 || c.PCAt(len(c.Text)-1) != 2000 {
		t.Errorf("the last instruction is %d", c.PCAt(len(c.Text)-1))
	}
}
