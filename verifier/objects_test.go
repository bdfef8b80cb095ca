package verifier_test

import (
	"strings"
	"testing"

	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/verifier"
)

// TestObjectsOfTheProgram checks that the result of every program with objects of its own names the types that it allocates, and wants
// nothing of the kernel: such programs run, also where there is no kernel.
func TestObjectsOfTheProgram(t *testing.T) {
	if program.HostTypes() == nil {
		t.Skip("the running kernel has no BTF")
	}
	n := 0
	for _, c := range readCases(t) {
		allocates := strings.Contains(c.src, "call bpf_obj_new_impl") || strings.Contains(c.src, "call bpf_percpu_obj_new_impl")
		if c.file != "btf_fields" || c.err != "" || !allocates && !strings.Contains(c.src, "call bpf_wq_") || strings.Contains(c.src, "call bpf_task_") {
			continue
		}
		n++
		res, err := verifier.Verify(assemble(t, &c), options(0))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if allocates && len(res.Objects) == 0 || res.Kernel != "" {
			t.Errorf("%s: allocates %v, of the kernel: %q", c.name, res.Objects, res.Kernel)
		}
		without := options(0)
		without.Kernel = nil
		if _, err := verifier.Verify(assemble(t, &c), without); err != nil {
			t.Errorf("%s: without the types of a kernel: %v", c.name, err)
		}
	}
	if n < 9 {
		t.Errorf("only %d programs", n)
	}
}
