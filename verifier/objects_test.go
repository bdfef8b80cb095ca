package verifier_test

import (
	"strings"
	"testing"

	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/verifier"
)

// TestObjectsDoNotRun checks that the result of every program that gets pointers to objects or to structures from map values says so:
// nothing makes code of it.
func TestObjectsDoNotRun(t *testing.T) {
	if program.HostTypes() == nil {
		t.Skip("the running kernel has no BTF")
	}
	n := 0
	for _, c := range readCases(t) {
		if c.file != "btf_fields" || c.err != "" || !strings.Contains(c.src, "call bpf_obj_new_impl") && !strings.Contains(c.src, "__kptr") {
			continue
		}
		n++
		res, err := verifier.Verify(assemble(t, &c), options(0))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if res.Kernel == "" {
			t.Errorf("%s: the result says nothing of the kernel", c.name)
		}
	}
	if n < 10 {
		t.Errorf("only %d programs", n)
	}
}
