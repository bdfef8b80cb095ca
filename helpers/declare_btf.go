package helpers

import (
	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/verifier"
)

// Prototypes of helpers that take or return structures of the kernel, and of those that only programs with them have.

var _ = declare(
	// tasks
	gpl(gives(verifier.RetStructTrusted, "task_struct", sig(158, "get_current_task_btf", nil))),
	gpl(gives(verifier.RetStruct, "pt_regs", sig(175, "task_pt_regs", nil, aTask))),
	returnsLength(sig(141, "get_task_stack", nil, aTask, aMemOut, aSizeOrZero, aAny)),
	gpl(sleeps(sig(191, "copy_from_user_task", nil, aMemOut, aSizeOrZero, aAny, aTask, aAny))),

	// storage of tasks, control groups and files
	returns(verifier.RetMapValueOrNull, sig(156, "task_storage_get", nil, aMap, aStructNull("task_struct"), aValueNull, aAny)),
	sig(157, "task_storage_delete", nil, aMap, aStructNull("task_struct")),
	returns(verifier.RetMapValueOrNull, sig(210, "cgrp_storage_get", nil, aMap, aStructNull("cgroup"), aValueNull, aAny)),
	sig(211, "cgrp_storage_delete", nil, aMap, aStructNull("cgroup")),
	returns(verifier.RetMapValueOrNull, sig(145, "inode_storage_get", only(ebpf.LSM), aMap, aStructNull("inode"), aValueNull, aAny)),
	sig(146, "inode_storage_delete", only(ebpf.LSM), aMap, aStructNull("inode")),

	// packets and sockets
	gpl(sig(111, "skb_output", sockTraceTypes, aStruct("sk_buff"), aMap, aAny, aMem, aSizeOrZero)),
	gpl(sig(121, "xdp_output", sockTraceTypes, aStruct("xdp_buff"), aMap, aAny, aMem, aSizeOrZero)),
	gives(verifier.RetStructOrNull, "socket", sig(162, "sock_from_file", sockTraceTypes, aStruct("file"))),
	sig(116, "tcp_send_ack", only(ebpf.StructOps), aStruct("tcp_sock"), aAny),

	// what iterators print
	gpl(attached(sig(126, "seq_printf", iterTypes, aSeqFile, aMem, aSize, aMemOrNull, aSizeOrZero), ebpf.Tracing, ebpf.AttachTraceIter)),
	gpl(attached(sig(127, "seq_write", iterTypes, aSeqFile, aMem, aSizeOrZero), ebpf.Tracing, ebpf.AttachTraceIter)),
	gpl(attached(sig(150, "seq_printf_btf", iterTypes, aSeqFile, aMem, aSizeOrZero, aAny), ebpf.Tracing, ebpf.AttachTraceIter)),

	// arguments of functions
	trampoline(sig(183, "get_func_arg", btfTypes, aCtx, aAny, aWord)),
	trampoline(sig(184, "get_func_ret", btfTypes, aCtx, aWord)),
	trampoline(sig(185, "get_func_arg_cnt", btfTypes, aCtx)),

	// files and programs that are started
	sig(147, "d_path", btfTypes, aStruct("path"), aMemInOut, aSizeOrZero),
	sig(159, "bprm_opts_set", only(ebpf.LSM), aStruct("linux_binprm"), aAny),
	sleeps(sig(161, "ima_inode_hash", only(ebpf.LSM), aStruct("inode"), aMemOut, aSize)),
	sleeps(sig(193, "ima_file_hash", only(ebpf.LSM), aStruct("file"), aMemOut, aSize)),
)

var skcTypes = types(tcXDPTypes, lwtTypes, btfTypes, only(ebpf.SocketFilter, ebpf.CGroupSKB, ebpf.SockOps, ebpf.SkSKB, ebpf.SkMsg,
	ebpf.CGroupSockAddr, ebpf.FlowDissector, ebpf.SkLookup, ebpf.Syscall))

// trampoline limits a helper to programs that run where a function starts or ends.
func trampoline(p proto) proto {
	return attached(attached(p, ebpf.Tracing, ebpf.AttachTraceFEntry, ebpf.AttachTraceFExit, ebpf.AttachModifyReturn),
		ebpf.LSM, ebpf.AttachLSMMac)
}
