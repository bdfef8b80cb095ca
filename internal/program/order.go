package program

import (
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// libbpfOrder reorders the functions of a program that cilium/ebpf linked into the order in which libbpf links them,
// so that instruction numbers are those that people see from other loaders and that the kernel's own tests expect:
// each function is appended at its first reference, and its own references follow before the next one's (cilium goes
// breadth-first and by name). Functions that nothing refers to stay at the end. insns is left as it is where a
// reference is not by name.
func libbpfOrder(insns asm.Instructions) asm.Instructions {
	var starts []int
	referenced := map[string]bool{}
	for i := range insns {
		if ins := &insns[i]; ins.IsFunctionReference() {
			if ins.Reference() == "" || ins.Constant != -1 {
				return insns
			}
			referenced[ins.Reference()] = true
		}
	}
	index := map[string]int{} // of functions in starts
	for i := range insns {
		s := insns[i].Symbol()
		if i == 0 || referenced[s] || s != "" && btf.FuncMetadata(&insns[i]) != nil {
			index[s] = len(starts)
			starts = append(starts, i)
		}
	}
	body := func(f int) asm.Instructions {
		if f+1 < len(starts) {
			return insns[starts[f]:starts[f+1]]
		}
		return insns[starts[f]:]
	}
	out := make(asm.Instructions, 0, len(insns))
	done := make([]bool, len(starts))
	// add appends a function, then what it refers to. The explicit stack holds where to go on in each.
	add := func(first int) {
		type frame struct{ f, at int }
		done[first] = true
		out = append(out, body(first)...)
		for stack := []frame{{first, 0}}; len(stack) > 0; {
			top := &stack[len(stack)-1]
			code := body(top.f)
			if top.at == len(code) {
				stack = stack[:len(stack)-1]
				continue
			}
			ins := &code[top.at]
			top.at++
			if !ins.IsFunctionReference() {
				continue
			}
			if g, ok := index[ins.Reference()]; ok && !done[g] {
				done[g] = true
				out = append(out, body(g)...)
				stack = append(stack, frame{g, 0})
			}
		}
	}
	for f := range starts {
		if !done[f] {
			add(f)
		}
	}
	return out
}
