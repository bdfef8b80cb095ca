package skep

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/skep-bpf/skep/internal/native"
	"github.com/skep-bpf/skep/internal/perfmap"
)

// TestPerfMap loads programs from several goroutines. Each function of each is in the map at its address with its size, and
// without the option nothing is.
func TestPerfMap(t *testing.T) {
	if err := native.Supported(); err != nil {
		t.Skip(err)
	}
	os.Remove(perfmap.Path()) // of an earlier process of this number
	t.Cleanup(func() { os.Remove(perfmap.Path()) })
	spec, err := LoadCollectionSpec("testdata/nesting.o")
	if err != nil {
		t.Fatal(err)
	}
	open := func(o Options) *Collection {
		o.Programs = []string{"nesting", "two_callees"}
		c, err := NewCollectionWithOptions(spec.Copy(), o)
		if err != nil {
			t.Errorf("%+v", err)
		}
		return c
	}
	for _, o := range []Options{{}, {PerfMap: true, Engine: EngineInterpreter}} {
		open(o).Close()
		if _, err := os.Stat(perfmap.Path()); err == nil {
			t.Fatalf("%+v wrote %s", o, perfmap.Path())
		}
	}
	const loads = 16
	var wg sync.WaitGroup
	colls := make([]*Collection, loads)
	for i := range colls {
		wg.Go(func() { colls[i] = open(Options{PerfMap: true}) })
	}
	wg.Wait()
	lines := perfLines(t)
	if want := loads * 6; len(lines) != want { // nesting outer8 inner8, two_callees sum6 inner8
		t.Errorf("%d lines, want %d", len(lines), want)
	}
	for _, c := range colls {
		if c == nil {
			continue
		}
		for _, p := range c.Programs {
			checkPerf(t, lines, p)
		}
		c.Close()
	}
}

// checkPerf looks for a program's lines: together they cover its code.
func checkPerf(t *testing.T, lines []string, p *Program) {
	code := p.exec.(*native.Code)
	at := code.Addr()
	for i, f := range p.ir.Funcs {
		name := "skep:" + p.name
		if i > 0 {
			name += "/" + f.Name
		}
		start := fmt.Sprintf("%x ", at)
		k := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, start) && strings.HasSuffix(l, " "+name) })
		if k < 0 {
			t.Fatalf("no line for %s at %s in:\n%s", name, start, strings.Join(lines, "\n"))
		}
		var size uint64
		if _, err := fmt.Sscanf(strings.Fields(lines[k])[1], "%x", &size); err != nil {
			t.Fatal(err)
		}
		at += size
	}
	if end := code.Addr() + uint64(len(code.Text())); at != end {
		t.Errorf("%s: its lines end at %#x, its code at %#x", p.name, at, end)
	}
}

func perfLines(t *testing.T) []string {
	t.Helper()
	f, err := os.Open(perfmap.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var lines []string
	for s := bufio.NewScanner(f); s.Scan(); {
		lines = append(lines, s.Text())
	}
	return lines
}
