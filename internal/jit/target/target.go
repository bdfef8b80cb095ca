// Package target is the table of the machines that skep compiles for: for each its compiler, its calling convention and
// its disassembler. All of them work on every host.
package target

import (
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/skep-bpf/skep/internal/abi"
	"github.com/skep-bpf/skep/internal/ir"
	"github.com/skep-bpf/skep/internal/jit"
	"github.com/skep-bpf/skep/internal/jit/amd64"
	"github.com/skep-bpf/skep/internal/jit/arm64"
)

// Target is one machine.
type Target struct {
	Name    string // as in GOARCH
	aliases []string
	ABI     *abi.Arch
	// Compile translates for the base instruction set, so that the code runs on every machine of the kind.
	Compile func(p *ir.Program) (*jit.Code, error)
	// Disassemble returns the text and the length in bytes of the instruction at the start of code, which lies at address
	// pc. What it cannot read it shows as data.
	Disassemble func(code []byte, pc uint64) (text string, n int)
}

// Targets lists them all.
var Targets = []*Target{
	{
		Name: "amd64", aliases: []string{"x86-64", "x86_64"}, ABI: &abi.AMD64,
		Compile:     func(p *ir.Program) (*jit.Code, error) { return amd64.Compile(p, amd64.Options{}) },
		Disassemble: disassembleAMD64,
	},
	{
		Name: "arm64", aliases: []string{"aarch64"}, ABI: &abi.ARM64,
		Compile:     func(p *ir.Program) (*jit.Code, error) { return arm64.Compile(p, arm64.Options{}) },
		Disassemble: disassembleARM64,
	},
}

// Names lists the targets.
func Names() []string {
	names := make([]string, len(Targets))
	for i, t := range Targets {
		names[i] = t.Name
	}
	return names
}

// Lookup returns the target with the given name, GOARCH's or the processor maker's. "" stands for this host's, or for the
// first of the table where the host is none of them. The error of an unknown name lists those there are.
func Lookup(name string) (*Target, error) {
	if name == "" {
		if name = runtime.GOARCH; !slices.Contains(Names(), name) {
			return Targets[0], nil
		}
	}
	for _, t := range Targets {
		if t.Name == name || slices.Contains(t.aliases, name) {
			return t, nil
		}
	}
	return nil, fmt.Errorf("there is no compiler for %q; there are: %s", name, strings.Join(Names(), ", "))
}
