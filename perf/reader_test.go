package perf_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/perf"
)

const anyCPU = 0xffffffff // BPF_F_CURRENT_CPU

// writer is a program that writes size bytes with the number of its packet's first bytes in front as a sample, and returns the result.
func writer(t *testing.T, m *skep.Map, typ ebpf.ProgramType, flags int64, size int32, e skep.Engine) *skep.Program {
	t.Helper()
	insns := writerInsns(asm.LoadMapPtr(asm.R2, m.FD()), flags, size)
	p, err := skep.NewProgramWithOptions(&ebpf.ProgramSpec{Type: typ, License: "GPL", Instructions: insns}, skep.Options{Engine: e})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// writerInsns are the instructions of writer.
func writerInsns(loadMap asm.Instruction, flags int64, size int32) asm.Instructions {
	insns := asm.Instructions{asm.Mov.Reg(asm.R6, asm.R1)}
	for off := int16(-64); off < 0; off += 8 {
		insns = append(insns, asm.Mov.Imm(asm.R0, int32(-off)), asm.StoreMem(asm.R10, off, asm.R0, asm.DWord))
	}
	return append(insns,
		asm.Mov.Reg(asm.R1, asm.R6), loadMap, asm.LoadImm(asm.R3, flags, asm.DWord),
		asm.Mov.Reg(asm.R4, asm.R10), asm.Add.Imm(asm.R4, -64), asm.Mov.Imm(asm.R5, size), asm.FnPerfEventOutput.Call(), asm.Return(),
	)
}

func events(t *testing.T) *skep.Map {
	t.Helper()
	m, err := skep.NewMap(&ebpf.MapSpec{Type: ebpf.PerfEventArray})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func reader(t *testing.T, m *skep.Map, size int, opts perf.ReaderOptions) *perf.Reader {
	t.Helper()
	r, err := perf.NewReaderWithOptions(m, size, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func run(t *testing.T, p *skep.Program, want int32) {
	t.Helper()
	if ret, _, err := p.Test(make([]byte, 64)); err != nil || int32(ret) != want {
		t.Errorf("returned %d, %v, want %d", int32(ret), err, want)
	}
}

func TestSamples(t *testing.T) {
	for _, e := range []skep.Engine{skep.EngineAuto, skep.EngineInterpreter} {
		m := events(t)
		r := reader(t, m, 4096, perf.ReaderOptions{})
		for _, size := range []int32{8, 1, 13, 64} {
			run(t, writer(t, m, ebpf.SchedCLS, anyCPU, size, e), 0)
			rec, err := r.Read()
			if err != nil || len(rec.RawSample) != int(size) || rec.RawSample[0] != 64 || rec.LostSamples != 0 || rec.Remaining != 0 {
				t.Errorf("%s, %d bytes: %+v, %v", e, size, rec, err)
			}
		}
		// The packet's first 20 bytes behind the data, and more than there are.
		run(t, writer(t, m, ebpf.XDP, 20<<32|anyCPU, 8, e), 0)
		if rec, err := r.Read(); err != nil || !bytes.Equal(rec.RawSample[8:], make([]byte, 20)) {
			t.Errorf("%s: %+v, %v", e, rec, err)
		}
		run(t, writer(t, m, ebpf.XDP, 65<<32|anyCPU, 8, e), -14)
		run(t, writer(t, m, ebpf.XDP, 1<<60|anyCPU, 8, e), -22)
		run(t, writer(t, m, ebpf.XDP, 1000, 8, e), -7)
		if err := r.Pause(); err != nil {
			t.Error(err)
		}
		run(t, writer(t, m, ebpf.XDP, anyCPU, 8, e), -2)
		if err := r.Resume(); err != nil {
			t.Error(err)
		}
		run(t, writer(t, m, ebpf.XDP, anyCPU, 8, e), 0)
		r.Close()
		run(t, writer(t, m, ebpf.XDP, anyCPU, 8, e), -2)
		if _, err := r.Read(); !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	}
}

// TestLost: what does not fit is counted, and the count stands where the samples are missing.
func TestLost(t *testing.T) {
	m := events(t)
	r := reader(t, m, os.Getpagesize(), perf.ReaderOptions{})
	p := writer(t, m, ebpf.SchedCLS, anyCPU, 64, skep.EngineAuto)
	const each = 80 // 8 for the head, 4 for the size, padded
	fit := (r.BufferSize() - 8) / each
	cpu := -1
	for i := range fit + 3 {
		want := int32(0)
		if i >= fit {
			want = -28 // ENOSPC
		}
		run(t, p, want)
	}
	for range fit {
		rec, err := r.Read()
		if err != nil || rec.LostSamples != 0 || cpu >= 0 && rec.CPU != cpu {
			t.Fatal(rec, err)
		}
		cpu = rec.CPU
	}
	run(t, p, 0)
	for _, lost := range []uint64{3, 0} {
		if rec, err := r.Read(); err != nil || rec.LostSamples != lost || (lost == 0) != (len(rec.RawSample) == 64) {
			t.Errorf("%+v, %v", rec, err)
		}
	}
}

// TestWaiting: deadlines, flushes and closing end a Read that waits; below the watermark it waits.
func TestWaiting(t *testing.T) {
	m := events(t)
	p := writer(t, m, ebpf.SchedCLS, anyCPU, 8, skep.EngineAuto)
	for _, opts := range []perf.ReaderOptions{{}, {Watermark: 200}, {WakeupEvents: 3}} {
		r := reader(t, m, 4096, opts)
		r.SetDeadline(time.Now().Add(-time.Second))
		if _, err := r.Read(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%+v: %v", opts, err)
		}
		r.SetDeadline(time.Time{})
		run(t, p, 0)
		got := make(chan error, 1)
		go func() {
			_, err := r.Read()
			got <- err
		}()
		if opts != (perf.ReaderOptions{}) {
			select {
			case err := <-got:
				t.Errorf("%+v: woken by one small event: %v", opts, err)
			case <-time.After(20 * time.Millisecond):
			}
			for range 20 {
				run(t, p, 0)
			}
		}
		if err := <-got; err != nil {
			t.Errorf("%+v: %v", opts, err)
		}
		if err := r.Flush(); err != nil {
			t.Error(err)
		}
		for {
			if _, err := r.Read(); errors.Is(err, perf.ErrFlushed) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
		go func() {
			time.Sleep(5 * time.Millisecond)
			r.Close()
		}()
		if _, err := r.Read(); !errors.Is(err, perf.ErrClosed) {
			t.Errorf("%+v: %v", opts, err)
		}
		if err := r.Flush(); !errors.Is(err, perf.ErrClosed) {
			t.Error(err)
		}
	}
}

// TestOverwritable: the newest samples are there, newest first.
func TestOverwritable(t *testing.T) {
	m := events(t)
	r := reader(t, m, os.Getpagesize(), perf.ReaderOptions{Overwritable: true})
	if _, err := r.Read(); err == nil {
		t.Error("read without a pause")
	}
	for size := int32(1); size <= 64; size++ {
		for range 3 {
			run(t, writer(t, m, ebpf.SchedCLS, anyCPU, size, skep.EngineAuto), 0)
		}
	}
	if err := r.Pause(); err != nil {
		t.Fatal(err)
	}
	r.SetDeadline(time.Now())
	n := 0
	for want := 64 * 3; ; want-- {
		rec, err := r.Read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		n++
		if err != nil || len(rec.RawSample) != (want+2)/3 && rec.CPU == 0 || rec.Remaining >= 0 {
			t.Fatalf("sample %d: %d bytes, %v", n, len(rec.RawSample), err)
		}
	}
	if n < 20 || n > 190 {
		t.Errorf("%d samples", n)
	}
}

// TestHammer: many runs write, one reader reads; each sample arrives once or is counted as lost.
func TestHammer(t *testing.T) {
	m := events(t)
	r := reader(t, m, os.Getpagesize(), perf.ReaderOptions{})
	p := writer(t, m, ebpf.SchedCLS, anyCPU, 40, skep.EngineAuto)
	const writers, each = 4, 2000
	var wg sync.WaitGroup
	var full, fine sync.Map
	for g := range writers {
		wg.Go(func() {
			for i := range each {
				ret, _, err := p.Test(make([]byte, 64))
				switch {
				case err != nil:
					t.Error(err)
				case int32(ret) == -28:
					full.Store(fmt.Sprint(g, i), true)
				default:
					fine.Store(fmt.Sprint(g, i), true)
				}
			}
		})
	}
	go func() {
		wg.Wait()
		_ = r.Flush()
	}()
	samples, lost := 0, 0
	var rec perf.Record
	for {
		err := r.ReadInto(&rec)
		if errors.Is(err, perf.ErrFlushed) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if rec.LostSamples == 0 && binary.NativeEndian.Uint64(rec.RawSample) != 64 {
			t.Fatalf("%+v", rec)
		}
		lost += int(rec.LostSamples)
		if rec.LostSamples == 0 {
			samples++
		}
	}
	count := func(m *sync.Map) (n int) {
		m.Range(func(any, any) bool { n++; return true })
		return n
	}
	if samples != count(&fine) || lost > count(&full) || samples+count(&full) != writers*each {
		t.Errorf("%d samples, %d lost; %d written, %d refused", samples, lost, count(&fine), count(&full))
	}
}

func TestWrongMaps(t *testing.T) {
	a, err := skep.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	m := events(t)
	for _, f := range []func() (*perf.Reader, error){
		func() (*perf.Reader, error) { return perf.NewReader(a, 4096) },
		func() (*perf.Reader, error) { return perf.NewReader(nil, 4096) },
		func() (*perf.Reader, error) { return perf.NewReader(m, 0) },
		func() (*perf.Reader, error) { return perf.NewReader(m, 1<<30+1) },
		func() (*perf.Reader, error) {
			return perf.NewReaderWithOptions(m, 4096, perf.ReaderOptions{Watermark: 1, WakeupEvents: 1})
		},
	} {
		if r, err := f(); err == nil {
			r.Close()
			t.Error("a reader was made")
		}
	}
}
