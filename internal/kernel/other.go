//go:build !linux || !(amd64 || arm64)

package kernel

import (
	"fmt"
	"runtime"

	"github.com/skep-bpf/skep/internal/program"
)

// Prog is a program in the kernel; there are none here.
type Prog struct{}

// Available reports why the kernel's bpf(2) cannot be used.
func Available() error {
	return fmt.Errorf("no bpf(2) on %s/%s: %w", runtime.GOOS, runtime.GOARCH, ErrNoVerdict)
}

// Verify fails: see Available.
func Verify(*program.Program, uint32) (bool, string, error) { return false, "", Available() }

// Load fails: see Available.
func Load(*program.Program) (*Prog, error) { return nil, Available() }

// Close does nothing.
func (*Prog) Close() error { return nil }

// Run fails: see Available.
func (*Prog) Run(RunInput) (RunOutput, error) { return RunOutput{}, Available() }

// RunFD always fails.
func RunFD(int, RunInput) (RunOutput, error) { return RunOutput{}, Available() }

// JITLen fails: see Available.
func (*Prog) JITLen() (int, error) { return 0, Available() }

// FD returns no file descriptor.
func (*Prog) FD() int { return -1 }

// Map returns nil.
func (*Prog) Map(int) *Map { return nil }

// Map is a map in the kernel; there are none here.
type Map struct{}

// Lookup fails: see Available.
func (*Map) Lookup([]byte) ([]byte, error) { return nil, Available() }

// Update fails: see Available.
func (*Map) Update(_, _ []byte, _ uint64) error { return Available() }

// Delete fails: see Available.
func (*Map) Delete([]byte) error { return Available() }

// NextKey fails: see Available.
func (*Map) NextKey([]byte) ([]byte, error) { return nil, Available() }

// AllowUnprivileged fails: see Available.
func AllowUnprivileged() (restore func(), err error) { return nil, Available() }

// VerifyWithout fails: see Available.
func VerifyWithout(*program.Program, uint32, uint64) (bool, string, error) {
	return false, "", Available()
}
