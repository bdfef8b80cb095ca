package skeptest

//lint:file-ignore ST1005 errors begin with the name of a field of Case or Suite

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep"
)

// Suite is an object whose programs are tested by cases. It is read and verified once, when the first case needs it; every case gets
// collections of its own, made from the same proofs, so that no case sees the maps of another. A Suite is most often a variable of a
// test package. Its fields may not be changed once it is used; its methods may be called by many goroutines at a time.
type Suite struct {
	// File is the object file, from the directory of the test. Object is the object itself, and Spec what another loader made of it (bpf2go);
	// one of the three is set.
	File   string
	Object []byte
	Spec   *ebpf.CollectionSpec

	// Load are options of loading. Engine and Kfuncs are the suite's own, as are Proofs, Coverage, and Clock, Random, Printk and Errors of
	// Env.
	Load skep.Options
	// Engines run each case, one after the other; nil means skep.EngineAuto.
	Engines []skep.Engine
	// Kfuncs are functions that programs can call, by name: Go functions as skep.Kfuncs.Register takes them, or values of type Kfunc.
	// A kfunc that the object declares and that is not here returns what KfuncCall.Result says, else 0, if it takes and returns numbers.
	Kfuncs map[string]any
	// Setup is called for every case before Case.Setup.
	Setup func(c *skep.Collection) error
	// Parallel runs the cases of Run in parallel with each other.
	Parallel bool
	// CoverProfile is the file that Run writes a profile of Go's cover tool to: which lines of C ran, of all cases of this process that
	// write to the same file. "" means the value of the environment variable SKEPTEST_COVERPROFILE; if that is empty, too, there is none.
	// Cases run in the interpreter then.
	CoverProfile string

	once    sync.Once
	mu      sync.Mutex // held while a collection is made of the spec
	spec    *ebpf.CollectionSpec
	err     error
	proofs  skep.Proofs
	stubs   []*stub
	profile *profile
}

// Run runs cases as subtests.
//
//	suite.Run(t, []skeptest.Case{{Name: "pass", Program: "xdp", Packet: packet, Want: skeptest.XDPPass}})
func (s *Suite) Run(t *testing.T, cases []Case) {
	t.Helper()
	if err := s.init(); err != nil {
		t.Fatalf("%+v", err)
	}
	if s.profile != nil {
		t.Cleanup(func() {
			text, err := s.profile.write()
			if err != nil {
				t.Errorf("coverage: %v", err)
			} else {
				t.Log(text)
			}
		})
	}
	for i := range cases {
		c := &cases[i]
		t.Run(c.Name, func(t *testing.T) {
			t.Helper()
			if s.Parallel {
				t.Parallel()
			}
			if err := s.Check(*c); err != nil {
				t.Errorf("%+v", err)
			}
		})
	}
}

// Check runs a case and returns what is wrong with it: a *Failure if something is not as expected, or the reason why it could not run.
func (s *Suite) Check(c Case) (err error) {
	if err := s.init(); err != nil {
		return err
	}
	engines := s.Engines
	switch {
	case s.profile != nil:
		engines = []skep.Engine{skep.EngineInterpreter}
	case len(engines) == 0:
		engines = []skep.Engine{skep.EngineAuto}
	}
	for _, e := range engines {
		if err := s.check(&c, e); err != nil {
			return err
		}
	}
	return nil
}

// WriteProfile writes the file of CoverProfile as it is now, which Run does by itself at its end, and returns a table of how much of each
// function ran. It fails if there is no such file.
func (s *Suite) WriteProfile() (table string, err error) {
	if err := s.init(); err != nil {
		return "", err
	}
	if s.profile == nil {
		return "", errors.New("skeptest: the suite has no CoverProfile")
	}
	return s.profile.write()
}

// Failure is what a case found different.
type Failure struct {
	// Diffs are the differences, each of a line or several.
	Diffs []string
	// Where says what it takes to run the same again: program, engine, CPU, seed, clock.
	Where string
	// Printk are the lines that the program wrote with bpf_trace_printk.
	Printk []string
}

// Error lists all differences.
func (f *Failure) Error() string {
	text := strings.Join(f.Diffs, "\n") + "\n(" + f.Where + ")"
	for _, line := range f.Printk {
		text += "\nprintk: " + strings.TrimSuffix(line, "\n")
	}
	return text
}

// init reads the object. Which programs are good shows when a case loads them.
func (s *Suite) init() error {
	s.once.Do(func() {
		s.spec, s.err = s.read()
		if s.err != nil {
			return
		}
		s.profile = profileFor(cmp.Or(s.CoverProfile, os.Getenv("SKEPTEST_COVERPROFILE")), filepath.Dir(s.File))
		s.stubs, s.err = stubsOf(s.spec, s.Kfuncs)
	})
	return s.err
}

func (s *Suite) read() (*ebpf.CollectionSpec, error) {
	switch {
	case s.Spec != nil && s.Object == nil && s.File == "":
		return s.Spec, nil
	case s.Spec == nil && s.Object != nil && s.File == "":
		return skep.LoadCollectionSpecFromReader(bytes.NewReader(s.Object))
	case s.Spec == nil && s.Object == nil && s.File != "":
		return skep.LoadCollectionSpec(s.File)
	}
	return nil, errors.New("skeptest: a Suite needs one of File, Object and Spec")
}

// load makes a collection for a case.
func (s *Suite) load(r *run) (*skep.Collection, error) {
	spec, err := withConsts(s.spec, r.c.Consts)
	if err != nil {
		return nil, err
	}
	opts := s.Load
	opts.Engine, opts.Proofs, opts.Kfuncs = r.engine, &s.proofs, new(skep.Kfuncs)
	if s.profile != nil {
		opts.Coverage = s.profile.coverage
	}
	opts.Env = r.env(opts.Env)
	if err := r.calls.register(opts.Kfuncs, s.stubs); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return skep.NewCollectionWithOptions(spec, opts)
}

// withConsts is a spec whose variables have other values. All else is the very same: instructions and maps name types by their identity.
func withConsts(spec *ebpf.CollectionSpec, consts map[string]any) (*ebpf.CollectionSpec, error) {
	if len(consts) == 0 {
		return spec, nil
	}
	changed := *spec
	changed.Variables = maps.Clone(spec.Variables)
	for _, name := range slices.Sorted(maps.Keys(consts)) {
		v := spec.Variables[name]
		if v == nil {
			return nil, fmt.Errorf("Consts: the object has no variable %s; it has: %s", name, names(spec.Variables))
		}
		b, err := encode(consts[name], int(v.Size()))
		if err != nil {
			return nil, fmt.Errorf("Consts: %s: %w", name, err)
		}
		set := *v
		set.Value = b
		changed.Variables[name] = &set
	}
	return &changed, nil
}

// names lists the keys of a map.
func names[V any](m map[string]V) string {
	if len(m) == 0 {
		return "none"
	}
	return strings.Join(slices.Sorted(maps.Keys(m)), ", ")
}
