package skep_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/cmd/skep/native12"
	"github.com/skep-bpf/skep/internal/native"
)

// Benchmarks run a program here and, as root, the same program through the kernel's JIT in the same run. They report ns for one
// of what they are named after, kernel-ns for the same in the kernel, and ratio, skep's time by the kernel's: below 1 is
// faster than the kernel.

const rounds = 1000 // of the loops in programs

// loopOf repeats body; r6 is the counter, r7 to r9 belong to the body.
func loopOf(before, body asm.Instructions) asm.Instructions {
	insns := append(asm.Instructions{asm.Mov.Imm(asm.R6, 0), asm.Mov.Imm(asm.R7, 0)}, before...)
	body[0] = body[0].WithSymbol("loop")
	insns = append(insns, body...)
	return append(insns, asm.Add.Imm(asm.R6, 1), asm.JLT.Imm(asm.R6, rounds, "loop"), asm.Mov.Reg(asm.R0, asm.R7), asm.Return())
}

// both measures insns here and in the kernel; each run of it is per of what is measured. less is the part of a run, in ns,
// that is not counted: of an empty loop, say.
func both(b *testing.B, name string, typ ebpf.ProgramType, per int, insns func(array, hash asm.FDer) asm.Instructions, opts skep.Options) {
	b.Run(name, func(b *testing.B) {
		arraySpec := &ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1024}
		hashSpec := &ebpf.MapSpec{Type: ebpf.Hash, KeySize: 4, ValueSize: 8, MaxEntries: 2048}
		for i := range uint32(1024) {
			hashSpec.Contents = append(hashSpec.Contents, ebpf.MapKV{Key: i, Value: uint64(i)})
		}
		array, err := skep.NewMap(arraySpec)
		if err != nil {
			b.Fatal(err)
		}
		defer array.Close()
		hash, err := skep.NewMap(hashSpec)
		if err != nil {
			b.Fatal(err)
		}
		defer hash.Close()
		p, err := skep.NewProgramWithOptions(&ebpf.ProgramSpec{Name: "bench", Type: typ, License: "GPL", Instructions: insns(array, hash)}, opts)
		if err != nil {
			b.Fatalf("%+v", err)
		}
		defer p.Close()
		in := make([]byte, 64)
		n := max(b.N/per, 1)
		b.ResetTimer()
		res, err := p.RunContext(context.Background(), &ebpf.RunOptions{Data: in, Repeat: uint32(n)})
		b.StopTimer()
		if err != nil {
			b.Fatal(err)
		}
		ns := res.NSPerRun / float64(per)
		b.ReportMetric(ns, "ns/op")
		if k := kernelTime(arraySpec, hashSpec, typ, insns, n); k > 0 {
			k /= float64(per)
			b.ReportMetric(k, "kernel-ns")
			b.ReportMetric(ns/k, "ratio")
		}
	})
}

// kernelTime returns the ns of one run in the kernel, 0 if it cannot be had.
func kernelTime(arraySpec, hashSpec *ebpf.MapSpec, typ ebpf.ProgramType, insns func(array, hash asm.FDer) asm.Instructions, n int) float64 {
	array, err := ebpf.NewMap(arraySpec)
	if err != nil {
		return 0
	}
	defer array.Close()
	hash, err := ebpf.NewMap(hashSpec)
	if err != nil {
		return 0
	}
	defer hash.Close()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: typ, License: "GPL", Instructions: insns(array, hash)})
	if err != nil {
		return 0
	}
	defer p.Close()
	_, d, err := p.Benchmark(make([]byte, 64), max(n, 1000), nil)
	if err != nil {
		return 0
	}
	return float64(d.Nanoseconds())
}

func loadMap(r asm.Register, m asm.FDer) asm.Instruction {
	ins := asm.LoadMapPtr(r, 0)
	if err := ins.AssociateMap(m); err != nil {
		panic(err)
	}
	return ins
}

