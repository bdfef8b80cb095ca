package interp_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-bpf/skep/internal/interp"
	"github.com/skep-bpf/skep/internal/ir"
	"github.com/skep-bpf/skep/internal/offheap"
	"github.com/skep-bpf/skep/internal/rt"
)

func program(insns ...ir.Insn) *ir.Program {
	for i := range insns {
		insns[i].PC = int32(i)
	}
	return &ir.Program{Name: "p", Insns: insns, Funcs: []ir.Func{{End: len(insns), Stack: 16}}}
}

func movImm(dst uint8, v int64) ir.Insn {
	return ir.Insn{Op: ir.Mov, W: 8, Dst: dst, Imm: v, Flag: ir.FlagImm}
}

var exit = ir.Insn{Op: ir.Exit}

func exec(ctx context.Context, t *testing.T, p *ir.Program, opt interp.Options, r *rt.Run) (uint64, error) {
	t.Helper()
	c, err := interp.New(p, opt)
	if err != nil {
		t.Fatal(err)
	}
	return c.Exec(ctx, r)
}

// TestAccess: every access is checked against the regions of the run, to the byte.
func TestAccess(t *testing.T) {
	mem, err := offheap.Alloc(4096)
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Free()
	base := uint64(mem.Addr())
	r := rt.Acquire()
	defer r.Release()
	r.Ctx, r.CtxLen = mem.Addr(), 64
	r.Packet = &rt.Packet{Head: uintptr(base + 100), Meta: uintptr(base + 120), Data: uintptr(base + 128), DataEnd: uintptr(base + 192), End: uintptr(base + 256)}
	r.AddMem(rt.Region{Base: base + 1000, Size: 16, Name: "handed out"})
	regions := []ir.Region{{Base: base + 2000, Size: 24, Name: "values"}, {Base: base + 3000, Size: 8, ReadOnly: true, Name: "rodata"}}
	for _, c := range []struct {
		addr       uint64
		w          uint8
		load, save bool
	}{
		{base, 8, true, true}, {base + 56, 8, true, true}, {base + 57, 8, false, false}, {base - 1, 1, false, false}, {base + 63, 1, true, true}, {base + 64, 1, false, false},
		{base + 119, 1, false, false}, {base + 120, 8, true, true}, {base + 184, 8, true, true}, {base + 188, 4, true, true}, {base + 189, 4, false, false},
		{base + 1000, 8, true, true}, {base + 1012, 4, true, true}, {base + 1013, 4, false, false}, {base + 999, 2, false, false},
		{base + 2016, 8, true, true}, {base + 2017, 8, false, false}, {base + 3000, 8, true, false}, {base + 3001, 8, false, false},
		{0, 1, false, false}, {^uint64(0), 1, false, false}, {^uint64(3), 8, false, false},
	} {
		for _, op := range []ir.Op{ir.Load, ir.Store, ir.AtomicAdd} {
			want := c.load
			in := ir.Insn{Op: op, W: c.w, Src: 1, Dst: 0}
			if op != ir.Load {
				in.Src, in.Dst, want = 0, 1, c.save
			}
			if op == ir.AtomicAdd && (c.w < 4 || c.addr%uint64(c.w) != 0) {
				continue
			}
			p := program(movImm(0, 0), movImm(1, int64(c.addr)), in, exit)
			p.Regions = regions
			_, err := exec(context.Background(), t, p, interp.Options{}, r)
			var f *rt.Fault
			if want != (err == nil) || err != nil && (!errors.As(err, &f) || f.Insn != 2 || f.Addr != c.addr) {
				t.Errorf("%v of %d bytes at base%+d: %v, want ok %v", op, c.w, int64(c.addr-base), err, want)
			}
		}
	}
}

