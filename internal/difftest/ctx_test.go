package difftest

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/helpers"
	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/kernel"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/internal/progtype"
	"github.com/skep-bpf/skep/verifier"
)

// This file compares contexts with the running kernel's: every access of every context, and what programs may return.

// ctxKind is a program type with an attach type.
type ctxKind struct {
	typ    ebpf.ProgramType
	attach ebpf.AttachType
}

func (k ctxKind) String() string { return fmt.Sprintf("%v/%d", k.typ, uint32(k.attach)) }

func (k ctxKind) context() progtype.Context { return progtype.Of(k.typ, k.attach, "amd64") }

// program makes a program of the kind. Syscall programs have to be sleepable.
func (k ctxKind) program(insns ...isa.Insn) *program.Program {
	p := &program.Program{Name: "ctx", Type: k.typ, AttachType: k.attach, License: "GPL", Insns: insns}
	if k.typ == ebpf.Syscall {
		p.Flags = 1 << 4
	}
	p.Funcs = []program.Func{{Name: "ctx", End: len(insns)}}
	return p
}

// lastAttach is beyond the attach types of 6.18 (BPF_TRACE_UPROBE_SESSION is 57).
const lastAttach = 60

// ctxTypes are the program types with a layout.
func ctxTypes() []ebpf.ProgramType {
	var out []ebpf.ProgramType
	for t := ebpf.UnspecifiedProgram + 1; t <= ebpf.Netfilter; t++ {
		if (ctxKind{typ: t}).context().Known() {
			out = append(out, t)
		}
	}
	return out
}

// ctxKinds are all pairs of types and attach types that make a difference: for types that take any attach type, the ones
// that their rules name.
func ctxKinds() []ctxKind {
	var out []ctxKind
	for _, t := range ctxTypes() {
		switch {
		case runtime.GOARCH != "amd64" && (t == ebpf.Kprobe || t == ebpf.PerfEvent): // other registers than those compared here
		case t == ebpf.XDP:
			out = append(out, ctxKind{t, ebpf.AttachNone}, ctxKind{t, ebpf.AttachXDPDevMap})
		case t == ebpf.Kprobe:
			out = append(out, ctxKind{t, ebpf.AttachNone}, ctxKind{t, ebpf.AttachTraceKprobeMulti}, ctxKind{t, ebpf.AttachTraceKprobeSession})
		case progtype.AttachOK(t, lastAttach):
			out = append(out, ctxKind{t, ebpf.AttachNone})
		default:
			for at := ebpf.AttachNone; at < lastAttach; at++ {
				if progtype.AttachOK(t, at) {
					out = append(out, ctxKind{t, at})
				}
			}
		}
	}
	return out
}

var (
	insnOne  = isa.Insn{Op: isa.ClassALU64 | isa.AluMOV, Dst: isa.R0, Imm: 1}
	insnExit = isa.Insn{Op: isa.ClassJMP | isa.JmpEXIT}
)

var sizeBits = map[int]uint8{1: isa.SizeB, 2: isa.SizeH, 4: isa.SizeW, 8: isa.SizeDW}

// ctxAccess is one access of a context.
type ctxAccess struct {
	off, size int
	op        progtype.Op
}

func (a ctxAccess) insn() isa.Insn {
	switch a.op {
	case progtype.Write:
		return isa.Insn{Op: isa.ClassST | isa.ModeMEM | sizeBits[a.size], Dst: isa.R1, Off: int16(a.off)}
	case progtype.ReadSigned:
		return isa.Insn{Op: isa.ClassLDX | isa.ModeMEMSX | sizeBits[a.size], Dst: isa.R2, Src: isa.R1, Off: int16(a.off)}
	}
	return isa.Insn{Op: isa.ClassLDX | isa.ModeMEM | sizeBits[a.size], Dst: isa.R2, Src: isa.R1, Off: int16(a.off)}
}

// accesses are all accesses of the kind's context and around it; in contexts that are long and all alike, those at both
// ends.
func (k ctxKind) accesses() []ctxAccess {
	const margin, edge = 9, 72
	var out []ctxAccess
	total := k.context().Size()
	for off := -margin; off < total+margin && off < 1<<15-8; off++ {
		if total > 1024 && off > edge && off < total-edge {
			continue
		}
		for _, size := range []int{1, 2, 4, 8} {
			out = append(out, ctxAccess{off, size, progtype.Read}, ctxAccess{off, size, progtype.Write})
			if size < 8 {
				out = append(out, ctxAccess{off, size, progtype.ReadSigned})
			}
		}
	}
	return out
}

// differs asks both verifiers about one program and says what they disagree about: verdict, words, states; "" for nothing.
func differs(p *program.Program) string {
	v, err := judge(p, verifier.LogAll, 0)
	if d := disagree(p, v, err); d != "" || v.Ours != v.Kernel {
		return d
	}
	return firstDifference(v.OurLog, v.KernelLog)
}

// disagree is differs without the states.
func disagree(p *program.Program, v Verdict, err error) string {
	switch {
	case err != nil:
		return "no verdict: " + err.Error()
	case !v.Ours && v.Kernel && beforeTracepoint(p):
		return ""
	case v.Ours != v.Kernel:
		return fmt.Sprintf("we %t (%s), the kernel %t (%s)", v.Ours, v.OurReason, v.Kernel, v.KernelReason)
	case !v.Ours && !strings.Contains(v.OurLog, v.KernelReason) && !laterWords(v):
		return fmt.Sprintf("we say %q, the kernel %q", v.OurReason, v.KernelReason)
	}
	return ""
}

