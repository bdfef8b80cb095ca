package helpers

import (
	"math/bits"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/errno"
	"github.com/skep-bpf/skep/internal/rt"
)

// Helpers on what a socket buffer has beside its bytes: type, hash, time, checksum state, owner.

var _ = define(
	runs(skbChangeType, sig(32, "skb_change_type", tcTypes, aCtx, aAny)),
	runs(csumUpdate, sig(40, "csum_update", tcXmitTypes, aCtx, aAny)),
	runs(csumLevel, sig(135, "csum_level", tcXmitTypes, aCtx, aAny)),
	runs(getHashRecalc, sig(34, "get_hash_recalc", tcLWTTypes, aCtx)),
	runs(setHashInvalid, sig(41, "set_hash_invalid", tcXmitTypes, aCtx)),
	runs(setHash, sig(48, "set_hash", tcTypes, aCtx, aAny)),
	runs(ecnSetCE, sig(97, "skb_ecn_set_ce", tcCgroupTypes, aCtx)),
	runs(skbSetTstamp, sig(192, "skb_set_tstamp", tcTypes, aCtx, aAny, aAny)),
	runs(zero, sig(24, "get_route_realm", tcLWTTypes, aCtx)),
	runs(rootCgroup, sig(79, "skb_cgroup_id", tcCgroupTypes, aCtx)),
	runs(skbAncestorCgroupID, sig(83, "skb_ancestor_cgroup_id", tcCgroupTypes, aCtx, aAny)),
	runs(zero, sig(47, "get_socket_uid", types(tcCgroupTypes, only(ebpf.SocketFilter, ebpf.SkSKB)), aCtx)),
	runs(zero, sig(151, "skb_cgroup_classid", tcTypes, aCtx)),
	runs(zero, variants(sig(17, "get_cgroup_classid", nil), sig(17, "get_cgroup_classid", tcLWTTypes, aCtx))),
)

// zero is for what a packet of a test run never has: a route, a class of a control group.
func zero(*rt.Run, *[12]uint64) uint64 { return 0 }

// rootCgroup: the socket of a test run's packet is in the first control group.
func rootCgroup(*rt.Run, *[12]uint64) uint64 { return 1 }

// skbAncestorCgroupID: which is its own ancestor at level 0, and has no others.
func skbAncestorCgroupID(_ *rt.Run, a *[12]uint64) uint64 {
	if uint32(a[1]) != 0 {
		return 0
	}
	return 1
}

// Offsets in struct __sk_buff.
const (
	skbPktTypeOff = 4
	skbTstampOff  = 152

	pktOtherHost = 3 // the last type that a program may see or set
)

func skbChangeType(r *rt.Run, a *[12]uint64) uint64 {
	p, typ := uint64(r.Ctx)+skbPktTypeOff, uint32(a[1])
	if load32(p) > pktOtherHost || typ > pktOtherHost {
		return errno.EINVAL.R0()
	}
	store32(p, typ)
	return 0
}

// csumUpdate is for buffers whose checksum the device has computed, which those of a test run are not.
func csumUpdate(*rt.Run, *[12]uint64) uint64 { return errno.ENOTSUPP.R0() }

// What csumLevel is asked to do (linux/bpf.h).
const (
	csumLevelQuery = iota
	csumLevelInc
	csumLevelDec
	csumLevelReset
)

// csumLevel: no checksum of these buffers was verified.
func csumLevel(_ *rt.Run, a *[12]uint64) uint64 {
	switch a[1] {
	case csumLevelQuery:
		return errno.EACCES.R0()
	case csumLevelInc, csumLevelDec, csumLevelReset:
		return 0
	}
	return errno.EINVAL.R0()
}

// getHashRecalc returns the hash of the buffer's flow, making one if there is none: of all its bytes here, and never 0.
func getHashRecalc(r *rt.Run, _ *[12]uint64) uint64 {
	p := uint64(r.Ctx) + skbHashOff
	if load32(p) == 0 {
		h := uint32(2166136261) // FNV-1a
		for _, b := range rt.Mem(uint64(r.Packet.Data), int(r.Packet.DataEnd-r.Packet.Data)) {
			h = (h ^ uint32(b)) * 16777619
		}
		store32(p, max(h, 1))
	}
	return uint64(load32(p))
}

func setHashInvalid(r *rt.Run, _ *[12]uint64) uint64 {
	store32(uint64(r.Ctx)+skbHashOff, 0)
	return 0
}

func setHash(r *rt.Run, a *[12]uint64) uint64 {
	store32(uint64(r.Ctx)+skbHashOff, uint32(a[1]))
	return 0
}

// ecnSetCE marks an IP packet as one that met congestion (RFC 3168), if it may be marked: 1 if it is marked now.
func ecnSetCE(r *rt.Run, _ *[12]uint64) uint64 {
	p := r.Packet
	net := uint64(p.Data + p.NetOff)
	n := uint64(p.DataEnd) - net
	if net > uint64(p.DataEnd) {
		return 0
	}
	switch proto := networkProto(r); {
	case proto == ethPIP && n >= ipv4Size:
		return uint64(markIPv4(rt.Mem(net, ipv4Size)))
	case proto == ethPIPv6 && n >= ipv6Size:
		return uint64(markIPv6(rt.Mem(net, ipv6Size)))
	}
	return 0
}

const (
	ethPIP   = 0x0800
	ethPIPv6 = 0x86dd
	ecnMask  = 3
	skbProto = 16
)

// networkProto is the protocol of the network header by the context, which the Ethernet header's was put into.
func networkProto(r *rt.Run) uint16 {
	return bits.ReverseBytes16(uint16(load32(uint64(r.Ctx) + skbProto)))
}

// markIPv4 changes the field and the header's checksum.
func markIPv4(h []byte) int {
	switch h[1] & ecnMask {
	case 0:
		return 0
	case ecnMask:
		return 1
	}
	// By the sums of RFC 1624: the field grows by 2 for ECT(1), by 1 for ECT(0).
	old := h[1]
	h[1] |= ecnMask
	sum := uint32(h[10])<<8 | uint32(h[11])
	sum = (^sum & 0xffff) + (^uint32(old) & 0xffff) + uint32(h[1])
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	sum = ^sum
	h[10], h[11] = byte(sum>>8), byte(sum)
	return 1
}

func markIPv6(h []byte) int {
	switch h[1] >> 4 & ecnMask {
	case 0:
		return 0
	case ecnMask:
		return 1
	}
	h[1] |= ecnMask << 4
	return 1
}

// Kinds of times (linux/bpf.h).
const (
	clockRealtimeStamp = iota
	clockMonotonicStamp
	clockTAIStamp
)

// skbSetTstamp sets the buffer's delivery time.
func skbSetTstamp(r *rt.Run, a *[12]uint64) uint64 {
	if proto := networkProto(r); proto != ethPIP && proto != ethPIPv6 {
		return errno.EOPNOTSUPP.R0()
	}
	switch uint32(a[2]) {
	case clockRealtimeStamp:
	case clockMonotonicStamp, clockTAIStamp:
		if a[1] == 0 {
			return errno.EINVAL.R0()
		}
	default:
		return errno.EINVAL.R0()
	}
	store64(uint64(r.Ctx)+skbTstampOff, a[1])
	return 0
}
