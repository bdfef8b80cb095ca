// Package jittest has what the tests of the back ends' encoders share.
package jittest

import (
	"bytes"
	"flag"
	"fmt"
	"hash/fnv"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// Form is one instruction as an encoder made it and as LLVM prints it.
type Form struct {
	Code []byte
	Text string
}

// Forms collects instructions from an encoder's buffer.
type Forms struct {
	Buf  *[]byte
	List []Form
}

// Add notes what the encoder has appended since the last call, and how it reads.
func (f *Forms) Add(text string, args ...any) {
	f.List = append(f.List, Form{bytes.Clone(*f.Buf), fmt.Sprintf(text, args...)})
	*f.Buf = (*f.Buf)[:0]
}

// CheckLLVM disassembles every form with LLVM's llvm-mc, called with args, and compares the texts by same. It skips the test where
// there is no llvm-mc.
func CheckLLVM(t *testing.T, list []Form, same func(llvm, ours string) bool, args ...string) {
	t.Helper()
	tool := ""
	for _, n := range []string{"llvm-mc-22", "llvm-mc"} {
		if p, err := exec.LookPath(n); err == nil {
			tool = p
			break
		}
	}
	if tool == "" {
		t.Skip("llvm-mc is not installed")
	}
	var in bytes.Buffer
	for _, f := range list {
		for _, b := range f.Code {
			fmt.Fprintf(&in, "0x%02x ", b)
		}
		in.WriteByte('\n')
	}
	cmd := exec.Command(tool, append([]string{"-disassemble"}, args...)...)
	cmd.Stdin = &in
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range strings.Split(string(out), "\n") {
		if l, _, _ = strings.Cut(l, "//"); strings.TrimSpace(l) != "" && !strings.HasPrefix(strings.TrimSpace(l), ".") {
			got = append(got, strings.Join(strings.Fields(l), " "))
		}
	}
	if len(got) != len(list) {
		t.Fatalf("%d instructions, LLVM saw %d", len(list), len(got))
	}
	bad := 0
	for i, f := range list {
		if !same(got[i], f.Text) {
			t.Errorf("% x: %q, LLVM says %q", f.Code, f.Text, got[i])
			if bad++; bad == 20 {
				return
			}
		}
	}
	t.Logf("%d forms", len(list))
}

var update = flag.Bool("update", false, "write the golden files anew")

// CheckGolden compares one in sample forms, chosen by their text, with the lines "bytes  text" of a file.
func CheckGolden(t *testing.T, list []Form, file string, sample uint32) {
	t.Helper()
	var lines []string
	for _, f := range list {
		h := fnv.New32a()
		h.Write([]byte(f.Text))
		if h.Sum32()%sample == 0 {
			lines = append(lines, fmt.Sprintf("%x\t%s\n", f.Code, f.Text))
		}
	}
	slices.SortFunc(lines, func(a, b string) int {
		_, x, _ := strings.Cut(a, "\t")
		_, y, _ := strings.Cut(b, "\t")
		return strings.Compare(x, y)
	})
	got := strings.Join(slices.Compact(lines), "")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) == got {
		return
	}
	w := strings.SplitAfter(string(want), "\n")
	for i, l := range strings.SplitAfter(got, "\n") {
		if i >= len(w) || w[i] != l {
			t.Fatalf("%s:%d: the encoder makes %q; -update if that is meant", file, i+1, l)
		}
	}
	t.Fatalf("%s has lines that the encoder does not make", file)
}
