package skeptest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/internal/object"
)

// TestFixtures runs every object of the repository's own fixtures.
func TestFixtures(t *testing.T) {
	files, err := filepath.Glob("../testdata/*.o")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	passed := 0
	for _, f := range files {
		results, err := Run(f, Options{})
		if err != nil {
			t.Errorf("%s: %v", f, err)
		}
		for _, r := range results {
			if r.Outcome != Pass {
				t.Error(r)
			} else {
				passed++
			}
		}
	}
	if passed < 30 {
		t.Errorf("only %d programs passed", passed)
	}
}

func TestRunOneProgram(t *testing.T) {
	r, err := Run("../testdata/nesting.o", Options{Program: "nesting"})
	if err != nil || len(r) != 1 || r[0].Outcome != Pass || !strings.HasPrefix(r[0].String(), "PASS nesting.o/nesting: returned 29 (") {
		t.Errorf("%v, %v", r, err)
	}
	if _, err := Run("../testdata/nesting.o", Options{Program: "nope"}); err == nil {
		t.Error("a program that is not there")
	}
	if _, err := Run("skeptest.go", Options{}); err == nil {
		t.Error("a source file was loaded")
	}
}

func tags(ts ...string) []string {
	for i, s := range ts {
		ts[i] = tagPrefix + s
	}
	return append(ts, "some other tag")
}

// TestWrongExpectations checks that a test fails where the program is not as expected, in either direction.
func TestWrongExpectations(t *testing.T) {
	for _, c := range []struct {
		program, tags, want string
	}{
		{"count", "expect_failure", "accepted, expected a rejection"},
		{"unchecked", "expect_success", "rejected: "},
		{"count", "retval=3", "returned 2, expected 3"},
		{"unchecked", "expect_failure,expect_msg=0=no such text", "message not found: no such text"},
		{"unchecked", "expect_failure,expect_msg=0=processed,expect_msg=1=invalid access to packet", "message not found: invalid access"}, // order
		{"unchecked", "expect_failure,expect_not_msg=0=invalid access", "unexpected message: invalid access"},
		{"count", "expect_msg=0=processed", "message not found: processed"}, // no log at level 0
	} {
		e, err := parseTags(tags(strings.Split(c.tags, ",")...))
		if err != nil {
			t.Fatal(err)
		}
		outcome, reason := onFixture(t, "counter", Options{}).test(c.program, e, privileged)
		if outcome != Fail || !strings.Contains(reason, c.want) {
			t.Errorf("%s %s: %s %s", c.program, c.tags, outcome, reason)
		}
	}
	for _, good := range []string{
		"expect_success,log_level=4,expect_msg=0=processed {{[0-9]+}} insns", "expect_success,expect_not_msg=0=processed",
		"expect_success,retval=0x2", "expect_success,prog_flags=BPF_F_TEST_STATE_FREQ,prog_flags=!0x80",
	} {
		e, err := parseTags(tags(strings.Split(good, ",")...))
		if err != nil {
			t.Fatal(err)
		}
		if outcome, reason := onFixture(t, "counter", Options{}).test("count", e, privileged); outcome != Pass {
			t.Errorf("%s: %s %s", good, outcome, reason)
		}
	}
}

func TestSkips(t *testing.T) {
	e, err := parseTags(tags("arch=S390X"))
	if err != nil {
		t.Fatal(err)
	}
	if outcome, reason := onFixture(t, "counter", Options{}).test("count", e, privileged); outcome != Skip || !strings.Contains(reason, "for S390X only") {
		t.Errorf("%s %s", outcome, reason)
	}
}

func TestBadAnnotations(t *testing.T) {
	for _, tag := range []string{"expect_nothing", "retval=many", "log_level=x", "prog_flags=BPF_F_NOPE", "expect_msg=0={{unclosed", "expect_msg=0={{(}}"} {
		if _, err := parseTags(tags(tag)); err == nil {
			t.Errorf("%s was taken", tag)
		}
	}
}

