//go:build linux

package perf_test

import (
	"bytes"
	"errors"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	cilium "github.com/cilium/ebpf/perf"
	"golang.org/x/sys/unix"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/perf"
)

// TestPerfAsKernel writes the same samples here and in the kernel: results, data, how many fit, and how many are lost.
func TestPerfAsKernel(t *testing.T) {
	km, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.PerfEventArray})
	if err != nil {
		t.Skipf("the kernel is the oracle of this test, and it refuses maps: %v", err)
	}
	defer km.Close()
	kr, err := cilium.NewReader(km, os.Getpagesize())
	if err != nil {
		t.Skipf("the kernel is the oracle of this test, and it refuses perf events: %v", err)
	}
	defer kr.Close()
	pin(t)
	m := events(t)
	r := reader(t, m, os.Getpagesize(), perf.ReaderOptions{})
	past := time.Now()
	kr.SetDeadline(past)
	r.SetDeadline(past)
	for _, c := range []struct {
		typ   ebpf.ProgramType
		flags int64
		size  int32
	}{
		{ebpf.SchedCLS, anyCPU, 8}, {ebpf.SchedCLS, anyCPU, 1}, {ebpf.SchedCLS, anyCPU, 13}, {ebpf.SchedCLS, anyCPU, 64}, {ebpf.XDP, anyCPU, 5},
		{ebpf.SchedCLS, 20<<32 | anyCPU, 8}, {ebpf.XDP, 20<<32 | anyCPU, 8}, {ebpf.XDP, 64<<32 | anyCPU, 3}, {ebpf.XDP, 65<<32 | anyCPU, 8},
		{ebpf.SchedCLS, 65<<32 | anyCPU, 8}, {ebpf.XDP, 1<<60 | anyCPU, 8}, {ebpf.XDP, 100_000, 8}, {ebpf.SocketFilter, anyCPU, 0},
	} {
		kp := kernelWriter(t, km, c.typ, c.flags, c.size)
		p := writer(t, m, c.typ, c.flags, c.size, skep.EngineAuto)
		data := make([]byte, 64)
		data[12], data[13] = 0x88, 0xb5
		for range 60 {
			want, _, kerr := kp.Test(data)
			got, _, err := p.Test(data)
			if err != nil || kerr != nil || got != want {
				t.Errorf("%+v: %d, %v; the kernel's %d, %v", c, int32(got), err, int32(want), kerr)
			}
		}
		compareSamples(t, r, kr)
	}
}

// compareSamples reads both rings until they are empty. The kernel's samples have up to seven bytes too many.
func compareSamples(t *testing.T, r *perf.Reader, kr *cilium.Reader) {
	t.Helper()
	for n := 0; ; n++ {
		rec, err := r.Read()
		krec, kerr := kr.Read()
		if errors.Is(err, os.ErrDeadlineExceeded) && errors.Is(kerr, os.ErrDeadlineExceeded) {
			return
		}
		if err != nil || kerr != nil {
			t.Fatalf("sample %d: %v; the kernel's %v", n, err, kerr)
		}
		if rec.LostSamples != krec.LostSamples || !bytes.HasPrefix(krec.RawSample, rec.RawSample) || len(krec.RawSample)-len(rec.RawSample) > 7 {
			t.Fatalf("sample %d: %+v; the kernel's %+v", n, rec, krec)
		}
	}
}

func kernelWriter(t *testing.T, m *ebpf.Map, typ ebpf.ProgramType, flags int64, size int32) *ebpf.Program {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: typ, License: "GPL", Instructions: writerInsns(asm.LoadMapPtr(asm.R2, m.FD()), flags, size)})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// pin keeps the test on one processor, so that all of the kernel's samples go into one ring.
func pin(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	var old, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &old); err != nil {
		t.Fatal(err)
	}
	for i := range 1024 {
		if old.IsSet(i) {
			one.Set(i)
			break
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.SchedSetaffinity(0, &old); err != nil {
			t.Error(err)
		}
		runtime.UnlockOSThread()
	})
}
