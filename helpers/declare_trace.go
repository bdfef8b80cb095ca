package helpers

import (
	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/verifier"
)

// Prototypes of helpers that read other memory, stacks, events and the current task.

var _ = declare(

	// stacks and branches
	gpl(returnsLength(sig(67, "get_stack", traceTypes, aCtx, aMemOut, aSizeOrZero, aAny))),
	gpl(sig(176, "get_branch_snapshot", nil, aMemOut, aSizeOrZero)),
	gpl(sig(119, "read_branch_records", only(ebpf.PerfEvent), aCtx, aMemNullOut, aSizeOrZero, aAny)),
	gpl(sig(173, "get_func_ip", traceTypes, aCtx)),
	attached(attached(sig(174, "get_attach_cookie", types(tracepointTypes, btfTypes), aCtx),
		ebpf.Tracing, ebpf.AttachTraceRawTp, ebpf.AttachTraceFEntry, ebpf.AttachTraceFExit, ebpf.AttachModifyReturn), ebpf.LSM, ebpf.AttachLSMMac),

	// perf events
	gpl(sig(22, "perf_event_read", nil, aMap, aAny)),
	gpl(sig(55, "perf_event_read_value", nil, aMap, aAny, aMemOut, aSize)),
	gpl(sig(56, "perf_prog_read_value", only(ebpf.PerfEvent), aCtx, aMemOut, aSize)),

	// the current task
	calls(verifier.CallbackVMA, sig(180, "find_vma", nil, aTask, aAny, arg(verifier.ArgFunc), argNull(verifier.ArgStack), aAny)),
	sig(123, "get_current_ancestor_cgroup_id", nil, aAny),
	sig(109, "send_signal", nil, aAny),
	sig(117, "send_signal_thread", nil, aAny),
	sig(120, "get_ns_current_pid_tgid", nil, aAny, aAny, aMemOut, aSize),

	// text
	sig(149, "snprintf_btf", nil, aMemInOut, aSize, aMem, aSize, aAny),

	// system calls
	sleeps(sig(166, "sys_bpf", syscallTypes, aAny, aMem, aSize)),
	sleeps(sig(167, "btf_find_by_name_kind", syscallTypes, aMem, aSize, aAny, aAny)),
	sleeps(sig(168, "sys_close", syscallTypes, aAny)),
	sig(179, "kallsyms_lookup_name", syscallTypes, aMemPlain, aSizeOrZero, aAny,
		verifier.HelperArg{Kind: verifier.ArgFixedUninitMem, Size: 8, Align: true}),
)
