package main

import (
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/skeptest"
)

// caseLine is a line of skep run -json for a case.
type caseLine struct {
	File   string   `json:"file"`
	Case   string   `json:"case"`
	OK     bool     `json:"ok"`
	Diffs  []string `json:"diffs,omitempty"`
	Where  string   `json:"where,omitempty"`
	Printk []string `json:"printk,omitempty"`
	Error  string   `json:"error,omitempty"` // why it could not run
}

// areArchives reports whether the arguments are files of cases.
func areArchives(files []string) bool {
	return len(files) > 0 && !slices.ContainsFunc(files, func(f string) bool { return filepath.Ext(f) != ".txtar" })
}

// only refuses flags that were given and are none of those; what says what they do not go with.
func only(fs *flag.FlagSet, what string, known ...string) (err error) {
	fs.Visit(func(f *flag.Flag) {
		if !slices.Contains(known, f.Name) {
			err = errors.Join(err, fmt.Errorf("-%s is not for %s", f.Name, what))
		}
	})
	return err
}

// runCases runs the cases of txtar files.
func (e *env) runCases(files []string, a *runArgs) int {
	engines := map[string]skep.Engine{"": skep.EngineAuto, "jit": skep.EngineJIT, "interp": skep.EngineInterpreter}
	engine, ok := engines[a.engine]
	if !ok {
		return e.usageError("-engine: cases run on the engines jit and interp")
	}
	if a.coverProfile != "" && engine == skep.EngineJIT {
		return e.usageError("-coverprofile: only the interpreter counts what runs")
	}
	match, err := regexp.Compile(a.run)
	if err != nil {
		return e.usageError("-run: %v", err)
	}
	passed, failed := 0, 0
	var last *skeptest.Suite
	for _, file := range files {
		suite, cases, err := skeptest.LoadArchive(file)
		if err != nil {
			return e.fail(exitUsage, err)
		}
		suite.Engines, suite.CoverProfile, last = []skep.Engine{engine}, a.coverProfile, suite
		for _, c := range cases {
			switch {
			case !match.MatchString(c.Name):
			case e.runCase(file, suite, c, a):
				passed++
			default:
				failed++
			}
		}
	}
	if a.coverProfile != "" {
		table, err := last.WriteProfile()
		if err != nil {
			return e.fail(exitRejected, err)
		}
		fmt.Fprintln(e.stderr, table)
	}
	if !a.json {
		fmt.Fprintf(e.stdout, "%d passed, %d failed\n", passed, failed)
	}
	switch {
	case failed > 0:
		return exitRejected
	case passed == 0:
		return e.fail(exitUsage, fmt.Errorf("no case is called %s", a.run))
	}
	return exitOK
}

// runCase runs one case, prints what came of it, and reports whether it passed.
func (e *env) runCase(file string, s *skeptest.Suite, c skeptest.Case, a *runArgs) bool {
	err := s.Check(c)
	if a.json {
		l := caseLine{File: file, Case: c.Name, OK: err == nil}
		var f *skeptest.Failure
		if errors.As(err, &f) {
			l.Diffs, l.Where, l.Printk = f.Diffs, f.Where, f.Printk
		} else if err != nil {
			l.Error = err.Error()
		}
		if err := e.printJSON(l); err != nil {
			fmt.Fprintln(e.stderr, err)
		}
		return l.OK
	}
	if err == nil {
		fmt.Fprintf(e.stdout, "ok   %s\n", c.Name)
		return true
	}
	fmt.Fprintf(e.stdout, "FAIL %s\n     %s\n", c.Name, strings.ReplaceAll(err.Error(), "\n", "\n     "))
	e.explain(err)
	return false
}
