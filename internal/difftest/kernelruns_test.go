//go:build linux

package difftest

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/internal/kernel"
	"github.com/skep-bpf/skep/internal/object"
	"github.com/skep-bpf/skep/internal/progen"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/internal/progtype"
	"github.com/skep-bpf/skep/verifier"
)

// kernelRuns is what became of the programs of a corpus that the kernel accepts and runs for tests.
type kernelRuns struct {
	known       map[string]string
	equal, vary int
	differ      int
	cannot      map[string]int // skep: programs by reason
	notRun      map[string]int // the kernel: programs by reason
	compared    int
}

const runsKnown = "testdata/runs-known.txt"

// TestCorpusKernelRuns runs every program of -corpus (SKEP_CORPUS) that the kernel accepts and has a test run for in skep and in the
// kernel, on the same inputs: result, packet, context and maps must be equal. A difference that testdata/runs-known.txt does not list fails,
// and so does one that it lists and that is gone. Programs that need what has no runtime here are counted by reason.
func TestCorpusKernelRuns(t *testing.T) {
	if *corpusDir == "" {
		t.Skip("no directory of objects: -corpus or SKEP_CORPUS")
	}
	if err := kernel.Available(); err != nil {
		t.Skip(err)
	}
	known := readKnown(t, runsKnown)
	for _, dir := range filepath.SplitList(*corpusDir) {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			onFirstCPU(t)
			c := kernelRuns{known: known, cannot: map[string]int{}, notRun: map[string]int{}}
			for _, file := range corpusFiles(t, dir) {
				c.object(t, file)
			}
			t.Logf("%d programs run in the kernel: %d equal here, %d depend on time or chance, %d differ as known", c.compared, c.equal, c.vary, c.differ)
			logCounts(t, "do not run here:", c.cannot)
			logCounts(t, "do not run in the kernel:", c.notRun)
		})
	}
}

// onFirstCPU has the kernel run the programs on the processor whose number is the slot of runs here.
func onFirstCPU(t *testing.T) {
	runtime.LockOSThread() // for good: the thread ends with the test's goroutine
	var cpu unix.CPUSet
	cpu.Set(0)
	if err := unix.SchedSetaffinity(0, &cpu); err != nil {
		t.Fatal(err)
	}
}

func (c *kernelRuns) object(t *testing.T, file string) {
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	o, err := object.Load(f, object.Options{})
	if err != nil {
		return // TestCorpus counts them
	}
	for _, m := range o.Spec.Maps {
		switch m.Type {
		case ebpf.ProgramArray, ebpf.ArrayOfMaps, ebpf.HashOfMaps:
			m.Contents = nil // each program runs by itself
		}
	}
	for _, name := range o.Programs() {
		label := filepath.Base(file) + "/" + name
		if !strings.Contains(label, *corpusOnly) {
			continue
		}
		if p, err := program.FromSpec(o.Spec, name, program.Options{Ksyms: true}); err == nil {
			c.program(t, label, o.Spec, p)
		}
	}
}

// hasTestRun are the types whose programs the kernel runs on bytes.
func hasTestRun(t ebpf.ProgramType) bool {
	switch t {
	case ebpf.SocketFilter, ebpf.SchedCLS, ebpf.SchedACT, ebpf.CGroupSKB, ebpf.LWTIn, ebpf.LWTOut, ebpf.LWTXmit, ebpf.LWTSeg6Local, ebpf.XDP,
		ebpf.FlowDissector, ebpf.RawTracepoint, ebpf.RawTracepointWritable, ebpf.Syscall, ebpf.SkLookup, ebpf.Netfilter:
		return true
	}
	return false
}

func (c *kernelRuns) program(t *testing.T, label string, spec *ebpf.CollectionSpec, p *program.Program) {
	if !hasTestRun(p.Type) {
		return
	}
	var theirs []Outcome
	for i := range kernelInputs {
		out, err := runInKernel(spec, p, kernelInputs[i])
		if err != nil {
			if !strings.Contains(err.Error(), ": load: ") { // what is not loaded TestCorpus counts
				c.notRun[p.Type.String()+": "+numbers.ReplaceAllString(lastLine(err.Error()), "N")]++
			}
			return
		}
		theirs = append(theirs, out)
	}
	c.compared++
	for i := range kernelInputs {
		ours, err := runHere(spec, p, kernelInputs[i])
		if err != nil {
			c.cannot[numbers.ReplaceAllString(lastLine(strings.ReplaceAll(err.Error(), p.Name, "P")), "N")]++
			return
		}
		if d := Diff(ours, theirs[i], true); d != "" {
			if varies(p) || unspecified[label] != "" {
				c.vary++
				return
			}
			if again, err := runInKernel(spec, p, kernelInputs[i]); err == nil && Diff(again, theirs[i], true) != "" {
				c.vary++
				return
			}
			c.differ++
			if c.known[label] == "" {
				t.Errorf("%s: input %d: here and in the kernel: %s", label, i, d)
			}
			return
		}
	}
	if reason := c.known[label]; reason != "" {
		t.Errorf("%s: no difference any more, take it off %s (%s)", label, runsKnown, reason)
	}
	c.equal++
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}

// kernelInputs are numbers of packets of testPackets.
var kernelInputs = []int{0}

