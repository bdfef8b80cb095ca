//go:build linux

package helpers

import (
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/kernel"
	"github.com/skep-bpf/skep/internal/program"
)

// programKind is a program type with one of its attach types.
type programKind struct {
	typ    ebpf.ProgramType
	attach ebpf.AttachType
	to     string // what it attaches to, of types with contexts by BTF
}

// programKinds are all types with a fixed context, with the attach types that decide which helpers they have.
func programKinds() []programKind {
	attach := map[ebpf.ProgramType][]ebpf.AttachType{
		ebpf.CGroupSockopt: {ebpf.AttachCGroupGetsockopt, ebpf.AttachCGroupSetsockopt},
		ebpf.SkLookup:      {ebpf.AttachSkLookup}, ebpf.Netfilter: {ebpf.AttachNetfilter},
		ebpf.CGroupSKB:    {ebpf.AttachCGroupInetIngress, ebpf.AttachCGroupInetEgress},
		ebpf.CGroupSock:   {ebpf.AttachCGroupInetSockCreate, ebpf.AttachCgroupInetSockRelease, ebpf.AttachCGroupInet4PostBind},
		ebpf.CGroupDevice: {ebpf.AttachNone, ebpf.AttachCGroupDevice, ebpf.AttachCGroupUDP4Recvmsg},
		ebpf.CGroupSysctl: {ebpf.AttachNone, ebpf.AttachCGroupSysctl}, ebpf.SockOps: {ebpf.AttachNone, ebpf.AttachCGroupSockOps, ebpf.AttachCGroupDevice},
		ebpf.CGroupSockAddr: {
			ebpf.AttachCGroupInet4Bind, ebpf.AttachCGroupInet6Bind, ebpf.AttachCGroupInet4Connect, ebpf.AttachCGroupInet6Connect,
			ebpf.AttachCgroupUnixConnect, ebpf.AttachCGroupUDP4Sendmsg, ebpf.AttachCGroupUDP6Sendmsg, ebpf.AttachCgroupUnixSendmsg,
			ebpf.AttachCGroupUDP4Recvmsg, ebpf.AttachCGroupUDP6Recvmsg, ebpf.AttachCgroupUnixRecvmsg,
			ebpf.AttachCgroupInet4GetPeername, ebpf.AttachCgroupInet6GetPeername, ebpf.AttachCgroupUnixGetpeername,
			ebpf.AttachCgroupInet4GetSockname, ebpf.AttachCgroupInet6GetSockname, ebpf.AttachCgroupUnixGetsockname,
		},
	}
	var out []programKind
	for _, t := range layoutTypes {
		at, ok := attach[t]
		if !ok {
			at = []ebpf.AttachType{ebpf.AttachNone}
		}
		for _, a := range at {
			out = append(out, programKind{t, a, ""})
		}
	}
	return append(out,
		programKind{ebpf.Tracing, ebpf.AttachTraceRawTp, "sched_switch"}, programKind{ebpf.Tracing, ebpf.AttachTraceIter, "task"},
		programKind{ebpf.Tracing, ebpf.AttachTraceIter, "tcp"}, programKind{ebpf.Tracing, ebpf.AttachTraceIter, "udp"},
		programKind{ebpf.Tracing, ebpf.AttachTraceIter, "unix"},
		programKind{ebpf.StructOps, ebpf.AttachStructOps, "tcp_congestion_ops:init"},
		programKind{ebpf.StructOps, ebpf.AttachStructOps, "tcp_congestion_ops:release"})
}

// kernelLog loads a program that only calls a helper, and returns the verifier's words.
func kernelLog(t *testing.T, k programKind, license string, id int32) string {
	t.Helper()
	p := &program.Program{Name: "prog", Type: k.typ, AttachType: k.attach, AttachTo: k.to, License: license, Insns: []isa.Insn{
		{Op: isa.ClassJMP | isa.JmpCALL, Imm: id}, {Op: isa.ClassALU64 | isa.AluMOV}, {Op: isa.ClassJMP | isa.JmpEXIT},
	}}
	if k.typ == ebpf.Syscall {
		p.Flags = 1 << 4 // BPF_F_SLEEPABLE
	}
	_, log, err := kernel.Verify(p, 1)
	if err != nil {
		t.Skipf("the kernel's verifier is the oracle of this test, and it cannot be asked: %v", err)
	}
	return log
}

// TestAvailabilityAsKernel compares, for every helper and program type, whether the kernel lets the type call it, and
// whether it wants a GPL program.
func TestAvailabilityAsKernel(t *testing.T) {
	if err := kernel.Available(); err != nil {
		t.Skip("the kernel's verifier is the oracle of this test: ", err)
	}
	for id := int32(1); id <= lastHelper; id++ {
		h, ok := Lookup(id)
		if !ok {
			t.Errorf("helper %d has no prototype", id)
			continue
		}
		for _, k := range programKinds() {
			log := kernelLog(t, k, "GPL", id)
			has := !strings.Contains(log, "cannot use helper") && !strings.Contains(log, "unknown func") && !strings.Contains(log, notAllowed)
			p := h.Proto.In(k.typ, k.attach)
			if !h.Proto.Reaches(k.typ, k.to) {
				p = nil
			}
			if p != nil && strings.Contains(log, notAllowed) {
				continue // the verifier says so, too
			}
			if (p != nil) != has {
				t.Errorf("bpf_%s in %v: here %v, kernel %v: %s", h.Proto.Name, k, p != nil, has, log)
			}
			if p == nil || !has || strings.Contains(log, "might sleep") || k.typ == ebpf.StructOps { // struct_ops programs are GPL
				continue
			}
			if gpl := strings.Contains(kernelLog(t, k, "MIT", id), "GPL"); gpl != p.GPLOnly {
				t.Errorf("bpf_%s in %v: GPL only here %v, kernel %v", h.Proto.Name, k, p.GPLOnly, gpl)
			}
		}
	}
}

const (
	lastHelper = 211
	// notAllowed is said of helpers that a type has for some functions that it could attach to, and for none here.
	notAllowed = "helper call is not allowed in probe"
)

// TestNames: each prototype is named as the kernel's enumeration does.
func TestNames(t *testing.T) {
	for _, id := range IDs() {
		h, _ := Lookup(id)
		for _, p := range append([]proto{h.Proto}, h.Proto.Variants...) {
			if want := isa.HelperName(id); "bpf_"+p.Name != want || p.ID != id {
				t.Errorf("helper %d is called bpf_%s#%d here, %s by the kernel", id, p.Name, p.ID, want)
			}
		}
	}
}
