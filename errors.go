package skep

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/verifier"
)

// ErrClosed is wrapped by operations on a program or collection after Close.
var ErrClosed = errors.New("program is closed")

// VerifierError is a rejection by the verifier. Error is one line; %+v prints the whole log. Its fields say which
// instruction and source line were refused and give a stable code for the reason.
//
// errors.As also finds it as *ebpf.VerifierError, so that code written for cilium/ebpf works.
type VerifierError struct {
	Program string
	Code    string // stable name of the kind of rejection, such as out-of-bounds
	Message string // the kernel's words
	Insn    int    // instruction (8-byte slot), -1 if the program as a whole is meant
	Func    string // function that the instruction is in
	File    string // source file and line, "" and 0 without line information
	Line    int
	Source  string // text of the source line
	Log     string // the verifier's log, at level 1 at least
	Stats   verifier.Stats

	cause  *verifier.Error
	report func() *verifier.Report
}

// newVerifierError makes the error of v; report explains it when it is asked for.
func newVerifierError(v *verifier.Error, report func() *verifier.Report) *VerifierError {
	e := &VerifierError{
		report:  sync.OnceValue(report),
		Program: v.Program, Code: string(v.Code), Message: v.Message, Insn: v.Insn, Func: v.Func, Log: v.Log, Stats: v.Stats, cause: v,
	}
	if s := v.Source; s != nil {
		e.File, e.Line, e.Source = s.File, int(s.Number), strings.TrimSpace(s.Text)
	}
	return e
}

// Report explains the rejection: what was violated and where, how the value at fault came to be, and what usually helps; its String is
// text for people. The program is verified again for it, when Report is called for the first time.
func (e *VerifierError) Report() *verifier.Report { return e.report() }

// Error returns one line: program, reason, place.
func (e *VerifierError) Error() string { return e.cause.Error() }

// Format prints the one line; with %+v the whole log behind it.
func (e *VerifierError) Format(f fmt.State, verb rune) { e.cause.Format(f, verb) }

// Unwrap returns the verifier's own error, a *verifier.Error.
func (e *VerifierError) Unwrap() error { return e.cause }

// As fills a *ebpf.VerifierError.
func (e *VerifierError) As(target any) bool {
	t, ok := target.(**ebpf.VerifierError)
	if !ok {
		return false
	}
	*t = &ebpf.VerifierError{Cause: e.cause, Log: strings.Split(strings.TrimRight(e.Log, "\n"), "\n")}
	return true
}
