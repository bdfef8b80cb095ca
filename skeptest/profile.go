package skeptest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/skep-bpf/skep"
)

// profile is a coverage profile that suites of this process write together.
type profile struct {
	coverage *skep.Coverage
	path     string

	mu   sync.Mutex
	dirs []string // where sources may be: beside the objects
}

// profiles are all profiles, by path: suites that name the same file write one.
var profiles struct {
	mu sync.Mutex
	m  map[string]*profile
}

// profileFor returns the profile of a path, nil for "". dir is where the sources may be.
func profileFor(path, dir string) *profile {
	if path == "" {
		return nil
	}
	profiles.mu.Lock()
	defer profiles.mu.Unlock()
	p := profiles.m[path]
	if p == nil {
		p = &profile{coverage: new(skep.Coverage), path: path}
		if profiles.m == nil {
			profiles.m = map[string]*profile{}
		}
		profiles.m[path] = p
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dirs = append(p.dirs, dir)
	return p
}

// write writes what was counted until now, and returns a table of functions.
func (p *profile) write() (table string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var b bytes.Buffer
	if err := p.coverage.WriteProfile(&b, "count", p.source); err != nil {
		return "", err
	}
	if err := os.WriteFile(p.path, b.Bytes(), 0o666); err != nil {
		return "", err
	}
	return functionTable(p.coverage, p.path), nil
}

// source finds the file that the compiler named: by its whole name or by the last parts of it, from the working directory or from where an
// object is. What is found gets an absolute path, which the cover tool finds from everywhere.
func (p *profile) source(name string) string {
	parts := strings.Split(filepath.ToSlash(name), "/")
	for i := range parts {
		rest := filepath.Join(parts[i:]...)
		if i == 0 {
			rest = name
		}
		for _, dir := range append([]string{"."}, p.dirs...) {
			file := rest
			if !filepath.IsAbs(file) {
				file = filepath.Join(dir, rest)
			}
			if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() {
				if abs, err := filepath.Abs(file); err == nil {
					return abs
				}
			}
		}
	}
	return name
}

// functionTable says how much of each function ran.
func functionTable(c *skep.Coverage, path string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "coverage of C, written to %s; parts of lines, and directions of conditional jumps:\n", path)
	blocks, covered := 0, 0
	for _, f := range c.Functions() {
		name := f.Program
		if f.Name != f.Program {
			name += "/" + f.Name
		}
		fmt.Fprintf(&b, "  %-32s %-24s %5.1f%% of %d, %d of %d\n", name, fmt.Sprintf("%s:%d", filepath.Base(f.File), f.Line), percent(f.Covered, f.Blocks), f.Blocks, f.Taken,
			f.Directions)
		blocks, covered = blocks+f.Blocks, covered+f.Covered
	}
	fmt.Fprintf(&b, "  total %.1f%% of %d", percent(covered, blocks), blocks)
	return b.String()
}

func percent(n, of int) float64 {
	if of == 0 {
		return 0
	}
	return 100 * float64(n) / float64(of)
}
