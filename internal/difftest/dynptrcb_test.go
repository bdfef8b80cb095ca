package difftest

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/helpers"
	"github.com/skep-bpf/skep/internal/asmtext"
	"github.com/skep-bpf/skep/internal/kernel"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/maps"
	"github.com/skep-bpf/skep/verifier"
)

// This file has functions of the program use dynptrs on their caller's stack: a callback of bpf_loop, one of bpf_user_ringbuf_drain,
// and a static function. What the verifiers accept runs on both engines.

// dynptrCallees are those functions, and how they are called with the caller's frame.
var dynptrCallees = []struct{ call, head string }{
	{
		"r1 = ROUNDS\nr2 = cb ll\nr3 = r10\nr4 = 0\ncall 181\n",
		".func int cb(u32 i, void *ctx)\nr6 = r2\n" + lookupBelow,
	}, {
		"r1 = map[user] ll\nr2 = cb ll\nr3 = r10\nr4 = 0\ncall 209\n",
		".func int cb(struct bpf_dynptr *p, void *ctx)\nr6 = r2\nr7 = r1\n", // the record stands for the array's value
	}, {
		"r1 = 0\nr2 = r10\ncall cb\n",
		".func int cb(u32 i, void *ctx)\nr6 = r2\n" + lookupBelow,
	},
}

const lookupBelow = "r1 = map[array] ll\nr2 = r6\nr2 += -104\ncall 1\nif r0 == 0 goto cend\nr7 = r0\n"

var mainLabel = regexp.MustCompile(`\bl(\d+)\b`)

// inCallee makes steps of the main function steps of one that has the main function's frame in r6, and the context in it.
func inCallee(steps string) string {
	steps = mainLabel.ReplaceAllString(steps, "c$1")
	steps = strings.ReplaceAll(steps, "= r6\n", "= *(u64 *)(r6 - 120)\n")
	return strings.ReplaceAll(steps, "r10", "r6")
}

// steps adds random steps, and the labels that they jump to.
func (g *dynptrGen) steps(n int) {
	for range n {
		at := g.s.Len()
		g.step()
		if s := g.s.String(); strings.Contains(s[at:], "call f\n") { // that is another test's
			g.s.Reset()
			g.s.WriteString(s[:at])
		}
	}
}

func (g *dynptrGen) land(from int) {
	for i := from; i < g.n; i++ {
		g.printf("l%d: r0 = 0\n", i)
	}
}

func dynptrCallbackProgram(seed uint64) string {
	r := rand.New(rand.NewPCG(seed, 77))
	callee := dynptrCallees[r.IntN(len(dynptrCallees))]
	g := dynptrGen{r: r, live: map[int]bool{}}
	g.printf("r6 = r1\n*(u64 *)(r10 - 120) = r6\n*(u64 *)(r10 - 112) = 0\n*(u64 *)(r10 - 104) = 0\n")
	g.printf("r1 = map[array] ll\nr2 = r10\nr2 += -104\ncall 1\nr7 = r0\nr8 = 0\nr9 = 0\nif r7 == 0 goto end\n")
	g.steps(1 + r.IntN(8))
	g.land(0)
	g.printf("%s", strings.Replace(callee.call, "ROUNDS", string('0'+rune(r.IntN(4))), 1))

	inner := dynptrGen{r: r, live: g.live}
	inner.steps(1 + r.IntN(5))
	inner.land(0)

	from := g.n
	g.steps(r.IntN(8))
	g.land(from)
	g.release()
	g.printf("end: r0 = 0\nexit\n%sr8 = 0\nr9 = 0\n%scend: r0 = 0\nexit\n", callee.head, inCallee(inner.s.String()))
	return ".type tc\n.map user user_ringbuf 0 0 4096\n" + dynptrHead + withKfuncs(g.s.String())
}

// TestDynptrCallbacks has both verifiers judge random programs whose functions use their caller's dynptrs, and runs what both accept.
func TestDynptrCallbacks(t *testing.T) {
	if err := kernel.Available(); err != nil {
		t.Skip("the running kernel is the oracle of dynptrs: ", err)
	}
	runs, differ := 0, 0
	total := 2 * *verdictPrograms
	for i := range total {
		seed := *verdictSeed + uint64(i)
		src := dynptrCallbackProgram(seed)
		p, err := asmtext.Program(src, asmtext.ProgramOptions{Name: "dynptrs"})
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, src)
		}
		v, err := judge(p, 0, randomLimit)
		if err == errTooLong {
			continue
		}
		d := disagree(p, v, err)
		if d != "" && saysWithFaults(p, v) {
			d = ""
		}
		if d == "" && v.Ours {
			runs++
			if err := runWithRecords(p); err != nil {
				d = err.Error()
			}
		}
		if d != "" {
			if differ++; differ <= 10 {
				t.Errorf("seed %d: %s\n%s", seed, d, src)
			}
		}
	}
	t.Logf("%d programs, %d run, %d differ", total, runs, differ)
	if runs == 0 {
		t.Error("no program was run")
	}
}

// runWithRecords runs a program on skep's engines, with records to drain.
func runWithRecords(p *program.Program) error {
	res, err := verifier.Verify(p, verifier.Options{Helpers: helpers.Proto, Kernel: program.HostTypes})
	if err != nil {
		return err
	}
	return dynptrOnEngines(p, res, make([]byte, 64), false)
}

// putRecords puts records into the user ring buffers of a world.
func putRecords(w *World) {
	for _, m := range w.maps {
		if m.Type() == ebpf.UserRingbuf {
			maps.SideOf(m).Ring().Put(make([]byte, 64))
			maps.SideOf(m).Ring().Put(make([]byte, 8))
		}
	}
}
