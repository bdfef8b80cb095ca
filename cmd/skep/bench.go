package main

import (
	"cmp"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/internal/parallel"
	"github.com/skep-bpf/skep/internal/verifybench"
)

var benchVerb = &verb{
	name: "bench", args: "verify FILE... [-prog NAME] [-type SECTION] [-top N] [-n N] [-json]", short: "how long verification takes, beside the kernel's",
	help: `
Verifies each program several times, here and (as root) in the running kernel, in turns, and prints a table: instructions,
instructions processed, states, the least time of skep and of the kernel's verifier (its own figure, log level 4), skep's time by
the kernel's, and the memory that skep's verification needs. The last line has the geometric mean of the ratios.
  -prog NAME  only programs of this name
  -type SECTION
              take the programs to be in a section of that name, as libbpf knows them
  -top N      only the N programs with the most instructions processed
  -n N        measure N times, 5 if not given
  -json       print a JSON object for each program, and one for the mean

Exit code: 0, 2 if something could not be loaded.

Examples:
  skep bench verify prog.o
  sudo skep bench verify *.o -top 20
`,
}

func init() { benchVerb.run = runBench }

// benched is a program to measure.
type benched struct {
	file, name string
	spec       *ebpf.CollectionSpec
}

// benchMean is the last line of skep bench verify -json.
type benchMean struct {
	Mean float64 `json:"geometric_mean"`
	Of   int     `json:"programs_with_ratio"`
	All  int     `json:"programs"`
}

func runBench(e *env, args []string) int {
	fs := e.flags()
	prog := fs.String("prog", "", "")
	typ := typeFlag(fs)
	top := fs.Uint("top", 0, "")
	rounds := fs.Uint("n", 5, "")
	asJSON := fs.Bool("json", false, "")
	rest, code, ok := e.parse(fs, args)
	switch {
	case !ok:
		return code
	case len(rest) == 0 || rest[0] != "verify":
		return e.usageError("say what to measure: verify")
	case len(rest) == 1:
		return e.usageError("no file given")
	case *rounds == 0 || *rounds > math.MaxInt32:
		return e.usageError("-n: at least one")
	}
	list, worst := e.toBench(rest[1:], *prog, typ)
	if *top > 0 {
		list = largest(list, int(min(*top, math.MaxInt32)))
	}
	var rows []verifybench.Row
	for _, b := range list {
		row, err := verifybench.Measure(filepath.Base(b.file), b.spec, b.name, int(*rounds))
		if err != nil {
			worst = e.fail(exitUsage, fmt.Errorf("%s: %w", b.file, err))
			continue
		}
		rows = append(rows, row)
	}
	e.printBench(rows, *asJSON)
	return worst
}

// toBench lists the programs of files.
func (e *env) toBench(files []string, prog string, typ *typeOf) (list []benched, worst int) {
	for _, file := range files {
		spec, err := skep.LoadCollectionSpec(file)
		if err != nil {
			worst = e.fail(exitUsage, err)
			continue
		}
		typ.apply(spec, prog)
		for _, name := range programs(spec, prog) {
			list = append(list, benched{file, name, spec})
		}
	}
	if len(list) == 0 {
		worst = e.fail(exitUsage, fmt.Errorf("there are no programs to measure"))
	}
	return list, worst
}

// largest returns the n programs with the most instructions processed, the largest first.
func largest(list []benched, n int) []benched {
	processed := map[benched]int{}
	verify := func(i int) int {
		s, _, _ := verifybench.Verify(list[i].spec, list[i].name) // what cannot be verified is the smallest
		return s.Processed
	}
	parallel.Each(len(list), verify, func(i, p int) { processed[list[i]] = p })
	slices.SortStableFunc(list, func(a, b benched) int { return cmp.Compare(processed[b], processed[a]) })
	return list[:min(n, len(list))]
}

func (e *env) printBench(rows []verifybench.Row, asJSON bool) {
	mean, n := verifybench.GeometricMean(rows)
	if asJSON {
		for i := range rows {
			_ = e.printJSON(rows[i])
		}
		_ = e.printJSON(benchMean{mean, n, len(rows)})
		return
	}
	w := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "insns\tprocessed\tstates\tskep\tkernel\tratio\tpeak\t  program")
	for i := range rows {
		r := &rows[i]
		kernel, ratio := "-", "-"
		if r.Kernel > 0 {
			kernel = shortTime(r.Kernel)
		}
		if q := r.Ratio(); q > 0 {
			ratio = fmt.Sprintf("%.2f", q)
		}
		fmt.Fprintf(w, "%d\t%d\t%d\t%s\t%s\t%s\t%s\t  %s/%s%s\n", r.Insns, r.Processed, r.States, shortTime(r.Time), kernel, ratio,
			megabytes(r.PeakBytes), r.File, r.Program, benchNote(r))
	}
	w.Flush()
	if n > 0 {
		fmt.Fprintf(e.stdout, "geometric mean of %d ratios: %.2f\n", n, mean)
	}
}

// benchNote is what stands behind a program's name in the table.
func benchNote(r *verifybench.Row) string {
	note := ""
	if !r.Accepted {
		note = " (rejected)"
	}
	switch {
	case r.Note != "":
		note += " (" + r.Note + ")"
	case r.Kernel > 0 && r.KernelProcessed != r.Processed:
		note += fmt.Sprintf(" (the kernel processed %d)", r.KernelProcessed)
	}
	return note
}

// shortTime prints a duration with three digits.
func shortTime(d time.Duration) string {
	switch {
	case d >= time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d >= time.Millisecond:
		return fmt.Sprintf("%.3g ms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%.3g us", float64(d)/float64(time.Microsecond))
}

func megabytes(b uint64) string { return fmt.Sprintf("%.1f MB", float64(b)/1e6) }
