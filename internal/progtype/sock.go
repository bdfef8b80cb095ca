package progtype

import "github.com/cilium/ebpf"

// This file has the structures of sockets: struct bpf_sock, which is the context of cgroup sock programs and what socket
// pointers point to, and what pointers to TCP and XDP sockets point to.

var (
	sockLifetime = []ebpf.AttachType{ebpf.AttachCGroupInetSockCreate, ebpf.AttachCgroupInetSockRelease}
	postBind     = []ebpf.AttachType{ebpf.AttachCGroupInet4PostBind, ebpf.AttachCGroupInet6PostBind}
)

// bpfSock is struct bpf_sock (bpf_sock_is_valid_access). Its attach types count in contexts only
// (sock_filter_is_valid_access).
var bpfSock = layout{name: "bpf_sock", size: 80, rows: []row{
	{off: 0, size: 4, read: 4, write: 4, at: sockLifetime},    // bound_dev_if
	{off: 4, size: 4, read: upTo4, head: true},                // family
	{off: 8, size: 4, read: upTo4, head: true},                // type
	{off: 12, size: 4, read: upTo4, head: true},               // protocol
	{off: 16, size: 8, read: 4, write: 4, at: sockLifetime},   // mark, priority
	{off: 24, size: 4, read: upTo4, at: postBind[:1]},         // src_ip4
	{off: 28, size: 16, read: upTo4, at: postBind[1:]},        // src_ip6
	{off: 44, size: 4, read: upTo4, head: true, at: postBind}, // src_port
	{off: 48, size: 4, read: upTo4, head: true},               // dst_port: two bytes, but four may be read
	{off: 49, size: 1, read: 1}, {off: 50, size: 2},           // its other byte and padding
	{off: 52, size: 20, read: upTo4},                                                         // dst_ip4, dst_ip6
	{off: 72, size: 4, read: upTo4, head: true}, {off: 76, size: 4, read: upTo4, head: true}, // state, rx_queue_mapping
}, rest: row{read: 4}}

// sockFull are the bytes of a struct bpf_sock that only full sockets have: type to priority
// (bpf_sock_common_is_valid_access).
var sockFull = span{8, 16}

// tcpSock is struct bpf_tcp_sock, with two 64-bit counters (bpf_tcp_sock_is_valid_access).
var tcpSock = layout{size: 112, rows: []row{{off: 80, size: 8, read: 8, head: true}, {off: 88, size: 8, read: 8, head: true}}, rest: row{read: 4}}

// xdpSock is struct bpf_xdp_sock (bpf_xdp_sock_is_valid_access).
var xdpSock = layout{size: 4, rest: row{read: 4}}

// Sock is what the pointers to sockets show of them.
type Sock uint8

// The structures of sockets: struct bpf_sock with the fields that every socket has, or all of it, struct bpf_tcp_sock,
// struct bpf_xdp_sock.
const (
	SockCommon Sock = iota
	SockFull
	SockTCP
	SockXDP
)

// SockAccess decides a read of size bytes at off of a socket's structure.
func SockAccess(s Sock, off, size int) bool {
	l := &bpfSock
	switch s {
	case SockTCP:
		l = &tcpSock
	case SockXDP:
		l = &xdpSock
	case SockCommon:
		if sockFull.has(off) {
			return false
		}
	}
	return l.access(0, true, off, size, Read).OK
}
