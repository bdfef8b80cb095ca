package kernel

import (
	"fmt"
	"strings"
	"time"
)

// Figures are what the kernel's log says of a verification at level 4.
type Figures struct {
	Time                                          time.Duration
	Processed, MaxStates, TotalStates, PeakStates int
}

// FiguresOf reads the summary of a log (print_verification_stats). ok is false if the log has none.
func FiguresOf(log string) (f Figures, ok bool) {
	for line := range strings.Lines(log) {
		var usec int64
		if n, _ := fmt.Sscanf(line, "verification time %d usec", &usec); n == 1 {
			f.Time = time.Duration(usec) * time.Microsecond
		}
		var limit int
		n, _ := fmt.Sscanf(line, "processed %d insns (limit %d) max_states_per_insn %d total_states %d peak_states %d",
			&f.Processed, &limit, &f.MaxStates, &f.TotalStates, &f.PeakStates)
		ok = ok || n == 5
	}
	return f, ok
}
