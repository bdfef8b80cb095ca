//go:build linux && (amd64 || arm64)

package native

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/skep-bpf/skep/internal/ir"
	"github.com/skep-bpf/skep/internal/rt"
)

func prog(name string, insns ...ir.Insn) *ir.Program {
	return &ir.Program{Name: name, Insns: insns, Funcs: []ir.Func{{Name: name, End: len(insns), Stack: 512, OutArgs: 7}}}
}

func load(t testing.TB, p *ir.Program) *Code {
	t.Helper()
	c, err := Load(p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c[0].Close() })
	return c[0]
}

func movImm(dst uint8, v int64) ir.Insn {
	return ir.Insn{Op: ir.Mov, W: 8, Dst: dst, Imm: v, Flag: ir.FlagImm}
}

var exit = ir.Insn{Op: ir.Exit}

func acquire(t testing.TB) *rt.Run {
	r := rt.Acquire()
	t.Cleanup(r.Release)
	return r
}

func TestReturn(t *testing.T) {
	c := load(t, prog("ret", movImm(0, 42), exit))
	got, err := c.Exec(context.Background(), acquire(t))
	if got != 42 || err != nil {
		t.Fatal(got, err)
	}
}

func TestHostCall(t *testing.T) {
	h := rt.Register(func(r *rt.Run, a *[12]uint64) (s uint64) {
		for i, v := range a {
			s += uint64(i+1) * v
		}
		return s
	})
	defer rt.Unregister(h)
	var in []ir.Insn
	want := uint64(0)
	for i := range 5 {
		in = append(in, movImm(uint8(i+1), int64(i+10)))
		want += uint64(i+1) * uint64(i+10)
	}
	for i := 6; i <= 12; i++ {
		in = append(in, ir.Insn{Op: ir.ArgStore, Sub: uint8(i), Imm: int64(-i), Flag: ir.FlagImm})
		want -= uint64(i * i)
	}
	in = append(in, movImm(6, 1), ir.Insn{Op: ir.CallHost, Imm: int64(h), Sub: 12}, ir.Insn{Op: ir.Add, W: 8, Dst: 0, Src: 6}, exit)
	got, err := load(t, prog("host", in...)).Exec(context.Background(), acquire(t))
	if got != want+1 || err != nil {
		t.Fatal(got, want, err)
	}
}

// TestHostCallArguments: all arguments of functions with 0 to 12 of them arrive.
func TestHostCallArguments(t *testing.T) {
	var got [12]uint64
	h := rt.Register(func(_ *rt.Run, a *[12]uint64) uint64 { got = *a; return 0 })
	defer rt.Unregister(h)
	r := acquire(t)
	for n := range 13 {
		var in []ir.Insn
		for i := 1; i <= n; i++ {
			if i <= 5 {
				in = append(in, movImm(uint8(i), int64(10*i)))
			} else {
				in = append(in, argStoreImm(i, int64(10*i)))
			}
		}
		c := load(t, prog("host", append(in, ir.Insn{Op: ir.CallHost, Imm: int64(h), Sub: uint8(n)}, exit)...))
		if _, err := c.Exec(context.Background(), r); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			if got[i] != uint64(10*(i+1)) {
				t.Errorf("%d arguments: %d", n, got[:n])
			}
		}
	}
}

func TestHostPanicAndError(t *testing.T) {
	boom := rt.Register(func(*rt.Run, *[12]uint64) uint64 { panic("boom") })
	wrong := errors.New("wrong")
	fail := rt.Register(func(r *rt.Run, _ *[12]uint64) uint64 { r.Err = wrong; return 0 })
	defer rt.Unregister(boom)
	defer rt.Unregister(fail)
	r := rt.Acquire()
	_, err := load(t, prog("boom", ir.Insn{Op: ir.CallHost, Imm: int64(boom), PC: 7}, exit)).Exec(context.Background(), r)
	if err == nil || err.Error() != "program boom: host function called at instruction 7 panicked: boom" {
		t.Error(err)
	}
	if _, err = load(t, prog("fail", ir.Insn{Op: ir.CallHost, Imm: int64(fail)}, exit)).Exec(context.Background(), r); !errors.Is(err, wrong) {
		t.Error(err)
	}
	r.Release()
}

