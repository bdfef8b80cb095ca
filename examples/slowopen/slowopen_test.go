// Package slowopen is an example: a tracing program (bpf/slowopen.c) and its unit tests. Tasks, registers and time are the test's; the
// object is the one that would be loaded into the kernel.
package slowopen

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/binary"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/ringbuf"
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

// tracer is the program, with a clock that the test steps.
type tracer struct {
	t     *testing.T
	clock *skep.FakeClock
	coll  *skep.Collection
}

// each runs f on every engine.
func each(t *testing.T, threshold time.Duration, f func(t *testing.T, tr *tracer)) {
	for _, e := range []skep.Engine{skep.EngineAuto, skep.EngineInterpreter} {
		t.Run(e.String(), func(t *testing.T) {
			spec, err := skep.LoadCollectionSpecFromReader(bytes.NewReader(object))
			if err != nil {
				t.Fatal(err)
			}
			if err := spec.Variables["threshold"].Set(uint64(threshold)); err != nil {
				t.Fatal(err)
			}
			coll, err := skep.NewCollectionWithOptions(spec, skep.Options{Engine: e, Arch: "amd64"})
			if err != nil {
				t.Fatalf("%+v", err)
			}
			t.Cleanup(coll.Close)
			f(t, &tracer{t, skep.NewFakeClock(1e9), coll})
		})
	}
}

// probe runs a probe in a task.
func (tr *tracer) probe(name string, pid, tid uint32, comm string, r regs) {
	tr.t.Helper()
	env := skep.Env{TGID: pid, PID: tid, Comm: comm, Clock: tr.clock}
	if _, err := tr.coll.Programs[name].RunAs(context.Background(), env, &ebpf.RunOptions{Context: r}); err != nil {
		tr.t.Fatal(err)
	}
}

// events reads what is in the ring buffer.
func (tr *tracer) events() (all []event) {
	tr.t.Helper()
	r, err := ringbuf.NewReader(tr.coll.Maps["events"])
	if err != nil {
		tr.t.Fatal(err)
	}
	defer r.Close()
	r.SetDeadline(time.Now())
	for {
		rec, err := r.Read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return all
		}
		if err != nil {
			tr.t.Fatal(err)
		}
		var e event
		if err := binary.Read(bytes.NewReader(rec.RawSample), binary.LittleEndian, &e); err != nil {
			tr.t.Fatal(err)
		}
		all = append(all, e)
	}
}

func comm(s string) (c [16]byte) { copy(c[:], s); return c }

// TestSlowOnesAreReported: two tasks at the same time, one fast and one slow; and one that was there before the probes.
func TestSlowOnesAreReported(t *testing.T) {
	each(t, time.Millisecond, func(t *testing.T, tr *tracer) {
		tr.probe("leave", 7, 7, "before", regs{AX: 3})
		tr.probe("enter", 100, 101, "slow one", regs{})
		tr.clock.Advance(300 * time.Microsecond)
		tr.probe("enter", 200, 200, "fast", regs{})
		tr.clock.Advance(100 * time.Microsecond)
		tr.probe("leave", 200, 200, "fast", regs{AX: 4})
		tr.clock.Advance(2 * time.Millisecond)
		failed := int64(-2) // ENOENT
		tr.probe("leave", 100, 101, "slow one", regs{AX: uint64(failed)})
		want := []event{{PID: 100, TID: 101, Duration: 2_400_000, Result: -2, Comm: comm("slow one")}}
		if d := cmp.Diff(want, tr.events()); d != "" {
			t.Error(d)
		}
		var key, start uint64
		if tr.coll.Maps["starts"].Iterate().Next(&key, &start) {
			t.Errorf("a task is left: %#x", key)
		}
	})
}

// TestFullRing: events that find no room are counted.
func TestFullRing(t *testing.T) {
	each(t, 0, func(t *testing.T, tr *tracer) {
		const calls = 2000
		for tid := range uint32(calls) {
			tr.probe("enter", 1, tid, "many", regs{})
			tr.probe("leave", 1, tid, "many", regs{})
		}
		var lost uint64
		if err := tr.coll.Variables["lost"].Get(&lost); err != nil {
			t.Fatal(err)
		}
		if n := len(tr.events()); n == 0 || lost == 0 || n+int(lost) != calls {
			t.Errorf("%d events, %d lost, of %d", n, lost, calls)
		}
	})
}
