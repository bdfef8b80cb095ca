//go:build linux

package skep_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	kernelring "github.com/cilium/ebpf/ringbuf"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/ringbuf"
)

// recordReader is a reader of a ring buffer, here or in the kernel.
type recordReader interface {
	Read() (ringbuf.Record, error)
	SetDeadline(time.Time)
	Close() error
}

// allRecords reads what is in a ring buffer.
func allRecords(t *testing.T, r recordReader) [][]byte {
	t.Helper()
	defer r.Close()
	r.SetDeadline(time.Now())
	var all [][]byte
	for {
		rec, err := r.Read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, bytes.Clone(rec.RawSample))
	}
}

// ringOutcome is what the runs of one program left: results, packets, records of all ring buffers.
type ringOutcome struct {
	rets    []uint32
	packets [][]byte
	records map[string][][]byte
}

// ringRuns are how often each program runs: rings go round their end, and are full at some time.
const ringRuns = 40

func ringPacket(i int) []byte {
	p := make([]byte, 64+i)
	for j := range p {
		p[j] = byte(j*7 + i)
	}
	p[12], p[13] = 0x88, 0xb5 // no IP packet
	return p
}

// runRings runs a program, and empties the rings where every third run is through.
func runRings(t *testing.T, run func(*ebpf.RunOptions) (uint32, error), readers map[string]func() recordReader) ringOutcome {
	t.Helper()
	out := ringOutcome{records: map[string][][]byte{}}
	for i := range ringRuns {
		data := ringPacket(i)
		o := &ebpf.RunOptions{Data: data, DataOut: make([]byte, len(data)+256)}
		ret, err := run(o)
		if err != nil {
			t.Fatal(err)
		}
		out.rets, out.packets = append(out.rets, ret), append(out.packets, o.DataOut)
		for name, open := range readers {
			if i%3 == 2 {
				out.records[name] = append(out.records[name], allRecords(t, open())...)
			}
		}
	}
	return out
}

func ourRings(t *testing.T, c *skep.Collection) map[string]func() recordReader {
	readers := map[string]func() recordReader{}
	for name, m := range c.Maps {
		if m.Type() != ebpf.RingBuf {
			continue
		}
		readers[name] = func() recordReader {
			r, err := ringbuf.NewReader(m)
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
	}
	return readers
}

func kernelRings(t *testing.T, c *ebpf.Collection) map[string]func() recordReader {
	readers := map[string]func() recordReader{}
	for name, m := range c.Maps {
		if m.Type() != ebpf.RingBuf {
			continue
		}
		readers[name] = func() recordReader {
			r, err := kernelring.NewReader(m)
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
	}
	return readers
}

// inKernel runs a program of an object in the kernel.
func ringsInKernel(t *testing.T, file, name string) ringOutcome {
	spec, err := ebpf.LoadCollectionSpec("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	for n := range spec.Programs {
		if n != name {
			delete(spec.Programs, n)
		}
	}
	c, err := ebpf.NewCollection(spec)
	if err != nil {
		t.Fatalf("kernel: %+v", err)
	}
	defer c.Close()
	return runRings(t, c.Programs[name].Run, kernelRings(t, c))
}

// TestRingsAsKernel runs testdata/ringbuf.c and testdata/dynptr.c on every engine and in the kernel: results, packets and the records
// that come out of the ring buffers are the same.
func TestRingsAsKernel(t *testing.T) {
	needKernel(t)
	for _, file := range []string{"ringbuf.o", "dynptr.o"} {
		spec, err := ebpf.LoadCollectionSpec("testdata/" + file)
		if err != nil {
			t.Fatal(err)
		}
		for name := range spec.Programs {
			if spec.Programs[name].Type == ebpf.UnspecifiedProgram {
				continue // a function
			}
			t.Run(name, func(t *testing.T) {
				want := ringsInKernel(t, file, name)
				for _, e := range engines() {
					c := load(t, file, skep.Options{Engine: e}, name)
					got := runRings(t, c.Programs[name].Run, ourRings(t, c))
					compareRings(t, e, want, got)
				}
			})
		}
	}
}

// TestRingsOnEngines is TestRingsAsKernel without the kernel: the engines agree with each other.
func TestRingsOnEngines(t *testing.T) {
	for _, file := range []string{"ringbuf.o", "dynptr.o"} {
		c := load(t, file, skep.Options{Engine: skep.EngineInterpreter})
		for name := range c.Programs {
			t.Run(name, func(t *testing.T) {
				one := load(t, file, skep.Options{Engine: skep.EngineInterpreter}, name)
				want := runRings(t, one.Programs[name].Run, ourRings(t, one))
				two := load(t, file, skep.Options{}, name)
				compareRings(t, skep.EngineAuto, want, runRings(t, two.Programs[name].Run, ourRings(t, two)))
			})
		}
	}
}

func compareRings(t *testing.T, e skep.Engine, want, got ringOutcome) {
	t.Helper()
	for i := range want.rets {
		if want.rets[i] != got.rets[i] {
			t.Fatalf("%s: run %d: kernel %#x, here %#x", e, i, want.rets[i], got.rets[i])
		}
		if !bytes.Equal(want.packets[i], got.packets[i]) {
			t.Fatalf("%s: run %d: packet: %s", e, i, firstDiff(want.packets[i], got.packets[i]))
		}
	}
	for ring := range want.records {
		if !slices.EqualFunc(want.records[ring], got.records[ring], bytes.Equal) {
			t.Errorf("%s: ring %s: kernel\n%x\nhere\n%x", e, ring, want.records[ring], got.records[ring])
		}
	}
}

// TestAbandonedRecord: a run that is stopped while it holds records gives them up, so that the ring goes on.
func TestAbandonedRecord(t *testing.T) {
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		c := load(t, "ringbuf.o", skep.Options{Engine: e}, "ring_held")
		p := c.Programs["ring_held"]
		r, err := ringbuf.NewReader(c.Maps["ring"])
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		within(t, "the run", func() {
			ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
			defer cancel()
			if _, err := p.RunContext(ctx, &ebpf.RunOptions{Data: make([]byte, 64), Context: skbWithMark(8 << 20)}); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		})
		if _, err := p.Run(&ebpf.RunOptions{Data: make([]byte, 64), Context: skbWithMark(1)}); err != nil {
			t.Fatal(err)
		}
		r.SetDeadline(time.Now())
		rec, err := r.Read()
		if err != nil || rec.RawSample[0] != 8 {
			t.Errorf("%x, %v: the record behind the one that was given up is the first", rec.RawSample, err)
		}
	})
}

