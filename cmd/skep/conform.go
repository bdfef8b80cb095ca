package main

import (
	"fmt"
	"io"

	"github.com/skep-bpf/skep"
)

var conformVerb = &verb{
	name: "conform", args: "[MEMORY-HEX] [-unverified] [-engine jit|interp]", short: "be a plugin of the bpf_conformance suite",
	help: `
Reads a program as hexadecimal digits from standard input, runs it with r1 pointing to the memory given as hexadecimal argument
and r2 its length, and prints r0 in hexadecimal.
  -unverified  a program that the verifier refuses is run all the same, by the interpreter, which checks every access
  -engine E    jit or interp

Exit code: 0, 1 if the program was rejected or failed.

Examples:
  echo "b7 00 00 00 2a 00 00 00 95 00 00 00 00 00 00 00" | skep conform
  bpf_conformance_runner --test_file_directory tests --plugin_path skep --plugin_options conform
`,
}

func init() { conformVerb.run = runConform }

func runConform(e *env, args []string) int {
	fs := e.flags()
	unverified := fs.Bool("unverified", false, "")
	engine := fs.String("engine", "", "")
	rest, code, ok := e.parse(fs, args)
	if !ok {
		return code
	}
	memory, err := readHex(joinHex(rest))
	if err != nil {
		return e.usageError("memory: %v", err)
	}
	in, err := io.ReadAll(io.LimitReader(e.stdin, 32<<20))
	if err != nil {
		return e.fail(exitUsage, err)
	}
	prog, err := readHex(string(in))
	if err != nil {
		return e.usageError("program: %v", err)
	}
	var opts skep.Options
	switch *engine {
	case "":
	case "jit":
		opts.Engine = skep.EngineJIT
	case "interp":
		opts.Engine = skep.EngineInterpreter
	default:
		return e.usageError("-engine: there is no engine %q", *engine)
	}
	r0, _, err := skep.RunBytecode(prog, memory, opts)
	if err != nil && *unverified {
		r0, _, err = skep.RunBytecode(prog, memory, opts.Unverified())
	}
	if err != nil {
		return e.fail(exitRejected, err)
	}
	fmt.Fprintf(e.stdout, "%x\n", r0)
	return exitOK
}

// joinHex joins the arguments that are left: memory may be given as one argument or as bytes.
func joinHex(args []string) string {
	s := ""
	for _, a := range args {
		s += a
	}
	return s
}
