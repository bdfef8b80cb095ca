package verifier_test

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/skep-bpf/skep/internal/asmtext"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/verifier"
)

const reportsFile = "testdata/reports.golden"

// TestReports: the reports on the programs of testdata/reports.golden are those that stand behind them. With -update they are
// written anew.
func TestReports(t *testing.T) {
	raw, err := os.ReadFile(reportsFile)
	if err != nil {
		t.Fatal(err)
	}
	intro, rest, _ := strings.Cut(string(raw), "\n=== ")
	out := intro
	for _, section := range strings.Split(rest, "\n=== ") {
		name, body, _ := strings.Cut(section, "\n")
		src, want, _ := strings.Cut(body, "--- report\n")
		got := reportOn(t, name, src).String()
		if !*update && strings.TrimRight(got, "\n") != strings.TrimRight(want, "\n") {
			t.Errorf("%s: the report is\n%s", name, got)
		}
		out += "\n=== " + name + "\n" + src + "--- report\n" + got
	}
	if *update {
		if err := os.WriteFile(reportsFile, []byte(out), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func reportOn(t *testing.T, name, src string) *verifier.Report {
	t.Helper()
	p, err := asmtext.Program(src, asmtext.ProgramOptions{Name: "prog", Lines: !strings.HasPrefix(name, "without lines")})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return explain(t, p)
}

func explain(t *testing.T, p *program.Program) *verifier.Report {
	t.Helper()
	_, err := verifier.Verify(p, options(0))
	var ve *verifier.Error
	if !errors.As(err, &ve) {
		t.Fatalf("accepted, no report: %v", err)
	}
	return verifier.Explain(p, options(0), ve)
}

// TestReportsOfAllCases: every rejection among the text cases has a report that agrees with its error, with a story in most of those
// that are about an operand, and with help.
func TestReportsOfAllCases(t *testing.T) {
	about, told := 0, 0
	for _, c := range readCases(t) {
		if c.err == "" {
			continue
		}
		p := assemble(t, &c)
		_, err := verifier.Verify(p, options(0))
		var ve *verifier.Error
		if !errors.As(err, &ve) {
			continue // TestPrograms says so
		}
		r := verifier.Explain(p, options(0), ve)
		full := strings.Join(append([]string{r.Message}, r.Notes...), "\n")
		if r.Code != ve.Code || full != strings.TrimRight(ve.Message, "\n") || (r.At == nil) != (ve.Insn < 0) || r.At != nil && r.At.Insn != ve.Insn {
			t.Errorf("%s/%s: %+v is not the report of %v", c.file, c.name, r, ve)
		}
		if len(r.Help) == 0 {
			t.Errorf("%s/%s: no help for %s", c.file, c.name, ve.Code)
		}
		for i := 1; i < len(r.Story); i++ {
			if a, b := &r.Story[i-1], &r.Story[i]; a.Operand == b.Operand && a.Operand == r.Subject && r.Left == 0 && b.Before == "" && a.After != "" && b.Kind == verifier.EventChecked {
				t.Errorf("%s/%s: %s forgets %s", c.file, c.name, b.Text, a.After)
			}
		}
		if r.Subject != "" {
			about++
			if len(r.Story) > 0 {
				told++
			}
		}
	}
	t.Logf("%d reports about an operand, %d with a story", about, told)
	if about < 300 || told < about*2/3 {
		t.Errorf("only %d reports are about an operand, %d of them with a story", about, told)
	}
}

// TestReportJSON: a report as data has all of its parts.
func TestReportJSON(t *testing.T) {
	r := reportOn(t, "", "r1 = 5\nr0 = *(u64 *)(r1 + 0)\nexit\n")
	got, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"program":"prog","code":"wrong-type","message":"R1 invalid mem access 'scalar'","notes":[],` +
		`"at":{"insn":1,"func":"prog","text":"r0 = *(u64 *)(r1 +0)","file":"prog.s","line":2,"column":0,"source":"r0 = *(u64 *)(r1 + 0)"},` +
		`"subject":"R1","value":"5","story":[{"insn":0,"func":"prog","text":"r1 = 5","file":"prog.s","line":1,"column":0,"source":"r1 = 5",` +
		`"kind":"set","operand":"R1","before":"ctx()","after":"5"}],"left_out":0,` +
		`"help":["what is dereferenced is a number: it was never a pointer, or it stopped being one on the way (see above)"]}`
	if string(got) != want {
		t.Errorf("%s", got)
	}
}
