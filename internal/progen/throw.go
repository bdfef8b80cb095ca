package progen

import (
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/program"
)

// callbackName is the exception callback of programs that have one.
const callbackName = "caught"

// addThrow declares bpf_throw, behind the other kfuncs.
func (g *generator) addThrow(p *program.Program) {
	g.throw = int32(len(p.Kfuncs))
	p.Kfuncs = append(p.Kfuncs, program.Kfunc{Name: program.KfuncThrow, Resolved: true, Type: &btf.Func{Name: program.KfuncThrow, Linkage: btf.ExternFunc,
		Type: &btf.FuncProto{Return: &btf.Void{}, Params: []btf.FuncParam{{Name: "cookie", Type: g.u64}}}}})
}

// addCallback gives the program an exception callback.
func (g *generator) addCallback(p *program.Program) {
	start := len(p.Insns)
	p.Insns = append(p.Insns, movReg(isa.R0, isa.R1), aluImm(isa.ClassALU64|isa.AluMUL, isa.R0, 3), aluImm(isa.ClassALU64|isa.AluADD, isa.R0, 7),
		isa.Insn{Op: isa.ClassJMP | isa.JmpEXIT})
	p.Funcs = append(p.Funcs, program.Func{Name: callbackName, Start: start, End: len(p.Insns), Global: true, Type: &btf.Func{
		Name: callbackName, Linkage: btf.GlobalFunc, Type: &btf.FuncProto{
			Return: &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}, Params: []btf.FuncParam{{Name: "cookie", Type: g.u64}}}}})
	p.Funcs[0].Type.Tags = append(p.Funcs[0].Type.Tags, "exception_callback:"+callbackName)
}

// throws emits a throw that happens in some of the runs that come here.
func (f *function) throws() {
	r, thrown := f.number(), f.number()
	over := f.jump(isa.Insn{Op: []uint8{isa.ClassJMP | isa.JmpJGT, isa.ClassJMP32 | isa.JmpJSLT, isa.ClassJMP | isa.JmpJSET}[f.r.IntN(3)], Dst: r, Imm: immediate(f.r)})
	f.emit(movReg(isa.R1, thrown), isa.Insn{Op: isa.ClassJMP | isa.JmpCALL, Src: isa.PseudoKfuncCall, Imm: f.throw})
	f.land(over)
}
