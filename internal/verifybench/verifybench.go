// Package verifybench measures how long programs take to be verified: by skep, and by the running kernel where bpf(2) works.
package verifybench

import (
	"errors"
	"math"
	"runtime"
	"runtime/metrics"
	"time"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/internal/kernel"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/verifier"
)

// Row is what one program came to. Times are the least of several measurements; those of the kernel are its own (log level 4).
type Row struct {
	File            string        `json:"file"`
	Program         string        `json:"program"`
	Insns           int           `json:"insns"`
	Processed       int           `json:"insns_processed"`
	States          int           `json:"states"`
	Accepted        bool          `json:"accepted"`
	Time            time.Duration `json:"time_ns"`
	PeakBytes       uint64        `json:"peak_bytes"`
	Kernel          time.Duration `json:"kernel_time_ns"` // 0 if the kernel gave no figure
	KernelProcessed int           `json:"kernel_insns_processed"`
	Note            string        `json:"note"` // why the kernel's figure is missing or not comparable
}

// Ratio is how many times as long as the kernel skep took; 0 if the kernel's figure is missing or of another verdict.
func (r *Row) Ratio() float64 {
	if r.Kernel == 0 || r.Note != "" {
		return 0
	}
	return float64(r.Time) / float64(r.Kernel)
}

// GeometricMean is that of the ratios of rows, and how many have one.
func GeometricMean(rows []Row) (mean float64, n int) {
	sum := 0.0
	for i := range rows {
		if q := rows[i].Ratio(); q > 0 {
			sum += math.Log(q)
			n++
		}
	}
	if n == 0 {
		return 0, 0
	}
	return math.Exp(sum / float64(n)), n
}

// Measure verifies a program of a spec rounds times, here and in the kernel in turns, and once more for its memory. The error
// says why there was nothing to verify.
func Measure(file string, spec *ebpf.CollectionSpec, name string, rounds int) (Row, error) {
	row := Row{File: file, Program: name}
	p, err := program.FromSpec(spec, name, program.Options{})
	if err != nil {
		return row, err
	}
	row.Insns = len(p.Insns)
	askKernel := true
	for range rounds {
		if err := row.ours(spec); err != nil {
			return row, err
		}
		if askKernel {
			askKernel = row.kernels(p)
		}
	}
	row.PeakBytes = peakHeap(func() { _, _, _ = Verify(spec, name) })
	return row, nil
}

// Verify verifies a program without a log. A rejection is no error: it has figures, too.
func Verify(spec *ebpf.CollectionSpec, name string) (s verifier.Stats, accepted bool, err error) {
	v, err := skep.Verify(spec, name, skep.Options{LogLevel: ebpf.LogLevelStats})
	var rejected *skep.VerifierError
	switch {
	case errors.As(err, &rejected):
		return rejected.Stats, false, nil
	case err != nil:
		return s, false, err
	}
	return v.Stats, true, nil
}

// ours adds a measurement of skep.
func (r *Row) ours(spec *ebpf.CollectionSpec) error {
	s, accepted, err := Verify(spec, r.Program)
	if err != nil {
		return err
	}
	r.Accepted, r.Processed, r.States = accepted, s.Processed, s.TotalStates
	r.Time = least(r.Time, s.Time)
	return nil
}

// kernels adds a measurement of the kernel; false if it has none to give.
func (r *Row) kernels(p *program.Program) bool {
	accepted, log, err := kernel.Verify(p, verifier.LogStats)
	if err != nil {
		r.Note = "kernel: " + err.Error()
		return false
	}
	f, ok := kernel.FiguresOf(log)
	switch {
	case !ok:
		r.Note = "kernel: no figures in its log"
		return false
	case accepted != r.Accepted:
		r.Note = "the verdicts differ"
	}
	r.Kernel, r.KernelProcessed = least(r.Kernel, f.Time), f.Processed
	return true
}

// least is the lesser of two times, where zero is none.
func least(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// sampleEvery is how often peakHeap looks.
const sampleEvery = 500 * time.Microsecond

// peakHeap returns how far the heap grew while f ran: what is in use and what the collector has not taken back yet, looked at
// every half millisecond and at the end.
func peakHeap(f func()) uint64 {
	runtime.GC()
	base := exactHeapBytes()
	stop, peak := make(chan struct{}), make(chan uint64)
	go func() {
		most := base
		tick := time.NewTicker(sampleEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				most = max(most, heapBytes())
			case <-stop:
				peak <- most
				return
			}
		}
	}()
	f()
	end := exactHeapBytes()
	close(stop)
	return max(<-peak, end) - base
}

// exactHeapBytes counts small objects that processors have not reported yet, too; it stops the world.
func exactHeapBytes() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// heapBytes is what can be asked while others work.
func heapBytes() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}