// onFixture is a tester of an object of the repository's fixtures, without the annotations of its own.
func onFixture(t *testing.T, name string, opts Options) *tester {
	t.Helper()
	file := "../testdata/" + name + ".o"
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	o, err := object.Load(f, object.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return &tester{file: file, spec: o.Spec, opts: opts, expect: map[string]*expectation{}}
}

// TestMessageInSource: an annotation that the log shows as source text is no message.
func TestMessageInSource(t *testing.T) {
	log := "; SEC(\"tc\") __failure __msg(\"R1 is wrong\") int f(struct __sk_buff *ctx) @ f.c:1\n0: (b7) r0 = 0\n; return R2 is wrong @ f.c:2\nR3 is wrong\n"
	for text, want := range map[string]bool{"R1 is wrong": false, "R2 is wrong": true, "R3 is wrong": true} {
		if _, err := checkMessages(log, []message{{text: text}}, true); (err == nil) != want {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestModes: which loads annotations ask for, and what an unprivileged one takes over from the privileged one.
func TestModes(t *testing.T) {
	for _, c := range []struct {
		tags            string
		priv, unpriv    bool
		fail, failU     bool
		retval, retvalU int32 // 0: none
		msg, msgU       string
	}{
		{tags: "description=nothing", priv: true},
		{tags: "expect_failure,expect_msg=0=x", priv: true, fail: true, failU: true, msg: "x", msgU: "x"},
		{tags: "expect_failure_unpriv,expect_msg_unpriv=0=y", unpriv: true, failU: true, msgU: "y"},
		{tags: "expect_success,retval=1,expect_success_unpriv", priv: true, unpriv: true, retval: 1, retvalU: 1},
		{tags: "expect_success,retval=1,retval_unpriv=2,expect_msg=0=x,expect_msg_unpriv=1=y", priv: true, unpriv: true, retval: 1, retvalU: 2, msg: "x", msgU: "y"},
		{tags: "expect_success,expect_failure_unpriv", priv: true, unpriv: true, failU: true},
		{tags: "auxiliary", priv: true}, {tags: "auxiliary_unpriv", unpriv: true},
	} {
		e, err := parseTags(tags(strings.Split(c.tags, ",")...))
		if err != nil {
			t.Fatal(err)
		}
		p, u := &e.modes[privileged], &e.modes[unprivileged]
		value := func(m *mode) int32 {
			if m.retval == nil {
				return 0
			}
			return *m.retval
		}
		text := func(m *mode) (s string) {
			for _, m := range m.messages {
				s += m.text
			}
			return s
		}
		if p.asked != c.priv || u.asked != c.unpriv || p.failure != c.fail || u.failure != c.failU || value(p) != c.retval || value(u) != c.retvalU ||
			text(p) != c.msg || text(u) != c.msgU || e.auxiliary != strings.HasPrefix(c.tags, "auxiliary") {
			t.Errorf("%s: %+v", c.tags, e)
		}
	}
}

// TestFlags: those of the kernel's loader are set unless an annotation clears them.
func TestFlags(t *testing.T) {
	for tag, want := range map[string]uint32{
		"description=x": 0x84, "prog_flags=!BPF_F_TEST_REG_INVARIANTS": 4, "prog_flags=BPF_F_TEST_STATE_FREQ": 0x8c, "prog_flags=!0x4": 0x80,
	} {
		if e, err := parseTags(tags(tag)); err != nil || e.flags != want {
			t.Errorf("%s: %v, %v", tag, e, err)
		}
	}
}

// TestMessages: regular expressions stay on their line, take the longest match, and know the start of a line.
func TestMessages(t *testing.T) {
	const log = "R1_w=5\nab\nabc\n"
	for text, want := range map[string]bool{
		"R1_w=5": true, "{{^}}ab{{$}}": true, "5{{.*}}ab": false, "5{{[^x]*}}ab": false, "5{{[^]x]*}}ab": false, "{{^a|^ab}}c": true, "{{^b}}": false,
		`{{\[^x]}}`: false,
	} {
		m, err := parseMessage(text)
		if err != nil {
			t.Fatal(err)
		}
		if from, _ := m.find(log); from >= 0 != want {
			t.Errorf("%q found: %t", text, from >= 0)
		}
	}
}

// TestNewerWords: what 6.18 says otherwise is found, and counted; what it does not say is not.
func TestNewerWords(t *testing.T) {
	for _, c := range []struct {
		old, log string
		found    bool
	}{
		{"R0_w=scalar()", "1: R0=scalar()\n", true},
		{"fp-8_rw=P1", "R10=fp0 fp-8=P1\n", true},
		{"R0_w=scalar()", "1: R0=5\n", false},
		{"R_0_w=1", "R_0=1\n", false},
		{"invalid indirect access to stack R1 off=-48", "invalid read from stack R1 off=-48 size=58\n", true},
		{"invalid unbounded variable-offset indirect access to stack R4", "invalid unbounded variable-offset write to stack R4\n", true},
		{"invalid indirect access to stack R1", "invalid access to stack R1\n", false},
	} {
		m, err := parseMessage(c.old)
		if err != nil {
			t.Fatal(err)
		}
		newer, err := checkMessages(c.log, []message{m}, true)
		if (err == nil) != c.found || c.found && newer != 1 {
			t.Errorf("%s in %s: %d, %v", c.old, c.log, newer, err)
		}
	}
	m := message{text: "R0_w=1"}
	if newer, err := checkMessages("R0_w=1\n", []message{m}, true); err != nil || newer != 0 {
		t.Errorf("the message itself: %d, %v", newer, err)
	}
}

// TestKnown: a listed test that fails is known, one that passes is not what the list says.
func TestKnown(t *testing.T) {
	file := filepath.Join(t.TempDir(), "known.txt")
	if err := os.WriteFile(file, []byte("# comment\n\ncounter.o/count\tnot so\nnesting.o/nesting @unpriv\tother\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	known, err := ReadKnown(file)
	if err != nil || len(known) != 2 {
		t.Fatal(known, err)
	}
	for tag, want := range map[string]Outcome{"expect_success": Fail, "expect_failure": Known, "retval=3": Known} {
		tt := onFixture(t, "counter", Options{Known: known})
		e, err := parseTags(tags(tag))
		if err != nil {
			t.Fatal(err)
		}
		tt.program("count", e)
		if r := tt.results[0]; r.Outcome != want || !strings.Contains(r.Reason, "not so") {
			t.Errorf("%s: %v", tag, r)
		}
	}
	for _, bad := range []string{"a/b\n", "a/b\t\n", "a/b\tx\na/b\ty\n"} {
		if err := os.WriteFile(file, []byte(bad), 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadKnown(file); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// TestPrepare: maps are filled before the run, and an error of that is one of the test.
func TestPrepare(t *testing.T) {
	e, err := parseTags(tags("retval=2"))
	if err != nil {
		t.Fatal(err)
	}
	calls := 0
	tt := onFixture(t, "counter", Options{Prepare: func(file string, c *skep.Collection) error {
		calls++
		if file != "../testdata/counter.o" || c.Maps["by_protocol"] == nil {
			t.Errorf("%s: %v", file, c.Maps)
		}
		return nil
	}})
	if outcome, reason := tt.test("count", e, privileged); outcome != Pass || calls != len(engines()) {
		t.Errorf("%s %s, prepared %d times", outcome, reason, calls)
	}
	tt = onFixture(t, "counter", Options{Prepare: func(string, *skep.Collection) error { return errors.New("no such thing") }})
	if outcome, reason := tt.test("count", e, privileged); outcome != Fail || !strings.Contains(reason, "no such thing") {
		t.Errorf("%s %s", outcome, reason)
	}
}

func TestSum(t *testing.T) {
	var s Sum
	for _, o := range []Outcome{Pass, Pass, Refused, Known, Skip} {
		s.Add(o)
	}
	if got := s.String(); got != "2 passed, 0 failed, 1 refused by name, 1 skipped, 1 known to differ" {
		t.Error(got)
	}
	s = Sum{}
	s.Add(Fail)
	if got := s.String(); got != "0 passed, 1 failed" {
		t.Error(got)
	}
}
