package progtype

import "github.com/cilium/ebpf"

// This file says what program types may do with the packet (may_access_direct_pkt_data). Reads need no permission: who
// has no packet has no pointer to it.

// DirectPacketWrite reports whether programs of type t may store into the packet.
func DirectPacketWrite(t ebpf.ProgramType) bool {
	switch t {
	case ebpf.SchedCLS, ebpf.SchedACT, ebpf.XDP, ebpf.LWTXmit, ebpf.SkSKB, ebpf.SkMsg, ebpf.CGroupSockopt:
		return true
	}
	return false
}

// HelperPacketAccess reports whether programs of type t may pass packet pointers as memory to a helper; takes says
// whether that helper is made for it.
func HelperPacketAccess(t ebpf.ProgramType, takes bool) bool {
	switch t {
	case ebpf.CGroupSKB, ebpf.LWTIn, ebpf.LWTOut, ebpf.LWTSeg6Local, ebpf.SkReuseport, ebpf.FlowDissector:
		return takes
	case ebpf.CGroupSockopt: // its packet is the value of an option, in memory of the kernel
		return true
	}
	return takes && DirectPacketWrite(t)
}

// LegacyLoads reports whether programs of type t may use LD_ABS and LD_IND (may_access_skb).
func LegacyLoads(t ebpf.ProgramType) bool {
	return t == ebpf.SocketFilter || t == ebpf.SchedCLS || t == ebpf.SchedACT
}
