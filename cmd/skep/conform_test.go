package main

import (
	"encoding/binary"
	"encoding/hex"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/skep-bpf/skep/internal/asmtext"
	"github.com/skep-bpf/skep/internal/isa"
)

// conformCase is a program in the form of the public suite: text, instructions, memory, what r0 is in the end.
type conformCase struct{ name, asm, raw, mem, result string }

// conformCases reads testdata/conform.txt: a line "== NAME" begins a case, a line "-- asm", "-- raw", "-- mem" or
// "-- result" one of its parts. The instructions are LLVM's for the text.
func conformCases(t *testing.T) []conformCase {
	b, err := os.ReadFile("testdata/conform.txt")
	if err != nil {
		t.Fatal(err)
	}
	var cases []conformCase
	var part *string
	for line := range strings.Lines(string(b)) {
		if name, ok := strings.CutPrefix(line, "== "); ok {
			cases = append(cases, conformCase{name: strings.TrimSpace(name)})
			continue
		}
		c := &cases[len(cases)-1]
		switch line {
		case "-- asm\n":
			part = &c.asm
		case "-- raw\n":
			part = &c.raw
		case "-- mem\n":
			part = &c.mem
		case "-- result\n":
			part = &c.result
		default:
			*part += line
		}
	}
	return cases
}

// TestConform runs the command as the suite does: a process for each program, its instructions on standard input.
func TestConform(t *testing.T) {
	cases := conformCases(t)
	if len(cases) < 12 {
		t.Fatalf("only %d cases", len(cases))
	}
	self := startable(t)
	for _, c := range cases {
		insns, _, err := asmtext.Parse(c.asm)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if got := hex.EncodeToString(isa.Encode(insns, binary.LittleEndian)); got != strings.ReplaceAll(c.raw, "\n", "") {
			t.Errorf("%s: the text means %s", c.name, got)
		}
		for _, flags := range [][]string{nil, {"-engine", "interp"}, {"-unverified", "-engine", "interp"}} {
			args := append([]string{"conform"}, flags...)
			if c.mem != "" {
				args = append(args, strings.TrimSpace(c.mem))
			}
			cmd := exec.Command(self, args...)
			cmd.Env = append(os.Environ(), asCommand+"=1")
			cmd.Stdin = strings.NewReader(c.raw)
			got, err := cmd.Output()
			if string(got) != c.result || err != nil {
				t.Errorf("%s %v: %q, %v, want %q", c.name, flags, got, err, c.result)
			}
		}
	}
}
