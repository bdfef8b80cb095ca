package difftest

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/skep-bpf/skep/internal/asmtext"
	"github.com/skep-bpf/skep/internal/kernel"
	"github.com/skep-bpf/skep/internal/program"
)

var (
	lockPrograms = flag.Int("lock-programs", 600, "random programs on locks and timers that both verifiers judge")
	lockSeed     = flag.Uint64("lock-seed", 1, "seed of the first of them")
)

const lockHead = `
.struct bpf_spin_lock { u32 val; }
.struct bpf_res_spin_lock { u32 val; }
.struct bpf_timer { u64 opaque[2]; }
.struct value { struct bpf_spin_lock lock; int n; struct bpf_timer t; }
.struct other { struct bpf_res_spin_lock lock; int n; long x[2]; }
.map m array 4 24 4 key=int value=value
.map h hash 4 24 4 key=int value=value
.map o array 4 24 4 key=int value=other
.map inner array 4 24 4 key=int value=value
.map w array_of_maps 4 4 4 inner=inner
.kfunc int bpf_res_spin_lock(void *l) unresolved
.kfunc void bpf_res_spin_unlock(void *l) unresolved
.type tc
`

// lockGen makes the text of a random program on locks: values of several maps in r6 to r8, which it takes and releases the locks of, in
// branches, loops, functions and callbacks.
type lockGen struct {
	*rand.Rand
	sense  int
	held   []int   // registers whose locks it thinks to hold
	res    [3]bool // the register has a value with the other kind of lock
	code   strings.Builder
	labels int
}

func (g *lockGen) emit(format string, args ...any) { fmt.Fprintf(&g.code, format+"\n", args...) }

func (g *lockGen) wild() bool { return g.IntN(g.sense) == 0 }

// lookup puts a value into register r.
func (g *lockGen) lookup(r int) {
	kinds := 6
	if r == 6 {
		kinds = 4 // always one with a plain lock and a timer
	}
	m := []string{"m", "m", "h", "w", "o", "o"}[g.IntN(kinds)]
	g.res[r-6] = m == "o"
	g.emit("*(u32 *)(r10 - 4) = %d\nr1 = map[%s] ll\nr2 = r10\nr2 += -4\ncall bpf_map_lookup_elem\nif r0 == 0 goto out", g.IntN(6), m)
	if m == "w" {
		g.emit("r1 = r0\nr2 = r10\nr2 += -4\ncall bpf_map_lookup_elem\nif r0 == 0 goto out")
	}
	g.emit("r%d = r0", r)
}

func (g *lockGen) lock(r int) {
	if !g.res[r-6] {
		if len(g.held) == 0 || g.wild() {
			g.emit("r1 = r%d\ncall bpf_spin_lock", r)
			g.held = append(g.held, r)
		}
		return
	}
	g.emit("r1 = r%d\ncall bpf_res_spin_lock", r)
	if g.wild() {
		return
	}
	// without the lock, those that are held are released and the program ends
	g.labels++
	n := g.labels
	g.emit("if r0 == 0 goto got%d", n)
	held := append([]int(nil), g.held...)
	g.end()
	g.held = append(held, r)
	g.emit("got%d:", n)
}

func (g *lockGen) unlock() {
	if len(g.held) == 0 {
		if g.wild() {
			g.emit("r1 = r6\ncall bpf_spin_unlock")
		}
		return
	}
	i := len(g.held) - 1
	if g.wild() {
		i = g.IntN(len(g.held))
	}
	r := g.held[i]
	g.held = append(g.held[:i], g.held[i+1:]...)
	if g.wild() {
		r = 6 + g.IntN(3)
	}
	if g.res[r-6] {
		g.emit("r1 = r%d\ncall bpf_res_spin_unlock", r)
	} else {
		g.emit("r1 = r%d\ncall bpf_spin_unlock", r)
	}
}

// end releases what is held and ends the program.
func (g *lockGen) end() {
	for len(g.held) > 0 && !g.wild() {
		g.unlock()
	}
	g.emit("r0 = 0\nexit")
}