// TestStack: a frame has exactly its function's stack, and what a caller hands down is within reach.
func TestStack(t *testing.T) {
	r := rt.Acquire()
	defer r.Release()
	for off, want := range map[int32]bool{-8: true, -16: true, -17: false, -24: false, 0: false, -7: false} {
		_, err := exec(context.Background(), t, program(ir.Insn{Op: ir.Store, W: 8, Dst: 10, Off: off, Flag: ir.FlagImm}, movImm(0, 0), exit), interp.Options{}, r)
		if want != (err == nil) {
			t.Errorf("r10%+d: %v", off, err)
		}
	}
	p := program(
		ir.Insn{Op: ir.Mov, W: 8, Dst: 1, Src: 10}, ir.Insn{Op: ir.Call, Off: 1, Sub: 1}, ir.Insn{Op: ir.Load, W: 8, Dst: 0, Src: 10, Off: -16}, exit,
		ir.Insn{Op: ir.Store, W: 8, Dst: 1, Off: -16, Imm: 77, Flag: ir.FlagImm}, movImm(0, 0), exit)
	p.Funcs = []ir.Func{{End: 4, Stack: 16}, {Start: 4, End: 7, Stack: 0}}
	if got, err := exec(context.Background(), t, p, interp.Options{}, r); got != 77 || err != nil {
		t.Error(got, err)
	}
}

