package verifier_test

import (
	"bytes"
	"os"
	"testing"
	"time"

	"github.com/skep-bpf/skep/internal/kernel"
	"github.com/skep-bpf/skep/internal/object"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/verifier"
)

// BenchmarkVerify verifies programs of the fixtures and, as root, has the kernel verify the same ones in between: the
// metric kernel/skep is how many times the kernel's own figure for its verification time (log level 4) is ours.
func BenchmarkVerify(b *testing.B) {
	for _, c := range []struct{ file, name string }{{"counter", "count"}, {"parser", "with_helper"}, {"syscall", "hash"}} {
		b.Run(c.file+"/"+c.name, func(b *testing.B) {
			p := fixture(b, c.file, c.name)
			var res *verifier.Result
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if res, err = verifier.Verify(p, options(0)); err != nil {
					b.Fatal(err)
				}
			}
			ours := float64(b.Elapsed().Nanoseconds()) / float64(b.N)
			b.ReportMetric(ours/float64(res.Stats.Processed), "ns/insn")
			if k := kernelTime(p); k > 0 {
				b.ReportMetric(float64(k.Nanoseconds())/ours, "kernel/skep")
			}
		})
	}
}

func fixture(t testing.TB, file, name string) *program.Program {
	t.Helper()
	data, err := os.ReadFile("../testdata/" + file + ".o")
	if err != nil {
		t.Fatal(err)
	}
	o, err := object.Load(bytes.NewReader(data), object.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := program.FromSpec(o.Spec, name, program.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// kernelTime is the least verification time that the kernel reports in ten loads, 0 where it cannot be asked.
func kernelTime(p *program.Program) (least time.Duration) {
	for range 10 {
		_, log, err := kernel.Verify(p, verifier.LogStats)
		if err != nil {
			return 0
		}
		if f, ok := kernel.FiguresOf(log); ok && f.Time > 0 && (least == 0 || f.Time < least) {
			least = f.Time
		}
	}
	return least
}
