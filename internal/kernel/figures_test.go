package kernel

import (
	"testing"
	"time"
)

func TestFiguresOf(t *testing.T) {
	const log = "R0 !read_ok\nverification time 27 usec\nstack depth 0+8\n" +
		"processed 12 insns (limit 1000000) max_states_per_insn 2 total_states 3 peak_states 4 mark_read 1\n"
	want := Figures{Time: 27 * time.Microsecond, Processed: 12, MaxStates: 2, TotalStates: 3, PeakStates: 4}
	if f, ok := FiguresOf(log); !ok || f != want {
		t.Errorf("%+v, %t", f, ok)
	}
	if _, ok := FiguresOf("R0 !read_ok\n"); ok {
		t.Error("figures of a log without them")
	}
}
