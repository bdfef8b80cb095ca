//go:build linux

package helpers

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/skep-bpf/skep/internal/kernel"
)

// attach types that the kernel wants to see at load.
var loadAttach = map[ebpf.ProgramType]ebpf.AttachType{
	ebpf.CGroupSockAddr: ebpf.AttachCGroupInet4Connect, ebpf.CGroupSockopt: ebpf.AttachCGroupGetsockopt,
	ebpf.SkLookup: ebpf.AttachSkLookup, ebpf.CGroupSKB: ebpf.AttachCGroupInetIngress, ebpf.Netfilter: ebpf.AttachNetfilter,
}

// kernelLog loads a program that only calls a helper, and returns the verifier's words.
func kernelLog(t *testing.T, typ ebpf.ProgramType, license string, id int32) string {
	t.Helper()
	spec := &ebpf.ProgramSpec{
		Type: typ, AttachType: loadAttach[typ], License: license,
		Instructions: asm.Instructions{asm.BuiltinFunc(id).Call(), asm.Mov.Imm(asm.R0, 0), asm.Return()},
	}
	if typ == ebpf.Syscall {
		spec.Flags = 1 << 4 // BPF_F_SLEEPABLE
	}
	p, err := ebpf.NewProgramWithOptions(spec, ebpf.ProgramOptions{LogLevel: ebpf.LogLevelBranch})
	if err == nil {
		defer p.Close()
		return p.VerifierLog
	}
	var ve *ebpf.VerifierError
	if !errors.As(err, &ve) {
		t.Skipf("the kernel's verifier is the oracle of this test, and it cannot be asked: %v", err)
	}
	return fmt.Sprintf("%+v", err)
}

// TestAvailabilityAsKernel compares, for every helper and program type, whether the kernel lets the type call it, and
// whether it wants a GPL program.
func TestAvailabilityAsKernel(t *testing.T) {
	if err := kernel.Available(); err != nil {
		t.Skip("the kernel's verifier is the oracle of this test: ", err)
	}
	all := []ebpf.ProgramType{
		ebpf.SocketFilter, ebpf.Kprobe, ebpf.SchedCLS, ebpf.SchedACT, ebpf.TracePoint, ebpf.XDP, ebpf.PerfEvent, ebpf.CGroupSKB,
		ebpf.CGroupSock, ebpf.LWTIn, ebpf.LWTOut, ebpf.LWTXmit, ebpf.SockOps, ebpf.SkSKB, ebpf.CGroupDevice, ebpf.SkMsg,
		ebpf.RawTracepoint, ebpf.CGroupSockAddr, ebpf.LWTSeg6Local, ebpf.SkReuseport, ebpf.FlowDissector, ebpf.CGroupSysctl,
		ebpf.RawTracepointWritable, ebpf.CGroupSockopt, ebpf.SkLookup, ebpf.Syscall, ebpf.Netfilter,
	}
	for _, id := range IDs() {
		h, _ := Lookup(id)
		for _, typ := range all {
			log := kernelLog(t, typ, "GPL", id)
			has := !strings.Contains(log, "cannot use helper") && !strings.Contains(log, "unknown func")
			if got := h.Proto.For(typ); got != has {
				t.Errorf("bpf_%s in %s: here %v, kernel %v: %s", h.Proto.Name, typ, got, has, log)
			}
			if has {
				gpl := strings.Contains(kernelLog(t, typ, "MIT", id), "GPL")
				if gpl != h.Proto.GPLOnly {
					t.Errorf("bpf_%s: GPL only here %v, kernel %v", h.Proto.Name, h.Proto.GPLOnly, gpl)
				}
			}
		}
	}
}
