//go:build linux

package skep_test

import (
	"math/rand/v2"
	"runtime"
	"sort"
	"sync"
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

// BenchmarkScaling runs each program of testdata/mapbench.c on one goroutine and on two at a time, on the same maps, in turn, and reports how
// many times as much two of them do: 2 is all there is to have.
func BenchmarkScaling(b *testing.B) {
	if runtime.GOMAXPROCS(0) < 2 {
		b.Skip("one processor")
	}
	c := load(b, "mapbench.o", skep.Options{})
	fillBenchMaps(b, c.Maps)
	const runs = 400
	work := func(p *skep.Program, goroutines int) time.Duration {
		start := time.Now()
		var wg sync.WaitGroup
		for range goroutines {
			wg.Go(func() {
				if _, _, err := p.Benchmark(make([]byte, 64), runs, nil); err != nil {
					b.Error(err)
				}
			})
		}
		wg.Wait()
		return time.Since(start)
	}
	for _, name := range []string{"nothing", "array_lookup", "percpu_increment", "hash_lookup", "hash_update", "lru_lookup", "lru_update", "lpm_lookup", "lpm_update", "queue_push_pop"} {
		b.Run(name, func(b *testing.B) {
			var gains []float64
			for range max(5, min(b.N, 50)) {
				one, two := work(c.Programs[name], 1), work(c.Programs[name], 2)
				gains = append(gains, 2*float64(one)/float64(two))
			}
			sort.Float64s(gains)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(gains[len(gains)/2], "times")
		})
	}
}
