package abi

import (
	"fmt"
	"strings"
	"testing"
)

// TestTable holds the tables against section 5 of stack_arguments.md.
func TestTable(t *testing.T) {
	for _, c := range []struct {
		a    *Arch
		want string
	}{
		{&AMD64, "rdi rsi rdx rcx r8 r9 0/16 8/24 16/32 24/40 32/48 40/56"},
		{&ARM64, "x0 x1 x2 x3 x4 x5 x6 x7 0/16 8/24 16/32 24/40"},
		{&RISCV64, "a0 a1 a2 a3 a4 a5 a6 a7 0/0 8/8 16/16 24/24"},
	} {
		var got []string
		for _, l := range c.a.Args {
			if l.InMemory() {
				got = append(got, fmt.Sprintf("%d/%d", l.Caller, l.Callee))
			} else {
				got = append(got, l.Name)
			}
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: %s, want %s", c.a.Name, s, c.want)
		}
	}
	// The outgoing area: (needed-1)*8 bytes on x86-64, (needed-3)*8 on arm64.
	for slots := 0; slots <= MaxSlot; slots++ {
		if got, want := AMD64.Outgoing(slots), max(slots-1, 0)*8; got != want {
			t.Errorf("amd64: %d slots take %d bytes, want %d", slots, got, want)
		}
		if got, want := ARM64.Outgoing(slots), max(slots-3, 0)*8; got != want {
			t.Errorf("arm64: %d slots take %d bytes, want %d", slots, got, want)
		}
	}
}
