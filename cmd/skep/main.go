// Command skep verifies, runs, tests and shows eBPF programs in user space. Run it without arguments for help.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

// verb is one subcommand. Its run gets the arguments behind its name and returns the exit code.
type verb struct {
	name, args, short string
	help              string // longer, with examples
	run               func(e *env, args []string) int
}

// env is what a verb works with.
type env struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	verb           *verb
}

// Exit codes.
const (
	exitOK       = 0
	exitRejected = 1 // a program was rejected, a test failed, a run ended with an error
	exitUsage    = 2 // wrong arguments, or a file that could not be loaded
)

var verbs = []*verb{demoVerb, verifyVerb, runVerb, testVerb, benchVerb, jitVerb, disasmVerb, kfuncsVerb, conformVerb}

func main() {
	os.Exit(skepMain(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// skepMain runs the command line and returns the exit code.
func skepMain(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		usage(stderr)
		return exitUsage
	}
	name := args[0]
	if name == "help" || name == "-h" || name == "-help" || name == "--help" {
		if len(args) == 1 {
			usage(stdout)
			return exitOK
		}
		name = args[1]
		if v := findVerb(name); v != nil {
			fmt.Fprint(stdout, v.text())
			return exitOK
		}
	}
	v := findVerb(name)
	if v == nil {
		fmt.Fprintf(stderr, "skep: there is no verb %q; `skep help` lists them\n", name)
		return exitUsage
	}
	return v.run(&env{stdin, stdout, stderr, v}, args[1:])
}

func findVerb(name string) *verb {
	for _, v := range verbs {
		if v.name == name {
			return v
		}
	}
	return nil
}

func usage(w io.Writer) {
	fmt.Fprintf(w, "skep runs eBPF programs in user space: verified, compiled to machine code, with up to twelve arguments.\n\nUsage: skep VERB [arguments]\n\n")
	for _, v := range verbs {
		fmt.Fprintf(w, "  %-8s %s\n", v.name, v.short)
	}
	fmt.Fprintf(w, "\n`skep help VERB` tells more. Start with: skep demo\n")
}

func (v *verb) text() string {
	return fmt.Sprintf("%s\n\nUsage: skep %s %s\n\n%s", v.short, v.name, v.args, strings.TrimLeft(v.help, "\n"))
}

// flags makes the verb's flag set.
func (e *env) flags() *flag.FlagSet {
	fs := flag.NewFlagSet(e.verb.name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	return fs
}

// parse reads flags wherever they stand and returns the other arguments. ok is false if the verb is to end with code.
func (e *env) parse(fs *flag.FlagSet, args []string) (rest []string, code int, ok bool) {
	for {
		if err := fs.Parse(args); err == flag.ErrHelp {
			fmt.Fprint(e.stdout, e.verb.text())
			return nil, exitOK, false
		} else if err != nil {
			return nil, e.usageError("%v", err), false
		}
		args = fs.Args()
		if len(args) == 0 {
			return rest, exitOK, true
		}
		rest = append(rest, args[0])
		args = args[1:]
	}
}

// usageError says what is wrong with the arguments and how they look.
func (e *env) usageError(format string, args ...any) int {
	fmt.Fprintf(e.stderr, "skep %s: %s\nUsage: skep %s %s\n`skep help %s` has examples.\n", e.verb.name, fmt.Sprintf(format, args...),
		e.verb.name, e.verb.args, e.verb.name)
	return exitUsage
}

// fail prints an error and returns code.
func (e *env) fail(code int, err error) int {
	fmt.Fprintf(e.stderr, "skep %s: %v\n", e.verb.name, err)
	return code
}
