// Command testsum reads the output of go test -json, prints what failed and what was skipped, and ends with a line
// "N passed, N failed, N skipped". It fails if a test failed or if one was skipped whose reason is not in the list of
// allowed ones: a full run must not lose tests silently.
//
//	testsum -allow FILE tests.json       FILE: a line for each allowed skip, a regular expression for "package.Test"
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
)

type event struct {
	Action, Package, Test, Output string
}

func main() {
	allow := flag.String("allow", "", "file of allowed skips")
	flag.Parse()
	if err := run(*allow, flag.Arg(0)); err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
		os.Exit(1)
	}
}

func run(allow, file string) error {
	allowed, err := patterns(allow)
	if err != nil {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	var passed, failed, skipped, unexpected int
	output := map[string][]string{}
	in := bufio.NewScanner(f)
	in.Buffer(nil, 64<<20)
	for in.Scan() {
		var e event
		if json.Unmarshal(in.Bytes(), &e) != nil {
			fmt.Println(in.Text()) // a build error is plain text
			continue
		}
		id := e.Package + "." + e.Test
		switch e.Action {
		case "output", "build-output":
			output[id] = append(output[id], e.Output)
		case "pass":
			if e.Test != "" {
				passed++
			}
			delete(output, id)
		case "fail", "build-fail":
			failed++
			fmt.Printf("FAIL %s\n%s", id, strings.Join(output[id], ""))
		case "skip":
			if e.Test == "" {
				break // a package without tests
			}
			skipped++
			fmt.Printf("SKIP %s: %s\n", id, reason(output[id]))
			if !matches(allowed, id) {
				unexpected++
				fmt.Println("     not in the list of allowed skips")
			}
		}
	}
	if err := in.Err(); err != nil {
		return err
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped)
	switch {
	case passed == 0:
		return fmt.Errorf("no test ran")
	case failed > 0:
		return fmt.Errorf("%d tests failed", failed)
	case unexpected > 0:
		return fmt.Errorf("%d tests were skipped that must run here", unexpected)
	}
	return nil
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
