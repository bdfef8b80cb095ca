package skep

import (
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/skep-bpf/skep/internal/cover"
	"github.com/skep-bpf/skep/internal/interp"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/verifier"
)

// Coverage counts how often each instruction of programs runs, and says which lines of C ran by the line records of their BTF. The zero
// value is empty and ready. It can be in the Options of many loads: a program that is loaded several times is counted as one. Its methods
// may be called by many goroutines at a time, while programs run too.
type Coverage struct {
	mu       sync.Mutex
	programs []*counted // by name; of the same name in the order in which they were loaded
}

// counted is a program and its counts.
type counted struct {
	prog   *program.Program
	counts *interp.Counts
}

// countsOf returns the counts of a program, those of an earlier load if there was one. c may be nil: nothing is counted.
func (c *Coverage) countsOf(p *program.Program) *interp.Counts {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	i := 0
	for ; i < len(c.programs) && c.programs[i].prog.Name <= p.Name; i++ {
		if q := c.programs[i].prog; q.Name == p.Name && slices.Equal(q.Insns, p.Insns) && slices.Equal(q.Lines, p.Lines) {
			return c.programs[i].counts
		}
	}
	n := &counted{p, interp.NewCounts(len(p.Insns))}
	c.programs = slices.Insert(c.programs, i, n)
	return n.counts
}

// snapshot is what was counted until now.
func (c *Coverage) snapshot() []*cover.Program {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []*cover.Program
	for _, p := range c.programs {
		s := &cover.Program{Program: p.prog, Ran: make([]uint64, len(p.counts.Ran)), Taken: make([]uint64, len(p.counts.Taken))}
		for i := range s.Ran {
			s.Taken[i] = p.counts.Taken[i].Load() // first: a jump that is counted meanwhile ran at least as often as it jumped
			s.Ran[i] = p.counts.Ran[i].Load()
		}
		out = append(out, s)
	}
	return out
}

// WriteProfile writes which parts of source lines ran, as a profile of Go's cover tool: a line "mode: set" or "mode: count", then for each
// part "FILE:LINE.COLUMN,LINE.COLUMN 1 COUNT". mode is set or count. Files are named as the compiler was told them, or as rename says
// unless it is nil. go tool cover -html shows a profile whose file names are absolute, or begin with a dot and are found from where it is
// started; go tool cover -func reads only Go, Functions stands in for it.
//
// A part begins where a line record of BTF does and ends where the line's next one begins; it counts as often as that of its instructions
// which ran most often.
func (c *Coverage) WriteProfile(w io.Writer, mode string, rename func(file string) string) error {
	return cover.WriteProfile(w, mode, c.snapshot(), rename)
}

// FunctionCoverage is how much of one function of a program ran. What the compiler inlined into it is part of it.
type FunctionCoverage = cover.Function

// Functions lists the functions of all programs, by the names of the programs.
func (c *Coverage) Functions() []FunctionCoverage {
	all := cover.Functions(c.snapshot())
	slices.SortStableFunc(all, func(a, b FunctionCoverage) int { return strings.Compare(a.Program, b.Program) })
	return all
}

// withoutBranches forgets which conditional jumps are decided, so that they are code that runs: but for those that lead to what no path
// reaches, which is not there to be jumped to. res may be nil.
func withoutBranches(p *program.Program, res *verifier.Result) *verifier.Result {
	if res == nil {
		return nil
	}
	r := *res
	r.Insns = slices.Clone(res.Insns)
	for i := range r.Insns {
		in := p.Insns[i]
		if f := &r.Insns[i]; f.Seen && in.IsConditional() && i+1 < len(r.Insns) && r.Insns[i+1].Seen && r.Insns[in.JumpTarget(i)].Seen {
			f.Branch = verifier.BranchUnknown
		}
	}
	return &r
}
