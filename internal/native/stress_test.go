//go:build linux && (amd64 || arm64)

package native

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"runtime/trace"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/skep-bpf/skep/internal/ir"
	"github.com/skep-bpf/skep/internal/rt"
)

var stressFor = flag.Duration("stressfor", 2*time.Second, "how long the stress test runs")

// deep grows, and so moves, the goroutine's stack.
func deep(n int, s *[128]byte) byte {
	var l [128]byte
	l[n&127] = s[0] + 1
	if n == 0 {
		return l[0]
	}
	return deep(n-1, &l)
}

var sink atomic.Pointer[[]byte]

// calls is a program that calls a host function of twelve arguments n (r1 of its context's word 0) times from a
// subprogram with values in every callee-saved register.
func calls(h rt.Handle) *ir.Program {
	main := []ir.Insn{ld(6, 1, 0), ld(7, 1, 8), ir.Insn{Op: ir.Yield}, mov(1, 7), mov(2, 6), {Op: ir.Call, Off: 1, Sub: 5}, mov(7, 0),
		{Op: ir.Sub, W: 8, Dst: 6, Imm: 1, Flag: ir.FlagImm}, {Op: ir.Jcc, Sub: ir.NE, W: 8, Dst: 6, Flag: ir.FlagImm, Off: 2}, mov(0, 7), exit}
	sub := []ir.Insn{movImm(6, 11), movImm(7, 22), movImm(8, 33), movImm(9, 44), movImm(3, 3), movImm(4, 4), movImm(5, 5)}
	for a := 6; a <= 12; a++ {
		sub = append(sub, argStoreImm(a, int64(a)))
	}
	sub = append(sub, ir.Insn{Op: ir.CallHost, Imm: int64(h), Sub: 12}, add(0, 6), add(0, 7), add(0, 8), add(0, 9), exit)
	return join("calls", []ir.Func{{}, {OutArgs: 7}}, main, sub)
}

func wantCalls(n, v uint64) uint64 {
	for ; n > 0; n-- {
		v += n + 3 + 4 + 5 + (6+12)*7/2 + 110
	}
	return v
}

// stress is what the workers share.
type stress struct {
	t                                  *testing.T
	stop                               chan struct{}
	loop, forever, wild, calls, inner  *Code
	runs, hosts, cancels, faults, nils atomic.Uint64
}

// TestStress runs programs on 8 goroutines while everything happens that a Go process can do to them: garbage
// collection all the time, stack growth under suspended programs, migration between threads, profiling and tracing,
// a flood of preemption signals, cancellation, faults of programs and of Go code, nested runs.
func TestStress(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(1))
	var prof bytes.Buffer
	if err := pprof.StartCPUProfile(&prof); err != nil {
		t.Log("pprof:", err)
	}
	defer pprof.StopCPUProfile()
	if err := trace.Start(io.Discard); err != nil {
		t.Log("trace:", err)
	}
	defer trace.Stop()
	s := &stress{t: t, stop: make(chan struct{})}
	h := rt.Register(s.host)
	defer rt.Unregister(h)
	s.inner = load(t, prog("inner", movImm(0, 40), exit))
	s.loop = load(t, loopOver())
	s.forever = load(t, prog("forever", ir.Insn{Op: ir.Yield}, ir.Insn{Op: ir.Jmp}))
	s.wild = load(t, prog("wild", movImm(1, 0x10), ld(0, 1, 0), exit))
	s.calls = load(t, calls(h))
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() { s.worker(uint64(g)) })
	}
	wg.Go(s.signals)
	wg.Go(s.collect)
	time.Sleep(*stressFor)
	close(s.stop)
	wg.Wait()
	t.Logf("runs %d, host calls %d, cancelled %d, faults %d, Go nil dereferences %d", s.runs.Load(), s.hosts.Load(),
		s.cancels.Load(), s.faults.Load(), s.nils.Load())
}

// loopOver sums n..1, n from word 0 of the context.
func loopOver() *ir.Program {
	return prog("loop", ld(6, 1, 0), movImm(0, 0), ir.Insn{Op: ir.Yield}, add(0, 6),
		ir.Insn{Op: ir.Sub, W: 8, Dst: 6, Imm: 1, Flag: ir.FlagImm},
		ir.Insn{Op: ir.Jcc, Sub: ir.NE, W: 8, Dst: 6, Flag: ir.FlagImm, Off: 2}, exit)
}

// host adds its arguments, and sometimes does something that moves or stops the goroutine.
func (s *stress) host(r *rt.Run, a *[12]uint64) uint64 {
	args := *a
	switch k := s.hosts.Add(1); k % 61 {
	case 0:
		b := make([]byte, k%8192)
		sink.Store(&b)
	case 1:
		var l [128]byte
		deep(int(k%400), &l)
	case 2:
		runtime.Gosched()
	case 3:
		if k%1009 == 0 {
			runtime.GC()
		}
	case 4:
		if v, err := s.inner.Exec(context.Background(), r.Nested()); v != 40 || err != nil {
			s.t.Error("nested:", v, err)
		}
	}
	sum := uint64(0)
	for _, v := range args {
		sum += v
	}
	return sum
}