func (g *lockGen) step() {
	r := 6 + g.IntN(3)
	switch g.IntN(10) {
	case 0, 1:
		g.lock(r)
	case 2, 3:
		g.unlock()
	case 4:
		g.emit("r1 = *(u32 *)(r%d + 4)\n*(u32 *)(r%d + 4) = %d", r, r, g.IntN(3))
	case 5: // one way locks and unlocks, or not
		g.labels++
		n := g.labels
		held := append([]int(nil), g.held...)
		g.emit("r9 = *(u32 *)(r%d + 4)\nif r9 == 0 goto skip%d", r, n)
		g.step()
		for len(g.held) > len(held) && !g.wild() {
			g.unlock()
		}
		g.held = held
		g.emit("skip%d:", n)
	case 6:
		g.labels++
		g.emit("r9 = %d\nloop%d:\n*(u32 *)(r%d + 4) = 1\nr9 -= 1\nif r9 != 0 goto loop%d", 1+g.IntN(4), g.labels, r, g.labels)
	case 7:
		if !g.res[r-6] && (len(g.held) == 0 || g.wild()) {
			g.emit("r1 = r%d\ncall both", r)
		}
	case 8:
		if len(g.held) == 0 || g.wild() {
			g.emit("r1 = %d\nr2 = round ll\nr3 = 0\nr4 = 0\ncall bpf_loop", g.IntN(3))
		}
	case 9:
		if !g.res[r-6] && (len(g.held) == 0 || g.wild()) {
			g.emit("r1 = r%d\nr1 += 8\nr2 = later ll\ncall bpf_timer_set_callback", r)
		}
	}
}

// lockProgram is the text of the program of a seed.
func lockProgram(seed uint64) string {
	g := &lockGen{Rand: rand.New(rand.NewPCG(seed, 29))}
	g.sense = []int{80, 30, 8}[g.IntN(3)]
	g.emit(".func int prog(void *ctx) global")
	for r := 6; r <= 8; r++ {
		g.lookup(r)
	}
	// Every function is used: the kernel takes those out that are not walked, and stumbles over pointers to them.
	g.emit("r1 = r6\ncall both\nr1 = 2\nr2 = round ll\nr3 = 0\nr4 = 0\ncall bpf_loop\nr1 = r6\nr1 += 8\nr2 = later ll\ncall bpf_timer_set_callback")
	for range 3 + g.IntN(14) {
		g.step()
	}
	g.end()
	g.emit("out:\nr0 = 0\nexit")
	g.sense *= 4
	g.emit(".func int both(void *value)\nr6 = r1\ncall bpf_spin_lock\nr1 = r6")
	if !g.wild() {
		g.emit("call bpf_spin_unlock")
	}
	g.emit("r0 = 0\nexit\n.func long round(long i, void *ctx)")
	g.callback("r0 = 0")
	g.emit(".func int later(void *map, void *key, void *value)\nr7 = r3\nr1 = r7\ncall bpf_spin_lock\n*(u32 *)(r7 + 4) = 7\nr1 = r7")
	if !g.wild() {
		g.emit("call bpf_spin_unlock")
	}
	if g.IntN(3) == 0 {
		g.emit("r1 = r7\nr1 += 8\nr2 = later ll\ncall bpf_timer_set_callback")
	}
	g.emit("r0 = %d\nexit", map[bool]int{true: 1}[g.wild()])
	return lockHead + g.code.String()
}

// callback looks a value up and takes its lock for a while.
func (g *lockGen) callback(result string) {
	g.emit("*(u32 *)(r10 - 4) = 1\nr1 = map[m] ll\nr2 = r10\nr2 += -4\ncall bpf_map_lookup_elem\nif r0 == 0 goto done\nr6 = r0\nr1 = r6\ncall bpf_spin_lock")
	if !g.wild() {
		g.emit("r1 = r6\ncall bpf_spin_unlock")
	}
	g.emit("done:\n%s\nexit", result)
}

// TestLocks has both verifiers judge random programs on locks: in branches, loops, functions, callbacks and timers.
func TestLocks(t *testing.T) {
	if err := kernel.Available(); err != nil {
		t.Skip(err)
	}
	if program.HostTypes() == nil {
		t.Skip("the running kernel has no BTF")
	}
	accepted, refused, differ := 0, 0, 0
	for i := range *lockPrograms {
		seed := *lockSeed + uint64(i)
		src := lockProgram(seed)
		p, err := asmtext.Program(src, asmtext.ProgramOptions{Name: "prog"})
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, src)
		}
		v, err := judge(p, 0, 0)
		switch d := disagree(p, v, err); {
		case d != "":
			if differ++; differ <= 6 {
				t.Errorf("go test ./internal/difftest -run TestLocks -lock-seed %d -lock-programs 1\n%s%s", seed, src, d)
			}
		case v.Ours:
			accepted++
		default:
			refused++
		}
	}
	t.Logf("both accept %d, both refuse %d, %d differ", accepted, refused, differ)
}
