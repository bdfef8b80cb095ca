package skep_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/google/go-cmp/cmp"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/cmd/skep/native12"
	"github.com/skep-bpf/skep/internal/native"
	"github.com/skep-bpf/skep/internal/offheap"
	"github.com/skep-bpf/skep/internal/rt"
)

func loadSpec(t testing.TB, name string) *ebpf.CollectionSpec {
	t.Helper()
	spec, err := skep.LoadCollectionSpec("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

// load loads some programs of a fixture.
func load(t testing.TB, file string, opts skep.Options, programs ...string) *skep.Collection {
	t.Helper()
	opts.Programs = programs
	c, err := skep.NewCollectionWithOptions(loadSpec(t, file), opts)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(c.Close)
	return c
}

func eachEngine(t *testing.T, f func(t *testing.T, e skep.Engine)) {
	for _, e := range []skep.Engine{skep.EngineAuto, skep.EngineInterpreter} {
		t.Run(e.String(), func(t *testing.T) { f(t, e) })
	}
}

// sum12 is the Go side of twelve.c's kfunc12.
func sum12(a, b, c, d, e, f, g, h, i, j, k, l int64) int64 {
	return a + 2*b + 3*c + 4*d + 5*e + 6*f + 7*g + 8*h + 9*i + 10*j + 11*k + 12*l
}

func TestGoKfuncOfTwelveArguments(t *testing.T) {
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		var ks skep.Kfuncs
		if err := ks.Register("kfunc12", sum12); err != nil {
			t.Fatal(err)
		}
		c := load(t, "twelve.o", skep.Options{Engine: e, Kfuncs: &ks}, "call_kfunc")
		ret, _, err := c.Programs["call_kfunc"].Test(make([]byte, 64))
		if want := sum12(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12); err != nil || int64(ret) != want {
			t.Errorf("%d, %v; want %d", ret, err, want)
		}
	})
}

func TestKfuncMismatchAtLoad(t *testing.T) {
	var ks skep.Kfuncs
	if err := ks.Register("kfunc12", func(a, b int64) int64 { return a }); err != nil {
		t.Fatal(err)
	}
	_, err := skep.NewCollectionWithOptions(loadSpec(t, "twelve.o"), skep.Options{Kfuncs: &ks, Programs: []string{"call_kfunc"}})
	if err == nil || !strings.Contains(err.Error(), "long kfunc12(long, ") || !strings.Contains(err.Error(), "func(int64, int64) int64") {
		t.Errorf("the error does not show both prototypes: %v", err)
	}
}

func TestLoadAndAssign(t *testing.T) {
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		var objs struct {
			inner struct {
				Limit *skep.Variable `ebpf:"limit"`
			}
			Use     *skep.Program  `ebpf:"use"`
			Bss     *skep.Map      `ebpf:".bss"`
			Runs    *skep.Variable `ebpf:"runs"`
			Start   *skep.Variable `ebpf:"start"`
			Ignored int
		}
		spec := loadSpec(t, "globals.o")
		if err := spec.Variables["limit"].Set(uint32(1000)); err != nil {
			t.Fatal(err)
		}
		if err := skep.LoadAndAssign(spec, &objs, skep.Options{Engine: e}); err != nil {
			t.Fatal(err)
		}
		defer objs.Use.Close()
		defer objs.Bss.Close()
		if err := objs.Start.Set(uint64(100)); err != nil {
			t.Fatal(err)
		}
		ret, _, err := objs.Use.Test(make([]byte, 64))
		if err != nil || ret != 110 { // not above the limit
			t.Errorf("returned %d, %v; want 110", ret, err)
		}
		var runs uint32
		if err := objs.Runs.Get(&runs); err != nil || runs != 1 {
			t.Errorf("runs is %d, %v", runs, err)
		}
		if objs.inner.Limit != nil {
			t.Error("a field of an unexported struct was set")
		}
	})
}

