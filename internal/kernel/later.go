package kernel

import (
	"sync"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/verifier"
)

// Target returns the target whose rules the running kernel has, beside stack arguments.
func Target() verifier.Target {
	if Later() {
		return verifier.TargetNewest
	}
	return verifier.Target618
}

// Later reports whether the running kernel has rules that came after 6.18 (the features of verifier.TargetNewest that 6.18 lacks). Two
// builds that both call themselves 6.18.44 differ in them, so that it is asked by a program: a pointer found equal to the context is not
// NULL by 6.18, and may be by what came later.
var Later = sync.OnceValue(func() bool {
	const skbSock = 168 // __sk_buff.sk
	p := &program.Program{Name: "later", Type: ebpf.SchedCLS, License: "GPL", Insns: []isa.Insn{
		{Op: isa.ClassLDX | isa.ModeMEM | isa.SizeDW, Dst: isa.R6, Src: isa.R1, Off: skbSock},
		{Op: isa.ClassJMP | isa.JmpJNE | isa.SrcX, Dst: isa.R6, Src: isa.R1, Off: 1},
		{Op: isa.ClassLDX | isa.ModeMEM | isa.SizeW, Dst: isa.R0, Src: isa.R6},
		{Op: isa.ClassALU64 | isa.AluMOV, Dst: isa.R0},
		{Op: isa.ClassJMP | isa.JmpEXIT},
	}, Funcs: []program.Func{{Name: "later", End: 5}}}
	accepted, _, err := Verify(p, 0)
	return err == nil && !accepted
})
