package rt

import (
	"context"
	"errors"
	"fmt"
)

// Fault is a run that was stopped because it did what a verified program never does: a machine fault in compiled code
// or a failed check in the interpreter.
type Fault struct {
	Program string
	Insn    int    // BPF instruction, -1 if unknown
	Addr    uint64 // address of the access, 0 if there is none
	Reason  string
}

// Error is one line.
func (f *Fault) Error() string {
	return fmt.Sprintf("program %s: fault at instruction %d: %s (address %#x)", f.Program, f.Insn, f.Reason, f.Addr)
}

// ErrBudget ends a run that used up its instruction budget.
var ErrBudget = errors.New("instruction budget used up")

// Executable is a program ready to run on one engine.
type Executable interface {
	// Exec runs the program with r.Ctx as its context and returns r0. It returns ctx's error soon after ctx ends
	// (nil: never), r.Err if a host function set it, a *Fault if the program misbehaved. It may be called by many
	// goroutines, each with its own Run. It allocates nothing unless ctx can end.
	Exec(ctx context.Context, r *Run) (uint64, error)
	// ExecCallback is Exec of callback n of the program (ir.Program.Callbacks), whose arguments are at r.Ctx.
	ExecCallback(ctx context.Context, r *Run, n int) (uint64, error)
	// Target is what a program array holds to tail-call this program.
	Target() *Target
	// Close frees what the program owns. Nobody may call Exec or start a tail call to it any more; running calls
	// may still finish.
	Close() error
}

// PanicError is the error of a run in which a host function panicked with value p.
func PanicError(prog string, insn int, p any) error {
	if err, ok := p.(error); ok {
		return fmt.Errorf("program %s: host function called at instruction %d panicked: %w", prog, insn, err)
	}
	return fmt.Errorf("program %s: host function called at instruction %d panicked: %v", prog, insn, p)
}
