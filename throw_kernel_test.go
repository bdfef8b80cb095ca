//go:build linux

package skep_test

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/kernel"
	"github.com/skep-bpf/skep/internal/program"
)

// TestThrowsAsKernel: the same runs in the kernel, of programs that it knows: without stack arguments.
func TestThrowsAsKernel(t *testing.T) {
	needKernel(t)
	spec := loadSpec(t, "exceptions.o")
	loaded := map[string]*kernel.Prog{}
	for _, name := range throwPrograms() {
		p, err := program.FromSpec(spec, name, program.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(p.Insns, func(in isa.Insn) bool { return in.IsStackArgLoad() || in.IsStackArgStore() }) {
			continue
		}
		k, err := kernel.Load(p)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		defer k.Close()
		loaded[name] = k
	}
	for _, name := range []string{"tail_calls", "tail_calls_deep"} {
		for i, target := range []string{"target", "target_in_main"} {
			key, fd := make([]byte, 4), make([]byte, 4)
			binary.NativeEndian.PutUint32(key, uint32(i))
			binary.NativeEndian.PutUint32(fd, uint32(loaded[target].FD()))
			if err := loaded[name].Map(0).Update(key, fd, 0); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
	ran := 0
	for _, r := range throwRuns {
		if k := loaded[r.program]; k != nil {
			o := throwOptions(r)
			out, err := k.Run(kernel.RunInput{Data: o.Data, Ctx: o.Context.([]byte)})
			if err != nil || out.Ret != r.want {
				t.Errorf("%+v: the kernel: %d, %v", r, out.Ret, err)
			}
			ran++
		}
	}
	if ran < 15 {
		t.Errorf("only %d runs", ran)
	}
}