func TestFault(t *testing.T) {
	c := load(t, prog("wild", movImm(1, 0x1230), ir.Insn{Op: ir.Load, W: 8, Dst: 0, Src: 1, Off: 4, PC: 5}, exit))
	r := acquire(t)
	for range 100 {
		_, err := c.Exec(context.Background(), r)
		var f *rt.Fault
		if !errors.As(err, &f) || f.Insn != 5 || f.Addr != 0x1234 || f.Program != "wild" {
			t.Fatal(err)
		}
	}
	var p *int
	func() { // Go's own faults are still Go's
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		*p = 1
	}()
	_, err := load(t, prog("trap", ir.Insn{Op: ir.Trap, PC: 3})).Exec(context.Background(), r)
	if want := "program trap: fault at instruction 3: reached an instruction that the proof excluded (address 0x0)"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// TestHeldList: machine code finds what the run holds.
func TestHeldList(t *testing.T) {
	r := acquire(t)
	look := load(t, prog("held", ir.Insn{Op: ir.Held, Dst: 6}, ir.Insn{Op: ir.Load, W: 8, Dst: 7, Src: 6}, ir.Insn{Op: ir.Add, W: 8, Dst: 6, Src: 7},
		ir.Insn{Op: ir.Load, W: 8, Dst: 0, Src: 6}, exit))
	first := rt.Held{Addr: 77, Kind: rt.HeldLock}
	expect := func(want uint64) {
		t.Helper()
		if got, err := look.Exec(context.Background(), r); got != want || err != nil {
			t.Error(got, err)
		}
	}
	expect(0)
	r.Hold(first)
	expect(77)
	r.Hold(rt.Held{Addr: 78})
	expect(78)
	r.GiveBack(78)
	expect(77)
	r.GiveBack(77)
	expect(0)
}

// TestAbandonedThrow: a run that ends between a throw and its catch leaves nothing to the next.
func TestAbandonedThrow(t *testing.T) {
	r := acquire(t)
	thrown := load(t, prog("thrown", ir.Insn{Op: ir.SetThrown, Imm: 1}, ir.Insn{Op: ir.Trap}))
	var f *rt.Fault
	if _, err := thrown.Exec(context.Background(), r); !errors.As(err, &f) {
		t.Fatal(err)
	}
	looks := load(t, prog("looks", movImm(0, 1), ir.Insn{Op: ir.IfThrown, Off: 3}, movImm(0, 2), exit))
	if got, err := looks.Exec(context.Background(), r); got != 2 || err != nil {
		t.Error(got, err)
	}
}

func loop(name string, n int64) *ir.Program {
	return prog(name,
		movImm(0, 0), movImm(1, n),
		ir.Insn{Op: ir.Yield},
		ir.Insn{Op: ir.Add, W: 8, Dst: 0, Src: 1},
		ir.Insn{Op: ir.Sub, W: 8, Dst: 1, Imm: 1, Flag: ir.FlagImm},
		ir.Insn{Op: ir.Jcc, Sub: ir.NE, W: 8, Dst: 1, Flag: ir.FlagImm, Off: 2},
		exit)
}

func TestLoop(t *testing.T) {
	const n = 100_000_000
	got, err := load(t, loop("loop", n)).Exec(context.Background(), acquire(t))
	if got != n*(n+1)/2 || err != nil {
		t.Fatal(got, err)
	}
}

func TestCancel(t *testing.T) {
	c := load(t, prog("forever", movImm(0, 0), ir.Insn{Op: ir.Yield, PC: 1}, ir.Insn{Op: ir.Jmp, Off: 1}))
	r := acquire(t)
	for range 3 {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
		start := time.Now()
		_, err := c.Exec(ctx, r)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		if d := time.Since(start); d > 2*time.Second {
			t.Error("took", d)
		}
		cancel()
	}
}

// TestNativeFunctionFaults: a fault inside a native kfunc, and one that runs off the machine stack, end the run with an
// error that names the calling instruction if it is known, in the entry function or in another.
func TestNativeFunctionFaults(t *testing.T) {
	if err := start(); err != nil {
		t.Fatal(err)
	}
	r := acquire(t)
	for _, k := range []struct {
		name, want string
		known      bool // where it was called
		code       []byte
	}{
		{"load", "fault in a native function", true, loadFrom16},
		{"frame", "fault in a native function", true, frameFirst},
		{"recursion", "machine stack overflow", true, recurse},
		{"large frame", "machine stack overflow", false, bigFrame},
	} {
		call := ir.Insn{Op: ir.CallNative, Imm: int64(outsideText(t, k.code)), Sub: 1}
		entry := join("entry", make([]ir.Func, 1), []ir.Insn{movImm(6, 1), movImm(1, 2), call, exit})
		lower := join("lower", make([]ir.Func, 2), []ir.Insn{{Op: ir.Call, Off: 1, Sub: 5}, exit}, []ir.Insn{movImm(6, 1), call, add(0, 6), exit})
		for p, insn := range map[*ir.Program]int{entry: 2, lower: 3} {
			c := load(t, p)
			if !k.known {
				insn = -1
			}
			for range 3 {
				_, err := c.Exec(context.Background(), r)
				var f *rt.Fault
				if !errors.As(err, &f) || f.Insn != insn || f.Program != p.Name || !strings.Contains(f.Reason, k.want) {
					t.Errorf("%s: %v, want %q in %s at %d", k.name, err, k.want, p.Name, insn)
				}
			}
		}
	}
}

// TestCancelHostLoop: a loop of host calls without a yield point is stopped as well.
func TestCancelHostLoop(t *testing.T) {
	h := rt.Register(func(*rt.Run, *[12]uint64) uint64 { return 0 })
	defer rt.Unregister(h)
	c := load(t, prog("hosts", ir.Insn{Op: ir.CallHost, Imm: int64(h)}, ir.Insn{Op: ir.Jmp}))
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
	defer cancel()
	if _, err := c.Exec(ctx, acquire(t)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
}

// TestStoppedAt: the error of a program that is stopped names the instruction where it was, whatever its registers hold: here
// addresses of functions, as programs with callbacks have them.
func TestStoppedAt(t *testing.T) {
	main := []ir.Insn{}
	for r := range uint8(10) {
		main = append(main, ir.Insn{Op: ir.FuncAddr, Dst: r, Off: 2})
	}
	main = append(main, ir.Insn{Op: ir.Yield}, ir.Insn{Op: ir.Jmp, Off: 10}, exit)
	c := load(t, join("stopped", make([]ir.Func, 3), main, []ir.Insn{movImm(0, 1), exit}, []ir.Insn{movImm(0, 2), exit}))
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
	defer cancel()
	_, err := c.Exec(ctx, acquire(t))
	if want := "program stopped: stopped at instruction 10: context deadline exceeded"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
