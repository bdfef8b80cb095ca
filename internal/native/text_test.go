//go:build linux && (amd64 || arm64)

package native

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/skep-bpf/skep/internal/interp"
	"github.com/skep-bpf/skep/internal/ir"
	"github.com/skep-bpf/skep/internal/rt"
)

// TestNeverWritableAndExecutable reads the process's own mappings while code is loaded and closed.
func TestNeverWritableAndExecutable(t *testing.T) {
	check := func() (exec int) {
		maps, err := os.ReadFile("/proc/self/maps")
		if err != nil {
			t.Skip(err)
		}
		for _, l := range strings.Split(string(maps), "\n") {
			f := strings.Fields(l)
			if len(f) < 2 {
				continue
			}
			if strings.Contains(f[1], "w") && strings.Contains(f[1], "x") {
				t.Errorf("writable and executable: %s", l)
			}
			var lo, hi uintptr
			if fmt.Sscanf(f[0], "%x-%x", &lo, &hi); lo >= text.base && hi <= text.base+text.size && strings.Contains(f[1], "x") {
				exec += int(hi - lo)
			}
		}
		return exec
	}
	var codes []*Code
	for i := range 200 {
		c := load(t, prog("small", movImm(0, int64(i)), exit))
		codes = append(codes, c)
	}
	if n := check(); n > 64<<10 {
		t.Errorf("200 small programs take %d bytes of executable pages", n)
	}
	r := acquire(t)
	for i, c := range codes {
		if v, err := c.Exec(context.Background(), r); v != uint64(i) || err != nil {
			t.Fatal(i, v, err)
		}
		if i%2 == 0 {
			c.Close()
		}
	}
	check()
}

