package helpers

import (
	"github.com/skep-bpf/skep/internal/errno"
	"github.com/skep-bpf/skep/internal/rt"
	"github.com/skep-bpf/skep/verifier"
)

// What depends on interfaces: there is one here, the loopback interface that packets of test runs come from.

var _ = define(
	runs(checkMTU, gpl(sig(163, "check_mtu", tcXDPTypes, aCtx, aAny,
		verifier.HelperArg{Kind: verifier.ArgFixedWriteMem, Size: 4, Align: true}, aAny, aAny))),
	runs(fibLookup, gpl(sig(69, "fib_lookup", tcXDPTypes, aCtx, aMemInOut, aSize, aAny))),
	runs(cloneRedirect, movesPacket(sig(13, "clone_redirect", tcXmitTypes, aCtx, aAny, aAny))),
	runs(xdpGetBuffLen, variants(sig(188, "xdp_get_buff_len", xdpTypes, aCtx), sig(188, "xdp_get_buff_len", sockTraceTypes, aStruct("xdp_buff")))),
)

const (
	loopback    = 1
	loopbackMTU = 65536

	fMTUSegs        = 1 // BPF_MTU_CHK_SEGS
	mtuFragNeeded   = 1 // BPF_MTU_CHK_RET_FRAG_NEEDED
	skbGSOSizeField = 176
)

// checkMTU compares a packet, after its length changed by a[3], with what fits through an interface (bpf_skb_check_mtu,
// bpf_xdp_check_mtu). *mtu_len is the length of the network packet to compare instead, if it is not 0, and the interface's limit afterwards.
func checkMTU(r *rt.Run, a *[12]uint64) uint64 {
	ifindex, mtuLen, diff, flags := uint32(a[1]), uint64(a[2]), int32(a[3]), a[4]
	xdp := r.Packet.XDP
	given := load32(mtuLen)
	switch {
	case flags&^fMTUSegs != 0 || flags != 0 && (xdp || diff != 0 || given != 0):
		return errno.EINVAL.R0()
	case ifindex != 0 && ifindex != loopback:
		return errno.ENODEV.R0()
	}
	n := int32(r.Packet.DataEnd - r.Packet.Data)
	if given != 0 {
		n = int32(given) + ethHLen
	}
	n += diff // less than nothing fits
	store32(mtuLen, loopbackMTU)
	gso := !xdp && load32(uint64(r.Ctx)+skbGSOSizeField) != 0
	if n <= loopbackMTU+ethHLen || gso {
		return 0
	}
	return mtuFragNeeded
}

func xdpGetBuffLen(r *rt.Run, _ *[12]uint64) uint64 { return uint64(r.Packet.DataEnd - r.Packet.Data) }

// struct bpf_fib_lookup, and what is asked and answered (linux/bpf.h).
const (
	fibSize        = 64
	fibFamily      = 0
	fibIfIndex     = 8
	fibFlags       = 1<<6 - 1
	fibFwdDisabled = 5 // BPF_FIB_LKUP_RET_FWD_DISABLED
	afINET         = 2
	afINET6        = 10
)

// fibLookup: the loopback interface forwards nothing, so that no route is looked for.
func fibLookup(_ *rt.Run, a *[12]uint64) uint64 {
	p, n := a[1], uint32(a[2])
	if n < fibSize || uint32(a[3])&^fibFlags != 0 {
		return errno.EINVAL.R0()
	}
	switch family := rt.Mem(p+fibFamily, 1)[0]; {
	case family != afINET && family != afINET6:
		return errno.EAFNOSUPPORT.R0()
	case load32(p+fibIfIndex) != loopback:
		return errno.ENODEV.R0()
	}
	return fibFwdDisabled
}

// cloneRedirect sends a copy of the packet to an interface. What the loopback interface gets nobody receives here.
func cloneRedirect(_ *rt.Run, a *[12]uint64) uint64 {
	if a[2]&^fIngress != 0 || uint32(a[1]) != loopback {
		return errno.EINVAL.R0()
	}
	return 0
}
