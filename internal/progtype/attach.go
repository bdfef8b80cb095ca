package progtype

import (
	"slices"

	"github.com/cilium/ebpf"
)

// This file says which expected attach types a program type can have (bpf_prog_load_check_attach), and how it is run where
// it is attached.

// attachTypes are those that check what they get; any type not in it takes anything.
var attachTypes = map[ebpf.ProgramType][]ebpf.AttachType{
	ebpf.CGroupSKB:      {ebpf.AttachCGroupInetIngress, ebpf.AttachCGroupInetEgress},
	ebpf.CGroupSock:     slices.Concat(sockLifetime, postBind),
	ebpf.CGroupSockAddr: slices.Concat(addr4, addr6, addrUnix),
	ebpf.CGroupSockopt:  slices.Concat(getsockopt, setsockopt),
	ebpf.SkLookup:       {ebpf.AttachSkLookup},
	ebpf.SkReuseport:    {ebpf.AttachSkReuseportSelect, ebpf.AttachSkReuseportSelectOrMigrate},
	ebpf.Netfilter:      {ebpf.AttachNetfilter},
	ebpf.Syscall:        {ebpf.AttachNone},
	ebpf.Extension:      {ebpf.AttachNone},
}

// AttachOK reports whether programs of type t can have the expected attach type at.
func AttachOK(t ebpf.ProgramType, at ebpf.AttachType) bool {
	list, ok := attachTypes[t]
	return !ok || slices.Contains(list, effectiveAttach(t, at))
}

// effectiveAttach replaces an attach type that was not given by the one it stands for
// (bpf_prog_load_fixup_attach_type).
func effectiveAttach(t ebpf.ProgramType, at ebpf.AttachType) ebpf.AttachType {
	switch {
	case at != ebpf.AttachNone:
	case t == ebpf.CGroupSock:
		return ebpf.AttachCGroupInetSockCreate
	case t == ebpf.SkReuseport:
		return ebpf.AttachSkReuseportSelect
	}
	return at
}

// MaySleep reports whether programs of type t with attach type at can be sleepable, MustSleep whether they have to be
// (check_attach_btf_id).
func MaySleep(t ebpf.ProgramType, at ebpf.AttachType) bool {
	switch t {
	case ebpf.Tracing:
		return at == ebpf.AttachTraceFEntry || at == ebpf.AttachTraceFExit || at == ebpf.AttachModifyReturn || at == ebpf.AttachTraceIter
	case ebpf.LSM, ebpf.Kprobe, ebpf.StructOps, ebpf.Syscall:
		return true
	}
	return false
}

// MustSleep: see MaySleep.
func MustSleep(t ebpf.ProgramType) bool { return t == ebpf.Syscall }

// PrivateStack reports whether functions of programs of type t have stacks of their own in the kernel's compilers, so
// that the stack of their callers does not count (bpf_enable_priv_stack).
func PrivateStack(t ebpf.ProgramType) bool {
	switch t {
	case ebpf.Kprobe, ebpf.TracePoint, ebpf.PerfEvent, ebpf.RawTracepoint:
		return true
	}
	return false
}
