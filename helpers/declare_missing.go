package helpers

import "github.com/cilium/ebpf"

// Helpers that the kernel has and whose calls the verifier cannot check yet: an argument or a result is of a kind that it does not
// know. Programs that call them are refused by name.

const (
	needsBTF      = "arguments that are structures of the kernel"
	returnsBTF    = "results that are structures of the kernel"
	needsLock     = "spin locks"
	needsTimer    = "timers"
	needsKptr     = "kernel pointers in map values"
	needsDynptr   = "dynptrs"
	needsCallback = "this kind of callback"
	needsPerCPU   = "per-CPU variables of the kernel"
	needsProgram  = "program types that have it"
)

var _ = declare(
	missing(needsLock, sig(93, "spin_lock", nil)),
	missing(needsLock, sig(94, "spin_unlock", nil)),
	gpl(missing(needsTimer, sig(169, "timer_init", nil))),
	gpl(missing(needsTimer, sig(170, "timer_set_callback", nil))),
	gpl(missing(needsTimer, sig(171, "timer_start", nil))),
	gpl(missing(needsTimer, sig(172, "timer_cancel", nil))),
	missing(needsKptr, sig(194, "kptr_xchg", nil)),
	missing(needsDynptr, sig(197, "dynptr_from_mem", nil)),
	missing(needsDynptr, sig(198, "ringbuf_reserve_dynptr", nil)),
	missing(needsDynptr, sig(199, "ringbuf_submit_dynptr", nil)),
	missing(needsDynptr, sig(200, "ringbuf_discard_dynptr", nil)),
	missing(needsDynptr, sig(201, "dynptr_read", nil)),
	missing(needsDynptr, sig(202, "dynptr_write", nil)),
	missing(needsDynptr, sig(203, "dynptr_data", nil)),
	missing(needsCallback, sig(180, "find_vma", nil)),
	missing(needsCallback, sig(209, "user_ringbuf_drain", nil)),
	missing(needsPerCPU, sig(153, "per_cpu_ptr", nil)),
	missing(needsPerCPU, sig(154, "this_cpu_ptr", nil)),

	missing(needsBTF, sig(141, "get_task_stack", nil)),
	missing(needsBTF, sig(156, "task_storage_get", nil)),
	missing(needsBTF, sig(157, "task_storage_delete", nil)),
	missing(needsBTF, sig(210, "cgrp_storage_get", nil)),
	missing(needsBTF, sig(211, "cgrp_storage_delete", nil)),
	gpl(missing(returnsBTF, sig(158, "get_current_task_btf", nil))),
	gpl(missing(needsBTF, sig(175, "task_pt_regs", nil))),
	gpl(sleeps(missing(needsBTF, sig(191, "copy_from_user_task", nil)))),
	gpl(missing(needsBTF, sig(111, "skb_output", syscallTypes))),
	gpl(missing(needsBTF, sig(121, "xdp_output", syscallTypes))),
	missing(needsBTF, sig(162, "sock_from_file", syscallTypes)),

	missing(returnsBTF, sig(136, "skc_to_tcp6_sock", skcTypes)),
	missing(returnsBTF, sig(137, "skc_to_tcp_sock", skcTypes)),
	missing(returnsBTF, sig(138, "skc_to_tcp_timewait_sock", skcTypes)),
	missing(returnsBTF, sig(139, "skc_to_tcp_request_sock", skcTypes)),
	missing(returnsBTF, sig(140, "skc_to_udp6_sock", skcTypes)),
	missing(returnsBTF, sig(178, "skc_to_unix_sock", skcTypes)),
	missing(returnsBTF, sig(196, "skc_to_mptcp_sock", skcTypes)),
)

var skcTypes = types(tcXDPTypes, lwtTypes, only(ebpf.SocketFilter, ebpf.CGroupSKB, ebpf.SockOps, ebpf.SkSKB, ebpf.SkMsg,
	ebpf.CGroupSockAddr, ebpf.FlowDissector, ebpf.SkLookup, ebpf.Syscall))

// Of types with a fixed context none has these here: they belong to others (infrared remotes, tracing, struct_ops, LSM), or
// depend on how the kernel was configured (override_return, probe_write_user).
var _ = declare(
	outside(147, "d_path"), outside(36, "probe_write_user"), outside(58, "override_return"), outside(77, "rc_repeat"), outside(78, "rc_keydown"),
	outside(92, "rc_pointer_rel"), outside(116, "tcp_send_ack"), outside(126, "seq_printf"), outside(127, "seq_write"),
	outside(145, "inode_storage_get"), outside(146, "inode_storage_delete"), outside(150, "seq_printf_btf"), outside(159, "bprm_opts_set"),
	outside(161, "ima_inode_hash"), outside(183, "get_func_arg"), outside(184, "get_func_ret"), outside(185, "get_func_arg_cnt"),
	outside(193, "ima_file_hash"),
)

func outside(id int32, name string) proto {
	return missing(needsProgram, sig(id, name, []ebpf.ProgramType{}))
}
