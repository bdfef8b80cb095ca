//go:build linux && amd64

package native_test

import (
	"context"
	"testing"
	"time"

	"github.com/skep-bpf/skep/helpers"
	"github.com/skep-bpf/skep/internal/asmtext"
	"github.com/skep-bpf/skep/internal/difftest"
	"github.com/skep-bpf/skep/internal/kernel"
	"github.com/skep-bpf/skep/internal/lower"
	"github.com/skep-bpf/skep/internal/native"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/internal/rt"
	"github.com/skep-bpf/skep/verifier"
)

// kernelPrograms are what BenchmarkKernel compares. Each is an XDP program over a packet of 64 bytes.
var kernelPrograms = []struct{ name, src string }{
	{"empty", `
		r0 = 2
		exit`},
	{"empty loop", `
		r6 = 0
		r7 = 0
	loop:
		r7 += 1
		r6 += 1
		if r6 < 1000 goto loop
		r0 = r7
		exit`},
	{"xorshift", `
		r6 = 88172645463325252 ll
		r7 = 0
	loop:
		r1 = r6
		r1 <<= 13
		r6 ^= r1
		r1 = r6
		r1 >>= 7
		r6 ^= r1
		r1 = r6
		r1 <<= 17
		r6 ^= r1
		r7 += 1
		if r7 < 1000 goto loop
		r0 = r6
		exit`},
	{"fnv", `
		r2 = *(u32 *)(r1 + 0)
		r3 = *(u32 *)(r1 + 4)
		r4 = r2
		r4 += 64
		r0 = 0
		if r4 > r3 goto out
		r6 = 0
		w0 = 0x811c9dc5
	outer:
		r5 = r2
		r7 = 0
	loop:
		r1 = *(u8 *)(r5 + 0)
		w0 ^= w1
		w0 *= 16777619
		r5 += 1
		r7 += 1
		if r7 < 64 goto loop
		r6 += 1
		if r6 < 16 goto outer
	out:
		exit`},
	{"array", `
	.map values array 4 8 256
		r6 = 0
		r7 = 0
	loop:
		*(u32 *)(r10 - 4) = r6
		r2 = r10
		r2 += -4
		r1 = map[values] ll
		call 1
		if r0 == 0 goto out
		r1 = *(u64 *)(r0 + 0)
		r7 += r1
		r7 += 1
		r6 += 1
		if r6 < 256 goto loop
	out:
		r0 = r7
		exit`},
	{"hash", `
	.map values hash 4 8 256
		r6 = 0
		r7 = 0
	loop:
		*(u32 *)(r10 - 4) = r6
		r2 = r10
		r2 += -4
		r1 = map[values] ll
		call 1
		if r0 != 0 goto out
		r7 += 1
		r6 += 1
		if r6 < 256 goto loop
	out:
		r0 = r7
		exit`},
	{"calls", `
		r6 = 0
		r7 = 0
	loop:
		r1 = r6
		r2 = r7
		call f
		r7 = r0
		r6 += 1
		if r6 < 256 goto loop
		r0 = r7
		exit
	f:
		r6 = r1
		r7 = r2
		r1 = r7
		call g
		r0 += r6
		exit
	g:
		r0 = r1
		r0 *= 31
		exit`},
	{"divide", `
		r6 = 1
		r7 = 1000000007
	loop:
		r1 = r7
		r1 /= r6
		r7 += r1
		r7 %= 1000003
		r6 += 1
		if r6 < 500 goto loop
		r0 = r7
		exit`},
	{"parser", `
		r0 = 1
		r2 = *(u32 *)(r1 + 0)
		r3 = *(u32 *)(r1 + 4)
		r4 = r2
		r4 += 34
		if r4 > r3 goto out
		r5 = *(u16 *)(r2 + 12)
		r5 = be16 r5
		if r5 != 0x800 goto out
		r5 = *(u8 *)(r2 + 14)
		r5 &= 15
		if r5 < 5 goto out
		r5 = *(u8 *)(r2 + 23)
		if r5 == 6 goto tcp
		if r5 == 17 goto tcp
		goto out
	tcp:
		r4 = r2
		r4 += 54
		if r4 > r3 goto out
		r5 = *(u32 *)(r2 + 26)
		r5 = be32 r5
		r0 = r5
		r5 = *(u32 *)(r2 + 30)
		r0 ^= r5
		r5 = *(u16 *)(r2 + 36)
		r5 = be16 r5
		r0 += r5
		r0 &= 3
		r0 |= 1
	out:
		exit`},
}

// BenchmarkKernel runs programs on our compiler and on the kernel's, in turn in one run, and reports both times and
// their ratio (above 1: slower than the kernel). It needs root.
func BenchmarkKernel(b *testing.B) {
	if err := kernel.Available(); err != nil {
		b.Skip(err)
	}
	data := make([]byte, 64)
	copy(data[12:], []byte{8, 0, 0x45, 0, 0, 50, 0, 0, 0, 0, 64, 6})
	for _, kp := range kernelPrograms {
		b.Run(kp.name, func(b *testing.B) {
			p, err := asmtext.Program(".type xdp\n"+kp.src, asmtext.ProgramOptions{Name: kp.name})
			if err != nil {
				b.Fatal(err)
			}
			k, err := kernel.Load(p)
			if err != nil {
				b.Fatal(err)
			}
			defer k.Close()
			benchBoth(b, p, k, data)
		})
	}
}

func benchBoth(b *testing.B, p *program.Program, k *kernel.Prog, data []byte) {
	w, err := difftest.NewWorld(p.Maps)
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	res, err := verifier.Verify(p, verifier.Options{Helpers: helpers.Proto})
	if err != nil {
		b.Fatal(err)
	}
	ir, err := lower.Lower(p, res, w.Env())
	if err != nil {
		b.Fatal(err)
	}
	codes, err := native.Load(ir)
	if err != nil {
		b.Fatal(err)
	}
	defer codes[0].Close()
	timer := &timed{Executable: codes[0], n: 2000}
	kernelBest, ourBest := time.Hour, time.Hour
	for b.Loop() {
		out, err := w.Run(context.Background(), timer, p.Type, data)
		if err != nil {
			b.Fatal(err)
		}
		ko, err := k.Run(kernel.RunInput{Data: data, Repeat: timer.n})
		if err != nil {
			b.Fatal(err)
		}
		if uint32(out.R0) != ko.Ret {
			b.Fatalf("result %#x, the kernel's %#x", uint32(out.R0), ko.Ret)
		}
		kernelBest, ourBest = min(kernelBest, ko.Duration), min(ourBest, timer.each)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(ourBest.Nanoseconds()), "ours-ns")
	b.ReportMetric(float64(kernelBest.Nanoseconds()), "kernel-ns")
	b.ReportMetric(float64(ourBest)/float64(kernelBest), "ratio")
	b.ReportMetric(float64(len(codes[0].Text())), "bytes")
	if n, err := k.JITLen(); err == nil {
		b.ReportMetric(float64(n), "kernel-bytes")
	}
}

// timed runs a program n times and notes how long each took.
type timed struct {
	rt.Executable
	n    int
	each time.Duration
}

func (t *timed) Exec(ctx context.Context, r *rt.Run) (ret uint64, err error) {
	start := time.Now()
	for range t.n {
		if ret, err = t.Executable.Exec(ctx, r); err != nil {
			return ret, err
		}
	}
	t.each = time.Since(start) / time.Duration(t.n)
	return ret, nil
}
