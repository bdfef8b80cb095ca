package difftest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skep-bpf/skep/internal/asmtext"
	"github.com/skep-bpf/skep/internal/lower"
	"github.com/skep-bpf/skep/internal/object"
	"github.com/skep-bpf/skep/internal/progen"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/verifier"
)

// exactCount is what became of the programs of one corpus.
type exactCount struct {
	checked, steps, refused, long int
	skipped                       []string // with the reason
}

// testPackets are what test programs run on: packets of random bytes, zeros, and an IPv4 datagram, which parsers follow.
func testPackets() [][]byte {
	udp := append([]byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, // Ethernet
		0x45, 0, 0, 50, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, // IPv4
		0x12, 0x34, 0, 53, 0, 30, 0, 0}, make([]byte, 22)...) // UDP
	tcp := append([]byte(nil), udp...)
	tcp[23] = 6
	ps := [][]byte{udp, tcp, make([]byte, 64)}
	for seed := range uint64(5) {
		ps = append(ps, progen.Packet(seed))
	}
	return ps
}

// exactProgram checks the runs of one test program.
func (c *exactCount) exactProgram(t *testing.T, label string, p *program.Program) {
	t.Helper()
	claims, err := Record(p)
	var rejected *verifier.Error
	switch {
	case errors.Is(err, errTooLong):
		c.long++
		return
	case errors.As(err, &rejected):
		c.refused++
		if strings.Contains(label, ".o/") && *corpusDir == "" {
			t.Logf("%s: refused: %s", label, rejected.Message)
		}
		return
	case err != nil:
		t.Errorf("%s: %v", label, err)
		return
	}
	w, err := NewWorldFor(p)
	if err != nil {
		c.skipped = append(c.skipped, fmt.Sprintf("%s: %v", label, err))
		return
	}
	defer w.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for _, packet := range testPackets() {
		steps, err := claims.Check(ctx, w, packet)
		c.steps += steps
		if err != nil && errors.Is(err, lower.ErrNoRuntime) {
			c.skipped = append(c.skipped, fmt.Sprintf("%s: %v", label, err))
			return
		}
		if errors.Is(err, context.DeadlineExceeded) {
			c.long++ // a loop of very many rounds, each instruction of which is checked
			return
		}
		if err != nil {
			t.Errorf("%s: %v", label, err)
			return
		}
	}
	c.checked++
}

func (c *exactCount) report(t *testing.T) {
	t.Logf("%d programs checked at %d instructions, %d refused, %d too long, %d skipped", c.checked, c.steps, c.refused, c.long, len(c.skipped))
	for _, s := range c.skipped {
		t.Log("skipped ", s)
	}
	if c.checked == 0 || c.steps == 0 {
		t.Error("nothing was checked")
	}
}

// TestConcreteInsideAbstractObjects is TestConcreteInsideAbstract for the objects in testdata.
func TestConcreteInsideAbstractObjects(t *testing.T) {
	files, err := filepath.Glob("../../testdata/*.o")
	if err != nil || len(files) == 0 {
		t.Fatalf("no objects: %v", err)
	}
	var c exactCount
	c.objects(t, files, program.Options{Kfuncs: func(string) (program.KfuncFlags, bool) { return 0, true }})
	c.report(t)
}

// objects checks every program of object files.
func (c *exactCount) objects(t *testing.T, files []string, opt program.Options) {
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		o, err := object.Load(f, object.Options{})
		f.Close()
		if err != nil {
			c.skipped = append(c.skipped, fmt.Sprintf("%s: %v", filepath.Base(file), err))
			continue
		}
		for _, name := range o.Programs() {
			label := filepath.Base(file) + "/" + name
			p, err := program.FromSpec(o.Spec, name, opt)
			if err != nil {
				c.skipped = append(c.skipped, fmt.Sprintf("%s: %v", label, err))
				continue
			}
			c.exactProgram(t, label, p)
		}
	}
}

// TestConcreteInsideAbstractCases is TestConcreteInsideAbstract for the verifier's test cases.
func TestConcreteInsideAbstractCases(t *testing.T) {
	files, err := filepath.Glob("../../verifier/testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	var c exactCount
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, src := range strings.Split("\n"+string(text), "\n=== ")[1:] {
			name, code, _ := strings.Cut(src, "\n")
			label := filepath.Base(file) + "/" + name
			p, err := asmtext.Program(code, asmtext.ProgramOptions{Name: "prog"})
			if err != nil {
				t.Errorf("%s: %v", label, err)
				continue
			}
			c.exactProgram(t, label, p)
		}
	}
	c.report(t)
}
