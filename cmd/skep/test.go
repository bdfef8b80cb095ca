package main

import (
	"fmt"
	"path/filepath"

	"github.com/skep-bpf/skep/internal/parallel"
	"github.com/skep-bpf/skep/skeptest"
)

var testVerb = &verb{
	name: "test", args: "FILE... [-prog NAME] [-known FILE] [-target KERNEL] [-json]", short: "test annotated object files",
	help: `
The programs' functions say by BTF declaration tags what to expect, as the Linux kernel's own tests do: verdict
(comment:test_expect_success, comment:test_expect_failure), messages of the verifier (comment:test_expect_msg=N=TEXT, with
{{regular expressions}}; comment:test_expect_not_msg=N=TEXT), return value on 64 zero bytes (comment:test_retval=N), log_level,
prog_flags, arch, btf_path, description, auxiliary; each of the first with _unpriv before the = for a load without privileges. A
program without tags is expected to be accepted. Programs with an expected value run on every engine of this machine.

Prints a line for each test, the sums of each file and of all:
  PASS     as expected
  FAIL     not as expected
  REFUSED  skep says by name what the test needs and it does not have
  SKIP     for another machine
  KNOWN    not as expected, and the list of -known says why
What skep has none of (expected xlated instructions, machine code of the kernel) is named as not comparable.

  -prog NAME   only this program
  -known FILE  a list of tests that are known to fail: FILE.o/PROGRAM, a tab, the reason; one that passes all the same fails
  -target KERNEL
               whose verdict and words: newest (6.18 with stack arguments, the default), 6.18, 6.12
  -json        print a JSON object for each test, for the sums of each file, and for all

Exit code: 0 if nothing failed, 1 if something did, 2 if a file could not be loaded.

Examples:
  skep test prog_test.o
  skep test *.o -prog my_xdp
`,
}

func init() { testVerb.run = runTest }

// testSum is a line of skep test -json: the sums of a file, or, without a file, of all.
type testSum struct {
	File string       `json:"file"`
	Sum  skeptest.Sum `json:"sum"`
}

// tested is what the tests of a file came to.
type tested struct {
	results []skeptest.Result
	err     error
}

func runTest(e *env, args []string) int {
	fs := e.flags()
	var opts skeptest.Options
	fs.StringVar(&opts.Program, "prog", "", "")
	target := targetFlag(fs)
	known := fs.String("known", "", "")
	asJSON := fs.Bool("json", false, "")
	files, code, ok := e.parse(fs, args)
	if !ok {
		return code
	}
	if len(files) == 0 {
		return e.usageError("no file given")
	}
	if *known != "" {
		var err error
		if opts.Known, err = skeptest.ReadKnown(*known); err != nil {
			return e.fail(exitUsage, err)
		}
	}
	opts.Load.Target = *target
	worst := exitOK
	var all skeptest.Sum
	work := func(i int) (t tested) {
		t.results, t.err = skeptest.Run(files[i], opts)
		return t
	}
	parallel.Each(len(files), work, func(i int, t tested) {
		if t.err != nil {
			worst = e.fail(exitUsage, t.err)
			return
		}
		e.printTests(files[i], t.results, &all, *asJSON)
	})
	e.printSum("", all, *asJSON)
	if worst == exitOK && all.Failed > 0 {
		worst = exitRejected
	}
	return worst
}

// printTests prints the results of a file and their sums, and adds them to those of all files.
func (e *env) printTests(file string, results []skeptest.Result, all *skeptest.Sum, asJSON bool) {
	var sum skeptest.Sum
	for _, r := range results {
		sum.Add(r.Outcome)
		all.Add(r.Outcome)
		if asJSON {
			_ = e.printJSON(r)
		} else {
			fmt.Fprintln(e.stdout, r)
		}
	}
	e.printSum(file, sum, asJSON)
}

func (e *env) printSum(file string, sum skeptest.Sum, asJSON bool) {
	switch {
	case asJSON:
		_ = e.printJSON(testSum{file, sum})
	case file != "":
		fmt.Fprintf(e.stdout, "%s: %s\n", filepath.Base(file), sum)
	default:
		fmt.Fprintln(e.stdout, sum)
	}
}
