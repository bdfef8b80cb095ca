package skeptest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

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
		o := open(t, "../testdata/counter.o")
		outcome, reason := e.test(o.Spec, c.program, Options{}.Load)
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
		if outcome, reason := e.test(open(t, "../testdata/counter.o").Spec, "count", Options{}.Load); outcome != Pass {
			t.Errorf("%s: %s %s", good, outcome, reason)
		}
	}
}

func TestSkips(t *testing.T) {
	for _, c := range []struct{ tags, want string }{
		{"arch=S390X", "for S390X only"}, {"expect_success_unpriv", "unprivileged"},
	} {
		e, err := parseTags(tags(c.tags))
		if err != nil {
			t.Fatal(err)
		}
		if outcome, reason := e.test(open(t, "../testdata/counter.o").Spec, "count", Options{}.Load); outcome != Skip || !strings.Contains(reason, c.want) {
			t.Errorf("%s: %s %s", c.tags, outcome, reason)
		}
	}
}

func TestBadAnnotations(t *testing.T) {
	for _, tag := range []string{"expect_nothing", "retval=many", "log_level=x", "prog_flags=BPF_F_NOPE", "expect_msg=0={{unclosed", "expect_msg=0={{(}}"} {
		if _, err := parseTags(tags(tag)); err == nil {
			t.Errorf("%s was taken", tag)
		}
	}
}

func open(t *testing.T, file string) *object.Object {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	o, err := object.Load(f, object.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// TestMessageInSource: an annotation that the log shows as source text is no message.
func TestMessageInSource(t *testing.T) {
	log := "; SEC(\"tc\") __failure __msg(\"R1 is wrong\") int f(struct __sk_buff *ctx) @ f.c:1\n0: (b7) r0 = 0\n; return R2 is wrong @ f.c:2\nR3 is wrong\n"
	for text, want := range map[string]bool{"R1 is wrong": false, "R2 is wrong": true, "R3 is wrong": true} {
		if err := checkMessages(log, []message{{text: text}}); (err == nil) != want {
			t.Errorf("%s: %v", text, err)
		}
	}
}