func TestAssignErrors(t *testing.T) {
	spec := loadSpec(t, "globals.o")
	for name, to := range map[string]any{
		"no pointer": struct{}{}, "nil": (*struct{})(nil), "no struct": new(int),
		"missing": &struct {
			P *skep.Program `ebpf:"nope"`
		}{},
		"type": &struct {
			P *ebpf.Program `ebpf:"use"`
		}{},
		"twice": &struct {
			A *skep.Map `ebpf:".bss"`
			B *skep.Map `ebpf:".bss"`
		}{},
		"comma": &struct {
			A *skep.Map `ebpf:".bss,x"`
		}{},
		"unexported": &struct {
			a *skep.Map `ebpf:".bss"`
		}{},
	} {
		if err := skep.LoadAndAssign(spec, to); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := skep.LoadAndAssign(nil, &struct{}{}); err == nil {
		t.Error("nil spec: no error")
	}
}

func TestConstantsCannotBeSet(t *testing.T) {
	c := load(t, "globals.o", skep.Options{})
	if err := c.Variables["limit"].Set(uint32(1)); !errors.Is(err, skep.ErrReadOnly) {
		t.Errorf("limit was set: %v", err)
	}
	var name [8]byte
	if err := c.Variables["name"].Get(&name); err != nil || string(name[:4]) != "skep" {
		t.Errorf("%q, %v", name, err)
	}
}

func TestTailCalls(t *testing.T) {
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		spec := loadSpec(t, "tailcall.o")
		delete(spec.Programs, "with_stack_args")
		c, err := skep.NewCollectionWithOptions(spec, skep.Options{Engine: e})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		run := func(want uint32) {
			t.Helper()
			if ret, _, err := c.Programs["first"].Test(make([]byte, 64)); err != nil || ret != want {
				t.Errorf("returned %d, %v; want %d", int32(ret), err, int32(want))
			}
		}
		run(123)
		chain := c.Maps["chain"]
		var id uint32
		if err := chain.Lookup(uint32(0), &id); err != nil || id != c.Programs["second"].ProgramID() {
			t.Errorf("slot 0 has program %d, %v", id, err)
		}
		if err := chain.Put(uint32(0), c.Programs["third"]); err != nil {
			t.Fatal(err)
		}
		run(13)
		if err := chain.Delete(uint32(0)); err != nil {
			t.Fatal(err)
		}
		run(^uint32(0))
		if err := chain.Delete(uint32(0)); !errors.Is(err, ebpf.ErrKeyNotExist) {
			t.Errorf("empty slot: %v", err)
		}
		xdp := load(t, "counter.o", skep.Options{Engine: e}, "count").Programs["count"]
		if err := chain.Put(uint32(0), xdp); err == nil {
			t.Error("an XDP program was put among tc programs")
		}
		other := skep.EngineInterpreter
		if e == other {
			other = skep.EngineAuto
		}
		if tc := load(t, "nesting.o", skep.Options{Engine: other}, "nesting").Programs["nesting"]; tc.Engine() != c.Programs["first"].Engine() {
			if err := chain.Put(uint32(0), tc); err == nil {
				t.Error("a program of another engine was put in")
			}
		}
		if err := chain.Put(uint32(9), c.Programs["third"]); err == nil {
			t.Error("slot 9 of 3 was set")
		}
		if err := chain.Put(uint32(0), uint32(1)); err == nil {
			t.Error("a number was taken for a program")
		}
		// A program that is closed stays as long as a slot holds it.
		if err := chain.Put(uint32(0), c.Programs["third"]); err != nil {
			t.Fatal(err)
		}
		c.Programs["third"].Close()
		run(13)
		if err := chain.Put(uint32(1), c.Programs["third"]); !errors.Is(err, skep.ErrClosed) {
			t.Logf("a closed program was refused with: %v", err)
		}
	})
}

func TestRejection(t *testing.T) {
	_, err := skep.NewCollection(loadSpec(t, "counter.o"))
	var ve *skep.VerifierError
	var ce *ebpf.VerifierError
	if !errors.As(err, &ve) || !errors.As(err, &ce) {
		t.Fatalf("%T: %v", err, err)
	}
	if ve.Program != "unchecked" || ve.Code != "out-of-bounds" || ve.Insn != 1 || ve.Line != 70 || !strings.Contains(ve.Source, "eth->proto") {
		t.Errorf("%+v", *ve)
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("Error has more than a line: %s", err)
	}
	if long := fmt.Sprintf("%+v", err); !strings.Contains(long, "0: (") || !strings.Contains(long, "processed ") {
		t.Errorf("%%+v has no log: %s", long)
	}
	if n := len(ce.Log); n == 0 || !strings.Contains(strings.Join(ce.Log, "\n"), "invalid access to packet") {
		t.Errorf("log as cilium has it: %q", ce.Log)
	}
}

