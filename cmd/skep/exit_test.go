package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestExitCodes: 0 if all is well, 1 if a program was rejected or failed, 2 for wrong arguments and what cannot be loaded.
// Where something is wrong, standard error says what.
func TestExitCodes(t *testing.T) {
	const obj = "../../testdata/"
	capture, err := os.ReadFile(obj + "two.pcap")
	if err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(t.TempDir(), "empty.pcap")
	if err := os.WriteFile(empty, capture[:24], 0o666); err != nil { // the header alone
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		code int
		text string // in what is printed
	}{
		{"verify " + obj + "globals.o", 0, "accepted"},
		{"verify " + obj + "counter.o", 1, "rejected"},
		{"verify " + obj + "counter.o -prog count -log 7", 0, "verification time"},
		{"verify " + obj + "counter.o -log 8", 2, "levels are 1, 2, 4"},
		{"verify nothing.o " + obj + "counter.o", 2, "count: accepted"},
		{"verify -json nothing.o", 2, `{"program":"","verdict":"not loaded","error":"open nothing.o`},
		{"verify " + obj + "private.o", 1, "needs_variable: rejected"},
		{"verify", 2, "no file given"},
		{"verify " + obj + "counter.o -prog count -type xdp", 0, "count: accepted"},
		{"verify " + obj + "counter.o -prog count -type kprobe", 1, "invalid mem access 'scalar'"},
		{"verify " + obj + "counter.o -prog count -type warp/speed", 2, "no type of programs goes by \"warp/speed\""},
		{"bench verify " + obj + "counter.o -prog count -type xdp -n 1", 0, "counter.o/count"},
		{"run " + obj + "hooks/hook.o -prog deny", 2, "section app/request/deny of program deny does not say its type"},
		{"run " + obj + "hooks/hook.o -prog deny -type syscall.s -ctx " + strings.Repeat("00", 80), 0, "returned 0"},
		{"bench verify " + obj + "counter.o -n 1", 0, "counter.o/count"},
		{"bench verify " + obj + "counter.o -n 1 -json -top 1", 0, `"geometric_mean":`},
		{"bench verify nothing.o " + obj + "counter.o -n 1", 2, "counter.o/unchecked (rejected)"},
		{"bench verify " + obj + "counter.o -n 0", 2, "at least one"},
		{"bench verify " + obj + "counter.o -prog nope", 2, "no programs to measure"},
		{"bench " + obj + "counter.o", 2, "say what to measure"},
		{"bench verify", 2, "no file given"},
		{"run " + obj + "nesting.o -prog nesting", 0, "returned 29"},
		{"run " + obj + "counter.o -prog count -maps -json", 0, `{"maps":{"by_protocol":{"ff000000":"01000000000000004000000000000000"}`},
		{"run " + obj + "counter.o -prog unchecked", 1, "invalid access to packet"},
		{"run " + obj + "counter.o -prog count -data 00", 1, "packet of 1 bytes"},
		{"run ../../skeptest/testdata/cases.txtar", 0, "4 passed, 0 failed"},
		{"run testdata/failing.txtar", 1, "1 passed, 2 failed"},
		{"run testdata/failing.txtar -run ^passes$", 0, "1 passed, 0 failed"},
		{"run testdata/failing.txtar -run nothing", 2, "no case is called nothing"},
		{"run testdata/malformed.txtar", 2, "malformed.txtar:5: unknown key"},
		{"run " + obj + "counter.o -prog count -engine warp", 2, "use jit, interp or kernel"},
		{"run " + obj + "counter.o -prog count -repeat 4294967297", 2, "-repeat: at most"},
		{"run " + obj + "counter.o -prog count -data @" + empty, 2, "empty.pcap holds no packets"},
		{"run " + obj + "counter.o -prog count -data @" + obj + "counter.c.pcap", 2, "no such file"},
		{"run " + obj + "counter.o -prog nope", 2, "no program nope"},
		{"run " + obj + "private.o -prog needs_variable", 2, "there are no kernel variables"},
		{"run nothing.o", 2, "no such file"},
		{"test " + obj + "nesting.o", 0, "3 passed, 0 failed"},
		{"test " + obj + "nesting.o -known nothing.txt", 2, "nothing.txt"},
		{"test nothing.o", 2, "0 passed, 0 failed"},
		{"jit " + obj + "nesting.o -prog nesting -arch amd64", 0, "mov r9"},
		{"jit " + obj + "nesting.o -prog writes_too_many", 1, "stack arg slots"},
		{"jit " + obj + "nesting.o -arch vax", 2, "vax"},
		{"disasm " + obj + "nesting.o -prog nesting", 0, "*(u64 *)(r11 -8) = r2"},
		{"disasm " + obj + "nesting.o -prog nope", 2, "no program nope"},
		{"conform xy", 2, "not hexadecimal"},
		{"conform 00", 1, "last insn is not an exit"},
		{"help verify", 0, "Examples:"},
		{"help nope", 2, "there is no verb"},
		{"nope", 2, "there is no verb"},
		{"demo now", 2, "takes no arguments"},
	} {
		var out, errs bytes.Buffer
		code := skepMain(strings.Fields(c.args), strings.NewReader(""), &out, &errs)
		if all := out.String() + errs.String(); code != c.code || !strings.Contains(all, c.text) {
			t.Errorf("skep %s: exit code %d, want %d with %q\n%s", c.args, code, c.code, c.text, all)
		}
		if code == 2 && errs.Len() == 0 && !strings.Contains(out.String(), "not loaded") {
			t.Errorf("skep %s: nothing says why", c.args)
		}
	}
}
