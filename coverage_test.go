package skep

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var updateGolden = flag.Bool("update-coverage", false, "write testdata/*.cov anew")

// casesObject is an object with branches, lines of several statements, and kfuncs.
const casesObject = "skeptest/testdata/cases.o"

// counting loads a program that is counted.
func counting(t *testing.T, file, name string, cov *Coverage) *Program {
	t.Helper()
	spec, err := LoadCollectionSpec(file)
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewCollectionWithOptions(spec, Options{Coverage: cov, Programs: []string{name}})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(c.Close)
	return c.Programs[name]
}

// ipPacket is an IPv4 packet long enough for forward, to some address.
func ipPacket() []byte {
	p := make([]byte, 60)
	p[12], p[14], p[22], p[23] = 8, 0x45, 64, 17
	return p
}

func profile(t *testing.T, cov *Coverage, mode string, rename func(string) string) string {
	t.Helper()
	var b bytes.Buffer
	if err := cov.WriteProfile(&b, mode, rename); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestProfile: the profiles of a program are exactly those in testdata: after one packet that leaves early, which does not take most
// branches, and after more.
func TestProfile(t *testing.T) {
	var cov Coverage
	run := func(packet []byte, want uint32) {
		t.Helper()
		p := counting(t, casesObject, "forward", &cov) // a load for each, counted together
		if p.Engine() != EngineInterpreter {
			t.Errorf("runs on %s", p.Engine())
		}
		if got, _, err := p.Test(packet); err != nil || got != want {
			t.Errorf("%d, %v; want %d", got, err, want)
		}
	}
	check := func(file, mode string) {
		t.Helper()
		got := profile(t, &cov, mode, filepath.Base)
		if *updateGolden {
			if err := os.WriteFile(file, []byte(got), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), got); d != "" {
			t.Errorf("%s (-want +got):\n%s", file, d)
		}
	}
	run(make([]byte, 60), 2)
	check("testdata/forward-1.cov", "set")
	run(ipPacket(), 3)
	run(make([]byte, 60), 2)
	check("testdata/forward-3.cov", "count")
	f := cov.Functions()
	want := []FunctionCoverage{{
		Program: "forward", Name: "forward", File: "./../skeptest/testdata/cases.c", Line: 63, Blocks: 34, Covered: 32, Directions: 12, Taken: 7,
	}}
	if d := cmp.Diff(want, f); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestProfileTool: Go's own tool shows a profile whose files are named as it finds them.
func TestProfileTool(t *testing.T) {
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Skipf("the go command is not here: %v", err)
	}
	var cov Coverage
	if _, _, err := counting(t, casesObject, "forward", &cov).Test(ipPacket()); err != nil {
		t.Fatal(err)
	}
	abs, err := filepath.Abs("skeptest/testdata")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	text := profile(t, &cov, "count", func(file string) string { return filepath.Join(abs, filepath.Base(file)) })
	if err := os.WriteFile(dir+"/c.out", []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(goTool, "tool", "cover", "-html", dir+"/c.out", "-o", dir+"/c.html").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	html, err := os.ReadFile(dir + "/c.html")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`<span class="cov0" title="0">dropped++;</span>`, `<span class="cov8" title="1">ip-&gt;ttl--;</span>`} {
		if !strings.Contains(string(html), want) {
			t.Errorf("the page has no %s", want)
		}
	}
}

// TestCoverageOfCalls: lines count wherever they are entered from: calls, loops in place of callbacks, tail calls.
func TestCoverageOfCalls(t *testing.T) {
	for _, c := range []struct {
		file, prog string
		lines      map[string]string
	}{
		{"nesting", "nesting", map[string]string{"6": "1", "8": "1", "18": "1", "35": "1"}},
		{"callbacks", "loop_sum", map[string]string{"35": "100", "37": "100", "44": "1"}},
		{"tailcall", "first", map[string]string{"18": "1", "19": "1", "20": "0", "26": "1", "27": "0", "33": "1", "34": "1"}},
	} {
		var cov Coverage
		if _, _, err := counting(t, "testdata/"+c.file+".o", c.prog, &cov).Test(make([]byte, 60)); err != nil {
			t.Errorf("%s: %v", c.prog, err)
		}
		text := profile(t, &cov, "count", filepath.Base)
		for line, want := range c.lines {
			m := regexp.MustCompile(`(?m)^`+c.file+`\.c:`+line+`\..* 1 (\d+)$`).FindAllStringSubmatch(text, -1)
			if len(m) == 0 || slices.ContainsFunc(m, func(m []string) bool { return m[1] != want }) {
				t.Errorf("%s: line %s: %q, want count %s", c.prog, line, m, want)
			}
		}
	}
}

// TestCoverageAtOnce: runs count while a profile is written, and none is lost.
func TestCoverageAtOnce(t *testing.T) {
	var cov Coverage
	var wg sync.WaitGroup
	for range 4 {
		p := counting(t, casesObject, "report", &cov)
		wg.Go(func() {
			for range 50 {
				if _, _, err := p.Test(make([]byte, 60)); err != nil {
					t.Error(err)
				}
				profile(t, &cov, "count", nil)
			}
		})
	}
	wg.Wait()
	if got := profile(t, &cov, "count", nil); !strings.Contains(got, " 1 200\n") {
		t.Errorf("not 200 times:\n%s", got)
	}
}

// TestCoverageRefuses: what cannot be counted, and modes that are none.
func TestCoverageRefuses(t *testing.T) {
	spec, err := LoadCollectionSpec(casesObject)
	if err != nil {
		t.Fatal(err)
	}
	_, err = NewCollectionWithOptions(spec, Options{Engine: EngineJIT, Coverage: new(Coverage), Programs: []string{"report"}})
	if err == nil || !strings.Contains(err.Error(), "only the interpreter counts") {
		t.Errorf("compiled: %v", err)
	}
	if err := new(Coverage).WriteProfile(new(bytes.Buffer), "atomic", nil); err == nil || !strings.Contains(err.Error(), `"atomic"`) {
		t.Errorf("mode atomic: %v", err)
	}
}