func TestUnverified(t *testing.T) {
	// Memory on the stack is read before it is written, which the verifier refuses.
	spec := &ebpf.ProgramSpec{Name: "odd", Type: ebpf.SocketFilter, License: "MIT", Instructions: asm.Instructions{
		asm.Mov.Reg(asm.R0, asm.R6), asm.Mov.Imm(asm.R0, 3), asm.Return(),
	}}
	if _, err := skep.NewProgram(spec); err == nil {
		t.Fatal("an uninitialised register was read")
	}
	p, err := skep.NewProgramWithOptions(spec, skep.Options{Engine: skep.EngineJIT}.Unverified())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if p.Verified() || p.Engine() != skep.EngineInterpreter {
		t.Errorf("verified %v, engine %s", p.Verified(), p.Engine())
	}
	if ret, _, err := p.Test(make([]byte, 64)); err != nil || ret != 3 {
		t.Errorf("%d, %v", ret, err)
	}
	// A wild store is stopped by the interpreter.
	wild := asm.Instructions{asm.LoadImm(asm.R1, 0x1000, asm.DWord), asm.StoreImm(asm.R1, 0, 1, asm.Word), asm.Mov.Imm(asm.R0, 0), asm.Return()}
	w, err := skep.NewProgramWithOptions(&ebpf.ProgramSpec{Name: "wild", Type: ebpf.SocketFilter, Instructions: wild}, skep.Options{}.Unverified())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	var f *skep.Fault
	if _, _, err := w.Test(make([]byte, 64)); !errors.As(err, &f) || f.Insn != 2 || f.Addr != 0x1000 {
		t.Errorf("%v", err)
	}
}

// spin is a program that counts a memory cell down from many millions.
func spin(t testing.TB, e skep.Engine) *skep.Program {
	t.Helper()
	m, err := skep.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	load := asm.LoadMapValue(asm.R6, 0, 0)
	if err := load.AssociateMap(m); err != nil {
		t.Fatal(err)
	}
	// 800,000 rounds: just below what the verifier walks.
	p, err := skep.NewProgramWithOptions(&ebpf.ProgramSpec{Type: ebpf.SocketFilter, License: "GPL", Instructions: asm.Instructions{
		load,
		asm.Mov.Imm(asm.R7, 0),
		asm.Add.Imm(asm.R7, 1).WithSymbol("loop"),
		asm.StoreMem(asm.R6, 0, asm.R7, asm.DWord),
		asm.JLT.Imm(asm.R7, 200000, "loop"),
		asm.Mov.Imm(asm.R0, 7),
		asm.Return(),
	}}, skep.Options{Engine: e})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func TestCancellation(t *testing.T) {
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		p := spin(t, e)
		if res, err := p.RunContext(context.Background(), &ebpf.RunOptions{Data: make([]byte, 64)}); err != nil || res.Return != 7 {
			t.Fatalf("%d, %v", res.Return, err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err := p.RunContext(ctx, &ebpf.RunOptions{Data: make([]byte, 64), Repeat: 1 << 30})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("%v", err)
		}
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("stopped after %s", d)
		}
		if ret, _, err := p.Test(make([]byte, 64)); err != nil || ret != 7 {
			t.Errorf("after that: %d, %v", ret, err)
		}
	})
}

func TestRunDoesNotAllocate(t *testing.T) {
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		c := load(t, "counter.o", skep.Options{Engine: e}, "count")
		p := c.Programs["count"]
		out := make([]byte, 1024)
		opts := &ebpf.RunOptions{Data: make([]byte, 64)}
		run := func() {
			opts.DataOut = out
			if _, err := p.Run(opts); err != nil {
				t.Fatal(err)
			}
		}
		run()
		if n := testing.AllocsPerRun(200, run); n != 0 {
			t.Errorf("%v allocations a run", n)
		}
	})
}

