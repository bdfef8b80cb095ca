package progtype

// This file has the contexts of programs on sockets: sock_ops, sk_msg, sk_lookup, sk_reuseport.

// sockOps is struct bpf_sock_ops (sock_ops_is_valid_access).
var sockOps = layout{name: "bpf_sock_ops", size: 224, rows: []row{
	{off: 4, size: 4, read: 4, write: 4, head: true},   // reply
	{off: 164, size: 4, read: 4, write: 4, head: true}, // sk_txhash
	{off: 168, size: 16, read: 8},                      // bytes_received, bytes_acked
	{off: 184, size: 8, read: 8, is: FieldSocketOrNull},
	{off: 192, size: 8, read: 8, is: FieldPacket},
	{off: 200, size: 8, read: 8, is: FieldPacketEnd},
	{off: 212, size: 4, read: upTo4, head: true}, // skb_tcp_flags
	{off: 216, size: 8, read: 8},                 // skb_hwtstamp
}, rest: row{read: 4}}

// skMsg is struct sk_msg_md (sk_msg_is_valid_access).
var skMsg = layout{name: "sk_msg_md", size: 80, rows: []row{
	{off: 0, size: 8, read: 8, is: FieldPacket},
	{off: 8, size: 8, read: 8, is: FieldPacketEnd},
	{off: 16, size: 56, read: 4}, // family to size
	{off: 72, size: 8, read: 8, is: FieldSocket},
}}

// skLookup is struct bpf_sk_lookup (sk_lookup_is_valid_access).
var skLookup = layout{name: "bpf_sk_lookup", size: 72, rows: []row{
	{off: 0, size: 8, read: 8, is: FieldSocketOrNull},
	{off: 8, size: 28, read: upTo4},             // family to remote_ip6
	{off: 36, size: 4, read: upTo4, head: true}, // remote_port: two bytes, but four may be read
	{off: 37, size: 1, read: 1},
	{off: 38, size: 2, read: upTo2},  // padding, readable as ever
	{off: 40, size: 28, read: upTo4}, // local_ip4 to ingress_ifindex
}}

// skReuseport is struct sk_reuseport_md (sk_reuseport_is_valid_access).
var skReuseport = layout{name: "sk_reuseport_md", size: 56, rows: []row{
	{off: 0, size: 8, read: 8, is: FieldPacket},
	{off: 8, size: 8, read: 8, is: FieldPacketEnd},
	{off: 16, size: 4, read: upTo4}, // len
	{off: 20, size: 4, read: 2 | 4}, // eth_protocol
	{off: 24, size: 8, read: upTo4}, // ip_protocol, bind_inany
	{off: 32, size: 4, read: 4},     // hash
	{off: 40, size: 8, read: 8, is: FieldSocket},
	{off: 48, size: 8, read: 8, is: FieldSockCommonOrNull}, // migrating_sk
}}
