package arm64

import (
	"fmt"
	"regexp"
	"testing"

	"golang.org/x/arch/arm64/arm64asm"

	"github.com/skep-bpf/skep/internal/ir"
	"github.com/skep-bpf/skep/internal/jit/jittest"
)

func BenchmarkCompile1000(b *testing.B) {
	p := jittest.Mixed(1000)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Compile(p, Options{LSE: true}); err != nil {
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
	small, large := count(jittest.Mixed(100)), count(jittest.Mixed(5000))
	if large > 2*small+16 {
		t.Errorf("%v allocations for 100 instructions, %v for 5000", small, large)
	}
}

// TestPlaces: places ascend and are inside the code, in a program that has far branches too, and every instruction's code is found
// from its offset.
func TestPlaces(t *testing.T) {
	for _, n := range []int{2000, 60000} {
		c, err := Compile(jittest.Mixed(n), Options{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range c.Places {
			if i > 0 && c.Places[i].Off <= c.Places[i-1].Off {
				t.Fatalf("place %d at %d, the one before at %d", i, c.Places[i].Off, c.Places[i-1].Off)
			}
			if int(c.Places[i].Off) > len(c.Text) {
				t.Fatalf("place %d behind the code", i)
			}
		}
		if c.PCAt(-1) != -1 || c.PCAt(len(c.Text)-1) != n {
			t.Errorf("the last instruction is %d", c.PCAt(len(c.Text)-1))
		}
	}
}

// TestForeignRegisters: no instruction names x18, which is the platform's, x28, where Go finds its goroutine, or those between that
// are nobody's.
func TestForeignRegisters(t *testing.T) {
	foreign := regexp.MustCompile(`\b[wx](18|24|25|26|27|28)\b`)
	p := jittest.Mixed(20000)
	for dst := range uint8(10) {
		for src := range uint8(10) {
			var all []ir.Insn
			for op := ir.Mov; op <= ir.StoreRelease; op++ {
				for _, w := range []uint8{1, 2, 4, 8} {
					for _, flag := range []uint8{0, ir.FlagImm, ir.FlagFetch, ir.FlagSigned} {
						in := ir.Insn{Op: op, W: w, Dst: dst, Src: src, Imm: 0x12345677, Flag: flag, Sub: 2, Off: 0}
						one := &ir.Program{Insns: []ir.Insn{in, exit}, Funcs: []ir.Func{{End: 2, Stack: 64, OutArgs: 7}}}
						if ir.Check(one) == nil {
							all = append(all, in)
						}
					}
				}
			}
			p.Insns = append(all, p.Insns...)
		}
	}
	p.Insns = p.Insns[:len(p.Insns)-20001] // without those of Mixed, whose jumps have moved
	p.Insns = append(p.Insns, exit)
	p.Funcs = []ir.Func{{End: len(p.Insns), Stack: 64, OutArgs: 7}}
	for _, p := range []*ir.Program{p, jittest.Mixed(20000)} {
		for _, opt := range []Options{{}, {LSE: true}} {
			c, err := Compile(p, opt)
			if err != nil {
				t.Fatal(err)
			}
			checked := 0
			for off := 0; off < len(c.Text); off += 4 {
				in, err := arm64asm.Decode(c.Text[off:])
				if err != nil { // LSE: three register fields
					w := fmt.Sprintf("x%d x%d x%d", c.Text[off]&31, uint32(c.Text[off+1])<<3&31|uint32(c.Text[off])>>5, c.Text[off+2]&31)
					if foreign.MatchString(w) {
						t.Fatalf("% x", c.Text[off:off+4])
					}
					continue
				}
				if checked++; foreign.MatchString(arm64asm.GNUSyntax(in)) {
					t.Fatal(arm64asm.GNUSyntax(in))
				}
			}
			if checked < 10000 {
				t.Errorf("only %d instructions", checked)
			}
		}
	}
}
