package perf_test

import (
	"encoding/binary"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/perf"
)

// A program writes the length of each packet as a sample, and a reader prints it.
func Example() {
	events, err := skep.NewMap(&ebpf.MapSpec{Type: ebpf.PerfEventArray})
	if err != nil {
		panic(err)
	}
	defer events.Close()
	prog, err := skep.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, 0, asm.Word), // len
		asm.StoreMem(asm.R10, -8, asm.R2, asm.DWord),
		asm.LoadMapPtr(asm.R2, events.FD()),
		asm.LoadImm(asm.R3, 0xffffffff, asm.DWord), // BPF_F_CURRENT_CPU
		asm.Mov.Reg(asm.R4, asm.R10), asm.Add.Imm(asm.R4, -8), asm.Mov.Imm(asm.R5, 8),
		asm.FnPerfEventOutput.Call(),
		asm.Return(),
	}})
	if err != nil {
		panic(err)
	}
	defer prog.Close()
	r, err := perf.NewReader(events, 4096)
	if err != nil {
		panic(err)
	}
	defer r.Close()
	if _, _, err := prog.Test(make([]byte, 60)); err != nil {
		panic(err)
	}
	rec, err := r.Read()
	if err != nil {
		panic(err)
	}
	fmt.Println(binary.NativeEndian.Uint64(rec.RawSample), "bytes")
	// Output: 60 bytes
}
