package difftest

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/skep-bpf/skep/internal/asmtext"
	"github.com/skep-bpf/skep/internal/kernel"
)

// This file has random programs on references: sockets that are looked up, cast and released, memory of ring buffers, maps in maps.
// Most break a rule somewhere; the two verifiers have to find the same one.

const refMaps = `.map ring ringbuf 0 0 4096
.map array array 4 16 1
.map maps array_of_maps 4 4 1 inner=array
.map socks sockmap 4 4 1
`

// refStep is one random step: it works on the values in r7, r8 and r9.
func refStep(r *rand.Rand, n int) string {
	a, b := 7+r.IntN(3), 7+r.IntN(3)
	lookup := func(m string) string {
		return fmt.Sprintf("r1 = map[%s] ll\nr2 = r10\nr2 += -4\ncall 1\nr%d = r0\n", m, a)
	}
	switch r.IntN(18) {
	case 0, 1:
		return fmt.Sprintf("r1 = map[ring] ll\nr2 = %d\nr3 = 0\ncall 131\nr%d = r0\n", 8*r.IntN(3), a)
	case 2, 3:
		return fmt.Sprintf("r1 = r%d\nr2 = 0\ncall %d\n", a, 132+r.IntN(2))
	case 4:
		id := []int{84, 85, 99}[r.IntN(3)]
		return fmt.Sprintf("r1 = r6\nr2 = r10\nr2 += -16\nr3 = 12\nr4 = 0\nr5 = 0\ncall %d\nr%d = r0\n", id, a)
	case 5, 6:
		return fmt.Sprintf("r1 = r%d\ncall %d\nr%d = r0\n", a, []int{95, 96, 98}[r.IntN(3)], b)
	case 7, 8:
		return fmt.Sprintf("r1 = r%d\ncall 86\n", a)
	case 9:
		return fmt.Sprintf("r%d = r%d\n", a, b)
	case 10, 11, 12:
		return fmt.Sprintf("if r%d %s 0 goto %s\n", a, []string{"==", "!="}[r.IntN(2)], []string{"out", fmt.Sprintf("l%d", n)}[r.IntN(2)])
	case 13:
		return fmt.Sprintf("r0 = *(u32 *)(r%d + %d)\n", a, 4*r.IntN(4))
	case 14:
		return lookup([]string{"maps", "socks", "array"}[r.IntN(3)])
	case 15:
		return fmt.Sprintf("r1 = r%d\nr2 = r10\nr2 += -4\ncall 1\nr%d = r0\n", a, b)
	case 16:
		return fmt.Sprintf("*(u64 *)(r10 - 32) = r%d\nr%d = *(u64 *)(r10 - 32)\n", a, b)
	}
	return fmt.Sprintf("r%d = *(u64 *)(r6 + 168)\n", a)
}

func refProgram(seed uint64) string {
	r := rand.New(rand.NewPCG(seed, 7))
	var s strings.Builder
	s.WriteString(".type tc\n" + refMaps + "r6 = r1\n*(u64 *)(r10 - 8) = 0\n*(u64 *)(r10 - 16) = 0\nr7 = 0\nr8 = 0\nr9 = 0\n")
	n := 3 + r.IntN(12)
	for i := range n {
		s.WriteString(refStep(r, i))
		if i > 0 {
			fmt.Fprintf(&s, "l%d: r0 = 0\n", i-1)
		}
	}
	fmt.Fprintf(&s, "l%d: r0 = 0\nout: r0 = 0\nexit\n", n-1)
	return s.String()
}

// TestReferences has both verifiers judge random programs on references.
func TestReferences(t *testing.T) {
	if err := kernel.Available(); err != nil {
		t.Skip("the running kernel is the oracle of references: ", err)
	}
	accepted, differ := 0, 0
	total := 10 * *verdictPrograms
	for i := range total {
		seed := *verdictSeed + uint64(i)
		src := refProgram(seed)
		p, err := asmtext.Program(src, asmtext.ProgramOptions{Name: "refs"})
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, src)
		}
		v, err := judge(p, 0, randomLimit)
		if v.Ours && v.Kernel {
			accepted++
		}
		if d := disagree(p, v, err); d != "" && !strings.Contains(v.OurReason, "skep does not verify this yet") {
			if differ++; differ <= 10 {
				t.Errorf("seed %d: %s\n%s", seed, d, src)
			}
		}
	}
	t.Logf("%d programs, %d accepted, %d differ", total, accepted, differ)
	if accepted == 0 {
		t.Error("no program was accepted")
	}
}
