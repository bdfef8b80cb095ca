package helpers

import (
	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/verifier"
)

// Prototypes of helpers on socket buffers, XDP packets and tunnels.

var _ = declare(
	// the packet itself
	movesPacket(sig(13, "clone_redirect", tcXmitTypes, aCtx, aAny, aAny)),
	movesPacket(sig(18, "skb_vlan_push", tcTypes, aCtx, aAny, aAny)),
	movesPacket(sig(19, "skb_vlan_pop", tcTypes, aCtx)),
	movesPacket(sig(31, "skb_change_proto", tcTypes, aCtx, aAny, aAny)),
	sig(32, "skb_change_type", tcTypes, aCtx, aAny),
	movesPacket(sig(38, "skb_change_tail", types(tcXmitTypes, only(ebpf.SkSKB)), aCtx, aAny, aAny)),
	movesPacket(sig(43, "skb_change_head", types(tcXmitTypes, only(ebpf.SkSKB)), aCtx, aAny, aAny)),
	movesPacket(sig(50, "skb_adjust_room", types(tcTypes, only(ebpf.SkSKB)), aCtx, aAny, aAny, aAny)),
	sig(40, "csum_update", tcXmitTypes, aCtx, aAny),
	sig(135, "csum_level", tcXmitTypes, aCtx, aAny),
	sig(34, "get_hash_recalc", tcLWTTypes, aCtx),
	sig(41, "set_hash_invalid", tcXmitTypes, aCtx),
	sig(48, "set_hash", tcTypes, aCtx, aAny),
	sig(97, "skb_ecn_set_ce", tcCgroupTypes, aCtx),
	sig(192, "skb_set_tstamp", tcTypes, aCtx, aAny, aAny),

	// tunnels and routes
	sig(20, "skb_get_tunnel_key", tcXmitTypes, aCtx, aMemOut, aSize, aAny),
	sig(21, "skb_set_tunnel_key", tcXmitTypes, aCtx, aMem, aSize, aAny),
	sig(29, "skb_get_tunnel_opt", tcXmitTypes, aCtx, aMemOut, aSize),
	sig(30, "skb_set_tunnel_opt", tcXmitTypes, aCtx, aMem, aSize),
	sig(66, "skb_get_xfrm_state", tcTypes, aCtx, aAny, aMemOut, aSize, aAny),
	sig(24, "get_route_realm", tcLWTTypes, aCtx),
	gpl(sig(69, "fib_lookup", tcXDPTypes, aCtx, aMemInOut, aSize, aAny)),
	gpl(sig(163, "check_mtu", tcXDPTypes, aCtx, aAny,
		verifier.HelperArg{Kind: verifier.ArgFixedWriteMem, Size: 4, Align: true}, aAny, aAny)),
	sig(152, "redirect_neigh", tcTypes, aAny, aMemOrNull, aSizeOrZero, aAny),
	sig(155, "redirect_peer", tcTypes, aAny, aAny),

	// whose packet it is
	sig(33, "skb_under_cgroup", tcLWTTypes, aCtx, aMap, aAny),
	sig(47, "get_socket_uid", types(tcCgroupTypes, only(ebpf.SocketFilter, ebpf.SkSKB)), aCtx),
	sig(79, "skb_cgroup_id", tcCgroupTypes, aCtx),
	sig(83, "skb_ancestor_cgroup_id", tcCgroupTypes, aCtx, aAny),
	sig(151, "skb_cgroup_classid", tcTypes, aCtx),

	// lightweight tunnels
	movesPacket(sig(73, "lwt_push_encap", only(ebpf.LWTIn, ebpf.LWTXmit), aCtx, aAny, aMem, aSize)),
	movesPacket(sig(74, "lwt_seg6_store_bytes", only(ebpf.LWTSeg6Local), aCtx, aAny, aMem, aSize)),
	movesPacket(sig(75, "lwt_seg6_adjust_srh", only(ebpf.LWTSeg6Local), aCtx, aAny, aAny)),
	movesPacket(sig(76, "lwt_seg6_action", only(ebpf.LWTSeg6Local), aCtx, aAny, aMem, aSize)),

	// SYN cookies
	gpl(readsPacket(sig(100, "tcp_check_syncookie", tcXDPTypes, aSock, aMem, aSize, aMem, aSize))),
	gpl(readsPacket(sig(110, "tcp_gen_syncookie", tcXDPTypes, aSock, aMem, aSize, aMem, aSize))),
	gpl(readsPacket(sig(204, "tcp_raw_gen_syncookie_ipv4", tcXDPTypes, header(ipv4Size), aMemPlain, aSizeOrZero))),
	gpl(readsPacket(sig(205, "tcp_raw_gen_syncookie_ipv6", tcXDPTypes, header(ipv6Size), aMemPlain, aSizeOrZero))),
	gpl(readsPacket(sig(206, "tcp_raw_check_syncookie_ipv4", tcXDPTypes, header(ipv4Size), header(tcpSize)))),
	gpl(readsPacket(sig(207, "tcp_raw_check_syncookie_ipv6", tcXDPTypes, header(ipv6Size), header(tcpSize)))),
)

// Sizes of struct iphdr, ipv6hdr and tcphdr.
const (
	ipv4Size = 20
	ipv6Size = 40
	tcpSize  = 20
)
