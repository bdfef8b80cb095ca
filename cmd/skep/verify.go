package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep"
)

var verifyVerb = &verb{
	name: "verify", args: "FILE... [-prog NAME] [-log N] [-json]", short: "prove the programs of object files, or say why not",
	help: `
Prints a line for each program: accepted or rejected with the reason, instructions processed, states, time.
  -prog NAME  only this program
  -log N      print the verifier's log at level N: 1 branches, 2 every instruction, 4 figures; levels add up
  -json       print a JSON object a line; a file that cannot be loaded gets one without a program's name

Exit code: 0 if all programs were accepted, 1 if one was rejected, 2 if something could not be loaded.

Examples:
  skep verify prog.o
  skep verify prog.o -prog my_xdp -log 2
  skep verify *.o -json | jq 'select(.verdict == "rejected")'
`,
}

func init() { verifyVerb.run = runVerify }

// notLoaded is the verdict on what could not be verified: a program, or a file, whose line names no program.
const notLoaded = "not loaded"

// verdict is a line of skep verify -json.
type verdict struct {
	Program   string `json:"program"`
	Verdict   string `json:"verdict"`
	Error     string `json:"error"`
	Code      string `json:"code"`
	Source    string `json:"source"`
	Processed int    `json:"insns_processed"`
	States    int    `json:"states"`
	TimeUS    int64  `json:"time_us"`
}

func runVerify(e *env, args []string) int {
	fs := e.flags()
	prog := fs.String("prog", "", "")
	level := fs.Uint("log", 0, "")
	asJSON := fs.Bool("json", false, "")
	files, code, ok := e.parse(fs, args)
	if !ok {
		return code
	}
	if len(files) == 0 {
		return e.usageError("no file given")
	}
	if *level > 7 {
		return e.usageError("-log: levels are 1, 2, 4 and their sums")
	}
	worst := exitOK
	for _, file := range files {
		spec, err := skep.LoadCollectionSpec(file)
		if err != nil {
			if *asJSON {
				_ = e.printJSON(verdict{Verdict: notLoaded, Error: err.Error(), Code: "load"})
			}
			worst = e.fail(exitUsage, err)
			continue
		}
		names := programs(spec, *prog)
		if len(names) == 0 {
			worst = e.fail(exitUsage, fmt.Errorf("%s: %s", file, noProgram(spec, *prog)))
		}
		for _, name := range names {
			worst = max(worst, e.verifyOne(file, spec, name, uint32(*level), *asJSON))
		}
	}
	return worst
}

func (e *env) verifyOne(file string, spec *ebpf.CollectionSpec, name string, level uint32, asJSON bool) int {
	v, err := skep.Verify(spec, name, skep.Options{LogLevel: ebpf.LogLevel(level)})
	out := verdict{Program: name, Verdict: "accepted"}
	code, log := exitOK, ""
	var ve *skep.VerifierError
	switch {
	case err == nil:
		out.Processed, out.States, out.TimeUS = v.Stats.Processed, v.Stats.TotalStates, v.Stats.Time.Microseconds()
		log = v.Log
	case errors.As(err, &ve):
		code, log = exitRejected, ve.Log
		out.Verdict, out.Error, out.Code = "rejected", ve.Error(), ve.Code
		out.Processed, out.States, out.TimeUS = ve.Stats.Processed, ve.Stats.TotalStates, ve.Stats.Time.Microseconds()
		if ve.File != "" {
			out.Source = fmt.Sprintf("%s:%d: %s", ve.File, ve.Line, ve.Source)
		}
	default:
		code = exitUsage
		out.Verdict, out.Error, out.Code = notLoaded, err.Error(), "load"
	}
	if asJSON {
		_ = e.printJSON(out)
		return code
	}
	figures := fmt.Sprintf("%d insns, %d states, %s", out.Processed, out.States, time.Duration(out.TimeUS)*time.Microsecond)
	switch code {
	case exitOK:
		fmt.Fprintf(e.stdout, "%s/%s: accepted (%s)\n", file, name, figures)
	case exitRejected:
		fmt.Fprintf(e.stdout, "%s/%s: rejected: %s [%s] (%s)\n", file, name, out.Error, out.Code, figures)
		if out.Source != "" {
			fmt.Fprintf(e.stdout, "    %s\n", out.Source)
		}
	default:
		fmt.Fprintf(e.stdout, "%s/%s: not loaded: %s\n", file, name, out.Error)
	}
	if level != 0 && log != "" {
		fmt.Fprint(e.stdout, log)
	}
	return code
}
