package progen

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/program"
)

// The kfuncs of the iterator over numbers, by their index in a program.
const (
	kfuncNew = iota
	kfuncNext
	kfuncDestroy
)

// iteratorKfuncs declares them as the kernel does.
func iteratorKfuncs() []program.Kfunc {
	num := &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}
	it := btf.FuncParam{Name: "it", Type: &btf.Pointer{Target: &btf.Struct{Name: "bpf_iter_num", Size: 8, Members: []btf.Member{
		{Name: "__opaque", Type: &btf.Array{Index: num, Type: &btf.Int{Name: "unsigned long long", Size: 8}, Nelems: 1}},
	}}}}
	kfunc := func(name string, ret btf.Type, params ...btf.FuncParam) program.Kfunc {
		return program.Kfunc{Name: name, Resolved: true, Type: &btf.Func{Name: name, Linkage: btf.ExternFunc,
			Type: &btf.FuncProto{Return: ret, Params: append([]btf.FuncParam{it}, params...)}}}
	}
	return []program.Kfunc{
		kfuncNew:     kfunc(program.KfuncIterNumNew, num, btf.FuncParam{Name: "start", Type: num}, btf.FuncParam{Name: "end", Type: num}),
		kfuncNext:    kfunc(program.KfuncIterNumNext, &btf.Pointer{Target: num}),
		kfuncDestroy: kfunc(program.KfuncIterNumDestroy, &btf.Void{}),
	}
}

// iterate emits a loop over numbers: few rounds, whose number is a constant or known at run time only, and a body that may use
// the number. Its iterator lies below all other slots. A
// legacy packet load may end the program, which must hold no iterator then.
func (f *function) iterate() {
	if f.loops > 0 || f.depth > 3 || f.c.Type == ebpf.SocketFilter {
		f.alu()
		return
	}
	slot := len(f.st.stack) + f.loops
	call := func(k int32) {
		f.emit(movReg(isa.R1, isa.R10), aluImm(isa.ClassALU64|isa.AluADD, isa.R1, int32(-8*(slot+1))))
		f.emit(isa.Insn{Op: isa.ClassJMP | isa.JmpCALL, Src: isa.PseudoKfuncCall, Imm: k})
		f.st.regs &^= scratch
	}
	start := f.r.Int32N(8) - 3
	f.emit(aluImm(isa.ClassALU64|isa.AluMOV, isa.R3, start+f.r.Int32N(6)))
	if src := f.callee(); src != 0 && f.r.IntN(2) == 0 {
		f.emit(movReg(isa.R3, src), aluImm(isa.ClassALU64|isa.AluAND, isa.R3, 7))
	}
	f.emit(aluImm(isa.ClassALU64|isa.AluMOV, isa.R2, start))
	call(kfuncNew)
	top := len(f.insns)
	call(kfuncNext)
	out := f.jump(isa.Insn{Op: isa.ClassJMP | isa.JmpJEQ, Dst: isa.R0})
	before := f.st
	t := f.target()
	f.emit(isa.Insn{Op: isa.ClassLDX | isa.ModeMEM | isa.SizeW, Dst: t, Src: isa.R0})
	f.st.regs |= 1 << t
	f.loops++
	f.block(2)
	f.loops--
	back := isa.Insn{Op: isa.ClassJMP | isa.JmpJA}
	back.Off = int16(top - len(f.insns) - 1)
	f.emit(back)
	f.land(out)
	f.st.meet(before)
	call(kfuncDestroy)
}
