package progtype

import "github.com/cilium/ebpf"

// xdp is struct xdp_md (xdp_is_valid_access). Only programs in a device map know where the packet leaves.
var xdp = layout{name: "xdp_md", size: XDPSize, rows: []row{
	{off: xdpData, size: 4, read: 4, is: FieldPacket},
	{off: xdpDataEnd, size: 4, read: 4, is: FieldPacketEnd},
	{off: xdpDataMeta, size: 4, read: 4, is: FieldPacketMeta},
	{off: 20, size: 4, read: 4, at: []ebpf.AttachType{ebpf.AttachXDPDevMap}}, // egress_ifindex
}, rest: row{read: 4}}
