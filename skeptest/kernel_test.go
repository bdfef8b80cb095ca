package skeptest

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/internal/kernel"
	"github.com/skep-bpf/skep/internal/object"
	"github.com/skep-bpf/skep/internal/program"
)

// notInSkep begins the reason of tests that the kernel passes and skep does not.
const notInSkep = "not in skep"

var corpusDir = flag.String("corpus", os.Getenv("SKEP_CORPUS"), "directories of annotated objects, separated by colons")

// TestAnnotationsAsKernel has skep and the running kernel judge the annotated programs of -corpus (SKEP_CORPUS; see
// tools/corpus/kernel-tests.sh). Where the kernel's verdict and log are as annotated, so are skep's; where they are not, because
// the annotations are an older kernel's, the list testdata/kernel-tests-known.txt says so.
func TestAnnotationsAsKernel(t *testing.T) {
	if *corpusDir == "" {
		t.Skip("no directory of objects: -corpus or SKEP_CORPUS")
	}
	if err := kernel.Available(); err != nil {
		t.Skip(err)
	}
	known, err := ReadKnown("testdata/kernel-tests-known.txt")
	if err != nil {
		t.Fatal(err)
	}
	restore, err := kernel.AllowUnprivileged()
	if err != nil {
		t.Skip(err)
	}
	defer restore()
	var sum Sum
	asked, differ := 0, 0
	for _, dir := range filepath.SplitList(*corpusDir) {
		if !strings.HasSuffix(dir, "-tests") {
			continue // objects of packages have no annotations
		}
		files, err := filepath.Glob(filepath.Join(dir, "*.o"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no objects in %s: %v", dir, err)
		}
		for _, file := range files {
			results, err := Run(file, Options{Known: known, Load: skep.Options{Target: kernel.Target()}})
			if err != nil {
				t.Logf("%s: %v", file, err)
				continue
			}
			for _, r := range results {
				sum.Add(r.Outcome)
				switch r.Outcome {
				case Fail:
					if verdict, why := kernelSays(t, r); verdict == Pass || strings.Contains(r.Reason, "but is listed") {
						t.Errorf("%v; the kernel: %s", r, verdict)
					} else {
						t.Logf("%v; the kernel: %s: %s", r, verdict, why)
					}
				case Known:
					verdict, why := kernelSays(t, r)
					if verdict == Pass && !strings.HasPrefix(known[r.Name()], notInSkep) {
						t.Errorf("%v: but the kernel does as annotated", r)
					}
					if verdict != Skip {
						asked++
					}
					if verdict == Fail {
						differ++
						t.Logf("%s: the kernel too: %s", r.Name(), why)
					}
				}
			}
		}
	}
	t.Logf("%v; of the known ones the kernel judged %d and is not as annotated in %d", sum, asked, differ)
}

// kernelSays tests a result's program in the kernel, in the same mode: verdict and messages in the annotation's own words or newer ones.
// Skip is no verdict.
func kernelSays(t *testing.T, r Result) (Outcome, string) {
	t.Helper()
	f, err := os.Open(r.File)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	o, err := object.Load(f, object.Options{})
	if err != nil {
		t.Fatal(err)
	}
	e, err := parseTags(o.Tags(r.Program))
	if err != nil {
		t.Fatal(err)
	}
	p, err := program.FromSpec(o.Spec, r.Program, program.Options{})
	if err != nil {
		return Skip, err.Error()
	}
	p.Flags |= e.flags
	m := &e.modes[privileged]
	if r.Unprivileged {
		m = &e.modes[unprivileged]
	}
	level := e.logLevel
	if m.failure && level == 0 {
		level = 1
	}
	var accepted bool
	var log string
	if r.Unprivileged {
		accepted, log, err = kernel.VerifyWithout(p, level, dropped)
	} else {
		accepted, log, err = kernel.Verify(p, level)
	}
	switch {
	case err != nil:
		return Skip, err.Error()
	case accepted == m.failure:
		return Fail, "accepted: " + map[bool]string{true: "yes", false: "no, " + lastWords(log)}[accepted]
	}
	if _, err := checkMessages(log, m.messages, true); err != nil {
		return Fail, err.Error()
	}
	return Pass, ""
}

// dropped are the capabilities that the kernel's loader drops for unprivileged loads (drop_capabilities): NET_ADMIN, SYS_ADMIN, PERFMON and
// BPF.
const dropped = 1<<12 | 1<<21 | 1<<38 | 1<<39
