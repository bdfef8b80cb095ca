package main

import (
	"fmt"

	"github.com/skep-bpf/skep/skeptest"
)

var testVerb = &verb{
	name: "test", args: "FILE... [-prog NAME]", short: "test annotated object files",
	help: `
The programs' functions say by BTF declaration tags what to expect, as the Linux kernel's own tests do: verdict
(comment:test_expect_success, comment:test_expect_failure), messages of the verifier (comment:test_expect_msg=N=TEXT), return
value on 64 zero bytes (comment:test_retval=N). A program without tags is expected to be accepted. Programs with an expected
value run on every engine of this machine.

Prints PASS, FAIL or SKIP for each program with the reason, and the sums. Exit code: 0 if nothing failed, 1 if something did, 2
if a file could not be loaded.

Examples:
  skep test prog_test.o
  skep test *.o -prog my_xdp
`,
}

func init() { testVerb.run = runTest }

func runTest(e *env, args []string) int {
	fs := e.flags()
	prog := fs.String("prog", "", "")
	files, code, ok := e.parse(fs, args)
	if !ok {
		return code
	}
	if len(files) == 0 {
		return e.usageError("no file given")
	}
	count := map[skeptest.Outcome]int{}
	worst := exitOK
	for _, file := range files {
		results, err := skeptest.Run(file, skeptest.Options{Program: *prog})
		if err != nil {
			worst = e.fail(exitUsage, err)
			continue
		}
		for _, r := range results {
			fmt.Fprintln(e.stdout, r)
			count[r.Outcome]++
		}
	}
	fmt.Fprintf(e.stdout, "%d passed, %d failed, %d skipped\n", count[skeptest.Pass], count[skeptest.Fail], count[skeptest.Skip])
	if worst == exitOK && count[skeptest.Fail] > 0 {
		worst = exitRejected
	}
	return worst
}
