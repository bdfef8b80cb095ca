package skep_test

import (
	"context"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/skep-bpf/skep"
)

// ringRecords reserves and submits a record in each round.
func ringRecords(ring asm.FDer) asm.Instructions {
	return loopOf(nil, asm.Instructions{
		loadMap(asm.R1, ring), asm.Mov.Imm(asm.R2, 8), asm.Mov.Imm(asm.R3, 0), asm.FnRingbufReserve.Call(),
		asm.JEq.Imm(asm.R0, 0, "full"), asm.StoreMem(asm.R0, 0, asm.R6, asm.DWord),
		asm.Mov.Reg(asm.R1, asm.R0), asm.Mov.Imm(asm.R2, 0), asm.FnRingbufSubmit.Call(), asm.Add.Imm(asm.R7, 1),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("full"),
	})
}

// ringOutputs sends a record in one step in each round.
func ringOutputs(ring asm.FDer) asm.Instructions {
	return loopOf(nil, asm.Instructions{
		asm.StoreMem(asm.R10, -8, asm.R6, asm.DWord), loadMap(asm.R1, ring), asm.Mov.Reg(asm.R2, asm.R10), asm.Add.Imm(asm.R2, -8),
		asm.Mov.Imm(asm.R3, 8), asm.Mov.Imm(asm.R4, 0), asm.FnRingbufOutput.Call(), asm.Add.Imm(asm.R7, 1),
	})
}

// BenchmarkRing measures what a record of a ring buffer costs here and in the kernel. Nobody reads: the ring is large enough.
func BenchmarkRing(b *testing.B) {
	for name, insns := range map[string]func(asm.FDer) asm.Instructions{"reserve and submit": ringRecords, "output": ringOutputs} {
		b.Run(name, func(b *testing.B) {
			const runs = 1000 // of a thousand records of 16 bytes each
			spec := &ebpf.MapSpec{Type: ebpf.RingBuf, MaxEntries: 32 << 20}
			ns, rounds := 0.0, 0
			for b.Loop() {
				ns += ourRingTime(b, spec, insns, runs)
				rounds++
			}
			ns /= float64(rounds)
			b.ReportMetric(ns, "ns/record")
			if k := kernelRingTime(spec, insns, runs); k > 0 {
				b.ReportMetric(k, "kernel-ns")
				b.ReportMetric(ns/k, "ratio")
			}
		})
	}
}

func ourRingTime(b *testing.B, spec *ebpf.MapSpec, insns func(asm.FDer) asm.Instructions, runs int) float64 {
	ring, err := skep.NewMap(spec)
	if err != nil {
		b.Fatal(err)
	}
	defer ring.Close()
	p, err := skep.NewProgramWithOptions(&ebpf.ProgramSpec{Name: "ring", Type: ebpf.SocketFilter, License: "GPL", Instructions: insns(ring)}, skep.Options{})
	if err != nil {
		b.Fatalf("%+v", err)
	}
	defer p.Close()
	res, err := p.RunContext(context.Background(), &ebpf.RunOptions{Data: make([]byte, 64), Repeat: uint32(runs)})
	if err != nil {
		b.Fatal(err)
	}
	if res.Return != rounds {
		b.Fatalf("%d records, want %d", res.Return, rounds)
	}
	return res.NSPerRun / rounds
}

// kernelRingTime returns the ns of a record in the kernel, 0 if it cannot be had.
func kernelRingTime(spec *ebpf.MapSpec, insns func(asm.FDer) asm.Instructions, runs int) float64 {
	ring, err := ebpf.NewMap(spec)
	if err != nil {
		return 0
	}
	defer ring.Close()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SocketFilter, License: "GPL", Instructions: insns(ring)})
	if err != nil {
		return 0
	}
	defer p.Close()
	ret, d, err := p.Benchmark(make([]byte, 64), runs, nil)
	if err != nil || ret != rounds {
		return 0
	}
	return float64(d.Nanoseconds()) / rounds
}
