package amd64

import (
	"testing"

	"github.com/skep-bpf/skep/internal/ir"
	"github.com/skep-bpf/skep/internal/jit/jittest"
)

func BenchmarkCompile1000(b *testing.B) {
	p := jittest.Mixed(1000)
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
	small, large := count(jittest.Mixed(100)), count(jittest.Mixed(5000))
	if large > 2*small+16 {
		t.Errorf("%v allocations for 100 instructions, %v for 5000", small, large)
	}
}

// TestPlaces: places ascend and are inside the code, and every instruction's code is found from its offset.
func TestPlaces(t *testing.T) {
	c, err := Compile(jittest.Mixed(2000), Options{})
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
