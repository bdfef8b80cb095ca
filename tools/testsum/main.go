// Command testsum reads the output of go test -json, prints what failed and what was skipped, and ends with a line
// "N passed, N failed, N skipped". It fails if a test failed or if one was skipped whose reason is not in the list of
// allowed ones: a full run must not lose tests silently.
//
//	testsum -allow FILE [-like OTHER.json] tests.json
//
// FILE has a line for each allowed skip, a regular expression for "package.Test". With -like every test that passed in another run
// must have passed in this one, unless it, or the test that it is part of, is among the allowed skips: two machines run the same tests.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
)

type event struct {
	Action, Package, Test, Output string
}

func main() {
	allow := flag.String("allow", "", "file of allowed skips")
	like := flag.String("like", "", "output of another run, whose passed tests must pass here too")
	flag.Parse()
	if err := run(*allow, *like, flag.Arg(0)); err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
		os.Exit(1)
	}
}

// results are what the tests of one run came to, by "package.Test"; build errors and packages stand there without a test.
type results struct {
	passed  map[string]bool
	skipped map[string]string // and why
	failed  map[string]string // and what they said
	lines   []string          // that are no events: build errors
}

func read(file string) (*results, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := &results{map[string]bool{}, map[string]string{}, map[string]string{}, nil}
	output := map[string][]string{}
	in := bufio.NewScanner(f)
	in.Buffer(nil, 64<<20)
	for in.Scan() {
		var e event
		if json.Unmarshal(in.Bytes(), &e) != nil {
			r.lines = append(r.lines, in.Text())
			continue
		}
		id := e.Package + "." + e.Test
		switch e.Action {
		case "output", "build-output":
			output[id] = append(output[id], e.Output)
		case "pass":
			if e.Test != "" {
				r.passed[id] = true
			}
			delete(output, id)
		case "fail", "build-fail":
			r.failed[id] = strings.Join(output[id], "")
		case "skip":
			if e.Test != "" { // else a package without tests
				r.skipped[id] = reason(output[id])
			}
		}
	}
	return r, in.Err()
}

func run(allow, like, file string) error {
	allowed, err := patterns(allow)
	if err != nil {
		return err
	}
	r, err := read(file)
	if err != nil {
		return err
	}
	for _, l := range r.lines {
		fmt.Println(l)
	}
	for _, id := range slices.Sorted(maps.Keys(r.failed)) {
		fmt.Printf("FAIL %s\n%s", id, r.failed[id])
	}
	unexpected := 0
	for _, id := range slices.Sorted(maps.Keys(r.skipped)) {
		fmt.Printf("SKIP %s: %s\n", id, r.skipped[id])
		if !matches(allowed, id) {
			unexpected++
			fmt.Println("     not in the list of allowed skips")
		}
	}
	missing := 0
	if like != "" {
		if missing, err = r.missing(like, allowed); err != nil {
			return err
		}
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", len(r.passed), len(r.failed), len(r.skipped))
	switch {
	case len(r.passed) == 0:
		return fmt.Errorf("no test ran")
	case len(r.failed) > 0:
		return fmt.Errorf("%d tests failed", len(r.failed))
	case unexpected > 0:
		return fmt.Errorf("%d tests were skipped that must run here", unexpected)
	case missing > 0:
		return fmt.Errorf("%d tests that passed elsewhere did not run here", missing)
	}
	return nil
}

// missing prints and counts the tests that passed in another run and did not run in this one.
func (r *results) missing(like string, allowed []*regexp.Regexp) (n int, err error) {
	other, err := read(like)
	if err != nil {
		return 0, err
	}
	same := 0
	for _, id := range slices.Sorted(maps.Keys(other.passed)) {
		if r.passed[id] {
			same++
		} else if _, failed := r.failed[id]; !failed && !allowedPart(allowed, id) {
			n++
			fmt.Printf("MISSING %s\n", id)
		}
	}
	fmt.Printf("%d tests passed in both runs\n", same)
	return n, nil
}

// allowedPart reports whether a test, or one that it is part of, may be skipped.
func allowedPart(allowed []*regexp.Regexp, id string) bool {
	for {
		if matches(allowed, id) {
			return true
		}
		i, dot := strings.LastIndexByte(id, '/'), strings.LastIndex(id, ".Test")
		if i < 0 || i < dot {
			return false
		}
		id = id[:i]
	}
}

func patterns(file string) (out []*regexp.Regexp, err error) {
	if file == "" {
		return nil, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	for _, l := range strings.Split(string(b), "\n") {
		if l = strings.TrimSpace(l); l == "" || strings.HasPrefix(l, "#") {
			continue
		}
		re, err := regexp.Compile("^(" + l + ")$")
		if err != nil {
			return nil, err
		}
		out = append(out, re)
	}
	return out, nil
}

func matches(res []*regexp.Regexp, id string) bool {
	for _, re := range res {
		if re.MatchString(id) {
			return true
		}
	}
	return false
}

// reason is what the test said before it skipped.
func reason(lines []string) string {
	for _, l := range lines {
		if _, text, ok := strings.Cut(l, ".go:"); ok {
			return strings.TrimSpace(text)
		}
	}
	return "no reason"
}
