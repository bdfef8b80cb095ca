package skep_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/internal/program"
)

// kernelKfuncSpec is a program that takes a task by its number and gives it back, or forgets to.
func kernelKfuncSpec(release bool) *ebpf.ProgramSpec {
	task := &btf.Pointer{Target: &btf.Struct{Name: "task_struct"}}
	insns := asm.Instructions{
		asm.Mov.Imm(asm.R1, 1), kfuncCall("bpf_task_from_pid", task, &btf.Int{Name: "int", Size: 4}),
		asm.JEq.Imm(asm.R0, 0, "out"),
	}
	if release {
		insns = append(insns, asm.Mov.Reg(asm.R1, asm.R0), kfuncCall("bpf_task_release", &btf.Void{}, task))
	}
	insns = append(insns, asm.Mov.Imm(asm.R0, 0).WithSymbol("out"), asm.Return())
	return &ebpf.ProgramSpec{Name: "task", Type: ebpf.SchedCLS, License: "GPL", Instructions: insns}
}

// TestKernelKfuncs: a program that calls the kernel's functions is verified whole, by the kernel's types and flags, and is refused by
// name after that; one that is registered here wins over the kernel's.
func TestKernelKfuncs(t *testing.T) {
	if program.HostTypes() == nil {
		t.Skip("no types of the kernel on this machine")
	}
	spec := func(release bool) *ebpf.CollectionSpec {
		return &ebpf.CollectionSpec{Programs: map[string]*ebpf.ProgramSpec{"task": kernelKfuncSpec(release)}}
	}
	if _, err := skep.Verify(spec(true), "task", skep.Options{}); err != nil {
		t.Errorf("verification: %+v", err)
	}
	if _, err := skep.Verify(spec(false), "task", skep.Options{}); err == nil || !strings.Contains(err.Error(), "reference leak") {
		t.Errorf("a program that keeps a task: %v", err)
	}
	_, err := skep.NewCollection(spec(true))
	if !errors.Is(err, ebpf.ErrNotSupported) || !strings.Contains(err.Error(), "kfunc bpf_task_from_pid") {
		t.Errorf("loading: %v", err)
	}
	var ks skep.Kfuncs
	if err := ks.Register("bpf_task_release", func(uintptr) {}); err != nil {
		t.Fatal(err)
	}
	_, err = skep.Verify(spec(true), "task", skep.Options{Kfuncs: &ks})
	// that one takes the program's own struct of that name, which no function of the kernel gives
	if err == nil || !strings.Contains(err.Error(), "bpf_task_release args#0 expected pointer to STRUCT task_struct but") {
		t.Errorf("with a function of that name registered: %v", err)
	}
}

// TestKfuncWithoutRuntime: kinds of arguments that only the verifier knows are refused by name when a function that takes them is bound.
func TestKfuncWithoutRuntime(t *testing.T) {
	char := &btf.Pointer{Target: &btf.Int{Name: "char", Size: 1}}
	var ks skep.Kfuncs
	if err := ks.Register("take", func(uintptr) int32 { return 0 }); err != nil {
		t.Fatal(err)
	}
	proto := &btf.FuncProto{Return: &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}, Params: []btf.FuncParam{{Name: "a__prog", Type: char}}}
	if err := ks.SetPrototype(&btf.Func{Name: "take", Type: proto}); err != nil {
		t.Fatal(err)
	}
	spec := &ebpf.ProgramSpec{Name: "p", Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
		asm.Mov.Imm(asm.R1, 1), kfuncCall("take", proto.Return, char), asm.Return(),
	}}
	if _, err := skep.Verify(&ebpf.CollectionSpec{Programs: map[string]*ebpf.ProgramSpec{"p": spec}}, "p", skep.Options{Kfuncs: &ks}); err != nil {
		t.Errorf("verification: %v", err)
	}
	_, err := skep.NewProgramWithOptions(spec, skep.Options{Kfuncs: &ks})
	if !errors.Is(err, ebpf.ErrNotSupported) || !strings.Contains(err.Error(), "parameter a__prog") {
		t.Errorf("loading: %v", err)
	}
}
