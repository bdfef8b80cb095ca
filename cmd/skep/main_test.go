package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/skep-bpf/skep/internal/native"
)

// asCommand is the variable that makes the test binary the command.
const asCommand = "SKEP_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		os.Exit(skepMain(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	testscript.Main(m, map[string]func(){
		"skep": func() { os.Exit(skepMain(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) },
	})
}

// startable returns the path of the test binary, and skips the test where it cannot be started.
func startable(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err == nil {
		err = exec.Command(self, "-test.list=^$").Run()
	}
	if err != nil {
		t.Skipf("this machine cannot start the test binary by itself (an emulator?): %v", err)
	}
	return self
}

// TestScripts runs the command as users do. Scripts find the fixtures in $OBJ and $DATA.
func TestScripts(t *testing.T) {
	startable(t)
	obj, err := filepath.Abs("../../testdata")
	if err != nil {
		t.Fatal(err)
	}
	data, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("OBJ", obj)
			e.Setenv("DATA", data)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"takeperfmap": takePerfMap},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "jit":
				return native.Supported() == nil, nil
			case "perf":
				return canPerf(), nil
			case "root":
				return os.Geteuid() == 0, nil
			}
			return false, nil
		},
	})
}

// canPerf reports whether the perf tool is installed and may record.
var canPerf = sync.OnceValue(func() bool {
	return exec.Command("perf", "record", "-o", os.DevNull, "true").Run() == nil
})

// takePerfMap moves the perf map that a run has named, in what file args[0] keeps of its output, to file args[1].
func takePerfMap(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: takeperfmap OUTPUT FILE")
	}
	m := regexp.MustCompile(`(?m)^perf map: (.*)$`).FindStringSubmatch(ts.ReadFile(args[0]))
	if m == nil {
		ts.Fatalf("no perf map in %s", args[0])
	}
	b, err := os.ReadFile(m[1])
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), b, 0o666))
	ts.Check(os.Remove(m[1]))
}