// TestConcurrentRuns counts packets from many goroutines: nothing may be lost, and per-CPU values add up.
func TestConcurrentRuns(t *testing.T) {
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		c := load(t, "counter.o", skep.Options{Engine: e}, "count")
		const workers, runs = 16, 500
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				pkt := make([]byte, 60+w)
				for range runs {
					if ret, out, err := c.Programs["count"].Test(pkt); err != nil || ret != 2 || !bytes.Equal(out, pkt) {
						t.Errorf("%d, %v", ret, err)
						return
					}
				}
			})
		}
		wg.Wait()
		var per []uint64
		if err := c.Maps["per_cpu"].Lookup(uint32(0), &per); err != nil {
			t.Fatal(err)
		}
		sum := uint64(0)
		for _, v := range per {
			sum += v
		}
		var total struct{ Packets, Bytes uint64 }
		if err := c.Maps["totals"].Lookup(uint32(1), &total); err != nil {
			t.Fatal(err)
		}
		want := uint64(workers * runs)
		if sum != want || total.Packets != want {
			t.Errorf("per CPU %d, in all %d, want %d", sum, total.Packets, want)
		}
	})
}

// TestCloseWhileRunning closes collections under running programs: runs end well or are refused, and all memory comes back.
func TestCloseWhileRunning(t *testing.T) {
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		spec := loadSpec(t, "counter.o")
		warm := load(t, "counter.o", skep.Options{Engine: e}, "count")
		var wg sync.WaitGroup
		warmUp(t, warm.Programs["count"])
		before, _ := offheap.Stats()
		for range 30 {
			c, err := skep.NewCollectionWithOptions(spec, skep.Options{Engine: e, Programs: []string{"count"}})
			if err != nil {
				t.Fatal(err)
			}
			started := make(chan bool, 4)
			for range 4 {
				wg.Go(func() {
					for i := 0; ; i++ {
						_, _, err := c.Programs["count"].Test(make([]byte, 64))
						if errors.Is(err, skep.ErrClosed) {
							return
						} else if err != nil {
							t.Errorf("run: %v", err)
							return
						}
						if i == 2 {
							started <- true
						}
					}
				})
			}
			for range 4 {
				<-started
			}
			c.Close()
			wg.Wait()
		}
		for range 200 {
			runtime.GC()
			if n, _ := offheap.Stats(); n <= before {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		n, _ := offheap.Stats()
		t.Errorf("%d regions before, %d after", before, n)
	})
}

// warmUp runs p once on every execution slot: then each has what it makes at its first run.
func warmUp(t *testing.T, p *skep.Program) {
	t.Helper()
	slots := make([]*rt.Run, skep.PossibleCPUs())
	for i := range slots {
		slots[i] = rt.Acquire()
	}
	for i := range slots {
		slots[i].Release() // the only free one: the run below gets it
		if _, _, err := p.Test(make([]byte, 64)); err != nil {
			t.Error(err)
		}
		slots[i] = rt.Acquire()
	}
	for _, s := range slots {
		s.Release()
	}
}

// TestNestedRun runs a program from inside a kfunc of another.
func TestNestedRun(t *testing.T) {
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		inner := load(t, "globals.o", skep.Options{Engine: e}, "use").Programs["use"]
		var ks skep.Kfuncs
		var cpus [2]int
		err := ks.Register("kfunc12", func(c skep.Caller, a, b, c3, d, e, f, g, h, i, j, k, l int64) int64 {
			cpus[0] = c.CPU()
			res, err := c.Run(inner, &ebpf.RunOptions{Data: make([]byte, 64)})
			if err != nil {
				c.Stop(err)
			}
			return int64(res.Return) + l
		})
		if err != nil {
			t.Fatal(err)
		}
		c := load(t, "twelve.o", skep.Options{Engine: e, Kfuncs: &ks}, "call_kfunc")
		if ret, _, err := c.Programs["call_kfunc"].Test(make([]byte, 64)); err != nil || ret != 22+12 {
			t.Errorf("%d, %v", ret, err)
		}
		inner.Close()
		if _, _, err := c.Programs["call_kfunc"].Test(make([]byte, 64)); !errors.Is(err, skep.ErrClosed) {
			t.Errorf("error of a nested run: %v", err)
		}
	})
}

func TestKfuncPanicIsAnError(t *testing.T) {
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		var ks skep.Kfuncs
		boom := true
		if err := ks.Register("kfunc12", func(a, b, c, d, e, f, g, h, i, j, k, l int64) int64 {
			if boom {
				panic("boom")
			}
			return 5
		}); err != nil {
			t.Fatal(err)
		}
		p := load(t, "twelve.o", skep.Options{Engine: e, Kfuncs: &ks}, "call_kfunc").Programs["call_kfunc"]
		if _, _, err := p.Test(make([]byte, 64)); err == nil || !strings.Contains(err.Error(), "boom") {
			t.Errorf("%v", err)
		}
		boom = false
		if ret, _, err := p.Test(make([]byte, 64)); err != nil || ret != 5 {
			t.Errorf("after that: %d, %v", ret, err)
		}
	})
}

