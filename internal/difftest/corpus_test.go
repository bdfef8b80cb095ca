package difftest

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skep-bpf/skep/internal/kernel"
	"github.com/skep-bpf/skep/internal/object"
	"github.com/skep-bpf/skep/internal/program"
)

var (
	corpusDir  = flag.String("corpus", os.Getenv("SKEP_CORPUS"), "directory of object files whose programs both verifiers judge")
	corpusOnly = flag.String("corpus-only", "", "only programs whose file/name contains this")
	corpusLogs = flag.Bool("corpus-logs", false, "compare the whole logs of the corpus, too")
)

// TestCorpus has both verifiers judge every program of the object files in -corpus (SKEP_CORPUS): the kernel's own
// tests, objects of packages. Programs that need what this step refuses by name are counted apart.
func TestCorpus(t *testing.T) {
	if *corpusDir == "" {
		t.Skip("no directory of objects: -corpus or SKEP_CORPUS")
	}
	if err := kernel.Available(); err != nil {
		t.Skip(err)
	}
	files, err := filepath.Glob(filepath.Join(*corpusDir, "*.o"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no objects in %s: %v", *corpusDir, err)
	}
	var report verdictReport
	unsupported := map[string]int{}
	logs, logsDiffer, notLoaded := 0, 0, 0
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		o, err := object.Load(f, object.Options{})
		f.Close()
		if err != nil {
			t.Logf("%s: %v", filepath.Base(file), err)
			notLoaded++
			continue
		}
		for _, name := range o.Programs() {
			label := filepath.Base(file) + "/" + name
			if !strings.Contains(label, *corpusOnly) {
				continue
			}
			p, err := program.FromSpec(o.Spec, name, program.Options{})
			if err != nil {
				notLoaded++
				continue
			}
			level := uint32(0)
			if *corpusLogs {
				level = 2
			}
			v, err := judge(p, level, 0)
			if err == nil && !v.Ours && strings.Contains(v.OurReason, "skep does not verify this yet") {
				_, what, _ := strings.Cut(v.OurReason, "yet: ")
				unsupported[strings.SplitN(what, " (insn", 2)[0]]++
				continue
			}
			report.add(v, err)
			if err == nil && v.Ours != v.Kernel && !v.sizeOnly() {
				t.Errorf("%s: we %t (%s), the kernel %t (%s)", label, v.Ours, v.OurReason, v.Kernel, v.KernelReason)
			}
			if err == nil && *corpusLogs && len(v.KernelLog) < 8<<20 {
				logs++
				if d := firstDifference(v.OurLog, v.KernelLog); d != "" {
					if logsDiffer++; logsDiffer <= 40 {
						t.Logf("%s: %.600s", label, d)
					}
				}
			}
		}
	}
	t.Log(report.String())
	if *corpusLogs {
		t.Logf("%d of %d logs differ", logsDiffer, logs)
	}
	for k, n := range report.wording {
		t.Logf("%5d words: %s", n, k)
	}
	for k, n := range unsupported {
		t.Logf("%5d not supported yet: %s", n, k)
	}
	t.Logf("%d not loaded", notLoaded)
}
