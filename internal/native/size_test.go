//go:build linux && amd64

package native_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/helpers"
	"github.com/skep-bpf/skep/internal/ir"
	"github.com/skep-bpf/skep/internal/jit/amd64"
	"github.com/skep-bpf/skep/internal/jit/arm64"
	"github.com/skep-bpf/skep/internal/kernel"
	"github.com/skep-bpf/skep/internal/lower"
	"github.com/skep-bpf/skep/internal/object"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/verifier"
)

// sizes adds up code sizes.
type sizes struct {
	programs, insns, ours, arm64, kernels, larger int
	compile                                       time.Duration
}

// perInsn returns bytes per BPF instruction.
func (s *sizes) perInsn(bytes int) float64 { return float64(bytes) / float64(s.insns) }

// TestCodeSize compares the size of our machine code with the kernel's for every program of the fixtures (and of the
// objects in the directory SKEP_OBJECTS) that both accept. It needs root.
func TestCodeSize(t *testing.T) {
	if err := kernel.Available(); err != nil {
		t.Skip(err)
	}
	files, _ := filepath.Glob("../../testdata/*.o")
	if dir := os.Getenv("SKEP_OBJECTS"); dir != "" {
		more, _ := filepath.Glob(filepath.Join(dir, "*.o"))
		files = append(files, more...)
	}
	var s sizes
	for _, f := range files {
		if b := filepath.Base(f); b != "callbacks.o" && b != "iterators.o" { // our code has what the kernel's calls
			s.object(t, f)
		}
	}
	t.Logf("%d programs, %d instructions: amd64 %d bytes (%.2f an instruction), arm64 %d (%.2f), the kernel's amd64 %d (%.2f); larger than the kernel's: %d; lowered and compiled for amd64 in %v",
		s.programs, s.insns, s.ours, s.perInsn(s.ours), s.arm64, s.perInsn(s.arm64), s.kernels, s.perInsn(s.kernels), s.larger, s.compile)
	if s.programs == 0 || s.ours > s.kernels {
		t.Errorf("code is larger than the kernel's")
	}
}

func (s *sizes) object(t *testing.T, file string) {
	b, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	o, err := object.Load(b, object.Options{})
	if err != nil {
		t.Logf("%s: %v", file, err)
		return
	}
	for name := range o.Spec.Programs {
		p, err := program.FromSpec(o.Spec, name, program.Options{})
		if err != nil {
			continue
		}
		res, err := verifier.Verify(p, verifier.Options{Helpers: helpers.Proto})
		if err != nil {
			continue
		}
		k, err := kernel.Load(p)
		if err != nil {
			continue
		}
		n, err := k.JITLen()
		k.Close()
		if err != nil || n == 0 {
			continue
		}
		start := time.Now()
		code, err := lower.Lower(p, res, fakeEnv(p))
		if err != nil {
			t.Logf("%s: %v", file, err)
			continue
		}
		c, err := amd64.Compile(code, amd64.Options{BMI2: true, MOVBE: true})
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		s.compile += time.Since(start)
		a, err := arm64.Compile(code, arm64.Options{LSE: true})
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		s.programs++
		s.insns += len(p.Insns)
		s.ours += len(c.Text)
		s.kernels += n
		s.arm64 += len(a.Text)
		t.Logf("%-50s %5d instructions: amd64 %5d, arm64 %5d, the kernel's amd64 %5d", filepath.Base(file)+"/"+name, len(p.Insns), len(c.Text), len(a.Text), n)
		if len(c.Text) > n {
			s.larger++
		}
	}
}

// fakeEnv binds maps to addresses such as they have.
func fakeEnv(p *program.Program) *lower.Env {
	e := &lower.Env{Helper: helpers.Handle, Kfunc: helpers.KfuncHandle, Kfuncs: make([]lower.KfuncBinding, len(p.Kfuncs))}
	for i, m := range p.Maps {
		b := lower.MapBinding{Handle: 0x7f1234560000 + uint64(i)*4096, Stride: (m.ValueSize + 7) &^ 7, ValueSize: m.ValueSize, MaxEntries: m.MaxEntries}
		switch m.Type {
		case ebpf.Array:
			b.Kind, b.Values = ir.MapArray, b.Handle+256
		case ebpf.PerCPUArray:
			b.Kind, b.Values, b.PerCPUStride = ir.MapPerCPUArray, b.Handle+256, uint64(b.Stride)*uint64(m.MaxEntries)
		case ebpf.ProgramArray:
			b.Kind, b.Values = ir.MapProgArray, b.Handle+256
		}
		e.Maps = append(e.Maps, b)
	}
	for i := range e.Kfuncs {
		e.Kfuncs[i].Native = 0x7f0000001000
	}
	return e
}
