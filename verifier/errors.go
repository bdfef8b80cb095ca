package verifier

import (
	"fmt"
	"strings"

	"github.com/skep-bpf/skep/internal/program"
)

// Code is the stable name of a kind of rejection. Messages may change with the kernel's; codes do not.
type Code string

// The codes. docs lists an example for each.
const (
	CodeBadInsn      Code = "bad-instruction"    // encoding, reserved fields, unknown opcode or register
	CodeControlFlow  Code = "control-flow"       // jumps out of range, unreachable code, fall off the end
	CodeUninit       Code = "uninitialised"      // register, stack slot or stack argument read before it is set
	CodeType         Code = "wrong-type"         // a pointer or scalar of another kind is needed
	CodeBounds       Code = "out-of-bounds"      // memory access outside of what the program owns
	CodePermission   Code = "not-permitted"      // memory that may not be written or read, context fields
	CodeAlignment    Code = "misaligned"         // misaligned access
	CodePointerMath  Code = "pointer-arithmetic" // arithmetic or comparison not allowed on a pointer
	CodeNull         Code = "possibly-null"      // a pointer is used before its null check
	CodeCall         Code = "bad-call"           // unknown or forbidden helper, kfunc or function; bad arguments
	CodeStackArgs    Code = "stack-arguments"    // rules of arguments six to twelve
	CodeReference    Code = "reference"          // leaked or unknown reference
	CodeReturn       Code = "return-value"       // return value out of range or of the wrong type
	CodeStackDepth   Code = "stack-depth"        // too much stack or too many frames
	CodeInfiniteLoop Code = "infinite-loop"      // a loop without progress
	CodeTooComplex   Code = "too-complex"        // instruction, jump or state limits
	CodeBTF          Code = "btf"                // missing or unsuitable type information
	CodeUnsupported  Code = "unsupported"        // a feature that skep cannot verify yet
	CodeInternal     Code = "internal"           // a contradiction inside the verifier; never accepted
)

// Error is a rejection. Error() is one line; the whole log is in Log and printed by %+v.
type Error struct {
	Program string
	Code    Code
	Message string // the kernel's words, without the log around them
	Insn    int    // slot at which it was found, -1 if the program as a whole is meant
	Func    string
	Source  *program.Line // nil without line information
	Log     string
	Stats   Stats
}

// Error returns one line: what is wrong and where.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "program %s: ", e.Program)
	msg := strings.TrimRight(e.Message, "\n")
	b.WriteString(strings.ReplaceAll(msg, "\n", "; "))
	if e.Insn >= 0 {
		fmt.Fprintf(&b, " (insn %d", e.Insn)
		if e.Source != nil {
			fmt.Fprintf(&b, ", %s:%d", e.Source.File, e.Source.Number)
		}
		b.WriteByte(')')
	}
	return b.String()
}

// Format prints the one line, and with %+v the whole log behind it.
func (e *Error) Format(f fmt.State, verb rune) {
	fmt.Fprint(f, e.Error())
	if verb == 'v' && f.Flag('+') && e.Log != "" {
		fmt.Fprintf(f, "\n%s", e.Log)
	}
}

// rejection unwinds the walk: it is returned through every layer as an error and becomes an *Error at the top.
type rejection struct {
	code Code
	msg  string
	insn int
}

func (r *rejection) Error() string { return r.msg }

// reject writes the message to the log, as the kernel would, and returns the error that stops the walk. The message has
// no newline at its end.
func (e *env) reject(code Code, format string, args ...any) error {
	msg := e.opt.Target.inTargetWords(fmt.Sprintf(format, args...))
	e.log.printf("%s\n", msg)
	return e.rejection(code, msg)
}

func (e *env) rejection(code Code, msg string) error {
	if e.note != "" {
		msg, e.note = e.note+"\n"+msg, ""
	}
	return &rejection{code: code, msg: msg, insn: e.insn}
}

// why adds a line to the log behind a rejection and to its message.
func (e *env) why(err error, format string, args ...any) error {
	r, ok := err.(*rejection)
	if !ok {
		return err
	}
	msg := e.opt.Target.inTargetWords(fmt.Sprintf(format, args...))
	if msg == "" {
		return err
	}
	e.log.printf("%s\n", msg)
	return &rejection{code: r.code, msg: r.msg + "\n" + msg, insn: r.insn}
}

// unsupported rejects what this verifier does not know, by name.
func (e *env) unsupported(format string, args ...any) error {
	return e.reject(CodeUnsupported, "skep does not verify this yet: "+format, args...)
}
