//go:build linux && (amd64 || arm64)

package native

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skep-bpf/skep/internal/interp"
	"github.com/skep-bpf/skep/internal/ir"
	"github.com/skep-bpf/skep/internal/rt"
)

// storeArgs stores 106..112 to the slots.
func storeArgs() (b []ir.Insn) {
	for n := 6; n <= 12; n++ {
		b = append(b, argStoreImm(n, int64(100+n)))
	}
	return b
}

// TestArgumentsSurvive puts every operation that needs temporaries, with every pair of registers, between the stores of
// arguments and the call: what it uses is not what arguments are in. Also as on a processor without extensions.
func TestArgumentsSurvive(t *testing.T) {
	h := rt.Register(weigh)
	defer rt.Unregister(h)
	was := features
	defer func() { features = was }()
	b := newBench(t)
	for _, features = range []options{was, {}} {
		for dst := range uint8(10) {
			for src := range uint8(10) {
				var progs []*ir.Program
				add := func(op ...ir.Insn) {
					body := append(storeArgs(), op...)
					body = append(body, ir.Insn{Op: ir.CallHost, Imm: int64(h), Sub: 12})
					for r := range uint8(5) {
						body = append(body, movImm(r+1, 0))
					}
					progs = append(progs, around("survive", body...))
				}
				for _, w := range []uint8{4, 8} {
					for _, op := range aluOps {
						add(ir.Insn{Op: op, W: w, Dst: dst, Src: src})
						if src == 0 {
							add(ir.Insn{Op: op, W: w, Dst: dst, Imm: 77, Flag: ir.FlagImm})
						}
					}
					for op := ir.AtomicAdd; op <= ir.AtomicCmpXchg; op++ {
						flag := uint8(0)
						if op <= ir.AtomicXor {
							flag = ir.FlagFetch
						}
						if dst != src && (op != ir.AtomicCmpXchg || dst != 0) {
							add(ir.Insn{Op: ir.Store, W: 8, Dst: 10, Off: -256, Imm: 3, Flag: ir.FlagImm}, mov(dst, 10),
								ir.Insn{Op: op, W: w, Dst: dst, Src: src, Off: -256, Flag: flag}, movImm(dst, 0)) // the engines' stacks differ
						}
					}
					add(ir.Insn{Op: ir.Bswap, W: w, Dst: dst})
				}
				b.compareAll(progs, inputWith(dst, 0x8000000000000005, src, 3), inputWith(dst, 1000, src, 0))
			}
		}
	}
}

// TestArgumentsSurviveYield lets a program leave at yield points between the stores of arguments and the call, and between
// its start and the loads of its own.
func TestArgumentsSurviveYield(t *testing.T) {
	var got [12]uint64
	h := rt.Register(func(_ *rt.Run, a *[12]uint64) uint64 { got = *a; return 1 })
	defer rt.Unregister(h)
	loop := func(at int, r uint8) []ir.Insn { // at: where it stands in its function
		return []ir.Insn{movImm(r, 0), {Op: ir.Yield}, {Op: ir.Add, W: 8, Dst: r, Imm: 1, Flag: ir.FlagImm},
			{Op: ir.Jcc, Sub: ir.LT, W: 8, Dst: r, Imm: 50_000, Flag: ir.FlagImm, Off: int32(at + 1)}}
	}
	var main []ir.Insn
	for r := range uint8(5) {
		main = append(main, movImm(r+1, int64(101+r)))
	}
	main = append(main, storeArgs()...)
	main = append(main, loop(len(main), 0)...)
	main = append(main, ir.Insn{Op: ir.Call, Off: 1, Sub: 12}, exit)
	sub := loop(0, 0)
	for n := 6; n <= 12; n++ { // all to the stack: r0 is free only
		sub = append(sub, argLoad(0, n), ir.Insn{Op: ir.Store, W: 8, Dst: 10, Src: 0, Off: int32(-8 * (n - 5))})
	}
	for n := 6; n <= 12; n++ {
		sub = append(sub, ld(0, 10, -8*(n-5)), argStore(n, 0))
	}
	sub = append(sub, loop(len(sub), 6)...)
	sub = append(sub, ir.Insn{Op: ir.CallHost, Imm: int64(h), Sub: 12}, exit)
	p := join("yields", []ir.Func{{OutArgs: 7}, {Stack: 56, InArgs: 7, OutArgs: 7}}, main, sub)
	c := load(t, p)
	ic, err := interp.New(p, interp.Options{})
	if err != nil {
		t.Fatal(err)
	}
	run := acquire(t)
	block, err := blockFor(run)
	if err != nil {
		t.Fatal(err)
	}
	var served, stop atomic.Int64
	done := make(chan struct{})
	defer func() { stop.Store(1); <-done }()
	go func() { // asks again as soon as the program has left
		defer close(done)
		for stop.Load() == 0 {
			if atomic.LoadUint32(&block.poll) == 0 {
				served.Add(1)
				requestPoll(block)
			}
			runtime.Gosched()
		}
	}()
	check := func(x rt.Executable) {
		got = [12]uint64{}
		if ret, err := x.Exec(context.Background(), run); ret != 1 || err != nil {
			t.Fatal(ret, err)
		}
		for i, v := range got {
			if v != uint64(101+i) {
				t.Fatalf("%T: argument %d is %d: %v", x, i+1, v, got)
			}
		}
	}
	check(ic)
	runs, end := int64(0), time.Now().Add(10*time.Second)
	for ; served.Load() < 500+runs && time.Now().Before(end); runs++ { // the start of a run takes a request, too
		check(c)
	}
	if served.Load() < 500+runs {
		t.Errorf("%d runs left %d times only", runs, served.Load())
	}
}
