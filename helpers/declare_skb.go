package helpers

import (
	"github.com/cilium/ebpf"
)

// Prototypes of helpers on socket buffers, XDP packets and tunnels.

var _ = declare(
	// the packet itself
	movesPacket(sig(18, "skb_vlan_push", tcTypes, aCtx, aAny, aAny)),
	movesPacket(sig(19, "skb_vlan_pop", tcTypes, aCtx)),
	movesPacket(sig(31, "skb_change_proto", tcTypes, aCtx, aAny, aAny)),
	movesPacket(sig(50, "skb_adjust_room", types(tcTypes, only(ebpf.SkSKB)), aCtx, aAny, aAny, aAny)),

	// tunnels and routes
	sig(66, "skb_get_xfrm_state", tcTypes, aCtx, aAny, aMemOut, aSize, aAny),

	// whose packet it is
	sig(33, "skb_under_cgroup", tcLWTTypes, aCtx, aMap, aAny),

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
