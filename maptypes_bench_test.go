//go:build linux

package skep_test

import (
	"math/rand/v2"
	"sort"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep"
)

// benchMap is what BenchmarkMaps fills.
type benchMap interface{ Put(key, value any) error }

// fillBenchMaps puts into the maps of testdata/mapbench.c what its programs look for: half of the keys, and 10,000 random IPv4 routes.
func fillBenchMaps[M benchMap](b *testing.B, ms map[string]M) {
	rng := rand.New(rand.NewPCG(1, 2))
	check := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	for i := range uint32(8192) {
		for _, name := range []string{"array", "hash", "lru"} {
			check(ms[name].Put(i, uint64(i)))
		}
	}
	for range 10_000 {
		n := []uint32{8, 16, 20, 22, 24, 24, 24, 32}[rng.IntN(8)]
		check(ms["routes"].Put(struct{ Len, Addr uint32 }{n, rng.Uint32()}, uint64(1)))
	}
}

// BenchmarkMaps runs each program of testdata/mapbench.c here and in the kernel, in turn, and reports the best time of one operation on
// both sides, without that of the loop around it.
func BenchmarkMaps(b *testing.B) {
	if err := kernelMissing(); err != nil {
		b.Skip(err)
	}
	spec := loadSpec(b, "mapbench.o")
	k, err := ebpf.NewCollection(spec)
	if err != nil {
		b.Fatalf("%+v", err)
	}
	defer k.Close()
	c := load(b, "mapbench.o", skep.Options{})
	fillBenchMaps(b, k.Maps)
	fillBenchMaps(b, c.Maps)
	const ops = 256
	var names []string
	for name := range c.Programs {
		names = append(names, name)
	}
	sort.Strings(names)
	measure := func(b *testing.B, name string, rounds int) (ours, kernels float64) {
		bestOurs, bestKernels := time.Hour, time.Hour
		for range rounds {
			_, d, err := c.Programs[name].Benchmark(make([]byte, 64), 200, nil)
			if err != nil {
				b.Fatal(err)
			}
			_, kd, err := k.Programs[name].Benchmark(make([]byte, 64), 200, nil)
			if err != nil {
				b.Fatal(err)
			}
			bestOurs, bestKernels = min(bestOurs, d), min(bestKernels, kd)
		}
		return float64(bestOurs.Nanoseconds()) / ops, float64(bestKernels.Nanoseconds()) / ops
	}
	for _, name := range names {
		b.Run(name, func(b *testing.B) {
			loop, kernelLoop := measure(b, "nothing", 3)
			ours, kernels := measure(b, name, max(3, min(b.N, 200)))
			if name != "nothing" {
				ours, kernels = ours-loop, kernels-kernelLoop
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(ours, "ours-ns")
			b.ReportMetric(kernels, "kernel-ns")
			b.ReportMetric(ours/kernels, "ratio")
		})
	}
}