// laterWords reports whether a kernel after 6.18 says a thing of its own about a pointer that a function of its takes for memory, in place
// of what is wrong with that memory or with the argument behind it. (bpf_dynptr_from_skb and bpf_xdp_get_xfrm_state are those that do;
// what they have in common is not known.)
func laterWords(v Verdict) bool {
	return kernel.Later() && (strings.HasSuffix(v.KernelReason, " must be referenced or trusted") || strings.HasSuffix(v.KernelReason, " expected mem or socket"))
}

// beforeTracepoint reports whether a program reads in front of a tracepoint's record, which 6.18 permits: it compares the
// offset with an unsigned number. Those reads are out of bounds, and refused here (docs/differences.md).
func beforeTracepoint(p *program.Program) bool {
	return p.Type == ebpf.TracePoint && p.Insns[0].Class() == isa.ClassLDX && p.Insns[0].Off < 0
}

// together makes one program of the accesses that progtype permits: that it is accepted, and what its registers hold,
// is compared at once. Everything that is not permitted needs a program of its own.
func together(k ctxKind, all []ctxAccess) (permitted []ctxAccess, one *program.Program, alone []ctxAccess) {
	var insns []isa.Insn
	for _, a := range all {
		if x := k.context().Access(a.off, a.size, a.op); x.OK {
			permitted = append(permitted, a)
			insns = append(insns, a.insn())
			continue
		}
		alone = append(alone, a)
	}
	return permitted, k.program(append(insns, insnOne, insnExit)...), alone
}

// TestContexts compares every access of every context with the running kernel's verdict, words and states: each offset, each
// size, reads, sign-extending reads and writes, each attach type.
func TestContexts(t *testing.T) {
	if err := kernel.Available(); err != nil {
		t.Skip("the running kernel is the oracle of contexts: ", err)
	}
	var report ctxReport
	work := make(chan func(), 64)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for f := range work {
				f()
			}
		})
	}
	for _, k := range ctxKinds() {
		permitted, one, alone := together(k, k.accesses())
		work <- func() { report.compare(t, fmt.Sprintf("%v: the %d permitted accesses", k, len(permitted)), one) }
		report.loads += len(permitted)
		for _, a := range alone {
			work <- func() {
				report.compare(t, fmt.Sprintf("%v: off %d size %d op %d", k, a.off, a.size, a.op), k.program(a.insn(), insnOne, insnExit))
			}
		}
	}
	close(work)
	wg.Wait()
	t.Logf("%d accesses in %d programs, %d differ", report.loads, report.programs, report.differ)
}

// ctxReport counts comparisons.
type ctxReport struct {
	mu                      sync.Mutex
	programs, differ, loads int
}

func (r *ctxReport) compare(t *testing.T, what string, p *program.Program) {
	r.add(t, what, differs(p))
}

func (r *ctxReport) add(t *testing.T, what, d string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.programs++
	if d == "" {
		return
	}
	if r.differ++; r.differ <= 30 {
		t.Errorf("%s: %s", what, d)
	}
}

// TestAttachTypes compares which attach types each program type can have.
func TestAttachTypes(t *testing.T) {
	if err := kernel.Available(); err != nil {
		t.Skip("the running kernel is the oracle of attach types: ", err)
	}
	for _, typ := range ctxTypes() {
		for at := ebpf.AttachNone; at < lastAttach; at++ {
			p := ctxKind{typ, at}.program(insnOne, insnExit)
			accepted, log, err := kernel.Verify(p, verifier.LogStats)
			_, ours := verifier.Verify(p, verifier.Options{Helpers: helpers.Proto, Kernel: program.HostTypes})
			if err != nil && !errors.Is(err, kernel.ErrNoVerdict) {
				t.Fatal(err)
			}
			if want := accepted && err == nil; want != (ours == nil) {
				t.Errorf("%v with %d: kernel %t (%s), we: %v", typ, at, want, log, ours)
			}
		}
	}
}

// TestReturns compares what each program type may return: numbers around all limits, an unknown one, and a pointer.
func TestReturns(t *testing.T) {
	if err := kernel.Available(); err != nil {
		t.Skip("the running kernel is the oracle of results: ", err)
	}
	var report ctxReport
	mov := func(v int32) isa.Insn { return isa.Insn{Op: isa.ClassALU64 | isa.AluMOV, Imm: v} }
	random := isa.Insn{Op: isa.ClassJMP | isa.JmpCALL, Imm: 7}
	and := isa.Insn{Op: isa.ClassALU64 | isa.AluAND, Imm: 3}
	for _, k := range ctxKinds() {
		for _, body := range [][]isa.Insn{
			{mov(-1)}, {mov(0)}, {mov(1)}, {mov(2)}, {mov(3)}, {mov(4)}, {random}, {random, and},
			{{Op: isa.ClassALU64 | isa.AluMOV | isa.SrcX, Src: isa.R1}}, {{Op: isa.ClassALU64 | isa.AluMOV | isa.SrcX, Src: isa.R10}},
		} {
			report.compare(t, fmt.Sprintf("%v returns %v", k, body), k.program(append(body, insnExit)...))
		}
	}
	t.Logf("%d programs, %d differ", report.programs, report.differ)
}
