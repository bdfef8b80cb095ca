package skeptest

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/internal/native"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/internal/progtype"
	"github.com/skep-bpf/skep/verifier"
)

// engines are those of this machine.
func engines() []skep.Engine {
	if native.Supported() == nil {
		return []skep.Engine{skep.EngineJIT, skep.EngineInterpreter}
	}
	return []skep.Engine{skep.EngineInterpreter}
}

// test loads a program in a mode, and runs it if it has an expected value.
func (t *tester) test(name string, e *expectation, mode int) (Outcome, string) {
	m := &e.modes[mode]
	if e.otherArch != "" {
		return Skip, "for " + e.otherArch + " only"
	}
	load := t.opts.Load
	if mode == unprivileged {
		load.Without = verifier.AllCaps
	} else if caps, ok := loaderCaps[filepath.Base(t.file)]; ok {
		load.Without = caps
	}
	if e.btfPath != "" {
		var err error
		if load.KernelBTF, err = btf.LoadSpec(filepath.Join(filepath.Dir(t.file), e.btfPath)); err != nil {
			return Fail, oneLine(err)
		}
	}
	spec := t.spec // not a copy: the types that instructions name would not be those of its maps
	flags := spec.Programs[name].Flags
	spec.Programs[name].Flags |= e.flags
	defer func() { spec.Programs[name].Flags = flags }()
	load.Programs = []string{name} // and, by the contents of program arrays, auxiliary ones
	load.LogLevel = ebpf.LogLevel(e.logLevel)
	log, accepted, err := verify(spec, name, load)
	switch {
	case refusedByName(err):
		return Refused, oneLine(err)
	case err != nil:
		return Fail, oneLine(err)
	case accepted && m.failure:
		return Fail, "accepted, expected a rejection"
	case !accepted && !m.failure:
		return Fail, "rejected: " + lastWords(log)
	}
	newer, err := checkMessages(log, m.messages, load.Target < verifier.Target612)
	switch {
	case err != nil:
		return Fail, err.Error()
	case m.failure:
		return Pass, m.note("rejected as expected", newer)
	case m.retval == nil:
		return Pass, m.note("accepted", newer)
	}
	load.Without = 0 // runs have all, as the kernel's loader takes them up again
	return t.run(m, spec, name, load, newer)
}

// verify returns the verdict on a program. The error says why there is none, or what skep does not do by name.
func verify(spec *ebpf.CollectionSpec, name string, load skep.Options) (log string, accepted bool, err error) {
	v, err := skep.Verify(spec, name, load)
	var rejected *skep.VerifierError
	var bad *program.InsnError
	switch {
	case err == nil:
		return v.Log, true, nil
	case errors.As(err, &rejected) && rejected.Code == "unsupported":
		return "", false, fmt.Errorf("%w: %s", errRefused, rejected.Message)
	case errors.As(err, &rejected):
		return rejected.Log, false, nil
	case errors.As(err, &bad):
		return bad.Error() + "\n", false, nil // an instruction that cannot be resolved: the kernel rejects it, too
	}
	return "", false, err
}

// errRefused is what skep does not verify yet.
var errRefused = errors.New("refused by name")

// refusedByName reports whether an error says by name what skep does not have.
func refusedByName(err error) bool {
	return err != nil && (errors.Is(err, errRefused) || errors.Is(err, ebpf.ErrNotSupported) || strings.HasSuffix(err.Error(), "is not registered"))
}

// run runs an accepted program that has an expected value, on every engine.
func (t *tester) run(m *mode, spec *ebpf.CollectionSpec, name string, load skep.Options, newer int) (Outcome, string) {
	var ran []string
	for _, engine := range engines() {
		load.Engine = engine
		got, err := t.runOn(spec, name, load)
		switch {
		case refusedByName(err):
			return Refused, oneLine(err)
		case err != nil:
			return Fail, fmt.Sprintf("%s: %s", engine, oneLine(err))
		case got != *m.retval && *m.retval != anyValue:
			return Fail, fmt.Sprintf("%s: returned %d, expected %d", engine, got, *m.retval)
		}
		ran = append(ran, engine.String())
	}
	return Pass, m.note(fmt.Sprintf("returned %d (%s)", *m.retval, strings.Join(ran, ", ")), newer)
}

func (t *tester) runOn(spec *ebpf.CollectionSpec, name string, load skep.Options) (int32, error) {
	c, err := skep.NewCollectionWithOptions(spec, load)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if err := t.prepare(c); err != nil {
		return 0, fmt.Errorf("prepare maps: %w", err)
	}
	p := c.Programs[name]
	opts := ebpf.RunOptions{}
	switch t := p.Type(); {
	case t == ebpf.RawTracepoint || t == ebpf.RawTracepointWritable || t == ebpf.TracePoint:
		opts.Context = make([]byte, progtype.Of(t, 0, "").Size())
	case progtype.TakesPacket(t):
		opts.Data = make([]byte, testDataLen)
	}
	ret, err := p.Run(&opts)
	return int32(ret), err
}

// note adds to a reason what the test did not compare and which words it took.
func (m *mode) note(reason string, newer int) string {
	if newer > 0 {
		reason += fmt.Sprintf("; %d messages in 6.18's words", newer)
	}
	if len(m.unchecked) > 0 {
		reason += "; not comparable: " + strings.Join(unique(m.unchecked), ", ")
	}
	return reason
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

// lastWords is the reason of a rejection in its log: the last line that is no summary.
func lastWords(log string) string {
	last := ""
	for line := range strings.Lines(log) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "processed ") && !strings.HasPrefix(line, "verification time ") &&
			!strings.HasPrefix(line, "stack depth ") {
			last = line
		}
	}
	return last
}

func oneLine(err error) string {
	return strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; ")
}