// TestTextSpace fills, frees and refills executable memory at random and checks that nobody's code is touched.
func TestTextSpace(t *testing.T) {
	if err := start(); err != nil {
		t.Fatal(err)
	}
	var s textSpace
	if err := s.reserve(); err != nil {
		t.Fatal(err)
	}
	s.free = []span{{0, 1 << 20}}
	defer munmap(s.base, s.size)
	type piece struct {
		addr uintptr
		n    int
		fill byte
	}
	var pieces []piece
	r := rand.New(rand.NewPCG(1, 1))
	for range 3000 {
		if len(pieces) > 0 && r.IntN(2) == 0 {
			i := r.IntN(len(pieces))
			s.remove(pieces[i].addr, pieces[i].n)
			pieces[i] = pieces[len(pieces)-1]
			pieces = pieces[:len(pieces)-1]
			continue
		}
		n := 1 + r.IntN(60)
		if r.IntN(10) == 0 {
			n = 1 + r.IntN(20000)
		}
		code := make([]byte, n)
		for i := range code {
			code[i] = byte(len(pieces))
		}
		a, err := s.add(code)
		if err == errTextFull {
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		pieces = append(pieces, piece{a, n, byte(len(pieces))})
		if r.IntN(20) == 0 {
			for _, p := range pieces {
				for _, b := range s.bytes(p.addr, p.n) {
					if b != p.fill {
						t.Fatal("code was overwritten")
					}
				}
			}
		}
	}
	for _, p := range pieces {
		s.remove(p.addr, p.n)
	}
	if len(s.free) != 1 || s.free[0] != (span{0, 1 << 20}) || s.used != 0 {
		t.Errorf("free pieces do not join: %v, %d used", s.free, s.used)
	}
}

// TestTextReplaced loads code where other code was that has just run, and beside code that runs meanwhile: nobody executes
// what was there before. (Processors and emulators keep copies of what they execute.)
func TestTextReplaced(t *testing.T) {
	endless := load(t, prog("endless", ir.Insn{Op: ir.Yield}, ir.Insn{Op: ir.Jmp}))
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	if rt.CPUs() > 1 {
		wg.Go(func() {
			r := rt.Acquire()
			defer r.Release()
			if _, err := endless.Exec(ctx, r); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
	at, page := map[uintptr]int{}, text.page
	var again, beside int
	for i := range 2000 {
		c, err := Load(prog("one", movImm(0, int64(i)), exit))
		if err != nil {
			t.Fatal(err)
		}
		if at[c[0].addr]++; at[c[0].addr] > 1 {
			again++
		}
		if c[0].addr/page == endless.addr/page {
			beside++
		}
		r := rt.Acquire()
		if v, err := c[0].Exec(context.Background(), r); v != uint64(i) || err != nil {
			t.Fatal(i, v, err)
		}
		r.Release()
		c[0].forget()
		text.remove(c[0].addr, c[0].size) // at once: the endless program does not run in it
	}
	if again < 1000 || beside < 1000 {
		t.Errorf("%d pieces used again, %d beside the running program", again, beside)
	}
}

// TestAllocations: a run allocates nothing, with and without host calls.
func TestAllocations(t *testing.T) {
	h := rt.Register(func(_ *rt.Run, a *[12]uint64) uint64 { return a[0] })
	defer rt.Unregister(h)
	r := acquire(t)
	for _, c := range []*Code{
		load(t, prog("plain", movImm(0, 3), exit)),
		load(t, prog("host", movImm(1, 3), ir.Insn{Op: ir.CallHost, Imm: int64(h), Sub: 12}, exit)),
	} {
		if n := testing.AllocsPerRun(100, func() {
			if v, err := c.Exec(context.Background(), r); v != 3 || err != nil {
				t.Fatal(v, err)
			}
		}); n != 0 {
			t.Errorf("%v allocations a run", n)
		}
	}
}

// TestLongJumps compares programs whose jumps need one and four bytes, forwards and backwards.
func TestLongJumps(t *testing.T) {
	b := newBench(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 3))
	for range 60 {
		n := 20 + r.IntN(1500)
		body := []ir.Insn{movImm(9, 0)}
		for len(body) < n {
			i := len(body)
			switch r.IntN(5) {
			case 0:
				d := 1 + r.IntN(60)
				if r.IntN(4) == 0 {
					d = 1 + r.IntN(n)
				}
				body = append(body, ir.Insn{Op: ir.Jcc, Sub: uint8(r.IntN(int(ir.NumConds))), W: 8, Dst: uint8(r.IntN(8)), Src: uint8(r.IntN(8)), Off: int32(min(i+d, n))})
			case 1: // backwards, while a counter lasts
				to := max(1, i-1-r.IntN(200))
				body = append(body, ir.Insn{Op: ir.Add, W: 8, Dst: 9, Imm: 1, Flag: ir.FlagImm},
					ir.Insn{Op: ir.Jcc, Sub: ir.LT, W: 8, Dst: 9, Imm: int64(i % 300), Flag: ir.FlagImm, Off: int32(to)})
			default:
				body = append(body, ir.Insn{Op: ir.Add + ir.Op(r.IntN(3)), W: 8, Dst: uint8(r.IntN(8)), Imm: int64(r.Int32()) >> r.IntN(32), Flag: ir.FlagImm})
			}
		}
		for i := range body {
			if body[i].Op.HasTarget() {
				body[i].Off = min(body[i].Off, int32(len(body)))
				if k := int(body[i].Off); k < len(body) && body[k].Op == ir.Jcc && body[k].Dst == 9 {
					body[i].Off-- // never past the counter, or the loop might not end
				}
			}
		}
		b.compareAll([]*ir.Program{around("jumps", body...)}, [words]uint64{1, 2, 3, 4, 5, 6, 7, 8}, [words]uint64{})
	}
}

// TestFuncAddr: the address of a function is that of its code.
func TestFuncAddr(t *testing.T) {
	p := join("addr", make([]ir.Func, 3), []ir.Insn{{Op: ir.FuncAddr, Dst: 7, Off: 2}, {Op: ir.Call, Off: 1}, mov(0, 7), exit},
		[]ir.Insn{movImm(0, 1), exit}, []ir.Insn{movImm(0, 2), exit})
	c := load(t, p)
	got, err := c.Exec(context.Background(), acquire(t))
	if want := uint64(c.addr) + uint64(c.jit.Funcs[2]); got != want || err != nil {
		t.Errorf("%#x, %v, want %#x", got, err, want)
	}
	if ic, err := interp.New(p, interp.Options{}); err != nil {
		t.Error(err)
	} else if got, err := ic.Exec(context.Background(), acquire(t)); got != 1<<63+2 || err != nil {
		t.Errorf("the interpreter: %#x, %v", got, err)
	}
}

// TestDisassemblyPlaces: every BPF instruction that has code is found from it, in order of the code.
func TestPlaces(t *testing.T) {
	c := load(t, loop("loop", 5))
	last := -2
	for off := range c.Text() {
		pc := c.PCAt(off)
		if pc != last && pc == -1 && off > 0 {
			t.Errorf("code at %d belongs to nothing", off)
		}
		last = pc
	}
	if c.PCAt(len(c.Text())-1) == c.PCAt(0) {
		t.Error("all code belongs to one instruction")
	}
}
