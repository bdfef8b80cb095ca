package difftest

import (
	"flag"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/skep-bpf/skep/internal/kernel"
	"github.com/skep-bpf/skep/internal/progen"
	"github.com/skep-bpf/skep/internal/program"
)

var (
	logPrograms = flag.Int("log-programs", 60, "random programs, each also mutated, of which the logs are compared line by line")
	logStrict   = flag.Bool("log-strict", false, "every difference between logs is a failure")
	logSeed     = flag.Uint64("log-seed", 1, "seed of the first of them")
)

var (
	mapAddress = regexp.MustCompile(`(r\d+ = )0x[0-9a-f]+`)
	kfuncNum   = regexp.MustCompile(`(call \w+)#\d+`) // a type's number in the kernel, an index here
	spaces     = regexp.MustCompile(` *; *`)
	isInsn     = regexp.MustCompile(`^\d+: \([0-9a-f]{2}\) [^;]*$`)
	isState    = regexp.MustCompile(`^\d+:(?: ((?:frame\d+:|R\d+=|fp-|refs=|cb|async_cb).*))?$`)
	// What 6.18 tells at level 2 of its own liveness analysis of stack slots and of loops.
	internals = regexp.MustCompile(`^(\(\S*\) (frame|live stack)|SCC |stack use/def)`)
)

// kfuncID is the number by which the kernel names one of its functions.
var kfuncID = regexp.MustCompile(`(\(85\) call [a-zA-Z_]\w*#)\d+`)

// logLines returns the lines of a log that must be equal: all but the time, with the addresses of maps left out and
// the columns of comments closed up.
func logLines(log string) []string {
	var lines []string
	dropped := false
	for line := range strings.Lines(log) {
		line = strings.TrimRight(line, "\n ")
		if strings.HasPrefix(line, "verification time ") {
			continue
		}
		if internals.MatchString(line) {
			dropped = true
			continue
		}
		// A state that was to stand behind an instruction comes alone where internals were printed in between.
		if n := len(lines); dropped && n > 0 && isInsn.MatchString(lines[n-1]) {
			if m := isState.FindStringSubmatch(line); m != nil {
				line, lines = lines[n-1]+";"+m[1], lines[:n-1]
			}
		}
		dropped = false
		line = kfuncID.ReplaceAllString(line, "$1")
		if strings.Contains(line, "(18)") {
			line = mapAddress.ReplaceAllString(line, "${1}N")
		}
		if !strings.HasPrefix(line, "processed ") && strings.Contains(line, "(85)") {
			line = kfuncNum.ReplaceAllString(line, "$1")
		}
		lines = append(lines, spaces.ReplaceAllString(line, ";"))
	}
	return lines
}

// firstDifference returns the first line at which two logs differ, with the instruction before it; "" if they do not.
func firstDifference(ours, kernel string) string {
	a, b := logLines(ours), logLines(kernel)
	for i := 0; i < len(a) || i < len(b); i++ {
		var x, y string
		if i < len(a) {
			x = a[i]
		}
		if i < len(b) {
			y = b[i]
		}
		if x != y {
			before := ""
			if i > 0 && i <= len(b) {
				before = b[i-1]
			}
			return fmt.Sprintf("line %d, after %q\nkernel %s\nours   %s", i+1, before, y, x)
		}
	}
	return ""
}

// logsEqual is the least share of logs, in percent, that must be equal. Where both verifiers prove the same, the walk
// may still differ: docs/differences.md says where. (A register that an atomic instruction fetches into is traced no
// further back, which the kernel does; statistics count a few things differently.)
const logsEqual = 75

// TestLogs compares the whole logs, at level 2, of both verifiers for random programs and mutations of them: every
// state, every step of precision, every message and the number of instructions processed.
func TestLogs(t *testing.T) {
	if err := kernel.Available(); err != nil {
		t.Skip(err)
	}
	same, differ, none := 0, 0, 0
	for i := range *logPrograms {
		seed := *logSeed + uint64(i)
		p := progen.New(seed, progen.ConfigFor(seed, 5))
		for n, q := range []*program.Program{p, progen.Mutate(p, seed)} {
			v, err := judge(q, 2, randomLimit)
			if err != nil || len(v.KernelLog) > 8<<20 {
				none++
				continue
			}
			d := firstDifference(v.OurLog, v.KernelLog)
			if d == "" {
				same++
				continue
			}
			if differ++; differ <= 8 && (*logStrict || testing.Verbose()) {
				t.Logf("go test ./internal/difftest -run TestLogs -log-seed %d -log-programs 1\nvariant %d: %s", seed, n, d)
			}
		}
	}
	t.Logf("%d logs are equal, %d differ, %d cannot be compared", same, differ, none)
	if *logStrict && differ > 0 || same*100 < (same+differ)*logsEqual {
		t.Errorf("%d of %d logs differ", differ, same+differ)
	}
}
