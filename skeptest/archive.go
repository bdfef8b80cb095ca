package skeptest

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/tools/txtar"

	"github.com/skep-bpf/skep"
)

// LoadArchive reads cases from a txtar file, in the format that docs/skeptest.md describes, and the object that it names. Errors name file
// and line. The suite can be changed before it is used: its Kfuncs, say.
//
//	suite, cases, err := skeptest.LoadArchive("testdata/cases.txtar")
//	...
//	suite.Run(t, cases)
func LoadArchive(file string) (*Suite, []Case, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, err
	}
	a, err := parseArchive(file, data)
	if err != nil {
		return nil, nil, err
	}
	object := a.suite.keys["object"]
	path := filepath.Join(filepath.Dir(file), filepath.FromSlash(object.text))
	if filepath.IsAbs(object.text) {
		path = object.text
	}
	spec, err := skep.LoadCollectionSpec(path)
	if err != nil {
		return nil, nil, a.errorf(object.at, "object: %w", err)
	}
	b := &binder{archive: a, spec: spec, dir: filepath.Dir(file)}
	cases, err := b.cases()
	if err != nil {
		return nil, nil, err
	}
	return &Suite{File: path}, cases, nil
}

// archive is a file of cases, not yet bound to an object.
type archive struct {
	file  string
	suite *section
	cases []*section
}

// section is the suite, a case, or a step of one.
type section struct {
	at    int // line
	name  string
	keys  map[string]line
	files map[string][]line
	then  []*section
}

// line is a line of text, without comment and blanks around, and where it stands.
type line struct {
	at   int
	text string
}

// Which keys and files there may be, by kind of section.
var (
	suiteKeys  = []string{"object"}
	suiteFiles = []string{"consts", "maps.before"}
	caseKeys   = []string{
		"program", "want", "redirect", "cpu", "seed", "now", "advance", "advance.after", "pid", "tgid", "uid", "gid", "comm",
	}
	stepKeys  = slices.DeleteFunc(slices.Clone(caseKeys), func(k string) bool { return k == "seed" || k == "now" })
	caseFiles = []string{"consts", "maps.before", "maps.after", "packet.in", "packet.out", "context.in", "context.out", "kfuncs"}
	stepFiles = slices.DeleteFunc(slices.Clone(caseFiles), func(f string) bool { return f == "consts" })
)

// errorf is an error with its place.
func (a *archive) errorf(at int, format string, args ...any) error {
	return fmt.Errorf("%s:%d: %w", a.file, at, fmt.Errorf(format, args...))
}

// parseArchive reads a file of cases.
func parseArchive(file string, data []byte) (*archive, error) {
	a := &archive{file: file}
	ar := txtar.Parse(data)
	at := 1 + strings.Count(string(ar.Comment), "\n")
	var cur *section // the suite, case or step that files belong to
	keys, files := []string(nil), []string(nil)
	for _, f := range ar.Files {
		kind, name, _ := strings.Cut(f.Name, " ")
		name = strings.TrimSpace(name)
		var err error
		switch {
		case f.Name == "suite":
			if a.suite != nil || len(a.cases) > 0 {
				return nil, a.errorf(at, "the suite must be the first file, and the only one of that name")
			}
			a.suite = newSection(at, "")
			cur, keys, files = a.suite, suiteKeys, suiteFiles
			err = a.readKeys(cur, lines(f.Data, at+1), keys)
		case kind == "case":
			cur, keys, files = newSection(at, name), caseKeys, caseFiles
			if err = a.addCase(cur); err == nil {
				err = a.readKeys(cur, lines(f.Data, at+1), keys)
			}
		case kind == "then":
			if len(a.cases) == 0 {
				return nil, a.errorf(at, "then without a case in front of it")
			}
			cur, keys, files = newSection(at, name), stepKeys, stepFiles
			first := a.cases[len(a.cases)-1]
			first.then = append(first.then, cur)
			err = a.readKeys(cur, lines(f.Data, at+1), keys)
		default:
			err = a.addFile(cur, f.Name, at, f.Data, files)
		}
		if err != nil {
			return nil, err
		}
		at += 1 + strings.Count(string(f.Data), "\n")
	}
	switch {
	case a.suite == nil:
		return nil, a.errorf(1, "there is no file suite, which names the object")
	case a.suite.keys["object"].text == "":
		return nil, a.errorf(a.suite.at, "the suite names no object: it needs a line \"object FILE\"")
	case len(a.cases) == 0:
		return nil, a.errorf(a.suite.at, "there are no cases")
	}
	return a, nil
}

func newSection(at int, name string) *section {
	return &section{at: at, name: name, keys: map[string]line{}, files: map[string][]line{}}
}

// addCase takes a case whose name is new.
func (a *archive) addCase(c *section) error {
	if c.name == "" {
		return a.errorf(c.at, "the case has no name: write \"-- case NAME --\"")
	}
	for _, other := range a.cases {
		if other.name == c.name {
			return a.errorf(c.at, "the name %q is that of the case in line %d", c.name, other.at)
		}
	}
	if a.suite == nil {
		return a.errorf(c.at, "a case in front of the file suite, which names the object")
	}
	a.cases = append(a.cases, c)
	return nil
}

// addFile takes a file of the section that it stands in.
func (a *archive) addFile(cur *section, name string, at int, data []byte, known []string) error {
	switch {
	case cur == nil:
		return a.errorf(at, "file %q in front of the file suite", name)
	case !slices.Contains(known, name):
		return a.errorf(at, "unknown file %q; here may be: %s, or the next case or then", name, strings.Join(known, ", "))
	case cur.files[name] != nil:
		return a.errorf(at, "file %s is there twice", name)
	}
	cur.files[name] = lines(data, at+1)
	return nil
}

// readKeys reads lines of a key and a value.
func (a *archive) readKeys(to *section, all []line, known []string) error {
	for _, l := range all {
		key, value, _ := strings.Cut(l.text, " ")
		switch {
		case !slices.Contains(known, key):
			return a.errorf(l.at, "unknown key %q; there are: %s", key, strings.Join(known, ", "))
		case to.keys[key].at != 0:
			return a.errorf(l.at, "key %s is there twice", key)
		case strings.TrimSpace(value) == "":
			return a.errorf(l.at, "key %s has no value", key)
		}
		to.keys[key] = line{l.at, strings.TrimSpace(value)}
	}
	return nil
}

// lines splits a file into lines, without those that are empty or only a comment. It is never nil.
func lines(data []byte, at int) []line {
	all := []line{}
	for text := range strings.Lines(string(data)) {
		if text = strings.TrimSpace(uncomment(text)); text != "" {
			all = append(all, line{at, text})
		}
		at++
	}
	return all
}

// uncomment cuts a comment off: what begins with a # that is not in "text".
func uncomment(s string) string {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && quoted:
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == '#' && !quoted:
			return s[:i]
		}
	}
	return s
}

// mergeMaps is the contents of two sets, those of the first in front.
func mergeMaps(a, b Maps) Maps {
	if len(a) == 0 {
		return b
	}
	out := maps.Clone(a)
	for name, entries := range b {
		out[name] = slices.Concat(a[name], entries)
	}
	return out
}