// lookup is a map lookup with the counter's low bits as key, adding what it finds to r7.
func lookup(m asm.FDer) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R1, asm.R6), asm.And.Imm(asm.R1, 1023), asm.StoreMem(asm.R10, -4, asm.R1, asm.Word),
		asm.Mov.Reg(asm.R2, asm.R10), asm.Add.Imm(asm.R2, -4), loadMap(asm.R1, m), asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "none"), asm.LoadMem(asm.R1, asm.R0, 0, asm.DWord), asm.Add.Reg(asm.R7, asm.R1),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("none"),
	}
}

func BenchmarkPrograms(b *testing.B) {
	both(b, "enter and return", ebpf.SocketFilter, 1, func(_, _ asm.FDer) asm.Instructions {
		return asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}
	}, skep.Options{})
	both(b, "empty loop round", ebpf.SocketFilter, rounds, func(_, _ asm.FDer) asm.Instructions {
		return loopOf(nil, asm.Instructions{asm.Add.Imm(asm.R7, 1)})
	}, skep.Options{})
	both(b, "array lookup", ebpf.SocketFilter, rounds, func(a, _ asm.FDer) asm.Instructions { return loopOf(nil, lookup(a)) }, skep.Options{})
	both(b, "hash lookup", ebpf.SocketFilter, rounds, func(_, h asm.FDer) asm.Instructions { return loopOf(nil, lookup(h)) }, skep.Options{})
	both(b, "hash update", ebpf.SocketFilter, rounds, func(_, h asm.FDer) asm.Instructions {
		return loopOf(nil, asm.Instructions{
			asm.Mov.Reg(asm.R1, asm.R6), asm.And.Imm(asm.R1, 1023), asm.StoreMem(asm.R10, -4, asm.R1, asm.Word), asm.StoreMem(asm.R10, -16, asm.R6, asm.DWord),
			asm.Mov.Reg(asm.R2, asm.R10), asm.Add.Imm(asm.R2, -4), asm.Mov.Reg(asm.R3, asm.R10), asm.Add.Imm(asm.R3, -16), asm.Mov.Imm(asm.R4, 0),
			loadMap(asm.R1, h), asm.FnMapUpdateElem.Call(),
		})
	}, skep.Options{})
	both(b, "xorshift round", ebpf.SocketFilter, rounds, func(_, _ asm.FDer) asm.Instructions {
		return loopOf(asm.Instructions{asm.Mov.Imm(asm.R7, 12345)}, asm.Instructions{
			asm.Mov.Reg(asm.R8, asm.R7), asm.LSh.Imm(asm.R8, 13), asm.Xor.Reg(asm.R7, asm.R8),
			asm.Mov.Reg(asm.R8, asm.R7), asm.RSh.Imm(asm.R8, 7), asm.Xor.Reg(asm.R7, asm.R8),
			asm.Mov.Reg(asm.R8, asm.R7), asm.LSh.Imm(asm.R8, 17), asm.Xor.Reg(asm.R7, asm.R8),
		})
	}, skep.Options{})
	both(b, "skb_load_bytes", ebpf.SocketFilter, rounds, func(_, _ asm.FDer) asm.Instructions {
		return loopOf(asm.Instructions{asm.Mov.Reg(asm.R9, asm.R1)}, asm.Instructions{
			asm.Mov.Reg(asm.R1, asm.R9), asm.Mov.Imm(asm.R2, 0), asm.Mov.Reg(asm.R3, asm.R10), asm.Add.Imm(asm.R3, -16), asm.Mov.Imm(asm.R4, 16),
			asm.FnSkbLoadBytes.Call(),
		})
	}, skep.Options{})
	both(b, "ktime_get_ns", ebpf.SocketFilter, rounds, func(_, _ asm.FDer) asm.Instructions {
		return loopOf(nil, asm.Instructions{asm.FnKtimeGetNs.Call()})
	}, skep.Options{})
}

