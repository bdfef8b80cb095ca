package verifybench

import (
	"math"
	"testing"
	"time"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/internal/kernel"
)

func TestMeasure(t *testing.T) {
	spec, err := skep.LoadCollectionSpec("../../testdata/counter.o")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		accepted bool
	}{{"count", true}, {"unchecked", false}} {
		r, err := Measure("counter.o", spec, c.name, 2)
		if err != nil {
			t.Fatal(err)
		}
		if r.Accepted != c.accepted || r.Insns < 5 || r.Processed < 2 || r.Time <= 0 || r.PeakBytes == 0 {
			t.Errorf("%+v", r)
		}
		hasKernel := kernel.Available() == nil
		if hasKernel != (r.Note == "") || hasKernel && r.KernelProcessed != r.Processed {
			t.Errorf("the kernel is available: %t, %+v", hasKernel, r)
		}
	}
	if _, err := Measure("counter.o", spec, "nope", 1); err == nil {
		t.Error("a program that is not there was measured")
	}
}

func TestGeometricMean(t *testing.T) {
	rows := []Row{
		{Time: time.Second, Kernel: 2 * time.Second}, {Time: 8 * time.Second, Kernel: time.Second},
		{Time: time.Second}, {Time: time.Second, Kernel: time.Hour, Note: "the verdicts differ"},
	}
	if m, n := GeometricMean(rows); n != 2 || math.Abs(m-2) > 1e-9 {
		t.Errorf("mean %v of %d", m, n)
	}
	if m, n := GeometricMean(rows[2:]); m != 0 || n != 0 {
		t.Errorf("mean %v of %d rows without a ratio", m, n)
	}
}

// TestPeakHeap: memory that is held shows, and so does what is dropped before the end.
func TestPeakHeap(t *testing.T) {
	const size = 32 << 20
	got := peakHeap(func() {
		b := make([]byte, size)
		for i := 0; i < size; i += 4096 {
			b[i] = 1
		}
		time.Sleep(10 * sampleEvery)
	})
	if got < size || got > 2*size {
		t.Errorf("%d bytes at most, %d are held", got, size)
	}
}
