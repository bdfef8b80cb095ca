package difftest

import (
	"cmp"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/skep-bpf/skep/internal/kernel"
	"github.com/skep-bpf/skep/internal/object"
	"github.com/skep-bpf/skep/internal/program"
)

var (
	corpusDir  = flag.String("corpus", os.Getenv("SKEP_CORPUS"), "directories of object files, separated by colons, whose programs both verifiers judge")
	corpusOnly = flag.String("corpus-only", "", "only programs whose file/name contains this")
	corpusLogs = flag.Bool("corpus-logs", false, "compare the whole logs of the corpus, too")
)

// TestCorpus has both verifiers judge every program of the object files in -corpus (SKEP_CORPUS): the kernel's own
// tests (tools/corpus/kernel-tests.sh), objects of packages (tools/corpus/packages.sh). A difference that
// testdata/corpus-known.txt does not list fails, and so does one that it lists and that is gone. Programs that need what skep
// refuses by name are counted apart.
func TestCorpus(t *testing.T) {
	if *corpusDir == "" {
		t.Skip("no directory of objects: -corpus or SKEP_CORPUS")
	}
	if err := kernel.Available(); err != nil {
		t.Skip(err)
	}
	known := readKnown(t, corpusKnown)
	for _, dir := range filepath.SplitList(*corpusDir) {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			files, err := filepath.Glob(filepath.Join(dir, "*.o"))
			if err != nil || len(files) == 0 {
				t.Fatalf("no objects in %s: %v", dir, err)
			}
			c := corpus{known: known, unsupported: map[string]int{}, noVerdict: map[string]int{}}
			for _, file := range files {
				c.object(t, file)
			}
			c.log(t)
		})
	}
}

const corpusKnown = "testdata/corpus-known.txt"

// readKnown reads the differences that are known: "file/program<TAB>reason" a line, comments behind #.
func readKnown(t *testing.T, file string) map[string]string {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]string{}
	for i, line := range strings.Split(string(text), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		label, reason, ok := strings.Cut(line, "\t")
		if !ok || reason == "" {
			t.Fatalf("%s:%d: no reason", file, i+1)
		}
		known[label] = reason
	}
	return known
}

// numbers are what makes reasons differ that are one.
var numbers = regexp.MustCompile(`[0-9]+`)

// corpus is what the programs of one directory came to.
type corpus struct {
	known                       map[string]string
	report                      verdictReport
	unsupported, noVerdict      map[string]int
	logs, logsDiffer, notLoaded int
}

func (c *corpus) object(t *testing.T, file string) {
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	o, err := object.Load(f, object.Options{})
	if err != nil {
		t.Logf("%s: %v", filepath.Base(file), err)
		c.notLoaded++
		return
	}
	for _, name := range o.Programs() {
		label := filepath.Base(file) + "/" + name
		if !strings.Contains(label, *corpusOnly) {
			continue
		}
		p, err := program.FromSpec(o.Spec, name, program.Options{Ksyms: true})
		if err != nil {
			t.Logf("%s: %v", label, err)
			c.notLoaded++
			continue
		}
		c.program(t, label, p)
	}
}

func (c *corpus) program(t *testing.T, label string, p *program.Program) {
	level := uint32(0)
	if *corpusLogs {
		level = 2
	}
	v, err := judge(p, level, 0)
	if err == nil && !v.Ours && strings.Contains(v.OurReason, "skep does not verify this yet") {
		_, what, _ := strings.Cut(v.OurReason, "yet: ")
		c.unsupported[strings.SplitN(what, " (insn", 2)[0]]++
		return
	}
	c.report.add(v, err)
	if err != nil {
		c.noVerdict[numbers.ReplaceAllString(err.Error(), "N")]++
	}
	reason, listed := c.known[label]
	switch differ := err == nil && v.differs(); {
	case differ && !listed:
		t.Errorf("%s: we %t (%s), the kernel %t (%s)", label, v.Ours, v.OurReason, v.Kernel, v.KernelReason)
	case differ && v.Ours:
		t.Errorf("%s: what we alone accept cannot be a known difference", label)
	case listed && !differ && err == nil:
		t.Errorf("%s: no difference any more, take it off %s (%s)", label, corpusKnown, reason)
	}
	if ours, theirs := stackDepth(v.OurLog), stackDepth(v.KernelLog); err == nil && v.Ours == v.Kernel && ours != "" && theirs != "" && ours != theirs {
		t.Errorf("%s: we find a %s, the kernel a %s", label, ours, theirs)
	}
	if err == nil && *corpusLogs && len(v.KernelLog) < 8<<20 {
		c.logs++
		if d := firstDifference(v.OurLog, v.KernelLog); d != "" {
			if c.logsDiffer++; c.logsDiffer <= 40 {
				t.Logf("%s: %.600s", label, d)
			}
		}
	}
}

// stackDepth is the line of a log that says how much stack each function takes.
func stackDepth(log string) string {
	for line := range strings.Lines(log) {
		if strings.HasPrefix(line, "stack depth ") {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

func (c *corpus) log(t *testing.T) {
	t.Log(c.report.String())
	if *corpusLogs {
		t.Logf("%d of %d logs differ", c.logsDiffer, c.logs)
	}
	logCounts(t, "words:", c.report.wording)
	logCounts(t, "not supported yet:", c.unsupported)
	logCounts(t, "no verdict:", c.noVerdict)
	t.Logf("%d not loaded", c.notLoaded)
}

// logCounts logs counts, the largest first.
func logCounts(t *testing.T, what string, counts map[string]int) {
	keys := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(counts[b]-counts[a], strings.Compare(a, b))
	})
	var s strings.Builder
	for _, k := range keys {
		fmt.Fprintf(&s, "\n%5d %s %s", counts[k], what, k)
	}
	if s.Len() > 0 {
		t.Log(s.String())
	}
}
