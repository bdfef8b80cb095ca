package skep_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/skep-bpf/skep"
)

// TestReport: a rejection explains itself, also to several who ask at a time, and the report is made once.
func TestReport(t *testing.T) {
	spec, err := skep.LoadCollectionSpec("testdata/counter.o")
	if err != nil {
		t.Fatal(err)
	}
	_, err = skep.Verify(spec, "unchecked", skep.Options{})
	var rejected *skep.VerifierError
	if !errors.As(err, &rejected) {
		t.Fatal(err)
	}
	first := rejected.Report()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if r := rejected.Report(); r != first {
				t.Error("another report")
			}
		})
	}
	wg.Wait()
	if first.Subject != "R1" || len(first.Story) == 0 || first.At.Line != 70 || !strings.Contains(first.String(), "help: compare first") {
		t.Errorf("%+v", first)
	}
}
