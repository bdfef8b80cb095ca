// Package skeptest runs annotated BPF objects as tests: each program's expected verdict, verifier messages and return value
// stand on its function as BTF declaration tags, in the form of the Linux kernel's own tests (comment:test_expect_success,
// comment:test_retval=0 and so on). The command `skep test` prints what Run returns; Test runs objects inside go test.
package skeptest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/internal/object"
)

// Outcome says how a test ended.
type Outcome string

// The outcomes.
const (
	Pass    Outcome = "PASS"
	Fail    Outcome = "FAIL"
	Refused Outcome = "REFUSED" // skep says by name what the test needs and it does not have
	Skip    Outcome = "SKIP"    // the test is for another machine
	Known   Outcome = "KNOWN"   // fails, and Options.Known says why that is right
)

// Result is the outcome of one program's test in one mode of loading.
type Result struct {
	File         string  `json:"file"`
	Program      string  `json:"program"`
	Unprivileged bool    `json:"unprivileged"`
	Description  string  `json:"description"`
	Outcome      Outcome `json:"outcome"`
	Reason       string  `json:"reason"`
}

// Name is the test's name: file and program, with @unpriv where the load has no privileges.
func (r *Result) Name() string {
	name := filepath.Base(r.File) + "/" + r.Program
	if r.Unprivileged {
		name += " @unpriv"
	}
	return name
}

// String is the line that `skep test` prints.
func (r Result) String() string {
	if r.Description != "" {
		return fmt.Sprintf("%s %s (%s): %s", r.Outcome, r.Name(), r.Description, r.Reason)
	}
	return fmt.Sprintf("%s %s: %s", r.Outcome, r.Name(), r.Reason)
}

// Sum counts outcomes.
type Sum struct {
	Passed  int `json:"passed"`
	Failed  int `json:"failed"`
	Refused int `json:"refused"`
	Skipped int `json:"skipped"`
	Known   int `json:"known"`
}

// Add counts one more.
func (s *Sum) Add(o Outcome) {
	switch o {
	case Pass:
		s.Passed++
	case Fail:
		s.Failed++
	case Refused:
		s.Refused++
	case Skip:
		s.Skipped++
	case Known:
		s.Known++
	}
}

// String has only what is not zero, but for passed and failed tests.
func (s Sum) String() string {
	text := fmt.Sprintf("%d passed, %d failed", s.Passed, s.Failed)
	for _, more := range []struct {
		n    int
		what string
	}{{s.Refused, "refused by name"}, {s.Skipped, "skipped"}, {s.Known, "known to differ"}} {
		if more.n > 0 {
			text += fmt.Sprintf(", %d %s", more.n, more.what)
		}
	}
	return text
}

// Options change how tests run.
type Options struct {
	// Load are the options that programs are loaded with; Engine, LogLevel and Programs are set for each test.
	Load skep.Options
	// Program is the only program to test; "" means all.
	Program string
	// Prepare fills the maps of a program that is about to run. What the kernel's loader does so for its own tests (their files
	// are known by name) is done before.
	Prepare func(file string, c *skep.Collection) error
	// Known says by Result.Name why tests may fail; see ReadKnown. One that passes all the same fails, to keep the list true.
	Known map[string]string
}

const testDataLen = 64 // zero bytes that programs run on

// Run tests the programs of an object file. The error says why there is nothing to test.
func Run(file string, opts Options) ([]Result, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	o, err := object.Load(f, object.Options{})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	t := &tester{file: file, spec: o.Spec, opts: opts, expect: map[string]*expectation{}}
	for _, name := range o.Programs() {
		if t.expect[name], err = parseTags(o.Tags(name)); err != nil {
			t.expect[name] = nil
			t.add(Result{File: file, Program: name, Outcome: Fail, Reason: err.Error()})
		}
	}
	for _, name := range o.Programs() {
		if e := t.expect[name]; e != nil && !e.auxiliary && (opts.Program == "" || name == opts.Program) {
			t.program(name, e)
		}
	}
	if opts.Program != "" && len(t.results) == 0 {
		return nil, fmt.Errorf("%s: no program %s", file, opts.Program)
	}
	return t.results, nil
}

// Test runs the programs of an object file as subtests.
func Test(t *testing.T, file string, opts Options) {
	t.Helper()
	results, err := Run(file, opts)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		t.Run(strings.TrimPrefix(r.Name(), filepath.Base(r.File)+"/"), func(t *testing.T) {
			switch r.Outcome {
			case Fail:
				t.Error(r.Reason)
			case Skip, Refused, Known:
				t.Skip(r.Reason)
			}
		})
	}
}

// tester tests the programs of one object.
type tester struct {
	file    string
	spec    *ebpf.CollectionSpec
	opts    Options
	expect  map[string]*expectation // by program
	results []Result
}

// program runs the tests of one program, one for each mode that is asked for.
func (t *tester) program(name string, e *expectation) {
	for i := range e.modes {
		if !e.modes[i].asked {
			continue
		}
		outcome, reason := t.test(name, e, i)
		t.add(Result{File: t.file, Program: name, Unprivileged: i == unprivileged, Description: e.description, Outcome: outcome, Reason: reason})
	}
}

// add keeps a result, after a look at what is known.
func (t *tester) add(r Result) {
	why, known := t.opts.Known[r.Name()]
	switch {
	case known && r.Outcome == Fail:
		r.Outcome, r.Reason = Known, why+"; "+r.Reason
	case known && r.Outcome == Pass:
		r.Outcome, r.Reason = Fail, "passes, but is listed as known to differ: "+why
	}
	t.results = append(t.results, r)
}