func TestMapReplacements(t *testing.T) {
	spec := loadSpec(t, "counter.o")
	shared, err := skep.NewMap(spec.Maps["totals"])
	if err != nil {
		t.Fatal(err)
	}
	defer shared.Close()
	opts := skep.Options{MapReplacements: map[string]*skep.Map{"totals": shared}}
	for range 2 {
		c := load(t, "counter.o", opts, "count")
		if _, _, err := c.Programs["count"].Test(make([]byte, 64)); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	var total struct{ Packets, Bytes uint64 }
	if err := shared.Lookup(uint32(1), &total); err != nil || total.Packets != 2 {
		t.Errorf("%+v, %v", total, err)
	}
	wrong, err := skep.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer wrong.Close()
	opts.MapReplacements["totals"] = wrong
	if _, err := skep.NewCollectionWithOptions(spec, opts); !errors.Is(err, ebpf.ErrMapIncompatible) {
		t.Errorf("%v", err)
	}
}

func TestPrintkAndEnv(t *testing.T) {
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		text := "pid %d uid %d %s\n\x00"
		insns := asm.Instructions{
			asm.FnGetCurrentPidTgid.Call(), asm.Mov.Reg(asm.R6, asm.R0),
			asm.FnGetCurrentUidGid.Call(), asm.Mov.Reg(asm.R7, asm.R0),
			asm.Mov.Reg(asm.R1, asm.R10), asm.Add.Imm(asm.R1, -16), asm.Mov.Imm(asm.R2, 16), asm.FnGetCurrentComm.Call(),
		}
		insns = append(insns, putText(-48, text)...)
		insns = append(insns,
			asm.Mov.Reg(asm.R1, asm.R10), asm.Add.Imm(asm.R1, -48), asm.Mov.Imm(asm.R2, int32(len(text))),
			asm.Mov.Reg(asm.R3, asm.R6), asm.Mov.Reg(asm.R4, asm.R7), asm.Mov.Reg(asm.R5, asm.R10), asm.Add.Imm(asm.R5, -16),
			asm.FnTracePrintk.Call(), asm.Mov.Reg(asm.R6, asm.R0), asm.FnKtimeGetNs.Call(), asm.Add.Reg(asm.R0, asm.R6), asm.Return())
		var lines []string
		opts := skep.Options{Engine: e, Env: skep.Env{
			PID: 42, TGID: 7, UID: 1000, Comm: "a task with a long name", Clock: skep.NewFakeClock(1000),
			Printk: func(l string) { lines = append(lines, l) },
		}}
		p, err := skep.NewProgramWithOptions(&ebpf.ProgramSpec{Type: ebpf.SocketFilter, License: "GPL", Instructions: insns}, opts)
		if err != nil {
			t.Fatalf("%+v", err)
		}
		defer p.Close()
		ret, _, err := p.Test(make([]byte, 64))
		want := "pid 42 uid 1000 a task with a l"
		if err != nil || ret != uint32(1000+len(want)+1) || cmp.Diff([]string{want}, lines) != "" {
			t.Errorf("%d, %v, %q", ret, err, lines)
		}
	})
}

// putText stores text on the stack at off.
func putText(off int16, text string) asm.Instructions {
	b := append([]byte(text), make([]byte, 8)...)
	var insns asm.Instructions
	for i := 0; i < len(text); i++ {
		insns = append(insns, asm.StoreImm(asm.R10, off+int16(i), int64(b[i]), asm.Byte))
	}
	return insns
}