func skbWithMark(mark uint32) []byte {
	skb := make([]byte, 192)
	binary.NativeEndian.PutUint32(skb[8:], mark)
	return skb
}

// TestRingAllocs: a record costs no allocation.
func TestRingAllocs(t *testing.T) {
	c := load(t, "ringbuf.o", skep.Options{}, "ring_record")
	r, err := ringbuf.NewReader(c.Maps["ring"])
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	opts := &ebpf.RunOptions{Data: make([]byte, 64)}
	var rec ringbuf.Record
	if n := testing.AllocsPerRun(200, func() {
		if _, err := c.Programs["ring_record"].Run(opts); err != nil {
			t.Fatal(err)
		}
		if err := r.ReadInto(&rec); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations for a run with a record, and reading it", n)
	}
}

// TestRingMapAsKernel: what can be made and done from Go with a ring buffer, beside the kernel.
func TestRingMapAsKernel(t *testing.T) {
	needKernel(t)
	for _, typ := range []ebpf.MapType{ebpf.RingBuf, ebpf.UserRingbuf} {
		for _, s := range []ebpf.MapSpec{{MaxEntries: 4096}, {}, {MaxEntries: 1}, {MaxEntries: 12288}, {MaxEntries: 1 << 20}, {MaxEntries: 2048}, {MaxEntries: 4096, KeySize: 4},
			{MaxEntries: 4096, ValueSize: 4}, {MaxEntries: 4096, Flags: 1 << 7}, {MaxEntries: 4096, Flags: 1}, {MaxEntries: 4096, Flags: 1 << 3}} {
			s.Type = typ
			k, kerr := ebpf.NewMap(&s)
			m, err := skep.NewMap(&s)
			if class(kerr) != class(err) {
				t.Errorf("%v of %d, key %d, value %d, flags %#x: kernel %v, here %v", typ, s.MaxEntries, s.KeySize, s.ValueSize, s.Flags, kerr, err)
			}
			if kerr == nil && err == nil {
				for name, e := range map[string][2]error{
					"lookup": {k.Lookup([]byte{}, &[]byte{}), m.Lookup([]byte{}, &[]byte{})},
					"update": {k.Put([]byte{}, []byte{}), m.Put([]byte{}, []byte{})},
					"delete": {k.Delete([]byte{}), m.Delete([]byte{})},
				} {
					if errors.Is(e[0], ebpf.ErrNotSupported) != errors.Is(e[1], ebpf.ErrNotSupported) || e[1] == nil {
						t.Errorf("%v: %s: kernel %v, here %v", typ, name, e[0], e[1])
					}
				}
			}
			k.Close()
			m.Close()
		}
	}
}