// inputOf is the packet and the context for a program.
func inputOf(p *program.Program, n int) (data, ctx []byte) {
	switch {
	case p.Type == ebpf.SkLookup:
		ctx = make([]byte, progtype.Of(p.Type, 0, "").Size())
		binary.NativeEndian.PutUint32(ctx[8:], 2) // AF_INET
		binary.NativeEndian.PutUint32(ctx[12:], 6)
		return nil, ctx
	case p.Type == ebpf.RawTracepoint || p.Type == ebpf.RawTracepointWritable:
		return nil, make([]byte, 8*progtype.MaxTracepointArgs)
	case p.Type == ebpf.Syscall:
		return nil, make([]byte, 256)
	case p.Type == ebpf.FlowDissector:
		return testPackets()[n], nil
	case p.Type == ebpf.XDP:
		data = testPackets()[n]
		ctx = make([]byte, progtype.XDPSize)
		binary.NativeEndian.PutUint32(ctx[4:], uint32(len(data)))
		return data, ctx
	}
	return testPackets()[n], make([]byte, progtype.SkbSize)
}

func runInKernel(spec *ebpf.CollectionSpec, p *program.Program, n int) (Outcome, error) {
	k, err := kernel.Load(p)
	if err != nil {
		return Outcome{}, fmt.Errorf("load: %w", err)
	}
	defer k.Close()
	for i := range p.Maps {
		if m := &p.Maps[i]; strings.HasPrefix(m.Name, ".") && !m.Frozen {
			b, err := program.SectionData(spec, m.Name)
			if err != nil {
				continue
			}
			if err := k.Map(i).Update(make([]byte, 4), b, 0); err != nil {
				return Outcome{}, err
			}
		}
	}
	data, ctx := inputOf(p, n)
	in := kernel.RunInput{Data: data, Ctx: ctx}
	if progtype.ContextOut(p.Type, len(ctx)) == 0 || p.Type == ebpf.Syscall {
		in.CtxOut = -1
	}
	res, err := k.Run(in)
	if err != nil {
		return Outcome{}, err
	}
	out := Outcome{R0: uint64(res.Ret), Data: append(res.Data, res.Ctx...)}
	out.Maps, err = dump(dumpable(spec, p), func(i int) reader { return k.Map(i) })
	if err == nil {
		hideFields(spec, p.Maps, out.Maps)
	}
	return out, err
}

// dumpable describes the maps of a program, those as without elements that are not in the collection.
func dumpable(spec *ebpf.CollectionSpec, p *program.Program) []program.Map {
	ms := append([]program.Map(nil), p.Maps...)
	for i := range ms {
		if spec.Maps[ms[i].Name] == nil || ms[i].Frozen || unreadable(ms[i].Type) {
			ms[i].Type = ebpf.RingBuf
		}
	}
	return ms
}

// hideFields clears what a program keeps in special fields: the kernel shows the addresses in the heads of lists.
func hideFields(spec *ebpf.CollectionSpec, ms []program.Map, all [][]progen.Entry) {
	for i, m := range ms {
		m.Bind(spec.Types)
		fields, err := verifier.ValueFields(&m, program.HostTypes)
		if err != nil {
			continue
		}
		for _, e := range all[i] {
			for _, f := range fields {
				clear(e.Value[f.Off : f.Off+f.Size])
			}
		}
	}
}

// unreadable reports whether user space finds nothing in maps of a type.
func unreadable(t ebpf.MapType) bool {
	switch t {
	case ebpf.XSKMap, ebpf.DevMap, ebpf.DevMapHash, ebpf.CPUMap, ebpf.SockMap, ebpf.SockHash, ebpf.HashOfMaps, ebpf.Arena, ebpf.CGroupStorage, ebpf.PerCPUCGroupStorage,
		ebpf.SkStorage, ebpf.TaskStorage, ebpf.InodeStorage, ebpf.CgroupStorage, ebpf.ReusePortSockArray, ebpf.StructOpsMap:
		return true
	}
	return false
}

func runHere(spec *ebpf.CollectionSpec, p *program.Program, n int) (_ Outcome, err error) {
	c, err := skep.NewCollectionWithOptions(spec, skep.Options{
		Programs: []string{p.Name}, Target: kernel.Target(),
		Env: skep.Env{PID: uint32(unix.Gettid()), TGID: uint32(os.Getpid()), Comm: "difftest.test"},
	})
	if err != nil {
		return Outcome{}, err
	}
	defer c.Close()
	data, in := inputOf(p, n)
	opts := ebpf.RunOptions{Data: data}
	if data != nil {
		opts.DataOut = make([]byte, len(data)+256)
	}
	if in != nil {
		opts.Context = in
	}
	out := Outcome{}
	if in != nil && progtype.ContextOut(p.Type, len(in)) > 0 && p.Type != ebpf.Syscall {
		opts.ContextOut = make([]byte, len(in))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	res, err := c.Programs[p.Name].RunContext(ctx, &opts)
	if err != nil {
		return Outcome{}, err
	}
	out.R0, out.Data = uint64(res.Return), opts.DataOut
	if b, ok := opts.ContextOut.([]byte); ok {
		out.Data = append(out.Data, b...)
	}
	out.Maps, err = dump(dumpable(spec, p), func(i int) reader { return ourMap{c.Maps[p.Maps[i].Name]} })
	if err == nil {
		hideFields(spec, p.Maps, out.Maps)
	}
	return out, err
}
