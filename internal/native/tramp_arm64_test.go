//go:build linux

package native

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skep-bpf/skep/internal/abi"
	"github.com/skep-bpf/skep/internal/jit"
	"github.com/skep-bpf/skep/internal/rt"
)

// The tests of this file make their machine code by hand: they hold the trampolines to the conditions at the head of
// tramp_arm64.s, whatever the compiler makes use of.

func movz(rd, imm uint32) uint32       { return 0xd2800000 | imm<<5 | rd }
func movk16(rd, imm uint32) uint32     { return 0xf2a00000 | imm<<5 | rd }
func movk32(rd, imm uint32) uint32     { return 0xf2c00000 | imm<<5 | rd }
func cmpImm(rn, imm uint32) uint32     { return 0xf100001f | imm<<10 | rn<<5 }
func ldr(rt, rn, off uint32) uint32    { return 0xf9400000 | off/8<<10 | rn<<5 | rt }
func str(rt, rn, off uint32) uint32    { return 0xf9000000 | off/8<<10 | rn<<5 | rt }
func cmpReg(rn, rm uint32) uint32      { return 0xeb00001f | rm<<16 | rn<<5 }
func addImm(rd, rn, imm uint32) uint32 { return 0x91000000 | imm<<10 | rn<<5 | rd }
func subImm(rd, rn, imm uint32) uint32 { return 0xd1000000 | imm<<10 | rn<<5 | rd }
func blr(rn uint32) uint32             { return 0xd63f0000 | rn<<5 }
func movAddr(rd uint32, a uint64) []uint32 {
	return []uint32{movz(rd, uint32(a&0xffff)), movk16(rd, uint32(a>>16&0xffff)), movk32(rd, uint32(a>>32&0xffff))}
}

const (
	sp       = 31
	wordRet  = 0xd65f03c0
	wordUDF  = 0
	wordBEQ8 = 0x54000040 // b.eq over the next instruction
)

// handmade is machine code as a program whose BPF instructions are its words.
func handmade(t *testing.T, name string, words ...uint32) *Code {
	t.Helper()
	if err := start(); err != nil {
		t.Fatal(err)
	}
	c := &Code{name: name, jit: &jit.Code{Text: words32(words...), Funcs: []int{0}}, size: 4 * len(words), hosts: true}
	for i := range words {
		c.jit.Places = jit.AddPlace(c.jit.Places, int32(4*i), int32(i))
	}
	if err := place([]*Code{c}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// framed puts body into an entry function that keeps R30 in its frame record.
func framed(body ...uint32) []uint32 {
	return append(append([]uint32{str(30, sp, 8)}, body...), ldr(30, sp, 8), wordRet)
}

// expect traps unless register r has the value imm.
func expect(r, imm uint32) []uint32 { return []uint32{cmpImm(r, imm), wordBEQ8, wordUDF} }

// kept are the registers that a yield keeps, beside RSP, R23 and R29.
var kept = []uint32{0, 1, 2, 3, 4, 5, 6, 7, 8, 19, 20, 21, 22}

// TestRegistersKept: what calls of stubs keep and hand over, R28 included; that the frame record at entry ends the chain.
func TestRegistersKept(t *testing.T) {
	var args [12]uint64
	h := rt.Register(func(_ *rt.Run, a *[12]uint64) uint64 {
		args = *a
		var l [128]byte
		deep(300, &l)
		runtime.GC()
		return 4000
	})
	defer rt.Unregister(h)
	var body []uint32
	emit := func(w ...uint32) { body = append(body, w...) }
	emit(ldr(9, sp, 0))
	emit(expect(9, 0)...)
	emit(addImm(9, sp, 0), cmpReg(9, 29), wordBEQ8, wordUDF)
	emit(subImm(sp, sp, 80), str(28, sp, 32), str(23, sp, 40), str(29, sp, 48))
	for i, r := range kept {
		emit(movz(r, 100+uint32(i)))
	}
	for i := range uint32(4) {
		emit(movz(9, 200+i), str(9, sp, 8*i))
	}
	emit(ldr(16, 23, abi.BlockYield), blr(16))
	for i, r := range kept {
		emit(expect(r, 100+uint32(i))...)
	}
	emit(movz(8, uint32(h)), ldr(16, 23, abi.BlockCallMany), blr(16))
	emit(expect(8, 4000)...)
	for i, r := range kept[9:] {
		emit(expect(r, 109+uint32(i))...)
	}
	for off, r := range map[uint32]uint32{32: 28, 40: 23, 48: 29} {
		emit(ldr(9, sp, off), cmpReg(9, r), wordBEQ8, wordUDF)
	}
	emit(addImm(9, sp, 80), cmpReg(9, 29), wordBEQ8, wordUDF)
	emit(addImm(sp, sp, 80), movz(0, 77), movz(19, 0), movz(20, 0), movz(21, 0), movz(22, 0))
	c := handmade(t, "kept", framed(body...)...)
	run := acquire(t)
	for range 20 {
		args = [12]uint64{}
		ret, err := c.Exec(context.Background(), run)
		if ret != 77 || err != nil {
			t.Fatal(ret, err)
		}
		for i, v := range args {
			want := uint64(100 + i)
			if i >= 8 {
				want = uint64(200 + i - 8)
			}
			if v != want {
				t.Errorf("argument %d is %d: %v", i+1, v, args)
			}
		}
	}
}

// useG is a C function that keeps its first argument in R28 while it counts it down.
var useG = words32(
	0xf81f0ffc, // str x28, [sp, #-16]!
	0xaa0003fc, // mov x28, x0
	0xf100079c, // subs x28, x28, #1
	0x54ffffe1, // b.ne .-4
	0xf84107fc, // ldr x28, [sp], #16
	0xd65f03c0, // ret
)

// spoilG is one that faults with its own value in R28.
var spoilG = words32(0xd2800b9c, 0xf9400380, 0xd65f03c0) // mov x28, #92; ldr x0, [x28]; ret

// TestGoroutineRegister sends all kinds of signals to threads that run C code with a value of its own in R28, where Go's
// handlers look for the goroutine.
func TestGoroutineRegister(t *testing.T) {
	addr := outsideText(t, useG)
	count := append(movAddr(16, uint64(addr)), movz(0, 0xffff), movk16(0, 2), blr(16), movz(0, 5))
	c := handmade(t, "counts", framed(count...)...)
	spoil := append(movAddr(16, uint64(outsideText(t, spoilG))), blr(16))
	faulty := handmade(t, "spoils", framed(spoil...)...)
	var stop, n atomic.Int64
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			r := rt.Acquire()
			defer r.Release()
			for ; stop.Load() == 0; n.Add(1) {
				if v, err := c.Exec(context.Background(), r); v != 5 || err != nil {
					t.Error(v, err)
				}
				_, err := faulty.Exec(context.Background(), r)
				var f *rt.Fault
				if !errors.As(err, &f) || f.Insn != len(spoil) || f.Addr != 92 || !strings.Contains(f.Reason, "native function") {
					t.Error(err)
				}
				runtime.Gosched() // needs R28
			}
		})
	}
	pid := unix.Getpid()
	end := time.Now().Add(time.Second)
	for i := 0; time.Now().Before(end); i++ {
		for _, s := range []syscall.Signal{unix.SIGURG, unix.SIGPROF, unix.SIGWINCH, unix.SIGCHLD, unix.SIGIO} {
			for _, tid := range threads() {
				unix.Tgkill(pid, tid, s)
			}
		}
		if i%16 == 0 {
			runtime.GC()
		}
	}
	stop.Store(1)
	wg.Wait()
	t.Log(n.Load(), "runs")
}
