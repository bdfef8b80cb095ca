//go:build !(linux && (amd64 || arm64))

package native

import (
	"context"
	"errors"

	"github.com/skep-bpf/skep/internal/ir"
	"github.com/skep-bpf/skep/internal/rt"
)

var errUnsupported = errors.New("no compiler for this platform yet")

// Supported returns nil if this process can run compiled programs, else why not.
func Supported() error { return errUnsupported }

// Load compiles programs and maps their code, packed together.
func Load(progs ...*ir.Program) ([]*Code, error) { return nil, errUnsupported }

// Code is a compiled program. There are none on this platform.
type Code struct{ tgt rt.Target }

var _ rt.Executable = (*Code)(nil)

// Exec runs the program; see rt.Executable.
func (c *Code) Exec(ctx context.Context, r *rt.Run) (uint64, error) { return 0, errUnsupported }

// ExecCallback runs a callback of the program; see rt.Executable.
func (c *Code) ExecCallback(ctx context.Context, r *rt.Run, n int) (uint64, error) {
	return 0, errUnsupported
}

// Target returns what a program array holds for this program.
func (c *Code) Target() *rt.Target { return &c.tgt }

// Close frees the code.
func (c *Code) Close() error { return nil }

// Text returns the machine code, nil if there is none.
func (c *Code) Text() []byte { return nil }

// Addr returns the address of the machine code, 0 if there is none.
func (c *Code) Addr() uint64 { return 0 }

// Funcs returns the offset of each function in the machine code.
func (c *Code) Funcs() []int { return nil }

// PCAt returns the BPF instruction that the code at off belongs to, -1 if none.
func (c *Code) PCAt(off int) int { return -1 }
