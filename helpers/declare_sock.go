package helpers

import (
	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/verifier"
)

// Prototypes of helpers on sockets, socket maps, messages between sockets and control groups.

var _ = declare(
	variants(sig(46, "get_socket_cookie", types(tcCgroupTypes, cgroupAddr, only(ebpf.CGroupSock, ebpf.SkSKB, ebpf.SockOps, ebpf.SocketFilter)), aCtx),
		sig(46, "get_socket_cookie", types(sockTraceTypes, only(ebpf.SkReuseport)), argNull(verifier.ArgSockPtr))),
	sig(122, "get_netns_cookie", types(tcCgroupTypes, cgroupAddr, cgroupSockopt,
		only(ebpf.CGroupSock, ebpf.SkMsg, ebpf.SockOps, ebpf.SocketFilter)), aCtxOrNull),
	sig(128, "sk_cgroup_id", only(ebpf.CGroupSKB), aSock),
	sig(129, "sk_ancestor_cgroup_id", only(ebpf.CGroupSKB), aSock, aAny),

	// options and addresses
	sockopts(variants(sig(49, "setsockopt", types(cgroupAddr, only(ebpf.SockOps)), aCtx, aAny, aAny, aMem, aSize),
		sig(49, "setsockopt", sockoptTypes, aSock, aAny, aAny, aMem, aSize))),
	sockopts(variants(sig(57, "getsockopt", types(cgroupAddr, only(ebpf.SockOps)), aCtx, aAny, aAny, aMemOut, aSize),
		sig(57, "getsockopt", sockoptTypes, aSock, aAny, aAny, aMemOut, aSize))),
	attached(sig(64, "bind", cgroupAddr, aCtx, aMem, aSize), ebpf.CGroupSockAddr, ebpf.AttachCGroupInet4Connect, ebpf.AttachCGroupInet6Connect),
	withResult(variants(sig(186, "get_retval", types(retvalTypes, only(ebpf.LSM))), sig(186, "get_retval", only(ebpf.CGroupSock)))),
	withResult(variants(sig(187, "set_retval", types(retvalTypes, only(ebpf.LSM)), aAny), sig(187, "set_retval", only(ebpf.CGroupSock), aAny))),
	sig(59, "sock_ops_cb_flags_set", only(ebpf.SockOps), aCtx, aAny),
	sig(142, "load_hdr_opt", only(ebpf.SockOps), aCtx, aMemInOut, aSize, aAny),
	movesPacket(sig(143, "store_hdr_opt", only(ebpf.SockOps), aCtx, aMem, aSize, aAny)),
	sig(144, "reserve_hdr_opt", only(ebpf.SockOps), aCtx, aAny, aAny),

	// maps of sockets
	sig(52, "sk_redirect_map", only(ebpf.SkSKB), aCtx, aMap, aAny, aAny),
	sig(72, "sk_redirect_hash", only(ebpf.SkSKB), aCtx, aMap, aKey, aAny),
	readsPacket(sig(53, "sock_map_update", only(ebpf.SockOps), aCtx, aMap, aKey, aAny)),
	readsPacket(sig(70, "sock_hash_update", only(ebpf.SockOps), aCtx, aMap, aKey, aAny)),
	sig(82, "sk_select_reuseport", only(ebpf.SkReuseport), aCtx, aMap, aKey, aAny),

	// messages
	sig(60, "msg_redirect_map", only(ebpf.SkMsg), aCtx, aMap, aAny, aAny),
	sig(71, "msg_redirect_hash", only(ebpf.SkMsg), aCtx, aMap, aKey, aAny),
	sig(61, "msg_apply_bytes", only(ebpf.SkMsg), aCtx, aAny),
	sig(62, "msg_cork_bytes", only(ebpf.SkMsg), aCtx, aAny),
	movesPacket(sig(63, "msg_pull_data", only(ebpf.SkMsg), aCtx, aAny, aAny, aAny)),
	movesPacket(sig(90, "msg_push_data", only(ebpf.SkMsg), aCtx, aAny, aAny, aAny)),
	movesPacket(sig(91, "msg_pop_data", only(ebpf.SkMsg), aCtx, aAny, aAny, aAny)),

	// control groups
	sig(101, "sysctl_get_name", only(ebpf.CGroupSysctl), aCtx, aMemInOut, aSize, aAny),
	sig(102, "sysctl_get_current_value", only(ebpf.CGroupSysctl), aCtx, aMemOut, aSize),
	sig(103, "sysctl_get_new_value", only(ebpf.CGroupSysctl), aCtx, aMemOut, aSize),
	sig(104, "sysctl_set_new_value", only(ebpf.CGroupSysctl), aCtx, aMem, aSize),
)

// Types of programs whose result user space sees as an error number, in most places where they are attached.
var retvalTypes = types(cgroupAddr, cgroupSockopt, only(ebpf.SockOps, ebpf.CGroupDevice, ebpf.CGroupSysctl))

// sockoptTypes set and get options of sockets that they have a pointer to: of control groups, iterators, methods of the congestion
// control and hooks of security modules.
var sockoptTypes = types(cgroupSockopt, only(ebpf.Tracing, ebpf.StructOps, ebpf.LSM))

// sockopts limits these helpers to where a socket may be changed: not where it is being released.
func sockopts(p proto) proto {
	p = attached(attached(attached(p, ebpf.CGroupSockopt, ebpf.AttachCGroupSetsockopt), ebpf.Tracing, ebpf.AttachTraceIter),
		ebpf.LSM, ebpf.AttachLSMCgroup)
	p.Targets = map[ebpf.ProgramType][]string{
		ebpf.Tracing: {"tcp", "unix"},
		ebpf.LSM:     {"sock_graft", "inet_csk_clone", "inet_conn_established", "socket_post_create", "socket_socketpair"},
	}
	return notTargets(p, ebpf.StructOps, "tcp_congestion_ops:release")
}

// withResult takes the places away where it sees none. (An attach type of 0 counts as the first of the enumeration, ingress.)
func withResult(p proto) proto {
	p.NotAttach = []ebpf.AttachType{
		ebpf.AttachNone, ebpf.AttachCGroupInetIngress, ebpf.AttachCGroupInetEgress, ebpf.AttachCGroupSockOps,
		ebpf.AttachCGroupUDP4Recvmsg, ebpf.AttachCGroupUDP6Recvmsg, ebpf.AttachCgroupUnixRecvmsg,
		ebpf.AttachCgroupInet4GetPeername, ebpf.AttachCgroupInet6GetPeername, ebpf.AttachCgroupUnixGetpeername,
		ebpf.AttachCgroupInet4GetSockname, ebpf.AttachCgroupInet6GetSockname, ebpf.AttachCgroupUnixGetsockname,
	}
	return attached(p, ebpf.LSM, ebpf.AttachLSMCgroup)
}
