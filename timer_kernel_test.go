//go:build linux

package skep_test

import (
	"testing"

	"github.com/cilium/ebpf"
)

// TestTimersAsKernel: what the calls return, in the kernel.
func TestTimersAsKernel(t *testing.T) {
	needKernel(t)
	spec := loadSpec(t, "timers.o")
	want := map[string]uint32{"errors": 111111111, "cancel": 101, "either": 0, "count_variables": 0}
	for name := range spec.Programs {
		if _, ok := want[name]; !ok {
			delete(spec.Programs, name) // has stack arguments, or nothing to return
		}
	}
	c, err := ebpf.NewCollection(spec)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	defer c.Close()
	for name, ret := range want {
		if got, _, err := c.Programs[name].Test(make([]byte, 64)); err != nil || got != ret {
			t.Errorf("%s: %d, %v; want %d", name, got, err, ret)
		}
	}
}
