package skeptest

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"
)

// expectation is what a program's annotations ask for: BTF declaration tags on its function in the form of the kernel's
// own tests, comment:test_NAME or comment:test_NAME=VALUE. The rules are those of parse_test_spec (test_loader.c).
type expectation struct {
	modes       [2]mode // what is expected of a privileged load, of an unprivileged one
	auxiliary   bool    // part of other programs' tests
	logLevel    uint32
	flags       uint32 // of the load, beside those of the program's section
	description string
	otherArch   string // architectures it is for, if this machine's is not among them
	btfPath     string // BTF that CO-RE is resolved against, relative to the object
	caps        []string
}

// Modes of loading.
const (
	privileged = iota
	unprivileged
)

// mode is what is expected of a program in one mode of loading.
type mode struct {
	asked     bool // some annotation is for this mode
	verdict   bool // one says whether it is accepted
	failure   bool
	messages  []message
	retval    *int32
	unchecked []string // annotations of what skep does not have: the kernel's rewritten instructions, its machine code
}

const tagPrefix = "comment:test_"

var flagBits = map[string]uint32{
	"BPF_F_STRICT_ALIGNMENT": 1 << 0, "BPF_F_ANY_ALIGNMENT": 1 << 1, "BPF_F_TEST_RND_HI32": 1 << 2, "BPF_F_TEST_STATE_FREQ": 1 << 3,
	"BPF_F_SLEEPABLE": 1 << 4, "BPF_F_XDP_HAS_FRAGS": 1 << 5, "BPF_F_XDP_DEV_BOUND_ONLY": 1 << 6, "BPF_F_TEST_REG_INVARIANTS": 1 << 7,
}

var archNames = map[string]string{"X86_64": "amd64", "ARM64": "arm64", "RISCV64": "riscv64"}

// defaultFlags are those that the kernel's tests are loaded with (testing_prog_flags).
const defaultFlags = 1<<2 | 1<<7 // BPF_F_TEST_RND_HI32, BPF_F_TEST_REG_INVARIANTS

// parseTags reads the annotations among a function's tags.
func parseTags(tags []string) (*expectation, error) {
	e := &expectation{flags: defaultFlags}
	var archs []string
	for _, tag := range tags {
		tag, ok := strings.CutPrefix(tag, tagPrefix)
		if !ok {
			continue
		}
		name, value, _ := strings.Cut(tag, "=")
		if name == "arch" {
			archs = append(archs, value)
			continue
		}
		// machine code is that of the architecture named last
		if strings.HasPrefix(name, "jited") && (len(archs) == 0 || archNames[archs[len(archs)-1]] != runtime.GOARCH) {
			continue
		}
		if err := e.add(name, value); err != nil {
			return nil, fmt.Errorf("annotation %s: %w", tag, err)
		}
	}
	here := len(archs) == 0
	for _, a := range archs {
		here = here || archNames[a] == runtime.GOARCH
	}
	if !here {
		e.otherArch = strings.Join(archs, ", ")
	}
	e.complete()
	return e, nil
}

// complete copies what annotations leave open: a program without any is expected to be accepted, and what is not said of
// an unprivileged load is as of a privileged one.
func (e *expectation) complete() {
	p, u := &e.modes[privileged], &e.modes[unprivileged]
	if !p.asked && !u.asked {
		p.asked = true
	}
	if !u.verdict {
		u.failure = p.failure
	}
	if u.retval == nil {
		u.retval = p.retval
	}
	if len(u.messages) == 0 {
		u.messages = p.messages
	}
	if len(u.unchecked) == 0 {
		u.unchecked = p.unchecked
	}
}

func (e *expectation) add(name, value string) error {
	switch name {
	case "log_level":
		n, err := strconv.ParseUint(value, 0, 32)
		e.logLevel = uint32(n)
		return err
	case "prog_flags":
		return e.addFlags(value)
	case "description":
		e.description = value
		return nil
	case "btf_path":
		e.btfPath = value
		return nil
	case "caps_unpriv":
		e.caps = strings.Split(value, "|")
		return nil
	}
	m := &e.modes[privileged]
	if n, ok := strings.CutSuffix(name, "_unpriv"); ok {
		name, m = n, &e.modes[unprivileged]
	}
	m.asked = true
	if name == "auxiliary" {
		e.auxiliary = true
		return nil
	}
	return m.add(name, value)
}

func (m *mode) add(name, value string) error {
	switch name {
	case "expect_success", "expect_failure":
		m.verdict, m.failure = true, name == "expect_failure"
	case "expect_msg", "expect_not_msg":
		// The value begins with a counter that keeps equal tags apart.
		_, text, _ := strings.Cut(value, "=")
		msg, err := parseMessage(text)
		if err != nil {
			return err
		}
		msg.not = name == "expect_not_msg"
		m.messages = append(m.messages, msg)
	case "expect_xlated", "jited", "expect_stderr", "expect_stdout", "linear_size":
		m.unchecked = append(m.unchecked, strings.TrimPrefix(name, "expect_"))
	case "retval":
		v, err := parseRetval(value)
		m.retval = &v
		return err
	default:
		return fmt.Errorf("unknown annotation")
	}
	return nil
}

func (e *expectation) addFlags(value string) error {
	name, clear := strings.CutPrefix(value, "!")
	bit, ok := flagBits[name]
	if !ok {
		n, err := strconv.ParseUint(name, 0, 32)
		if err != nil {
			return fmt.Errorf("unknown flag %s", name)
		}
		bit = uint32(n)
	}
	if clear {
		e.flags &^= bit
	} else {
		e.flags |= bit
	}
	return nil
}

// anyValue is a return value that every other matches, as in the kernel's tests: a pointer's.
const anyValue = 0xbadcafe

// parseRetval reads a number, or one of the two names that the kernel's tests use.
func parseRetval(s string) (int32, error) {
	switch s {
	case "POINTER_VALUE":
		return anyValue, nil
	case "TEST_DATA_LEN":
		return testDataLen, nil
	case "INT_MIN":
		return -1 << 31, nil
	}
	n, err := strconv.ParseInt(s, 0, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is no number", s)
	}
	return int32(n), nil
}
