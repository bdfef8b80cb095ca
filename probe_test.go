package skep_test

import (
	"context"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/skep-bpf/skep"
)

// TestEnvMemory: a tracing program reads the current task and its name from memory that the test makes up; what is not there fails.
func TestEnvMemory(t *testing.T) {
	const task, comm = 0xffff888012340000, 0xffff888012340040
	env := skep.Env{Task: task, Memory: func(addr uint64, p []byte) bool {
		mem := make([]byte, 0x48)
		mem[8] = 42
		copy(mem[0x40:], "skep")
		if addr < task || addr-task > uint64(len(mem)) || uint64(len(p)) > uint64(len(mem))-(addr-task) {
			return false
		}
		copy(p, mem[addr-task:])
		return true
	}}
	read := func(f asm.BuiltinFunc, n, off int32) asm.Instructions { // r0 = the result, and the first byte read in bits 8 to 15
		return asm.Instructions{
			asm.FnGetCurrentTask.Call(), asm.Mov.Reg(asm.R3, asm.R0), asm.Add.Imm(asm.R3, off),
			asm.StoreImm(asm.R10, -16, 0x77, asm.Word), asm.StoreImm(asm.R10, -12, 0x77, asm.Word), asm.StoreImm(asm.R10, -8, 0x77, asm.Word),
			asm.StoreImm(asm.R10, -4, 0x77, asm.Word),
			asm.Mov.Reg(asm.R1, asm.R10), asm.Add.Imm(asm.R1, -16), asm.Mov.Imm(asm.R2, n), f.Call(),
			asm.LoadMem(asm.R1, asm.R10, -16, asm.Byte), asm.LSh.Imm(asm.R1, 8), asm.And.Imm(asm.R0, 0xff), asm.Or.Reg(asm.R0, asm.R1), asm.Return(),
		}
	}
	for _, c := range []struct {
		name   string
		f      asm.BuiltinFunc
		n, off int32
		want   uint32
	}{
		{"number", asm.FnProbeReadKernel, 8, 8, 42 << 8},
		{"string", asm.FnProbeReadKernelStr, 16, 0x40, 's'<<8 | 5},
		{"string cut", asm.FnProbeReadKernelStr, 3, 0x40, 's'<<8 | 3},
		{"over the end", asm.FnProbeReadKernel, 8, 0x44, 0xf2}, // -EFAULT, and zeros
		{"outside", asm.FnProbeReadKernel, 8, -64, 0xf2},
		{"user's helper", asm.FnProbeReadUser, 8, 8, 42 << 8},
	} {
		eachEngine(t, func(t *testing.T, e skep.Engine) {
			p, err := skep.NewProgramWithOptions(&ebpf.ProgramSpec{Name: "p", Type: ebpf.Kprobe, License: "GPL", Instructions: read(c.f, c.n, c.off)}, skep.Options{Engine: e})
			if err != nil {
				t.Fatalf("%s: %+v", c.name, err)
			}
			defer p.Close()
			res, err := p.RunAs(context.Background(), env, &ebpf.RunOptions{})
			if err != nil || res.Return != c.want {
				t.Errorf("%s: %#x, %v, want %#x", c.name, res.Return, err, c.want)
			}
			if c.name == "number" { // and without any memory, where the task is at 0
				if ret, err := p.Run(nil); err != nil || ret != 0xde {
					t.Errorf("without memory: %#x, %v", ret, err)
				}
			}
		})
	}
}
