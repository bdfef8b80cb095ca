package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/binary"
	"fmt"
	"runtime"
	"sort"
	"strings"
	"time"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/cmd/skep/native12"
	"github.com/skep-bpf/skep/internal/native"
	"github.com/skep-bpf/skep/internal/object"
)

//go:embed demo/demo.o
var demoObject []byte

var demoVerb = &verb{
	name: "demo", args: "", short: "show what skep does, with a built-in program",
	help: `
Verifies and runs a built-in XDP object: a function of twelve arguments, a kfunc of twelve in Go, a native one where this
machine has a compiler, and packets counted in a map. Prints the results, the verifier's figures, the time of a run, and the
machine code of a call with twelve arguments.

Example:
  go run ./cmd/skep demo
`,
}

func init() { demoVerb.run = runDemo }

// demoRuns is how often a program runs to be timed.
const demoRuns = 1_000_000

// weigh is what all three functions of the demo compute: each argument times its number.
func weigh(a, b, c, d, e, f, g, h, i, j, k, l int64) int64 {
	return a + 2*b + 3*c + 4*d + 5*e + 6*f + 7*g + 8*h + 9*i + 10*j + 11*k + 12*l
}

func runDemo(e *env, args []string) int {
	fs := e.flags()
	if rest, code, ok := e.parse(fs, args); !ok {
		return code
	} else if len(rest) > 0 {
		return e.usageError("takes no arguments")
	}
	o, err := object.Load(bytes.NewReader(demoObject), object.Options{})
	if err != nil {
		return e.fail(exitUsage, err)
	}
	var kfuncs skep.Kfuncs
	if err := kfuncs.Register("skep_sum12", weigh); err != nil {
		return e.fail(exitUsage, err)
	}
	hasNative := native.Supported() == nil && native12.Addr() != 0
	if hasNative {
		if err := kfuncs.RegisterNative("skep_native12", native12.Addr()); err != nil {
			return e.fail(exitUsage, err)
		}
	}
	c, err := skep.NewCollectionWithOptions(o.Spec, skep.Options{Kfuncs: &kfuncs})
	if err != nil {
		return e.fail(exitRejected, fmt.Errorf("%+v", err))
	}
	defer c.Close()
	if err := e.demo(c, hasNative); err != nil {
		return e.fail(exitRejected, err)
	}
	return exitOK
}

func (e *env) demo(c *skep.Collection, hasNative bool) error {
	p := c.Programs["demo"]
	st := p.VerifierStats()
	fmt.Fprintf(e.stdout, "verified  %s: %d instructions, %d processed, %d states, %s\n", p.Name(), p.Instructions(), st.Processed,
		st.TotalStates, st.Time.Round(time.Microsecond))
	if n := p.MemoryInUse(); n > 0 {
		fmt.Fprintf(e.stdout, "compiled  %d bytes of %s machine code\n", n, runtime.GOARCH)
	} else {
		fmt.Fprintf(e.stdout, "compiled  no: there is no compiler for %s/%s yet, so it is interpreted\n", runtime.GOOS, runtime.GOARCH)
	}
	for _, proto := range []byte{6, 6, 17, 1, 6} {
		if _, _, err := p.Test(demoPacket(proto)); err != nil {
			return err
		}
	}
	if err := e.demoResults(c, 6, hasNative); err != nil {
		return err
	}
	if err := e.demoCounts(c.Maps["packets"]); err != nil {
		return err
	}
	res, err := p.RunContext(context.Background(), &ebpf.RunOptions{Data: demoPacket(6), Repeat: demoRepeat(p)})
	if err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "speed     %.0f ns for a run with a map lookup and %d calls of twelve arguments\n", res.NSPerRun, 2+btoi(hasNative))
	return e.demoCode(p)
}

// demoRepeat is fewer runs for the slower engine.
func demoRepeat(p *skep.Program) uint32 {
	if p.Engine() == skep.EngineInterpreter {
		return demoRuns / 20
	}
	return demoRuns
}

// demoResults prints what the three functions returned for arguments v, v+1, ... v+11, and checks it.
func (e *env) demoResults(c *skep.Collection, v int64, hasNative bool) error {
	want := weigh(v, v+1, v+2, v+3, v+4, v+5, v+6, v+7, v+8, v+9, v+10, v+11)
	for _, f := range []struct {
		variable, what string
		there          bool
	}{
		{"function_result", "BPF function of 12 arguments", true},
		{"go_result", "kfunc of 12 arguments in Go", true},
		{"native_result", "kfunc of 12 arguments in machine code", hasNative},
	} {
		if !f.there {
			fmt.Fprintf(e.stdout, "called    %-38s not here: it needs a compiler for this machine\n", f.what)
			continue
		}
		var got uint64
		if err := c.Variables[f.variable].Get(&got); err != nil {
			return err
		}
		fmt.Fprintf(e.stdout, "called    %-38s = %d\n", f.what, got)
		if int64(got) != want {
			return fmt.Errorf("%s returned %d, expected %d", f.what, got, want)
		}
	}
	return nil
}

// demoCounts prints the packets that the program counted.
func (e *env) demoCounts(m *skep.Map) error {
	names := map[uint32]string{1: "ICMP", 6: "TCP", 17: "UDP"}
	var lines []string
	var key uint32
	var val struct{ Packets, Bytes uint64 }
	it := m.Iterate()
	for it.Next(&key, &val) {
		lines = append(lines, fmt.Sprintf("counted   %-4s %d packets, %d bytes\n", names[key], val.Packets, val.Bytes))
	}
	sort.Strings(lines)
	fmt.Fprint(e.stdout, strings.Join(lines, ""))
	return it.Err()
}

// demoCode prints the machine code of the call of the Go kfunc, from the first stack argument on.
func (e *env) demoCode(p *skep.Program) error {
	text, err := p.Disassemble("")
	if err != nil {
		return err
	}
	lines := strings.Split(text, "\n")
	call := -1
	for i, l := range lines {
		if strings.Contains(l, "(85) call pc+") {
			call = i // the last BPF-to-BPF call is that of twelve arguments
		}
	}
	if call < 0 {
		return nil
	}
	first := call
	for i := call; i >= 0 && i > call-160; i-- {
		if strings.Contains(lines[i], "(r11 -") {
			first = i
		}
	}
	last := call + 1
	for last < len(lines) && strings.HasPrefix(lines[last], "      ") {
		last++
	}
	fmt.Fprintf(e.stdout, "\nThe call of a BPF function with twelve arguments, as machine code:\n\n")
	for _, l := range lines[first:last] {
		if l != "" {
			fmt.Fprintf(e.stdout, "  %s\n", l)
		}
	}
	fmt.Fprintf(e.stdout, "\nNext: skep help; skep verify FILE.o; skep run FILE.o -prog NAME; skep jit FILE.o\n")
	return nil
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// demoPacket is an Ethernet frame of 64 bytes with an IPv4 header of that protocol.
func demoPacket(proto byte) []byte {
	b := make([]byte, 64)
	binary.BigEndian.PutUint16(b[12:], 0x0800)
	b[14], b[23] = 0x45, proto
	return b
}
