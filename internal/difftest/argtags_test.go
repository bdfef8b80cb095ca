package difftest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/kernel"
	"github.com/skep-bpf/skep/internal/program"
)

// tagTargets are types that a tagged parameter can point to; "number" is a parameter that is no pointer.
func tagTargets() map[string]btf.Type {
	u32 := &btf.Int{Name: "unsigned int", Size: 4}
	strct := func(name string) *btf.Struct {
		return &btf.Struct{Name: name, Size: 8, Members: []btf.Member{{Name: "a", Type: &btf.Int{Name: "unsigned long long", Size: 8}}}}
	}
	return map[string]btf.Type{
		"number": nil, "void": &btf.Void{}, "u32": u32, "task": strct("task_struct"), "flavour": strct("task_struct___mine"),
		"other": strct("made_up"), "const": &btf.Const{Type: strct("task_struct")}, "typedef": &btf.Typedef{Name: "t", Type: strct("task_struct")},
		"union": &btf.Union{Name: "made_up_too", Size: 8, Members: []btf.Member{{Name: "a", Type: u32}}}, "anonymous": strct(""),
		"enum": &btf.Enum{Name: "bpf_map_type", Size: 4, Values: []btf.EnumValue{{Name: "X"}}}, "context": strct("bpf_user_pt_regs_t"),
	}
}

// taggedCall makes a program that passes what setup leaves in r1 to a global function, which does body.
func taggedCall(target btf.Type, tags []string, setup, body []isa.Insn) *program.Program {
	insns := append(append([]isa.Insn(nil), setup...), isa.Insn{Op: isa.ClassJMP | isa.JmpCALL, Src: isa.PseudoCall, Imm: 2}, insnOne, insnExit)
	start := len(insns)
	p := ctxKind{ebpf.Kprobe, 0}.program(append(append(insns, body...), insnOne, insnExit)...)
	long := &btf.Int{Name: "long", Size: 8, Encoding: btf.Signed}
	fn := func(name string, t btf.Type, tags []string) *btf.Func {
		f := &btf.Func{Name: name, Linkage: btf.GlobalFunc, Type: &btf.FuncProto{Return: long, Params: []btf.FuncParam{{Name: "p", Type: t}}}}
		if tags != nil {
			f.ParamTags = [][]string{tags}
		}
		return f
	}
	param := btf.Type(long)
	if target != nil {
		param = &btf.Pointer{Target: target}
	}
	p.Funcs = []program.Func{
		{Name: "ctx", End: start, Type: fn("ctx", &btf.Pointer{Target: &btf.Void{}}, nil), Global: true},
		{Name: "f", Start: start, End: len(p.Insns), Type: fn("f", param, tags), Global: true},
	}
	return p
}

// TestParameterTags compares every set of tags on parameters of many types: which are refused, what a caller may pass, what
// the function may do with it.
func TestParameterTags(t *testing.T) {
	if err := kernel.Available(); err != nil {
		t.Skip("the running kernel is the oracle of tags: ", err)
	}
	mov := func(r isa.Reg, imm int32) isa.Insn {
		return isa.Insn{Op: isa.ClassALU64 | isa.AluMOV, Dst: r, Imm: imm}
	}
	copyReg := func(dst, src isa.Reg) isa.Insn {
		return isa.Insn{Op: isa.ClassALU64 | isa.AluMOV | isa.SrcX, Dst: dst, Src: src}
	}
	setups := map[string][]isa.Insn{
		"context": nil, "NULL": {mov(isa.R1, 0)}, "number": {mov(isa.R1, 77)},
		"stack": {{Op: isa.ClassST | isa.ModeMEM | isa.SizeDW, Dst: isa.R10, Off: -8}, copyReg(isa.R1, isa.R10), {Op: isa.ClassALU64 | isa.AluADD, Dst: isa.R1, Imm: -8}},
		"task":  {{Op: isa.ClassJMP | isa.JmpCALL, Imm: 158}, copyReg(isa.R1, isa.R0)}, // bpf_get_current_task_btf
	}
	load := isa.Insn{Op: isa.ClassLDX | isa.ModeMEM | isa.SizeW, Dst: isa.R2, Src: isa.R1}
	bodies := map[string][]isa.Insn{
		"nothing": nil, "a load": {load}, "a store": {{Op: isa.ClassST | isa.ModeMEM | isa.SizeW, Dst: isa.R1}},
		"a checked load": {{Op: isa.ClassJMP | isa.JmpJEQ, Dst: isa.R1, Off: 1}, load},
	}
	names := []string{"arg:ctx", "arg:nonnull", "arg:trusted", "arg:untrusted", "arg:nullable", "arg:arena"}
	var report verdictReport
	for target, typ := range tagTargets() {
		for set := range 1 << len(names) {
			var tags []string
			for i, n := range names {
				if set>>i&1 != 0 {
					tags = append(tags, n)
				}
			}
			if len(tags) > 2 && set%5 != 0 {
				continue // what is wrong with two tags is wrong with more
			}
			for given, setup := range setups {
				for does, body := range bodies {
					if len(tags) > 1 && does != "a load" {
						continue
					}
					v, err := judge(taggedCall(typ, tags, setup, body), 0, 0)
					report.add(v, err)
					what := fmt.Sprintf("%s for %s %v, %s", given, target, tags, does)
					switch asMemory := len(tags) == 0 || len(tags) == 1 && tags[0] == "arg:nonnull"; {
					case err != nil:
						t.Errorf("%s: %v", what, err)
					case asMemory && given == "task", given == "NULL" && slices.Contains(tags, "arg:nonnull"):
						// docs/differences.md: what writes into a structure of the kernel, and NULL that the function would use
						if v.Ours {
							t.Errorf("%s: accepted", what)
						}
					case v.Ours != v.Kernel || !v.Ours && !strings.Contains(v.OurLog, v.KernelReason):
						t.Errorf("%s: we %t (%s), the kernel %t (%s)", what, v.Ours, v.OurReason, v.Kernel, v.KernelReason)
					}
				}
			}
		}
	}
	t.Log(report.String())
}
