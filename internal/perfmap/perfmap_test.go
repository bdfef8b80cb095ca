package perfmap

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// TestLines: the format of jit-interface.txt, and names that would break it.
func TestLines(t *testing.T) {
	got := lines([]Entry{{0x7f00deadb000, 0x1c, "skep:count"}, {16, 255, "a b"}, {1, 2, "x\ny\rz\x00"}})
	want := "7f00deadb000 1c skep:count\n10 ff a b\n1 2 x?y?z?\n"
	if got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestConcurrent appends from many goroutines: nothing is lost and no line is torn.
func TestConcurrent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "map")
	const goroutines, times, per = 16, 50, 20
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := range times {
				var es []Entry
				for k := range per {
					es = append(es, Entry{uint64(g), uint64(i), fmt.Sprintf("skep:program%d/function%d", g, k)})
				}
				if err := appendTo(path, es); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	ls := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	if len(ls) != goroutines*times*per {
		t.Errorf("%d lines", len(ls))
	}
	line := regexp.MustCompile(`^([0-9a-f]+) [0-9a-f]+ skep:program(\d+)/function\d+$`)
	for _, l := range ls {
		m := line.FindStringSubmatch(l)
		if m == nil {
			t.Fatalf("torn line %q", l)
		}
		if fmt.Sprintf("%x", atoi(m[2])) != m[1] {
			t.Fatalf("mixed line %q", l)
		}
	}
}

func atoi(s string) (n int) {
	fmt.Sscan(s, &n)
	return n
}

// TestNotOurs: a link or a pipe under the name is not written to.
func TestNotOurs(t *testing.T) {
	dir := t.TempDir()
	entries := []Entry{{1, 2, "x"}}
	victim, link := filepath.Join(dir, "victim"), filepath.Join(dir, "link")
	if err := os.WriteFile(victim, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "windows" { // links need privileges there, and perf is not
		if err := os.Symlink(victim, link); err != nil {
			t.Fatal(err)
		}
		if err := appendTo(link, entries); err == nil {
			t.Error("a link was followed")
		}
		if err := appendTo(os.DevNull, entries); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("a device: %v", err)
		}
	}
	if b, _ := os.ReadFile(victim); string(b) != "precious" {
		t.Errorf("the link's target is now %q", b)
	}
	if err := appendTo(filepath.Join(dir, "missing", "map"), entries); err == nil {
		t.Error("no error without a directory")
	}
	if want := fmt.Sprintf("/tmp/perf-%d.map", os.Getpid()); Path() != want {
		t.Errorf("%s, want %s", Path(), want)
	}
}
