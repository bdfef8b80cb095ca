package object_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-bpf/skep/internal/program"
)

// TestExceptionCallbacks: a function that only a tag names is part of the program, behind all others, with what it calls; and no program
// itself. Its lines are there, too.
func TestExceptionCallbacks(t *testing.T) {
	o := load(t, "exceptions.o")
	for _, name := range o.Programs() {
		if slices.Contains([]string{"caught", "doubled", "other", "checked"}, name) {
			t.Errorf("%s is a program", name)
		}
	}
	for name, want := range map[string][]string{
		"throws_to_callback": {"throws_to_callback", "checked", "caught", "doubled"},
		"throws_to_other":    {"throws_to_other", "checked", "other"},
		"throws":             {"throws", "checked"},
	} {
		p := build(t, o, name, program.Options{})
		var have []string
		for i := range p.Funcs {
			f := &p.Funcs[i]
			have = append(have, f.Name)
			if f.Type == nil || f.Type.Name != f.Name {
				t.Errorf("%s: function %s has no type", name, f.Name)
			}
			if p.LineAt(f.Start) == nil || p.LineAt(f.Start).Insn != f.Start {
				t.Errorf("%s: function %s begins with no source line", name, f.Name)
			}
		}
		if diff := cmp.Diff(want, have); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if f := o.Function("caught"); f == nil || f.Section != ".text" {
		t.Errorf("function caught: %+v", f)
	}
}
