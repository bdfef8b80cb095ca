package elfobj

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// tools are other people's readers, with what they must say. The object is their last argument. Binutils have their names with
// the machine in front on every Debian; gdb is the host's.
var tools = []struct {
	machine elf.Machine
	args    []string
	want    []string // regular expressions
}{
	{elf.EM_X86_64, []string{"x86_64-linux-gnu-readelf", "-aW"}, []string{`Advanced Micro Devices X86-64`, `FUNC +GLOBAL +DEFAULT +1 answer`, `FUNC +LOCAL +DEFAULT +1 seven`, `\.note\.GNU-stack`}},
	{elf.EM_X86_64, []string{"x86_64-linux-gnu-objdump", "-dl"}, []string{`answer\(\):\s+/src/answer\.c:10`, `mov +\$0x2a,%eax`, `/src/seven\.h:7`}},
	{elf.EM_X86_64, []string{"x86_64-linux-gnu-nm"}, []string{`0000000000000000 T answer`, `t seven`}},
	{elf.EM_X86_64, []string{"gdb", "-nx", "-batch", "-ex", "info line seven", "-ex", "disassemble answer"}, []string{`Line 7 of "/src/seven\.h"`, `mov +\$0x2a,%eax`}},
	{elf.EM_AARCH64, []string{"aarch64-linux-gnu-readelf", "-aW"}, []string{`AArch64`, `FUNC +GLOBAL +DEFAULT +1 answer`}},
	{elf.EM_AARCH64, []string{"aarch64-linux-gnu-objdump", "-dl"}, []string{`answer\(\):\s+/src/answer\.c:10`, `mov\s+w0, #0x2a`, `/src/seven\.h:7`}},
	{elf.EM_AARCH64, []string{"aarch64-linux-gnu-nm"}, []string{`0000000000000000 T answer`, `t seven`}},
}

// TestTools gives objects to binutils and gdb, where they are installed: they must read all of it and find no fault.
func TestTools(t *testing.T) {
	for _, c := range tools {
		t.Run(c.machine.String()+"/"+c.args[0], func(t *testing.T) {
			if c.args[0] == "gdb" && runtime.GOARCH != "amd64" {
				t.Skip("gdb reads its own machine's objects")
			}
			out := runTool(t, append(slices.Clone(c.args), writeObject(t, c.machine))...)
			for _, w := range c.want {
				if !regexp.MustCompile(w).MatchString(out) {
					t.Errorf("%q: no %s in\n%s", c.args, w, out)
				}
			}
		})
	}
}

// TestLink links an object into an executable, for its machine, and looks whether the lines went to their addresses.
func TestLink(t *testing.T) {
	for _, c := range []struct {
		machine elf.Machine
		ld      string
	}{{elf.EM_X86_64, "x86_64-linux-gnu-ld"}, {elf.EM_AARCH64, "aarch64-linux-gnu-ld"}} {
		t.Run(c.machine.String(), func(t *testing.T) {
			exe := filepath.Join(t.TempDir(), "exe")
			runTool(t, c.ld, "--fatal-warnings", "-e", "answer", "-Ttext=0x500000", "-o", exe, writeObject(t, c.machine))
			f, err := elf.Open(exe)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if f.Entry != 0x500000 {
				t.Errorf("entry %#x", f.Entry)
			}
			for _, p := range f.Progs {
				if p.Type == elf.PT_GNU_STACK && p.Flags&elf.PF_X != 0 {
					t.Error("the stack is executable")
				}
			}
			d, err := f.DWARF()
			if err != nil {
				t.Fatal(err)
			}
			unit, err := d.Reader().SeekPC(0x500000 + 4)
			if err != nil {
				t.Fatal(err)
			}
			if lr, err := d.LineReader(unit); err != nil || lr.Files()[1].Name != "/src/answer.c" {
				t.Errorf("%v", err)
			}
		})
	}
}

func writeObject(t *testing.T, machine elf.Machine) string {
	t.Helper()
	for _, m := range machines {
		if m.Machine != machine {
			continue
		}
		b, err := m.object().Bytes()
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "x.o")
		if err := os.WriteFile(file, b, 0o644); err != nil {
			t.Fatal(err)
		}
		return file
	}
	t.Fatalf("no code for %s", machine)
	return ""
}

// runTool runs a command that must succeed and say nothing on its standard error.
func runTool(t *testing.T, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(args[0])
	if err != nil {
		t.Skip(err)
	}
	var out, errs strings.Builder
	cmd := exec.Command(path, args[1:]...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBUGINFOD_URLS=")
	if err := cmd.Run(); err != nil || errs.Len() > 0 {
		t.Fatalf("%q: %v\n%s", args, err, errs.String())
	}
	return out.String()
}