func TestBudgetAndCancel(t *testing.T) {
	r := rt.Acquire()
	defer r.Release()
	forever := program(movImm(0, 0), ir.Insn{Op: ir.Yield}, ir.Insn{Op: ir.Jmp, Off: 1})
	if _, err := exec(context.Background(), t, forever, interp.Options{Budget: 1000}, r); !errors.Is(err, rt.ErrBudget) {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if _, err := exec(ctx, t, forever, interp.Options{}, r); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// TestHook: the hook sees every BPF instruction once each time it runs, with the registers before it.
func TestHook(t *testing.T) {
	r := rt.Acquire()
	defer r.Release()
	p := program(movImm(0, 0), movImm(1, 2), ir.Insn{Op: ir.Yield}, ir.Insn{Op: ir.Add, W: 8, Dst: 0, Src: 1},
		ir.Insn{Op: ir.Sub, W: 8, Dst: 1, Imm: 1, Flag: ir.FlagImm}, ir.Insn{Op: ir.Jcc, Sub: ir.NE, W: 8, Dst: 1, Flag: ir.FlagImm, Off: 2},
		ir.Insn{Op: ir.Call, Off: 1}, exit, ir.Insn{Op: ir.Add, W: 8, Dst: 0, Imm: 100, Flag: ir.FlagImm}, exit)
	p.Insns[2].PC, p.Insns[3].PC = 3, 3
	p.Funcs = []ir.Func{{End: 8, Stack: 16}, {Start: 8, End: 10, Stack: 8}}
	type seen struct {
		pc, fn, depth int
		r0, r1        uint64
	}
	var got []seen
	opt := interp.Options{Hook: func(h interp.HookState) {
		got = append(got, seen{h.PC, h.Func, h.Depth, h.Regs[0], h.Regs[1]})
		if h.PC > 1 && h.Frame != h.Regs[10] {
			t.Error("frame", h)
		}
	}}
	if v, err := exec(context.Background(), t, p, opt, r); v != 103 || err != nil {
		t.Error(v, err)
	}
	want := []seen{{3, 0, 0, 0, 2}, {4, 0, 0, 2, 2}, {5, 0, 0, 2, 1}, {3, 0, 0, 2, 1}, {4, 0, 0, 3, 1}, {5, 0, 0, 3, 0},
		{6, 0, 0, 3, 0}, {8, 1, 1, 3, 0}, {9, 1, 1, 103, 0}, {7, 0, 0, 103, 0}}
	if d := cmp.Diff(want, got[2:], cmp.AllowUnexported(seen{})); d != "" {
		t.Error(d)
	}
}

func TestHostErrors(t *testing.T) {
	r := rt.Acquire()
	defer r.Release()
	boom := rt.Register(func(*rt.Run, *[12]uint64) uint64 { panic("boom") })
	wrong := errors.New("wrong")
	fail := rt.Register(func(r *rt.Run, _ *[12]uint64) uint64 { r.Err = wrong; return 0 })
	defer rt.Unregister(boom)
	_, err := exec(context.Background(), t, program(ir.Insn{Op: ir.CallHost, Imm: int64(boom)}, exit), interp.Options{}, r)
	if err == nil || err.Error() != "program p: host function called at instruction 0 panicked: boom" {
		t.Error(err)
	}
	if _, err = exec(context.Background(), t, program(ir.Insn{Op: ir.CallHost, Imm: int64(fail)}, exit), interp.Options{}, r); !errors.Is(err, wrong) {
		t.Error(err)
	}
	r.Err = nil
	rt.Unregister(fail)
	if _, err = exec(context.Background(), t, program(ir.Insn{Op: ir.CallHost, Imm: int64(fail)}, exit), interp.Options{}, r); err == nil {
		t.Error("a host function that is gone was called")
	}
	if _, err = exec(context.Background(), t, program(ir.Insn{Op: ir.CallNative, Imm: 4096}, exit), interp.Options{}, r); err == nil {
		t.Error("machine code was called")
	}
}

// TestAllocations: a run allocates nothing.
func TestAllocations(t *testing.T) {
	r := rt.Acquire()
	defer r.Release()
	h := rt.Register(func(_ *rt.Run, a *[12]uint64) uint64 { return a[0] })
	defer rt.Unregister(h)
	c, err := interp.New(program(movImm(1, 3), ir.Insn{Op: ir.CallHost, Imm: int64(h), Sub: 1}, ir.Insn{Op: ir.Store, W: 8, Dst: 10, Src: 0, Off: -8}, exit), interp.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() {
		if v, err := c.Exec(context.Background(), r); v != 3 || err != nil {
			t.Fatal(v, err)
		}
	}); n != 0 {
		t.Errorf("%v allocations a run", n)
	}
}

// TestOwn: memory of the runtime is reached by instructions that say so, to the byte, and by no others.
func TestOwn(t *testing.T) {
	mem, err := offheap.Alloc(4096)
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Free()
	base := uint64(mem.Addr())
	r := rt.Acquire()
	defer r.Release()
	for _, c := range []struct {
		addr  uint64
		flag  uint8
		fault bool
	}{{base, ir.FlagOwn, false}, {base + 56, ir.FlagOwn, false}, {base + 57, ir.FlagOwn, true}, {base - 1, ir.FlagOwn, true}, {base, 0, true}, {base + 64, 0, false}, {base + 64, ir.FlagOwn, true}} {
		// after an access that is right, which must not be taken for the other kind
		p := program(movImm(1, int64(base)), ir.Insn{Op: ir.Load, W: 8, Dst: 0, Src: 1, Flag: ir.FlagOwn}, movImm(1, int64(base+64)), ir.Insn{Op: ir.Load, W: 8, Dst: 0, Src: 1},
			movImm(1, int64(c.addr)), ir.Insn{Op: ir.Load, W: 8, Dst: 0, Src: 1, Flag: c.flag}, exit)
		p.Own, p.Regions = []ir.Region{{Base: base, Size: 64}}, []ir.Region{{Base: base + 64, Size: 64}}
		if _, err := exec(context.Background(), t, p, interp.Options{}, r); (err != nil) != c.fault {
			t.Errorf("%#x with flag %d: %v", c.addr-base, c.flag, err)
		}
	}
	held := []ir.Insn{{Op: ir.Held, Dst: 1}, {Op: ir.Load, W: 8, Dst: 0, Src: 1, Flag: ir.FlagOwn}, exit}
	for _, flag := range []uint8{ir.FlagOwn, 0} {
		held[1].Flag = flag
		if v, err := exec(context.Background(), t, program(held...), interp.Options{}, r); v != 0 || (err != nil) != (flag == 0) {
			t.Errorf("what is held with flag %d: %d, %v", flag, v, err)
		}
	}
}

// TestAbandonedThrow: a run that ends between a throw and its catch leaves nothing to the next.
func TestAbandonedThrow(t *testing.T) {
	r := rt.Acquire()
	defer r.Release()
	if _, err := exec(context.Background(), t, program(ir.Insn{Op: ir.SetThrown, Imm: 1}, ir.Insn{Op: ir.Trap}), interp.Options{}, r); err == nil {
		t.Fatal("no fault")
	}
	looks := program(movImm(0, 1), ir.Insn{Op: ir.IfThrown, Off: 3}, movImm(0, 2), exit)
	if got, err := exec(context.Background(), t, looks, interp.Options{}, r); got != 2 || err != nil {
		t.Error(got, err)
	}
}
