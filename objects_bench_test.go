//go:build linux

package skep_test

import (
	"testing"
	"time"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/internal/kernel"
	"github.com/skep-bpf/skep/internal/program"
)

// BenchmarkAllocations runs what bench of testdata/objects.c measures here and in the kernel, in turn, and reports the best time of one operation
// on both sides, without that of the loop around it.
func BenchmarkAllocations(b *testing.B) {
	if err := kernelMissing(); err != nil {
		b.Skip(err)
	}
	p, err := program.FromSpec(loadSpec(b, "objects.o"), "bench", program.Options{})
	if err != nil {
		b.Fatal(err)
	}
	k, err := kernel.Load(p)
	if err != nil {
		b.Fatal(err)
	}
	defer k.Close()
	c := load(b, "objects.o", skep.Options{}, "bench")
	const ops = 20_000
	run := func(mark, n uint32) (ours, kernels time.Duration) {
		o := step{"bench", mark, n}.options()
		res, err := c.Programs["bench"].RunContext(b.Context(), o)
		if err != nil {
			b.Fatal(err)
		}
		out, err := k.Run(kernel.RunInput{Data: o.Data, Ctx: o.Context.([]byte)})
		if err != nil {
			b.Fatal(err)
		}
		if mark != 5 && (res.Return != n || out.Ret != n) {
			b.Fatalf("%d rounds, in the kernel %d", res.Return, out.Ret)
		}
		return res.Duration, out.Duration
	}
	for i := range uint32(100) {
		run(5, i)
	}
	measure := func(mark uint32, rounds int) (ours, kernels float64) {
		bestOurs, bestKernels := time.Hour, time.Hour
		for range rounds {
			o, k := run(mark, ops)
			bestOurs, bestKernels = min(bestOurs, o), min(bestKernels, k)
		}
		return float64(bestOurs.Nanoseconds()) / ops, float64(bestKernels.Nanoseconds()) / ops
	}
	for i, name := range []string{"exchange", "list", "tree", "new"} { // new last: it uses up what the kernel has at hand
		b.Run(name, func(b *testing.B) {
			loop, kernelLoop := measure(0, 3)
			ours, kernels := measure(uint32(i+1), max(3, min(b.N, 100)))
			ours, kernels = ours-loop, kernels-kernelLoop
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(ours, "ours-ns")
			b.ReportMetric(kernels, "kernel-ns")
			b.ReportMetric(ours/kernels, "ratio")
		})
	}
}
