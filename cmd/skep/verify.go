package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/internal/parallel"
	"github.com/skep-bpf/skep/verifier"
)

var verifyVerb = &verb{
	name: "verify", args: "FILE... [-prog NAME] [-type SECTION] [-log N] [-unpriv] [-target KERNEL] [-json]", short: "prove the programs of object files, or say why not",
	help: `
Prints a line for each program, in the order of the files; all processors verify: accepted or rejected with the reason, instructions processed, states, time.
  -prog NAME  only this program
  -type SECTION
              take the programs to be in a section of that name, as libbpf knows them: xdp, kprobe, cgroup/connect4, tp_btf/sched_switch
  -log N      print the verifier's log at level N: 1 branches, 2 every instruction, 4 figures; levels add up
  -unpriv     verify as the kernel does for a user without CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN
  -target KERNEL
              whose verdict: newest (6.18 with stack arguments, the default), 6.18, 6.12
  -json       print a JSON object a line; a file that cannot be loaded gets one without a program's name

Of a rejected program it tells, in the manner of compilers, what was violated, the source line, how the register or stack slot at
fault came to be what it is, and what usually helps; with -json all that is in the field report.

Exit code: 0 if all programs were accepted, 1 if one was rejected, 2 if something could not be loaded.

Examples:
  skep verify prog.o
  skep verify prog.o -prog my_xdp -log 2
  skep verify prog.o -target 6.12
  skep verify prog.o -prog helper -type tc
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
	// Report is there for rejected programs.
	Report *verifier.Report `json:"report,omitempty"`

	job *verifyJob
	log string
}

func runVerify(e *env, args []string) int {
	fs := e.flags()
	prog := fs.String("prog", "", "")
	level := fs.Uint("log", 0, "")
	unpriv := fs.Bool("unpriv", false, "")
	target := targetFlag(fs)
	typ := typeFlag(fs)
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
	jobs := verifyJobs(files, *prog, typ)
	opts := skep.Options{LogLevel: ebpf.LogLevel(*level), Target: *target}
	if *unpriv {
		opts.Without = verifier.AllCaps
	}
	work := func(i int) verdict { return jobs[i].verify(opts) }
	parallel.Each(len(jobs), work, func(i int, v verdict) { worst = max(worst, e.printVerdict(v, *asJSON)) })
	return worst
}

// verifyJob is a program to verify, or, if err is not nil, a file of which none can be.
type verifyJob struct {
	file, name string
	spec       *ebpf.CollectionSpec
	err        error
	loaded     bool // the file is an object, only the program is not there
}

func verifyJobs(files []string, prog string, typ *typeOf) (jobs []verifyJob) {
	for _, file := range files {
		spec, err := skep.LoadCollectionSpec(file)
		if err != nil {
			jobs = append(jobs, verifyJob{file: file, err: err})
			continue
		}
		typ.apply(spec, prog)
		names := programs(spec, prog)
		if len(names) == 0 {
			jobs = append(jobs, verifyJob{file: file, err: fmt.Errorf("%s: %s", file, noProgram(spec, prog)), loaded: true})
		}
		for _, name := range names {
			jobs = append(jobs, verifyJob{file: file, name: name, spec: spec})
		}
	}
	return jobs
}

func (j *verifyJob) verify(opts skep.Options) verdict {
	out := verdict{Program: j.name, Verdict: "accepted", job: j}
	if j.err != nil {
		out.Verdict, out.Error, out.Code = notLoaded, j.err.Error(), "load"
		return out
	}
	v, err := skep.Verify(j.spec, j.name, opts)
	var ve *skep.VerifierError
	var stats verifier.Stats
	switch {
	case err == nil:
		stats, out.log = v.Stats, v.Log
	case errors.As(err, &ve):
		stats, out.log = ve.Stats, ve.Log
		out.Verdict, out.Error, out.Code, out.Report = "rejected", ve.Error(), ve.Code, ve.Report()
		if ve.File != "" {
			out.Source = fmt.Sprintf("%s:%d: %s", ve.File, ve.Line, ve.Source)
		}
	default:
		out.Verdict, out.Error, out.Code = notLoaded, err.Error(), "load"
	}
	out.Processed, out.States, out.TimeUS = stats.Processed, stats.TotalStates, stats.Time.Microseconds()
	if opts.LogLevel == 0 {
		out.log = ""
	}
	return out
}

// printVerdict prints a verdict and returns the exit code it means.
func (e *env) printVerdict(v verdict, asJSON bool) int {
	code := map[string]int{"rejected": exitRejected, notLoaded: exitUsage}[v.Verdict]
	if v.job.err != nil {
		e.fail(code, v.job.err)
		if v.job.loaded || !asJSON {
			return code
		}
	}
	if asJSON {
		_ = e.printJSON(v)
		return code
	}
	e.printVerdictText(v, code)
	return code
}

func (e *env) printVerdictText(v verdict, code int) {
	file, name := v.job.file, v.Program
	figures := fmt.Sprintf("%d insns, %d states, %s", v.Processed, v.States, time.Duration(v.TimeUS)*time.Microsecond)
	switch code {
	case exitOK:
		fmt.Fprintf(e.stdout, "%s/%s: accepted (%s)\n", file, name, figures)
	case exitRejected:
		fmt.Fprintf(e.stdout, "%s/%s: rejected: %s [%s] (%s)\n", file, name, v.Error, v.Code, figures)
		fmt.Fprint(e.stdout, v.Report)
	default:
		fmt.Fprintf(e.stdout, "%s/%s: not loaded: %s\n", file, name, v.Error)
	}
	fmt.Fprint(e.stdout, v.log)
}
