package skeptest

import (
	"fmt"
	"regexp"
	"runtime"
	"strconv"
	"strings"
)

// expectation is what a program's annotations ask for: BTF declaration tags on its function in the form of the kernel's
// own tests, comment:test_NAME or comment:test_NAME=VALUE.
type expectation struct {
	plain, unpriv bool // some annotation is for the privileged run, for the unprivileged one
	failure       bool
	messages      []message
	logLevel      uint32
	flags         uint32
	clearFlags    uint32
	retval        *int32
	auxiliary     bool
	description   string
	otherArch     string // architectures it is for, if this machine's is not among them
	unchecked     []string
	btfPath       string // BTF that CO-RE is resolved against, relative to the object
}

// message is text that the log must have, or, if not is set, must not have between the messages around it.
type message struct {
	text string
	re   *regexp.Regexp // nil for plain text
	not  bool
}

const tagPrefix = "comment:test_"

var flagBits = map[string]uint32{
	"BPF_F_STRICT_ALIGNMENT": 1 << 0, "BPF_F_ANY_ALIGNMENT": 1 << 1, "BPF_F_TEST_RND_HI32": 1 << 2, "BPF_F_TEST_STATE_FREQ": 1 << 3,
	"BPF_F_SLEEPABLE": 1 << 4, "BPF_F_XDP_HAS_FRAGS": 1 << 5, "BPF_F_XDP_DEV_BOUND_ONLY": 1 << 6, "BPF_F_TEST_REG_INVARIANTS": 1 << 7,
}

var archNames = map[string]string{"X86_64": "amd64", "ARM64": "arm64", "RISCV64": "riscv64"}

// parseTags reads the annotations among a function's tags.
func parseTags(tags []string) (*expectation, error) {
	e := &expectation{}
	var archs []string
	for _, tag := range tags {
		tag, ok := strings.CutPrefix(tag, tagPrefix)
		if !ok {
			continue
		}
		name, value, _ := strings.Cut(tag, "=")
		if n, ok := strings.CutSuffix(name, "_unpriv"); ok {
			e.unpriv = e.unpriv || n != "auxiliary"
			continue
		}
		if name == "arch" {
			archs = append(archs, value)
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
	return e, nil
}

func (e *expectation) add(name, value string) error {
	switch name {
	case "expect_success":
		e.plain = true
	case "expect_failure":
		e.plain, e.failure = true, true
	case "expect_msg", "expect_not_msg":
		// The value begins with a counter that keeps equal tags apart.
		_, text, _ := strings.Cut(value, "=")
		m, err := parseMessage(text)
		if err != nil {
			return err
		}
		m.not = name == "expect_not_msg"
		e.plain = true
		e.messages = append(e.messages, m)
	case "expect_xlated", "jited", "expect_stderr", "expect_stdout", "linear_size":
		e.unchecked = append(e.unchecked, name)
	case "retval":
		v, err := parseRetval(value)
		e.plain, e.retval = true, &v
		return err
	case "log_level":
		n, err := strconv.ParseUint(value, 0, 32)
		e.logLevel = uint32(n)
		return err
	case "prog_flags":
		return e.addFlags(value)
	case "description":
		e.description = value
	case "auxiliary":
		e.auxiliary = true
	case "btf_path":
		e.btfPath = value
	case "caps":
		e.unchecked = append(e.unchecked, name)
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
		e.clearFlags |= bit
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

// parseMessage compiles a message: plain text, or text with POSIX extended regular expressions between {{ and }}.
func parseMessage(text string) (message, error) {
	m := message{text: text}
	if !strings.Contains(text, "{{") {
		return m, nil
	}
	var b strings.Builder
	for rest := text; rest != ""; {
		plain, after, found := strings.Cut(rest, "{{")
		b.WriteString(regexp.QuoteMeta(plain))
		if !found {
			break
		}
		re, tail, ok := strings.Cut(after, "}}")
		if !ok {
			return m, fmt.Errorf("{{ without }}")
		}
		b.WriteString("(" + re + ")")
		rest = tail
	}
	re, err := regexp.CompilePOSIX(b.String())
	m.re = re
	return m, err
}

// find returns where the message begins and ends in log, -1 if it is not there.
func (m *message) find(log string) (from, to int) {
	if m.re != nil {
		if at := m.re.FindStringIndex(log); at != nil {
			return at[0], at[1]
		}
		return -1, -1
	}
	i := strings.Index(log, m.text)
	return i, i + len(m.text)
}

// checkMessages reports the first message that the log does not have behind those before it, or has though it must not.
func checkMessages(log string, messages []message) error {
	log = withoutAnnotations(log)
	for i := 0; i < len(messages); i++ {
		first := i
		for i < len(messages) && messages[i].not {
			i++
		}
		end, next := len(log), len(log)
		if i < len(messages) {
			from, to := messages[i].find(log)
			if from < 0 {
				return fmt.Errorf("message not found: %s", messages[i].text)
			}
			end, next = from, to
		}
		for _, n := range messages[first:i] {
			if from, _ := n.find(log[:end]); from >= 0 {
				return fmt.Errorf("unexpected message: %s", n.text)
			}
		}
		log = log[next:]
	}
	return nil
}

// withoutAnnotations takes the source lines that hold annotations out of a log: where they stand on one line with the
// function's head, a message would find itself there.
func withoutAnnotations(log string) string {
	var b strings.Builder
	for line := range strings.Lines(log) {
		if !strings.HasPrefix(line, "; ") || !strings.Contains(line, "__msg(") {
			b.WriteString(line)
		}
	}
	return b.String()
}
