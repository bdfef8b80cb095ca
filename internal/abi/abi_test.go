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
		{&AMD64, "rax rsp rbp 16: rdi rsi rdx rcx r8 r9 0/16 8/24 16/32 24/40 32/48 40/56"},
		{&ARM64, "x0 sp fp 16: x0 x1 x2 x3 x4 x5 x6 x7 0/16 8/24 16/32 24/40"},
		{&RISCV64, "a0 sp s0 16: a0 a1 a2 a3 a4 a5 a6 a7 0/0 8/8 16/16 24/24"},
	} {
		got := []string{c.a.Result.Name, c.a.SP, c.a.FP, fmt.Sprintf("%d:", c.a.StackAlign)}
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
	for n := RegArgs + 1; n <= MaxArgs; n++ {
		if got, want := InSlot(n), []int{8, 16, 24, 32, 40, 48, 56}[n-6]; got != want {
			t.Errorf("argument %d is at r11%+d, want %d", n, got, want)
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
