package skep

import (
	"fmt"
	"io"
	"runtime"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/export"
	"github.com/skep-bpf/skep/internal/jit/target"
	"github.com/skep-bpf/skep/internal/listing"
	"github.com/skep-bpf/skep/internal/native"
	"github.com/skep-bpf/skep/internal/program"
)

// Architectures lists the machines that there is a compiler for, by their GOARCH. Their code can be made and shown on every
// machine; only its own a machine can run.
func Architectures() []string { return target.Names() }

// Disassemble returns the program as text: BPF instructions, the source lines they come from, and below each the machine code
// for arch ("amd64", see Architectures; "" stands for this machine's, "bpf" for none). Any machine can show any architecture's
// code; for its own it is the code that runs.
func (p *Program) Disassemble(arch string) (string, error) {
	if err := p.loaded(); err != nil {
		return "", err
	}
	var b strings.Builder
	if arch == "bpf" {
		err := listing.BPF(&b, p.prog)
		return b.String(), err
	}
	code, err := p.machineCode(arch)
	if err != nil {
		return "", fmt.Errorf("program %s: %w", p.name, err)
	}
	err = listing.Mixed(&b, p.prog, code)
	return b.String(), err
}

func (p *Program) machineCode(arch string) (*listing.Code, error) {
	t, err := target.Lookup(arch)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, ebpf.ErrNotSupported)
	}
	if c, ok := p.exec.(*native.Code); ok && runtime.GOARCH == t.Name {
		text := c.Text()
		return &listing.Code{Target: t, Text: text, Funcs: listing.Functions(p.ir, c.Funcs(), len(text)), PCAt: c.PCAt}, nil
	}
	c, err := t.Compile(p.ir)
	if err != nil {
		return nil, err
	}
	return &listing.Code{Target: t, Text: c.Text, Funcs: listing.Functions(p.ir, c.Funcs, len(c.Text)), PCAt: c.PCAt}, nil
}

// DisassembleSpec writes the named program of a spec as BPF instructions with source lines, without verifying it.
func DisassembleSpec(w io.Writer, spec *ebpf.CollectionSpec, name string) error {
	p, err := program.FromSpec(spec, name, program.Options{Map: mapOf})
	if err != nil {
		return err
	}
	return listing.BPF(w, p)
}

// WriteObject writes the machine code of programs for arch (as in Disassemble, "bpf" excepted) as a linkable ELF object: a global
// symbol for each program, a local one for each of its other functions, and the source lines as DWARF, for objdump, gdb and
// others to read. Code that names a map, a helper or a kfunc holds its address in this process: elsewhere such code can be
// looked at and not run.
func WriteObject(w io.Writer, arch string, progs ...*Program) error {
	all := make([]export.Program, len(progs))
	for i, p := range progs {
		code, err := p.machineCode(arch)
		if err != nil {
			return fmt.Errorf("program %s: %w", p.name, err)
		}
		all[i] = export.Program{Program: p.prog, Code: code}
	}
	b, err := export.Object(all)
	if err != nil {
		return fmt.Errorf("write object: %w", err)
	}
	_, err = w.Write(b)
	return err
}

// DescribeArguments writes where the arguments and the result of the named program's functions live, and those of the kfuncs it
// calls: in BPF, and on each architecture as caller and callee find them. It does not verify the program.
func DescribeArguments(w io.Writer, spec *ebpf.CollectionSpec, name string) error {
	p, err := program.FromSpec(spec, name, program.Options{Map: mapOf})
	if err != nil {
		return err
	}
	return listing.ABI(w, p, func(t btf.Type) error {
		_, err := extOf(t)
		return err
	})
}
