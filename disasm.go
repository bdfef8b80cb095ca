package skep

import (
	"fmt"
	"io"
	"runtime"
	"strings"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/jit/amd64"
	"github.com/skep-bpf/skep/internal/listing"
	"github.com/skep-bpf/skep/internal/native"
	"github.com/skep-bpf/skep/internal/program"
)

// Disassemble returns the program as text: BPF instructions, the source lines they come from, and below each the machine code
// for arch ("amd64"; "" stands for this machine's, "bpf" for none). Any machine can show any architecture's code; for its
// own it is the code that runs.
func (p *Program) Disassemble(arch string) (string, error) {
	if arch == "" {
		arch = runtime.GOARCH
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
	switch arch {
	case "amd64", "x86-64", "x86_64":
	default:
		return nil, fmt.Errorf("there is no compiler for %s: %w", arch, ebpf.ErrNotSupported)
	}
	if c, ok := p.exec.(*native.Code); ok && runtime.GOARCH == "amd64" {
		return &listing.Code{Arch: "amd64", Text: c.Text(), PCAt: c.PCAt}, nil
	}
	c, err := amd64.Compile(p.ir, amd64.Options{})
	if err != nil {
		return nil, err
	}
	return &listing.Code{Arch: "amd64", Text: c.Text, PCAt: c.PCAt}, nil
}

// DisassembleSpec writes the named program of a spec as BPF instructions with source lines, without verifying it.
func DisassembleSpec(w io.Writer, spec *ebpf.CollectionSpec, name string) error {
	p, err := program.FromSpec(spec, name, program.Options{Map: mapOf})
	if err != nil {
		return err
	}
	return listing.BPF(w, p)
}
