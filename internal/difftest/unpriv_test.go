package difftest

import (
	"errors"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/helpers"
	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/kernel"
	"github.com/skep-bpf/skep/internal/progen"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/verifier"
)

// kernelCaps are the capabilities, by the kernel's numbers, that a thread drops to lack c. CAP_SYS_ADMIN would stand for any.
func kernelCaps(c verifier.Caps) uint64 {
	bits := uint64(1 << 21)
	for cap, bit := range map[verifier.Caps]uint64{verifier.CapNetAdmin: 1 << 12, verifier.CapPerfmon: 1 << 38, verifier.CapBPF: 1 << 39} {
		if c&cap != 0 {
			bits |= bit
		}
	}
	return bits
}

// judgeWithout asks both verifiers about a load that lacks capabilities.
func judgeWithout(p *program.Program, c verifier.Caps, limit int) (v Verdict, err error) {
	opt := verifier.Options{Target: kernel.Target(), Helpers: helpers.Proto, Kernel: program.HostTypes, LogLevel: verifier.LogStats, CPUs: ebpf.MustPossibleCPU(),
		InsnLimit: limit, Without: c}
	_, err = verifier.Verify(p, opt)
	var rejected *verifier.Error
	switch {
	case err == nil:
		v.Ours = true
	case errors.As(err, &rejected):
		v.OurReason, v.OurLog = rejected.Message, rejected.Log
	default:
		return v, err
	}
	if limit != 0 && tooLarge(v.OurReason) {
		return v, errTooLong
	}
	if v.Kernel, v.KernelLog, err = kernel.VerifyWithout(p, verifier.LogStats, kernelCaps(c)); err != nil {
		return v, err
	}
	if !v.Kernel {
		v.KernelReason = reasonOf(v.KernelLog)
	}
	if v.Ours != v.Kernel {
		opt.Kernel618 = verifier.LikeFaults
		_, err := verifier.Verify(p, opt)
		v.Fault = (err == nil) == v.Kernel
	}
	return v, nil
}

// allowUnprivileged permits unprivileged loads for a test.
func allowUnprivileged(t *testing.T) {
	restore, err := kernel.AllowUnprivileged()
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(restore)
}

// TestUnprivilegedVerdicts has both verifiers judge random programs and mutations of them for who lacks capabilities: all, CAP_PERFMON
// or CAP_BPF. Calls and loops of random programs are taken out: without CAP_BPF they are refused, and
// without CAP_PERFMON alone it hangs on the order of the walk whether a loop that only speculation takes is found to be infinite.
func TestUnprivilegedVerdicts(t *testing.T) {
	allowUnprivileged(t)
	for name, c := range map[string]verifier.Caps{"all": verifier.AllCaps, "perfmon": verifier.CapPerfmon, "bpf": verifier.CapBPF} {
		t.Run(name, func(t *testing.T) {
			var report verdictReport
			shown := 0
			for i := range *verdictPrograms {
				seed := *verdictSeed + uint64(i)
				p := progen.New(seed, progen.ConfigFor(seed, 5))
				p.Type = ebpf.SocketFilter
				for n, q := range []*program.Program{p, progen.Mutate(p, seed), progen.Mutate(p, seed+1<<32)} {
					q = withoutCalls(q)
					v, err := judgeWithout(q, c, randomLimit)
					if err == nil && !v.Ours && strings.Contains(v.OurReason, "skep does not verify this yet") {
						continue
					}
					report.add(v, err)
					if err == nil && v.differs() {
						if shown++; shown <= 10 {
							t.Errorf("-verdict-seed %d -verdict-programs 1, variant %d: we %t (%s), the kernel %t (%s)",
								seed, n, v.Ours, v.OurReason, v.Kernel, v.KernelReason)
						}
					}
				}
			}
			t.Log(report.String())
			logCounts(t, "words:", report.wording)
		})
	}
}

// withoutCalls replaces calls of functions and kfuncs by constants, and jumps back by jumps on.
func withoutCalls(p *program.Program) *program.Program {
	q := *p
	q.Insns = append([]isa.Insn(nil), p.Insns...)
	q.Funcs = append([]program.Func(nil), p.Funcs[0])
	q.Funcs[0].End = len(q.Insns)
	for pc := range q.Insns {
		in := &q.Insns[pc]
		switch {
		case in.IsPseudoCall() || in.IsKfuncCall():
			*in = isa.Insn{Op: isa.ClassALU64 | isa.AluMOV, Dst: isa.R0, Imm: int32(pc)}
		case in.IsPseudoFunc():
			in.Src = 0
		case (in.Class() == isa.ClassJMP || in.Class() == isa.ClassJMP32) && !in.IsCall() && !in.IsExit() && in.Off < 0:
			in.Off = 0
		}
	}
	return &q
}

// TestHelpersWithoutCaps: which helpers a socket filter and a control group's program have without a capability, each of 6.18's asked.
func TestHelpersWithoutCaps(t *testing.T) {
	allowUnprivileged(t)
	asked := 0
	for _, c := range []verifier.Caps{verifier.CapBPF, verifier.CapPerfmon, verifier.AllCaps} {
		for _, typ := range []ebpf.ProgramType{ebpf.SocketFilter, ebpf.CGroupSKB} {
			for id := int32(1); id <= 211; id++ {
				p := &program.Program{Name: "prog", Type: typ, License: "GPL", Insns: []isa.Insn{
					{Op: isa.ClassJMP | isa.JmpCALL, Imm: id}, {Op: isa.ClassJMP | isa.JmpEXIT},
				}, Funcs: []program.Func{{Name: "prog", End: 2}}}
				v, err := judgeWithout(p, c, 0)
				if err != nil {
					continue
				}
				asked++
				const no = "cannot use helper"
				if strings.Contains(v.OurReason, no) != strings.Contains(v.KernelReason, no) {
					t.Errorf("without %d: %s in %v: we %q, the kernel %q", c, isa.HelperName(id), typ, v.OurReason, v.KernelReason)
				}
			}
		}
	}
	if asked < 1000 {
		t.Errorf("%d helpers asked", asked)
	}
}
