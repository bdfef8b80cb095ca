package skeptest

import (
	"path/filepath"
	"testing"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/verifier"
)

// TestAnnotationsOf612 has skep judge 6.12's own tests of the verifier (verifier_*.o in the directories of -corpus) as 6.12 does: verdicts and
// messages are as annotated, in 6.12's own words, but for a list.
func TestAnnotationsOf612(t *testing.T) {
	if *corpusDir == "" {
		t.Skip("no directory of objects: -corpus or SKEP_CORPUS")
	}
	if program.HostTypes() == nil {
		t.Skip("the running kernel has no BTF")
	}
	known, err := ReadKnown("testdata/target-6.12-known.txt")
	if err != nil {
		t.Fatal(err)
	}
	var sum Sum
	for _, dir := range filepath.SplitList(*corpusDir) {
		files, err := filepath.Glob(filepath.Join(dir, "verifier_*.o"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			results, err := Run(file, Options{Known: known, Load: skep.Options{Target: verifier.Target612}})
			if err != nil {
				t.Logf("%s: %v", file, err) // what has no tests to run, whatever the target
				continue
			}
			for _, r := range results {
				sum.Add(r.Outcome)
				if r.Outcome == Fail {
					t.Error(r)
				}
			}
		}
	}
	t.Log(sum)
	if sum.Passed == 0 {
		t.Error("nothing was judged")
	}
}
