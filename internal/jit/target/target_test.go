package target

import (
	"runtime"
	"slices"
	"strings"
	"testing"
)

// TestLookup: every name and alias leads to its target, "" to this host's or the first, and the error of an unknown name
// lists the known ones.
func TestLookup(t *testing.T) {
	for _, want := range Targets {
		for _, name := range append([]string{want.Name}, want.aliases...) {
			if got, err := Lookup(name); got != want || err != nil {
				t.Errorf("%s: %v, %v", name, got, err)
			}
		}
		if want.ABI.Name != want.Name {
			t.Errorf("%s has the convention of %s", want.Name, want.ABI.Name)
		}
	}
	own := Targets[0].Name
	if slices.Contains(Names(), runtime.GOARCH) {
		own = runtime.GOARCH
	}
	if got, err := Lookup(""); err != nil || got.Name != own {
		t.Errorf("this host's: %v, %v; want %s", got, err, own)
	}
	_, err := Lookup("pdp11")
	if err == nil {
		t.Fatal("there is a compiler for the pdp11")
	}
	for _, name := range append(Names(), "pdp11") {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("the error does not name %s: %v", name, err)
		}
	}
}
