package progtype

import (
	"slices"

	"github.com/cilium/ebpf"
)

// This file says what programs may return (check_return_code).

// onlyProceed are the attach types of cgroup sock_addr programs that see a result and cannot refuse it.
var onlyProceed = []ebpf.AttachType{
	ebpf.AttachCGroupUDP4Recvmsg, ebpf.AttachCGroupUDP6Recvmsg, ebpf.AttachCgroupUnixRecvmsg,
	ebpf.AttachCgroupInet4GetPeername, ebpf.AttachCgroupInet6GetPeername, ebpf.AttachCgroupUnixGetpeername,
	ebpf.AttachCgroupInet4GetSockname, ebpf.AttachCgroupInet6GetSockname, ebpf.AttachCgroupUnixGetsockname,
}

// ReturnRange is the range of results that programs of type t with attach type at may return; ok is false if any will do.
func ReturnRange(t ebpf.ProgramType, at ebpf.AttachType) (lo, hi int64, ok bool) {
	switch t {
	case ebpf.CGroupSockAddr:
		switch {
		case slices.Contains(onlyProceed, at):
			return 1, 1, true
		case at == ebpf.AttachCGroupInet4Bind || at == ebpf.AttachCGroupInet6Bind:
			return 0, 3, true
		}
		return 0, 1, true
	case ebpf.CGroupSKB:
		if at == ebpf.AttachCGroupInetEgress {
			return 0, 3, true
		}
		return 0, 1, true
	case ebpf.CGroupSock, ebpf.SockOps, ebpf.CGroupDevice, ebpf.CGroupSysctl, ebpf.CGroupSockopt, ebpf.SkLookup, ebpf.Netfilter:
		return 0, 1, true
	case ebpf.Kprobe:
		return 0, 1, at == ebpf.AttachTraceKprobeSession
	}
	return 0, 0, false
}