func TestHostileSpecs(t *testing.T) {
	for name, spec := range map[string]*ebpf.CollectionSpec{
		"nil": nil, "nil map": {Maps: map[string]*ebpf.MapSpec{"m": nil}}, "nil program": {Programs: map[string]*ebpf.ProgramSpec{"p": nil}},
		"no instructions": {Programs: map[string]*ebpf.ProgramSpec{"p": {Type: ebpf.XDP}}},
		"missing map":     {Programs: map[string]*ebpf.ProgramSpec{"p": {Type: ebpf.XDP, Instructions: asm.Instructions{asm.LoadMapPtr(asm.R1, 0).WithReference("m"), asm.Return()}}}},
		"variable":        {Variables: map[string]*ebpf.VariableSpec{"v": {SectionName: ".bss", Value: make([]byte, 8)}}},
		"outside":         {Maps: map[string]*ebpf.MapSpec{".bss": {Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1}}, Variables: map[string]*ebpf.VariableSpec{"v": {SectionName: ".bss", Value: make([]byte, 8)}}},
	} {
		if c, err := skep.NewCollection(spec); err == nil {
			c.Close()
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := skep.NewProgram(nil); err == nil {
		t.Error("nil program spec: no error")
	}
}

func TestDisassemble(t *testing.T) {
	p := load(t, "twelve.o", skep.Options{}, "call_function").Programs["call_function"]
	text, err := p.Disassemble("amd64")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"call_function:", "sum12:", "(7b) *(u64 *)(r11 -", "; stack_arg_store(7, 7); @ twelve.c:", "mov r9, ", "call "} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
	if strings.Contains(text, ".byte") {
		t.Errorf("unknown machine instructions in:\n%s", text)
	}
	if bpf, err := p.Disassemble("bpf"); err != nil || strings.Contains(bpf, "rsp") {
		t.Errorf("%v, %s", err, bpf)
	}
	if _, err := p.Disassemble("pdp11"); !errors.Is(err, ebpf.ErrNotSupported) {
		t.Error(err)
	}
}

func TestLogWriter(t *testing.T) {
	var b bytes.Buffer
	load(t, "globals.o", skep.Options{LogLevel: ebpf.LogLevelStats, LogWriter: &b}, "use")
	if !strings.Contains(b.String(), "program use:\n") || !strings.Contains(b.String(), "processed ") {
		t.Errorf("%q", b.String())
	}
}

func TestRunBytecode(t *testing.T) {
	code := []byte{0x71, 0x10, 0, 0, 0, 0, 0, 0, 0x0f, 0x20, 0, 0, 0, 0, 0, 0, 0x72, 0x01, 1, 0, 9, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0} // r0 = mem[0] + r2; mem[1] = 9
	r0, mem, err := skep.RunBytecode(code, []byte{40, 1}, skep.Options{})
	if err != nil || r0 != 42 || !bytes.Equal(mem, []byte{40, 9}) {
		t.Errorf("%d, %x, %v", r0, mem, err)
	}
	if _, _, err := skep.RunBytecode(code, []byte{40}, skep.Options{}); err == nil {
		t.Error("a store behind the memory was verified")
	}
	var f *skep.Fault
	if _, _, err := skep.RunBytecode(code, nil, skep.Options{}.Unverified()); !errors.As(err, &f) {
		t.Errorf("a load from address 0: %v", err)
	}
	if _, _, err := skep.RunBytecode(code[:7], nil, skep.Options{}); err == nil {
		t.Error("half an instruction was taken")
	}
}

// TestNativeKfunc calls a function in the platform's C convention, where there is a compiler; elsewhere, and by the
// interpreter, it is refused with a reason.
func TestNativeKfunc(t *testing.T) {
	addr := native12.Addr()
	if addr == 0 {
		t.Skip("no native function of twelve arguments for this architecture")
	}
	var ks skep.Kfuncs
	if err := ks.RegisterNative("kfunc12", addr); err != nil {
		t.Fatal(err)
	}
	opts := skep.Options{Kfuncs: &ks, Programs: []string{"call_kfunc"}}
	if native.Supported() == nil {
		c := load(t, "twelve.o", opts, "call_kfunc")
		ret, _, err := c.Programs["call_kfunc"].Test(make([]byte, 64))
		if want := sum12(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12); err != nil || int64(ret) != want {
			t.Errorf("%d, %v; want %d", ret, err, want)
		}
	}
	opts.Engine = skep.EngineInterpreter
	c, err := skep.NewCollectionWithOptions(loadSpec(t, "twelve.o"), opts)
	if err == nil {
		_, _, err = c.Programs["call_kfunc"].Test(make([]byte, 64))
		c.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "machine code") {
		t.Errorf("the interpreter called machine code, or does not say why not: %v", err)
	}
}
