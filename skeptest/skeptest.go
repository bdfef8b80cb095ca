// Package skeptest runs annotated BPF objects as tests: each program's expected verdict, verifier messages and return value
// stand on its function as BTF declaration tags, in the form of the Linux kernel's own tests (comment:test_expect_success,
// comment:test_retval=0 and so on). The command `skep test` prints what Run returns; Test runs objects inside go test.
package skeptest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/internal/native"
	"github.com/skep-bpf/skep/internal/object"
)

// Outcome says how a test ended.
type Outcome string

// The outcomes. A program is skipped if this machine or this version of skep cannot run its test at all.
const (
	Pass Outcome = "PASS"
	Fail Outcome = "FAIL"
	Skip Outcome = "SKIP"
)

// Result is the outcome of one program's test.
type Result struct {
	File, Program string
	Outcome       Outcome
	Reason        string
}

// String is the line that `skep test` prints.
func (r Result) String() string {
	return fmt.Sprintf("%s %s/%s: %s", r.Outcome, filepath.Base(r.File), r.Program, r.Reason)
}

// Options change how tests run.
type Options struct {
	// Load are the options that programs are loaded with; Engine, LogLevel and Programs are set for each test.
	Load skep.Options
	// Program is the only program to test; "" means all.
	Program string
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
	var results []Result
	for _, name := range o.Programs() {
		if opts.Program != "" && name != opts.Program {
			continue
		}
		e, err := parseTags(o.Tags(name))
		if err != nil {
			results = append(results, Result{file, name, Fail, err.Error()})
			continue
		}
		if e.auxiliary {
			continue // part of other programs' tests
		}
		load := opts.Load
		if e.btfPath != "" {
			if load.KernelBTF, err = btf.LoadSpec(filepath.Join(filepath.Dir(file), e.btfPath)); err != nil {
				results = append(results, Result{file, name, Fail, oneLine(err)})
				continue
			}
		}
		outcome, reason := e.test(o.Spec, name, load)
		results = append(results, Result{file, name, outcome, reason})
	}
	if opts.Program != "" && len(results) == 0 {
		return nil, fmt.Errorf("%s: no program %s", file, opts.Program)
	}
	return results, nil
}

// Test runs the programs of an object file as subtests.
func Test(t *testing.T, file string, opts Options) {
	t.Helper()
	results, err := Run(file, opts)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		t.Run(r.Program, func(t *testing.T) {
			switch r.Outcome {
			case Fail:
				t.Error(r.Reason)
			case Skip:
				t.Skip(r.Reason)
			}
		})
	}
}

// engines are those of this machine.
func engines() []skep.Engine {
	if native.Supported() == nil {
		return []skep.Engine{skep.EngineJIT, skep.EngineInterpreter}
	}
	return []skep.Engine{skep.EngineInterpreter}
}

func (e *expectation) test(spec *ebpf.CollectionSpec, name string, load skep.Options) (Outcome, string) {
	if e.otherArch != "" {
		return Skip, "for " + e.otherArch + " only"
	}
	if e.unpriv && !e.plain {
		return Skip, "for unprivileged users only, and skep has no such mode"
	}
	spec = spec.Copy()
	spec.Programs[name].Flags = spec.Programs[name].Flags&^e.clearFlags | e.flags
	load.Programs = []string{name}
	load.LogLevel = ebpf.LogLevel(e.logLevel)
	v, err := skep.Verify(spec, name, load)
	var rejected *skep.VerifierError
	switch {
	case errors.As(err, &rejected) && rejected.Code == "unsupported":
		return Skip, rejected.Message
	case err != nil && rejected == nil && strings.HasSuffix(err.Error(), "is not registered"):
		return Skip, oneLine(err) // a kfunc that only the kernel has
	case err != nil && rejected == nil:
		return Fail, oneLine(err)
	case e.failure && rejected == nil:
		return Fail, "accepted, expected a rejection"
	case !e.failure && rejected != nil:
		return Fail, "rejected: " + rejected.Error()
	}
	log := ""
	if rejected != nil {
		log = rejected.Log
	} else {
		log = v.Log
	}
	if err := checkMessages(log, e.messages); err != nil {
		return Fail, err.Error()
	}
	if e.failure {
		return Pass, e.note("rejected as expected")
	}
	return e.run(spec, name, load)
}

// run runs an accepted program that has an expected value, on every engine.
func (e *expectation) run(spec *ebpf.CollectionSpec, name string, load skep.Options) (Outcome, string) {
	if e.retval == nil {
		return Pass, e.note("accepted")
	}
	var ran []string
	for _, engine := range engines() {
		load.Engine = engine
		got, err := runOn(spec, name, load)
		switch {
		case errors.Is(err, ebpf.ErrNotSupported):
			return Skip, oneLine(err)
		case err != nil:
			return Fail, fmt.Sprintf("%s: %s", engine, oneLine(err))
		case got != *e.retval && *e.retval != anyValue:
			return Fail, fmt.Sprintf("%s: returned %d, expected %d", engine, got, *e.retval)
		}
		ran = append(ran, engine.String())
	}
	return Pass, e.note(fmt.Sprintf("returned %d (%s)", *e.retval, strings.Join(ran, ", ")))
}

func runOn(spec *ebpf.CollectionSpec, name string, load skep.Options) (int32, error) {
	c, err := skep.NewCollectionWithOptions(spec, load)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	p := c.Programs[name]
	opts := ebpf.RunOptions{}
	switch p.Type() {
	case ebpf.Syscall:
	case ebpf.RawTracepoint, ebpf.RawTracepointWritable:
		opts.Context = make([]byte, 12*8)
	default:
		opts.Data = make([]byte, testDataLen)
	}
	ret, err := p.Run(&opts)
	return int32(ret), err
}

// note adds what the test did not look at to a reason.
func (e *expectation) note(reason string) string {
	if len(e.unchecked) == 0 {
		return reason
	}
	return reason + "; not checked: " + strings.Join(unique(e.unchecked), ", ")
}

func unique(s []string) []string {
	var out []string
	for _, v := range s {
		if len(out) == 0 || out[len(out)-1] != v {
			out = append(out, v)
		}
	}
	return out
}

func oneLine(err error) string {
	return strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; ")
}
