package progtype

import "github.com/cilium/ebpf"

// This file has the contexts of programs in control groups that see no packet.

// Attach types of cgroup sock_addr programs by the family of addresses they see.
var (
	addr4 = []ebpf.AttachType{
		ebpf.AttachCGroupInet4Bind, ebpf.AttachCGroupInet4Connect, ebpf.AttachCgroupInet4GetPeername,
		ebpf.AttachCgroupInet4GetSockname, ebpf.AttachCGroupUDP4Sendmsg, ebpf.AttachCGroupUDP4Recvmsg,
	}
	addr6 = []ebpf.AttachType{
		ebpf.AttachCGroupInet6Bind, ebpf.AttachCGroupInet6Connect, ebpf.AttachCgroupInet6GetPeername,
		ebpf.AttachCgroupInet6GetSockname, ebpf.AttachCGroupUDP6Sendmsg, ebpf.AttachCGroupUDP6Recvmsg,
	}
	addrUnix = []ebpf.AttachType{
		ebpf.AttachCgroupUnixConnect, ebpf.AttachCgroupUnixSendmsg, ebpf.AttachCgroupUnixRecvmsg,
		ebpf.AttachCgroupUnixGetpeername, ebpf.AttachCgroupUnixGetsockname,
	}
	sendmsg4 = []ebpf.AttachType{ebpf.AttachCGroupUDP4Sendmsg}
	sendmsg6 = []ebpf.AttachType{ebpf.AttachCGroupUDP6Sendmsg}
)

// sockAddr is struct bpf_sock_addr (sock_addr_is_valid_access). Two words of an IPv6 address may be taken at once where
// they are aligned.
var sockAddr = layout{name: "bpf_sock_addr", size: 72, rows: []row{
	{off: 0, size: 4, read: 4},                                   // user_family
	{off: 4, size: 4, read: upTo4, write: 4, at: addr4},          // user_ip4
	{off: 8, size: 16, read: upTo8, write: 4 | 8, at: addr6},     // user_ip6
	{off: 24, size: 4, read: upTo4, write: 4},                    // user_port
	{off: 28, size: 12, read: 4},                                 // family, type, protocol
	{off: 40, size: 4, read: upTo4, write: 4, at: sendmsg4},      // msg_src_ip4
	{off: 44, size: 16, read: upTo8, write: 4 | 8, at: sendmsg6}, // msg_src_ip6
	{off: 64, size: 8, read: 8, is: FieldSocket},                 // sk
}}

var (
	getsockopt = []ebpf.AttachType{ebpf.AttachCGroupGetsockopt}
	setsockopt = []ebpf.AttachType{ebpf.AttachCGroupSetsockopt}
)

// sockopt is struct bpf_sockopt (cg_sockopt_is_valid_access). The option's value is seen as a packet.
var sockopt = layout{name: "bpf_sockopt", size: 40, rows: []row{
	{off: 0, size: 8, read: 8, is: FieldSocket},
	{off: 8, size: 8, read: 8, is: FieldPacket},                // optval
	{off: 16, size: 8, read: 8, is: FieldPacketEnd},            // optval_end
	{off: 24, size: 8, read: 4, write: 4, writers: setsockopt}, // level, optname
	{off: 32, size: 4, read: 4, write: 4},                      // optlen
	{off: 36, size: 4, read: 4, write: 4, at: getsockopt},      // retval
}}

// sysctl is struct bpf_sysctl (sysctl_is_valid_access).
var sysctl = layout{name: "bpf_sysctl", size: 8, rows: []row{
	{off: 0, size: 4, read: upTo4},           // write
	{off: 4, size: 4, read: upTo4, write: 4}, // file_pos
}}

// device is struct bpf_cgroup_dev_ctx (cgroup_dev_is_valid_access).
var device = layout{name: "bpf_cgroup_dev_ctx", size: 12, rows: []row{
	{off: 0, size: 4, read: upTo4}, // access_type
}, rest: row{read: 4}, plain: true}
