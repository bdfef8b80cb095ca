// Package slowopen is an example: a tracing program (bpf/slowopen.c) and its unit tests. Tasks, registers and time are the test's; the
// object is the one that would be loaded into the kernel.
package slowopen

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/ringbuf"
	"github.com/skep-bpf/skep/skeptest"
)

//go:embed bpf/slowopen.o
var object []byte

// event is struct event of slowopen.c.
type event struct {
	PID, TID uint32
	Duration uint64
	Result   int64
	Comm     [16]byte
}

// regs are the registers of x86-64 as probes see them; the object is compiled for them.
type regs struct {
	R15, R14, R13, R12, BP, BX, R11, R10, R9, R8, AX, CX, DX, SI, DI, OrigAX, IP, CS, Flags, SP, SS uint64
}

var suite = skeptest.Suite{
	Object:  object,
	Load:    skep.Options{Arch: "amd64"},
	Engines: []skep.Engine{skep.EngineAuto, skep.EngineInterpreter},
}

// probe is a step: a probe is hit in a task, some time after the step before.
func probe(name string, after time.Duration, pid, tid uint32, comm string, r regs) skeptest.Case {
	return skeptest.Case{Program: name, Advance: after, Env: skep.Env{TGID: pid, PID: tid, Comm: comm}, Context: r}
}

func comm(s string) (c [16]byte) { copy(c[:], s); return c }

// TestSlowOnesAreReported: two tasks at the same time, one fast and one slow; and one that was there before the probes.
func TestSlowOnesAreReported(t *testing.T) {
	failed := int64(-2) // ENOENT
	c := probe("leave", 0, 7, 7, "before", regs{AX: 3})
	c.Name, c.Consts = "three tasks", map[string]any{"threshold": uint64(time.Millisecond)}
	c.Then = []skeptest.Case{
		probe("enter", 0, 100, 101, "slow one", regs{}),
		probe("enter", 300*time.Microsecond, 200, 200, "fast", regs{}),
		probe("leave", 100*time.Microsecond, 200, 200, "fast", regs{AX: 4}),
		probe("leave", 2*time.Millisecond, 100, 101, "slow one", regs{AX: uint64(failed)}),
	}
	c.Then[3].MapsAfter = skeptest.Maps{
		"events": {{Value: event{PID: 100, TID: 101, Duration: 2_400_000, Result: -2, Comm: comm("slow one")}}},
		"starts": {}, // no task is left
	}
	suite.Run(t, []skeptest.Case{c})
}

// TestFullRing: events that find no room are counted.
func TestFullRing(t *testing.T) {
	const calls = 2000
	c := probe("leave", 0, 1, 1, "before", regs{})
	c.Name, c.Consts = "many", map[string]any{"threshold": 0}
	c.Check = func(c *skep.Collection, _ skep.RunResult) error {
		for range calls {
			for _, name := range []string{"enter", "leave"} {
				if _, err := c.Programs[name].Run(&ebpf.RunOptions{Context: regs{}}); err != nil {
					return err
				}
			}
		}
		var lost uint64
		if err := c.Variables["lost"].Get(&lost); err != nil {
			return err
		}
		r, err := ringbuf.NewReader(c.Maps["events"])
		if err != nil {
			return err
		}
		defer r.Close()
		r.SetDeadline(time.Now())
		n := 0
		for ; err == nil; n++ {
			_, err = r.Read()
		}
		if n--; !errors.Is(err, os.ErrDeadlineExceeded) || n == 0 || lost == 0 || n+int(lost) != calls {
			return fmt.Errorf("%d events, %d lost, of %d; %v", n, lost, calls, err)
		}
		return nil
	}
	suite.Run(t, []skeptest.Case{c})
}
