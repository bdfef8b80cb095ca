package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"sort"
	"strings"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/verifier"
)

// programs returns the names of the programs to work on, sorted: that one, or all.
func programs(spec *ebpf.CollectionSpec, only string) []string {
	var names []string
	for name, p := range spec.Programs {
		if (only == "" || name == only) && p.Type != ebpf.UnspecifiedProgram {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	return names
}

// noProgram says that there is no such program, and which there are.
func noProgram(spec *ebpf.CollectionSpec, name string) string {
	all := programs(spec, "")
	switch {
	case spec.Programs[name] != nil:
		return fmt.Sprintf("section %s of program %s does not say its type; -type can, for skep verify, run and bench", spec.Programs[name].SectionName, name)
	case len(all) == 0 && len(spec.Programs) > 0:
		return "the sections of the programs do not say their type; -type can, for skep verify, run and bench"
	case len(all) == 0:
		return "there are no programs"
	}
	return fmt.Sprintf("no program %s; there are: %s", name, strings.Join(all, ", "))
}

// oneProgram returns the program that is meant: that of the name, or the only one there is.
func oneProgram(spec *ebpf.CollectionSpec, name string) (string, error) {
	names := programs(spec, name)
	switch {
	case len(names) == 1:
		return names[0], nil
	case name == "" && len(names) > 1:
		return "", fmt.Errorf("which program? choose with -prog: %s", strings.Join(names, ", "))
	}
	return "", fmt.Errorf("%s", noProgram(spec, name))
}

// loadCode is the exit code for an error of loading a program: rejected, or not even that.
func loadCode(err error) int {
	var rejected *ebpf.VerifierError // skep's are such, too
	if errors.As(err, &rejected) {
		return exitRejected
	}
	return exitUsage
}

// explain prints the report of an error that is a rejection.
func (e *env) explain(err error) {
	var rejected *skep.VerifierError
	if errors.As(err, &rejected) {
		fmt.Fprint(e.stderr, rejected.Report())
	}
}

// printJSON prints v as one line, with < > & as they are.
func (e *env) printJSON(v any) error {
	enc := json.NewEncoder(e.stdout)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// oneFile reads the arguments of a verb that takes one object; ok is false if the verb is done with exit code code.
func (e *env) oneFile(fs *flag.FlagSet, args []string) (file string, spec *ebpf.CollectionSpec, code int, ok bool) {
	files, code, ok := e.parse(fs, args)
	if !ok {
		return "", nil, code, false
	}
	return e.loadOne(files)
}

// loadOne loads the object of a verb that takes one; ok is false if the verb is done with exit code code.
func (e *env) loadOne(files []string) (file string, spec *ebpf.CollectionSpec, code int, ok bool) {
	if len(files) != 1 {
		return "", nil, e.usageError("one file is needed"), false
	}
	spec, err := skep.LoadCollectionSpec(files[0])
	if err != nil {
		return "", nil, e.fail(exitUsage, err), false
	}
	return files[0], spec, exitOK, true
}

// someOf is oneFile for a verb that works on one program or all of them.
func (e *env) someOf(fs *flag.FlagSet, args []string, prog *string) (spec *ebpf.CollectionSpec, names []string, code int, ok bool) {
	file, spec, code, ok := e.oneFile(fs, args)
	if !ok {
		return nil, nil, code, false
	}
	if names = programs(spec, *prog); len(names) == 0 {
		return nil, nil, e.fail(exitUsage, fmt.Errorf("%s: %s", file, noProgram(spec, *prog))), false
	}
	return spec, names, exitOK, true
}

// targetFlag adds -target, the kernel whose verdict is asked for.
func targetFlag(fs *flag.FlagSet) *verifier.Target {
	t := new(verifier.Target)
	fs.Func("target", "", func(name string) (err error) {
		*t, err = verifier.ParseTarget(name)
		return err
	})
	return t
}
