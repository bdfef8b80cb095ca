//go:build linux

package skep_test

import (
	"testing"

	"github.com/skep-bpf/skep/internal/kernel"
	"github.com/skep-bpf/skep/internal/program"
)

// TestResLocksAsKernel: the same steps in the kernel.
func TestResLocksAsKernel(t *testing.T) {
	needKernel(t)
	p, err := program.FromSpec(loadSpec(t, "reslock.o"), "res_lock", program.Options{})
	if err != nil {
		t.Fatal(err)
	}
	k, err := kernel.Load(p)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	for _, s := range resLockSteps {
		o := s.options()
		out, err := k.Run(kernel.RunInput{Data: o.Data, Ctx: o.Context.([]byte)})
		if err != nil || int32(out.Ret) != s.want {
			t.Errorf("%+v: the kernel: %d, %v", s, int32(out.Ret), err)
		}
	}
}
