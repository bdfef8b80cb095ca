// Package perfmap tells the perf tool which function machine code in this process is: it appends lines "START SIZE name" to
// /tmp/perf-PID.map, where perf report looks for code that no file holds (tools/perf/Documentation/jit-interface.txt of the
// kernel). Numbers are hexadecimal without 0x.
package perfmap

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
)

// Entry is one function.
type Entry struct {
	Start, Size uint64
	Name        string
}

// Path returns where perf looks for the map of this process, whatever TMPDIR says.
func Path() string { return fmt.Sprintf("/tmp/perf-%d.map", os.Getpid()) }

// mu keeps lines whole where several goroutines load programs.
var mu sync.Mutex

// Append adds functions to the map of this process, which is created when it is not there. There is no way to take one out:
// code that comes to lie where freed code was is listed behind it.
func Append(entries []Entry) error { return appendTo(Path(), entries) }

// appendTo refuses to follow a link or to write what is no file: everybody can put something into /tmp under the name.
func appendTo(path string, entries []Entry) error {
	if len(entries) == 0 {
		return nil
	}
	mu.Lock()
	defer mu.Unlock()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|noFollow, 0o600)
	if err != nil {
		return fmt.Errorf("perf map: %w", err)
	}
	err = check(f)
	if err == nil {
		_, err = f.WriteString(lines(entries))
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("perf map: %w", err)
	}
	return nil
}

func check(f *os.File) error {
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", f.Name())
	}
	return err
}

// lines writes the entries as perf reads them. A name goes up to the end of its line.
func lines(entries []Entry) string {
	var b strings.Builder
	for _, e := range entries {
		name := strings.Map(func(r rune) rune {
			if r == '\n' || r == '\r' || r == 0 {
				return '?'
			}
			return r
		}, e.Name)
		fmt.Fprintf(&b, "%x %x %s\n", e.Start, e.Size, name)
	}
	return b.String()
}
