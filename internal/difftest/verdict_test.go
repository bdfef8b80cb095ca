package difftest

import (
	"errors"
	"flag"
	"fmt"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/helpers"
	"github.com/skep-bpf/skep/internal/kernel"
	"github.com/skep-bpf/skep/internal/progen"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/verifier"
)

var (
	verdictPrograms = flag.Int("verdict-programs", 400, "random programs, each also mutated, that both verifiers judge")
	verdictSeed     = flag.Uint64("verdict-seed", 1, "seed of the first of them")
)

// Verdict is what both verifiers say of a program.
type Verdict struct {
	Ours, Kernel            bool
	OurReason, KernelReason string
	// Fault: the kernel decides otherwise for one of the ways in which it knows less (verifier.Likeness): with them repeated we
	// decide as it does.
	Fault             bool
	OurLog, KernelLog string
}

// sizeOnly reports whether the verdicts differ only because one proof was too much work.
func (v *Verdict) sizeOnly() bool {
	return v.Ours && !v.Kernel && tooLarge(v.KernelReason) || !v.Ours && v.Kernel && tooLarge(v.OurReason)
}

// differs reports whether the verdicts differ for another reason than the work of the proof or a known fault of the kernel's.
func (v *Verdict) differs() bool { return v.Ours != v.Kernel && !v.sizeOnly() && !v.Fault }

// judge asks both verifiers at a log level. The error is not nil where there is nothing to compare. limit bounds the
// instructions that the proof may take (0: a million); programs beyond it are not compared.
func judge(p *program.Program, level uint32, limit int) (v Verdict, err error) {
	opt := verifier.Options{Target: kernel.Target(), Helpers: helpers.Proto, Kernel: program.HostTypes, LogLevel: level | verifier.LogStats,
		CPUs: ebpf.MustPossibleCPU(), InsnLimit: limit}
	res, err := verifier.Verify(p, opt)
	v.Ours = err == nil
	var rejected *verifier.Error
	switch {
	case err == nil:
		v.OurLog = res.Log
	case errors.As(err, &rejected):
		v.OurReason, v.OurLog = err.Error(), rejected.Log
	default:
		return v, err
	}
	if limit != 0 && tooLarge(v.OurReason) {
		return v, errTooLong
	}
	if v.Kernel, v.KernelLog, err = kernel.Verify(p, level|verifier.LogStats); err != nil {
		return v, err
	}
	// two messages of the kernel's do not end their line
	v.KernelLog = strings.ReplaceAll(v.KernelLog, "for tail callverification", "for tail call\nverification")
	v.KernelLog = strings.ReplaceAll(v.KernelLog, "exception cb directlyverification", "exception cb directly\nverification")
	if !v.Kernel {
		v.KernelReason = reasonOf(v.KernelLog)
	}
	for like := verifier.LikeFaults; v.Ours != v.Kernel && !v.Fault && like <= verifier.LikeLiveness; like++ {
		opt.Kernel618 = like
		_, err := verifier.Verify(p, opt)
		v.Fault = (err == nil) == v.Kernel
	}
	return v, nil
}

// reasonOf returns the last line of a log that is no summary.
func reasonOf(log string) string {
	last := ""
	for line := range strings.Lines(log) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "processed ") || strings.HasPrefix(line, "verification time ") || strings.HasPrefix(line, "stack depth ") {
			continue
		}
		last = line
	}
	return last
}

// tooLarge reports whether a rejection is for the work that the proof takes. Where one verifier proves with less work
// than the other, only one of them says so.
func tooLarge(reason string) bool {
	return strings.Contains(reason, "BPF program is too large") || strings.Contains(reason, "jumps is too complex")
}

// verdictReport collects verdicts by kind.
type verdictReport struct {
	both, neither, weAlone, kernelAlone, none, size, faults int
	reasons                                                 map[string]int
	wording                                                 map[string]int
}

func (r *verdictReport) add(v Verdict, err error) {
	if r.reasons == nil {
		r.reasons, r.wording = map[string]int{}, map[string]int{}
	}
	switch {
	case err != nil:
		r.none++
	case v.sizeOnly():
		r.size++
	case v.Fault:
		r.faults++
	case v.Ours && v.Kernel:
		r.both++
	case v.Ours:
		r.weAlone++
		r.reasons["we accept, kernel: "+v.KernelReason]++
	case v.Kernel:
		r.kernelAlone++
		r.reasons["kernel accepts, we: "+v.OurReason]++
	default:
		r.neither++
		if !strings.Contains(v.OurLog, v.KernelReason) {
			r.wording[fmt.Sprintf("kernel: %s | we: %s", v.KernelReason, v.OurReason)]++
		}
	}
}

func (r *verdictReport) String() string {
	return fmt.Sprintf("both accept %d, both refuse %d (%d kinds of other words), we alone accept %d, the kernel alone accepts %d, another verdict by ways of the kernel's %d, too large for one %d, no verdict %d",
		r.both, r.neither, len(r.wording), r.weAlone, r.kernelAlone, r.faults, r.size, r.none)
}

// TestVerdicts has both verifiers judge random programs and mutations of them. A program that we accept and the kernel
// refuses is a hole and fails at once; so does the reverse.
func TestVerdicts(t *testing.T) {
	if err := kernel.Available(); err != nil {
		t.Skip(err)
	}
	var report verdictReport
	shown := 0
	for i := range *verdictPrograms {
		seed := *verdictSeed + uint64(i)
		p := progen.New(seed, progen.ConfigFor(seed, 5))
		for n, q := range []*program.Program{p, progen.Mutate(p, seed), progen.Mutate(p, seed+1<<32)} {
			v, err := judge(q, 0, randomLimit)
			if err == nil && !v.Ours && strings.Contains(v.OurReason, "skep does not verify this yet") {
				continue // a mutation made a call of a kernel module's kfunc, or the like
			}
			report.add(v, err)
			if err == nil && v.differs() {
				if shown++; shown <= 10 {
					t.Errorf("go test ./internal/difftest -run TestVerdicts -verdict-seed %d -verdict-programs 1\nvariant %d: we %t (%s), the kernel %t (%s)",
						seed, n, v.Ours, v.OurReason, v.Kernel, v.KernelReason)
				}
			}
		}
	}
	t.Log(report.String())
	if report.size > 2 && report.size*500 > 3**verdictPrograms {
		t.Errorf("%d programs are too large for one verifier", report.size)
	}
	for k, n := range report.reasons {
		t.Logf("%5d %s", n, k)
	}
	if testing.Verbose() {
		for k, n := range report.wording {
			t.Logf("%5d %s", n, k)
		}
	}
}
