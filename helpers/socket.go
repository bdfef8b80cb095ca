package helpers

import (
	"github.com/cilium/ebpf"

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
)

var (
	sockTypes  = types(tcTypes, xdpTypes, only(ebpf.CGroupSKB, ebpf.SkSKB, ebpf.CGroupSockAddr))
	lookupArgs = args{arg(verifier.ArgCtx), arg(verifier.ArgMem), arg(verifier.ArgConstSizeOrZero), arg(verifier.ArgAnything), arg(verifier.ArgAnything)}
)

func noSocket(*rt.Run, *[12]uint64) uint64 { return 0 }

// skRelease is reached only with a socket, of which there are none.
func skRelease(*rt.Run, *[12]uint64) uint64 { return 0 }
