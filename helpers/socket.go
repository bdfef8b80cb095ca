package helpers

import (
	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/errno"
	"github.com/skep-bpf/skep/internal/rt"
	"github.com/skep-bpf/skep/verifier"
)

// Socket lookups. There is no network stack here: every lookup finds nothing and returns NULL, which a program must expect
// anyway. The prototypes with their references are whole, so that programs verify as in the kernel.

var _ = define(
	Helper{Proto: proto{ID: 84, Name: "sk_lookup_tcp", Ret: verifier.RetSocketOrNull, PktAccess: true, Acquires: true, ProgTypes: sockTypes, Args: lookupArgs}, Fn: noSocket},
	Helper{Proto: proto{ID: 85, Name: "sk_lookup_udp", Ret: verifier.RetSocketOrNull, PktAccess: true, Acquires: true, ProgTypes: sockTypes, Args: lookupArgs}, Fn: noSocket},
	Helper{Proto: proto{ID: 99, Name: "skc_lookup_tcp", Ret: verifier.RetSockCommonOrNull, PktAccess: true, Acquires: true, ProgTypes: sockTypes, Args: lookupArgs}, Fn: noSocket},
	Helper{Proto: proto{
		ID: 86, Name: "sk_release", ReleaseArg: 1, ProgTypes: types(sockTypes, only(ebpf.SkLookup)),
		Args: args{arg(verifier.ArgSockPtr)},
	}, Fn: skRelease},
	runs(skAssign, variants(sig(124, "sk_assign", tcTypes, aCtx, aSock, aAny),
		sig(124, "sk_assign", only(ebpf.SkLookup), aCtx, argNull(verifier.ArgSocket), aAny))),
	// Casts: the result stands for the reference of the socket that it was made of.
	runs(skFullsock, cast(returns(verifier.RetSocketOrNull, sig(95, "sk_fullsock", tcCgroupTypes, aSockCommon)))),
	runs(noSocket, cast(returns(verifier.RetTCPSockOrNull, sig(96, "tcp_sock", types(tcCgroupTypes, cgroupSockopt, only(ebpf.SockOps)), aSockCommon)))),
	runs(noSocket, cast(gives(verifier.RetStructOrNull, "tcp6_sock", sig(136, "skc_to_tcp6_sock", skcTypes, aSock)))),
	runs(noSocket, cast(gives(verifier.RetStructOrNull, "tcp_sock", sig(137, "skc_to_tcp_sock", skcTypes, aSock)))),
	runs(noSocket, cast(gives(verifier.RetStructOrNull, "tcp_timewait_sock", sig(138, "skc_to_tcp_timewait_sock", skcTypes, aSock)))),
	runs(noSocket, cast(gives(verifier.RetStructOrNull, "tcp_request_sock", sig(139, "skc_to_tcp_request_sock", skcTypes, aSock)))),
	runs(noSocket, cast(gives(verifier.RetStructOrNull, "udp6_sock", sig(140, "skc_to_udp6_sock", skcTypes, aSock)))),
	runs(noSocket, gives(verifier.RetStructOrNull, "unix_sock", sig(178, "skc_to_unix_sock", skcTypes, aSock))),
	runs(noSocket, cast(gives(verifier.RetStructOrNull, "mptcp_sock", sig(196, "skc_to_mptcp_sock", skcTypes, aSock)))),
	// no cast: the listener is another socket, which lives as long as the packet's
	runs(noSocket, returns(verifier.RetSocketOrNull, sig(98, "get_listener_sock", tcCgroupTypes, aSockCommon))),
)

var (
	sockTypes  = types(tcTypes, xdpTypes, only(ebpf.CGroupSKB, ebpf.SkSKB, ebpf.CGroupSockAddr))
	lookupArgs = args{arg(verifier.ArgCtx), arg(verifier.ArgMem), arg(verifier.ArgConstSizeOrZero), arg(verifier.ArgAnything), arg(verifier.ArgAnything)}
)

func noSocket(*rt.Run, *[12]uint64) uint64 { return 0 }

// Flags of skAssign in socket lookups (linux/bpf.h).
const fLookupFlags = 1 | 2 // BPF_SK_LOOKUP_F_REPLACE, BPF_SK_LOOKUP_F_NO_REUSEPORT

// skAssign: a socket lookup can be told to forget what it selected, which is nothing. A packet's socket is no one's to assign.
func skAssign(r *rt.Run, a *[12]uint64) uint64 {
	switch {
	case r.Packet == nil && a[2]&^fLookupFlags == 0:
		return 0
	case r.Packet == nil || a[2] != 0:
		return errno.EINVAL.R0()
	}
	return errno.EOPNOTSUPP.R0()
}

// skFullsock: the only socket is that of a test run's packet, which is one, and neither TCP's nor a listener.
func skFullsock(_ *rt.Run, a *[12]uint64) uint64 { return a[0] }

// skRelease is reached only with a socket, of which there are none.
func skRelease(*rt.Run, *[12]uint64) uint64 { return 0 }
