package listing

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/abi"
	"github.com/skep-bpf/skep/internal/ctype"
	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/program"
)

// ABI writes for each function of a program, and each kfunc that it calls, where arguments and result live: in BPF and on each
// architecture. refuse says why a value of a type cannot be passed, nil if it can.
func ABI(w io.Writer, p *program.Program, refuse func(btf.Type) error) error {
	b := bufio.NewWriter(w)
	a := abiLister{w: b, refuse: refuse}
	for i := range p.Funcs {
		f := &p.Funcs[i]
		what := "BPF function"
		if i == 0 {
			what = "program"
		}
		a.function(what, f.Name, f.Proto(), incoming(p, f, i == 0))
	}
	for _, k := range calledKfuncs(p) {
		var proto *btf.FuncProto
		if k.Type != nil {
			proto, _ = k.Type.Type.(*btf.FuncProto)
		}
		a.function(kfunc, k.Name, proto, -1)
	}
	return b.Flush()
}

const kfunc = "kfunc"

type abiLister struct {
	w      io.Writer
	refuse func(btf.Type) error
}

// function writes one function. Without types, args is how many arguments its code shows, -1 if none can be known.
func (a *abiLister) function(what, name string, proto *btf.FuncProto, args int) {
	var params []btf.FuncParam
	result := "result"
	switch {
	case proto != nil:
		fmt.Fprintf(a.w, "%s %s\n  %s\n", what, name, ctype.Proto(name, proto))
		if err := a.refused(proto); err != nil {
			fmt.Fprintf(a.w, "  not placed by this convention: %v\n\n", err)
			return
		}
		params, result = proto.Params, "result "+ctype.Type(proto.Return)
		if _, void := btf.UnderlyingType(proto.Return).(*btf.Void); void {
			result = ""
		}
	case args < 0:
		fmt.Fprintf(a.w, "%s %s\n  without types (BTF): where its arguments are cannot be known\n\n", what, name)
		return
	default:
		fmt.Fprintf(a.w, "%s %s\n  without types (BTF); arguments by its code: %d\n", what, name, args)
		params = make([]btf.FuncParam, args)
	}
	a.table(params, result, what == kfunc)
}

// refused says why the C conventions pass some argument or the result elsewhere.
func (a *abiLister) refused(proto *btf.FuncProto) error {
	if n := len(proto.Params); n > abi.MaxArgs {
		return fmt.Errorf("it has %d parameters, %d can be passed", n, abi.MaxArgs)
	}
	for i, p := range proto.Params {
		if err := a.refuse(p.Type); err != nil {
			return fmt.Errorf("parameter %d (%s): %w", i+1, declare(p), err)
		}
	}
	if _, void := btf.UnderlyingType(proto.Return).(*btf.Void); void {
		return nil
	}
	if err := a.refuse(proto.Return); err != nil {
		return fmt.Errorf("result: %w", err)
	}
	return nil
}

// declare writes a parameter as C does, or what there is of it.
func declare(p btf.FuncParam) string {
	if p.Type == nil {
		return ""
	}
	return ctype.Param(p)
}

// table writes where the arguments are and, at the end, where the result is. A native callee is no BPF code.
func (a *abiLister) table(params []btf.FuncParam, result string, nativeCallee bool) {
	t := tabwriter.NewWriter(a.w, 0, 0, 3, ' ', 0)
	row := func(cells ...string) { fmt.Fprintf(t, "  %s\n", strings.Join(cells, "\t")) }
	head := []string{"argument", "BPF"}
	for _, arch := range abi.All {
		head = append(head, arch.Name)
	}
	row(head...)
	for i := range params {
		cells := []string{strings.TrimSpace(fmt.Sprintf("%2d %s", i+1, declare(params[i]))), bpfPlace(i+1, nativeCallee)}
		if i+1 < 10 {
			cells[0] = " " + cells[0]
		}
		for _, arch := range abi.All {
			cells = append(cells, Place(arch, i+1))
		}
		row(cells...)
	}
	if result == "" {
		row("no result")
	} else {
		cells := []string{result, "r0"}
		for _, arch := range abi.All {
			cells = append(cells, arch.Result.Name)
		}
		row(cells...)
	}
	t.Flush()
	fmt.Fprintln(a.w)
}

// bpfPlace says where BPF code has argument n: a register, or what the caller stores to and what the callee loads from.
func bpfPlace(n int, callerOnly bool) string {
	if n <= abi.RegArgs {
		return fmt.Sprintf("r%d", n)
	}
	if callerOnly {
		return fmt.Sprintf("[r11-%d]", abi.InSlot(n))
	}
	return fmt.Sprintf("[r11-%d] / [r11+%d]", abi.InSlot(n), abi.InSlot(n))
}

// Place says where argument n is on a machine: a register, or memory as the caller finds it at the call and the callee behind
// its prologue.
func Place(arch *abi.Arch, n int) string {
	l := arch.Args[n-1]
	if !l.InMemory() {
		return l.Name
	}
	return fmt.Sprintf("[%s+%d] / [%s+%d]", arch.SP, l.Caller, arch.FP, l.Callee)
}

// incoming returns how many arguments a function without types takes by its code: a program its context, others all registers, since
// any may be read, and the slots that are loaded.
func incoming(p *program.Program, f *program.Func, entry bool) int {
	if entry {
		return 1
	}
	n := isa.MaxRegArgs
	for pc := f.Start; pc < f.End; pc++ {
		switch in := p.Insns[pc]; {
		case in.IsLdImm64():
			pc++
		case in.IsStackArgLoad():
			n = max(n, isa.MaxRegArgs+int(in.Off)/8)
		}
	}
	return min(n, abi.MaxArgs)
}

// calledKfuncs lists the kfuncs that a program calls, in the order of the first call.
func calledKfuncs(p *program.Program) []*program.Kfunc {
	var out []*program.Kfunc
	for pc := 0; pc < len(p.Insns); pc++ {
		in := p.Insns[pc]
		if in.IsLdImm64() {
			pc++
			continue
		}
		if in.IsKfuncCall() && in.Imm >= 0 && int(in.Imm) < len(p.Kfuncs) {
			if k := &p.Kfuncs[in.Imm]; !slices.Contains(out, k) {
				out = append(out, k)
			}
		}
	}
	return out
}