// callKfunc calls a kfunc of n arguments.
func callKfunc(name string, n int) asm.Instructions {
	long := &btf.Int{Name: "long", Size: 8, Encoding: btf.Signed}
	proto := &btf.FuncProto{Return: long}
	var insns asm.Instructions
	for i := range n {
		proto.Params = append(proto.Params, btf.FuncParam{Name: fmt.Sprintf("a%d", i), Type: long})
		if i >= 5 {
			insns = append(insns, asm.StoreMem(asm.Register(11), int16(-8*(i-4)), asm.R6, asm.DWord))
		}
	}
	for i := range min(n, 5) {
		insns = append(insns, asm.Mov.Reg(asm.R1+asm.Register(i), asm.R6))
	}
	call := asm.Instruction{OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(asm.Call), Src: asm.PseudoKfuncCall, Constant: -1}.WithReference(name)
	fn := &btf.Func{Name: name, Type: proto, Linkage: btf.ExternFunc}
	return append(insns, btf.WithFuncMetadata(call, fn), asm.Add.Reg(asm.R7, asm.R0))
}

func BenchmarkKfuncs(b *testing.B) {
	var ks skep.Kfuncs
	for name, fn := range map[string]any{
		"go1": func(a int64) int64 { return a }, "go6": func(a, b, c, d, e, f int64) int64 { return a + f },
		"go12": func(a, b, c, d, e, f, g, h, i, j, k, l int64) int64 { return a + l },
	} {
		if err := ks.Register(name, fn); err != nil {
			b.Fatal(err)
		}
	}
	for _, n := range []int{1, 6, 12} {
		both(b, fmt.Sprintf("Go kfunc of %d", n), ebpf.SocketFilter, rounds, func(_, _ asm.FDer) asm.Instructions {
			return loopOf(nil, callKfunc(fmt.Sprintf("go%d", n), n))
		}, skep.Options{Kfuncs: &ks})
	}
	if native12.Addr() != 0 && native.Supported() == nil {
		if err := ks.RegisterNative("native12", native12.Addr()); err != nil {
			b.Fatal(err)
		}
		both(b, "native kfunc of 12", ebpf.SocketFilter, rounds, func(_, _ asm.FDer) asm.Instructions {
			return loopOf(nil, callKfunc("native12", 12))
		}, skep.Options{Kfuncs: &ks})
	}
}

func BenchmarkObjects(b *testing.B) {
	for _, o := range []struct{ file, prog string }{{"counter.o", "count"}, {"parser.o", "with_helper"}, {"parser.o", "legacy"}, {"nesting.o", "nesting"}, {"twelve.o", "call_function"}} {
		b.Run(o.file+" "+o.prog, func(b *testing.B) {
			c := load(b, o.file, skep.Options{}, o.prog)
			res, err := c.Programs[o.prog].RunContext(context.Background(), &ebpf.RunOptions{Data: make([]byte, 64), Repeat: uint32(b.N)})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(res.NSPerRun, "ns/op")
			spec := loadSpec(b, o.file)
			for n := range spec.Programs {
				if n != o.prog {
					delete(spec.Programs, n)
				}
			}
			kc, err := ebpf.NewCollection(spec)
			if err != nil {
				return // stack arguments, or no root
			}
			defer kc.Close()
			if _, d, err := kc.Programs[o.prog].Benchmark(make([]byte, 64), max(b.N, 1000), nil); err == nil {
				b.ReportMetric(float64(d.Nanoseconds()), "kernel-ns")
				b.ReportMetric(res.NSPerRun/float64(d.Nanoseconds()), "ratio")
			}
		})
	}
}

// BenchmarkRun is the whole of Run, packets copied in and out.
func BenchmarkRun(b *testing.B) {
	p := load(b, "nesting.o", skep.Options{}, "nesting").Programs["nesting"]
	opts := &ebpf.RunOptions{Data: make([]byte, 64)}
	b.ReportAllocs()
	for range b.N {
		if _, err := p.Run(opts); err != nil {
			b.Fatal(err)
		}
	}
}
