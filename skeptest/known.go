package skeptest

import (
	"fmt"
	"os"
	"strings"
)

// ReadKnown reads a list of tests that are known to fail, for Options.Known: a line is a test's name as Result.Name has it, a
// tab, and the reason. Empty lines and what begins with # do not count.
func ReadKnown(file string) (map[string]string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	known := map[string]string{}
	for i, line := range strings.Split(string(text), "\n") {
		if strings.TrimSpace(line) == "" || line[0] == '#' {
			continue
		}
		name, reason, _ := strings.Cut(line, "\t")
		if strings.TrimSpace(reason) == "" {
			return nil, fmt.Errorf("%s:%d: %s has no reason", file, i+1, name)
		}
		if _, twice := known[name]; twice {
			return nil, fmt.Errorf("%s:%d: %s is there twice", file, i+1, name)
		}
		known[name] = reason
	}
	return known, nil
}
