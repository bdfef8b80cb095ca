package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/skep-bpf/skep/internal/native"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"skep": func() { os.Exit(skepMain(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) },
	})
}

// TestScripts runs the command as users do. Scripts find the fixtures in $OBJ.
func TestScripts(t *testing.T) {
	if err := exec.Command(os.Args[0], "-test.list=^$").Run(); err != nil {
		t.Skipf("this machine cannot start the test binary by itself (an emulator?): %v", err)
	}
	obj, err := filepath.Abs("../../testdata")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("OBJ", obj)
			return nil
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "jit":
				return native.Supported() == nil, nil
			case "root":
				return os.Geteuid() == 0, nil
			}
			return false, nil
		},
	})
}