func (s *stress) worker(g uint64) {
	b := &bench{t: s.t, mem: sharedMemory(s.t)}
	r := rand.New(rand.NewPCG(g, 1))
	for {
		select {
		case <-s.stop:
			return
		default:
		}
		b.run = rt.Acquire() // taken and given back, so that 8 goroutines share the machine's slots
		s.one(b, r)
		b.run.Release()
		s.runs.Add(1)
	}
}

// one runs one program and checks what comes of it.
func (s *stress) one(b *bench, r *rand.Rand) {
	switch k := r.IntN(200); {
	case k < 2: // some milliseconds
		n := 2_000_000 + r.Uint64N(4_000_000)
		s.check("long loop", b.exec(s.loop, &[words]uint64{n}), n*(n+1)/2)
	case k < 4:
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(r.IntN(2000))*time.Microsecond)
		defer cancel()
		if _, err := s.forever.Exec(ctx, b.run); !errors.Is(err, context.DeadlineExceeded) {
			s.t.Error("cancelled:", err)
		}
		s.cancels.Add(1)
	case k < 20:
		if _, err := s.wild.Exec(context.Background(), b.run); err == nil {
			s.t.Error("no fault")
		}
		s.faults.Add(1)
	case k < 30:
		s.goFault()
	case k < 110:
		n, v := 1+r.Uint64N(100), r.Uint64()
		s.check("calls", b.exec(s.calls, &[words]uint64{n, v}), wantCalls(n, v))
	default:
		n := 1 + r.Uint64N(2000)
		s.check("loop", b.exec(s.loop, &[words]uint64{n}), n*(n+1)/2)
	}
}

func (s *stress) check(what string, o outcome, want uint64) {
	if o.ret != want || o.err != "" {
		s.t.Errorf("%s: %#x %s, want %#x", what, o.ret, o.err, want)
	}
}

func (s *stress) goFault() {
	defer func() {
		if recover() == nil {
			s.t.Error("a nil dereference did not panic")
		}
		s.nils.Add(1)
	}()
	var p *int
	*p = 1
}

// threads returns the process's threads.
func threads() (tids []int) {
	tasks, _ := os.ReadDir("/proc/self/task")
	for _, e := range tasks {
		tid, _ := strconv.Atoi(e.Name())
		tids = append(tids, tid)
	}
	return tids
}

// signals sends every thread preemption and profiling signals as fast as it can.
func (s *stress) signals() {
	pid := os.Getpid()
	for {
		select {
		case <-s.stop:
			return
		default:
		}
		for _, tid := range threads() {
			syscall.RawSyscall(syscall.SYS_TGKILL, uintptr(pid), uintptr(tid), uintptr(syscall.SIGURG))
			syscall.RawSyscall(syscall.SYS_TGKILL, uintptr(pid), uintptr(tid), uintptr(syscall.SIGPROF))
		}
		time.Sleep(50 * time.Microsecond)
	}
}

// collect forces garbage collections and dumps of all stacks, and loads and closes programs beside the running ones.
func (s *stress) collect() {
	buf := make([]byte, 1<<20)
	for {
		select {
		case <-s.stop:
			return
		default:
		}
		runtime.GC()
		runtime.Stack(buf, true)
		c, err := Load(prog("short-lived", movImm(0, 7), exit))
		if err != nil {
			s.t.Error(err)
			return
		}
		r := rt.Acquire()
		if v, err := c[0].Exec(context.Background(), r); v != 7 || err != nil {
			s.t.Error("short-lived:", v, err)
		}
		r.Release()
		c[0].Close()
		time.Sleep(time.Millisecond)
	}
}

// TestStopTheWorld measures how long the Go runtime waits for programs that loop.
func TestStopTheWorld(t *testing.T) {
	c := load(t, prog("forever", ir.Insn{Op: ir.Yield}, ir.Insn{Op: ir.Jmp}))
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			r := rt.Acquire()
			defer r.Release()
			if _, err := c.Exec(ctx, r); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
	time.Sleep(5 * time.Millisecond)
	var worst, sum time.Duration
	const n = 50
	for range n {
		begin := time.Now()
		var ms runtime.MemStats
		runtime.ReadMemStats(&ms) // stops the world
		d := time.Since(begin)
		sum += d
		worst = max(worst, d)
	}
	begin := time.Now()
	cancel()
	wg.Wait()
	t.Logf("stop-the-world: mean %v, worst %v; cancellation took %v", sum/n, worst, time.Since(begin))
	if sum/n > 50*time.Millisecond {
		t.Errorf("stopping the world takes %v", sum/n)
	}
}
