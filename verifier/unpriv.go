package verifier

import (
	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/isa"
)

// Loads without privileges: what the kernel (6.18) refuses to who lacks capabilities, with kernel.unprivileged_bpf_disabled=0. Without
// CAP_BPF there are two program types, no functions and no loops, and every number is precise. Without CAP_PERFMON no address
// may become a number that the program can look at, no byte of the stack may be read before it is written, and arithmetic on
// pointers must be such that it can be confined under speculation. The kernel walks paths that only speculation takes, too; see
// speculation.go.

// Caps are capabilities of who loads a program. CAP_SYS_ADMIN stands for all of them.
type Caps uint8

// The capabilities that a verdict depends on.
const (
	CapBPF Caps = 1 << iota
	CapPerfmon
	CapNetAdmin

	// AllCaps are those that an unprivileged user lacks.
	AllCaps = CapBPF | CapPerfmon | CapNetAdmin
)

// maxUnprivInsns is BPF_MAXINSNS.
const maxUnprivInsns = 4096

// maxUnprivStates is how many states are kept for one instruction (BPF_COMPLEXITY_LIMIT_STATES).
const maxUnprivStates = 64

// lacks reports whether who loads the program does not have a capability.
func (e *env) lacks(c Caps) bool { return e.opt.Without&c != 0 }

// checkCaps refuses what must not be loaded at all (bpf_prog_load; the kernel has no words for it), and calls of functions
// (add_subprog_and_kfunc).
func (e *env) checkCaps() error {
	p := e.prog
	switch {
	case e.lacks(CapBPF) && len(p.Insns) > maxUnprivInsns:
		return e.reject(CodeTooComplex, "program has %d instructions, the limit is %d without CAP_BPF", len(p.Insns), maxUnprivInsns)
	case e.lacks(CapBPF) && p.Type != ebpf.SocketFilter && p.Type != ebpf.CGroupSKB:
		return e.reject(CodePermission, "programs of type %v need CAP_BPF", p.Kind())
	case e.lacks(CapNetAdmin) && needsNetAdmin(p.Type):
		return e.reject(CodePermission, "programs of type %v need CAP_NET_ADMIN", p.Type)
	case e.lacks(CapPerfmon) && needsPerfmon(p.Type):
		return e.reject(CodePermission, "programs of type %v need CAP_PERFMON", p.Type)
	case !e.lacks(CapBPF):
		return nil
	}
	for pc, in := range p.Insns {
		if in.IsPseudoFunc() || in.IsPseudoCall() || in.IsKfuncCall() {
			e.insn = pc
			return e.reject(CodeCall, "loading/calling other bpf or kernel functions are allowed for CAP_BPF and CAP_SYS_ADMIN")
		}
	}
	return nil
}

// checkBackEdges refuses loops without CAP_BPF.
func (e *env) checkBackEdges() error {
	if !e.lacks(CapBPF) {
		return nil
	}
	if from, to, found := e.backEdge(); found {
		e.insn = from
		return e.reject(CodeControlFlow, "back-edge from insn %d to %d", from, to)
	}
	return nil
}

// needsNetAdmin is is_net_admin_prog_type.
func needsNetAdmin(t ebpf.ProgramType) bool {
	switch t {
	case ebpf.SchedCLS, ebpf.SchedACT, ebpf.XDP, ebpf.LWTIn, ebpf.LWTOut, ebpf.LWTXmit, ebpf.LWTSeg6Local, ebpf.SkSKB, ebpf.SkMsg,
		ebpf.FlowDissector, ebpf.CGroupDevice, ebpf.CGroupSock, ebpf.CGroupSockAddr, ebpf.CGroupSockopt, ebpf.CGroupSysctl,
		ebpf.SockOps, ebpf.Extension, ebpf.Netfilter:
		return true
	}
	return false
}

// needsPerfmon is is_perfmon_prog_type.
func needsPerfmon(t ebpf.ProgramType) bool {
	switch t {
	case ebpf.Kprobe, ebpf.TracePoint, ebpf.PerfEvent, ebpf.RawTracepoint, ebpf.RawTracepointWritable, ebpf.Tracing, ebpf.LSM,
		ebpf.StructOps, ebpf.Extension:
		return true
	}
	return false
}

// backEdge finds a loop: a jump back to an instruction from which the walk came, in the order of check_cfg.
func (e *env) backEdge() (from, to int, found bool) {
	const discovered, explored = 1, 2
	n := len(e.prog.Insns)
	mark := make([]uint8, n)
	stack := []int{0}
	mark[0] = discovered
	var succ []int
walk:
	for len(stack) > 0 {
		pc := stack[len(stack)-1]
		succ = e.successors(succ[:0], pc)
		for _, to := range succ {
			switch {
			case to < 0 || to >= n || mark[to] == explored:
			case mark[to] == discovered:
				return pc, to, true
			default:
				mark[to] = discovered
				stack = append(stack, to)
				continue walk
			}
		}
		mark[pc] = explored
		stack = stack[:len(stack)-1]
	}
	return 0, 0, false
}

// noLeak refuses that the address in register r becomes visible: format has the register's place.
func (e *env) noLeak(r isa.Reg, format string) error {
	if !e.lacks(CapPerfmon) || e.st.fr().regs[r].typ == scalarValue {
		return nil
	}
	return e.reject(CodePermission, format, r)
}

// leakByStore refuses that the current instruction, if it is a store of a register, puts an address where others can read it.
func (e *env) leakByStore(kind accessKind, where string) error {
	in := e.prog.Insns[e.insn]
	if kind != accessWrite || in.Class() != isa.ClassSTX || in.Mode() != isa.ModeMEM {
		return nil
	}
	return e.noLeak(in.Src, "R%d leaks addr into "+where)
}

// invalidate makes a register whose pointer is not valid any more a number, of which an unprivileged program may not see the
// value (mark_reg_invalid).
func (e *env) invalidate(r *reg) {
	if e.lacks(CapPerfmon) {
		r.setNotInit()
		return
	}
	e.setUnknown(r)
}

// canRead reports whether a byte of the stack of that type may be read: one that was never written only by who may read all
// memory (allow_uninit_stack).
func (e *env) canRead(t uint8) bool { return t != slotInvalid || !e.lacks(CapPerfmon) }

// hiddenCtx reports whether a field of the context is not there without CAP_BPF: packet pointers of control group programs, and writes of
// their time stamp (cg_skb_is_valid_access).
func (e *env) hiddenCtx(off int, kind accessKind) bool {
	const data, dataEnd, tstamp = 76, 80, 152 // of struct __sk_buff
	if !e.lacks(CapBPF) || e.prog.Type != ebpf.CGroupSKB {
		return false
	}
	return off >= data && off < dataEnd+4 || kind == accessWrite && off >= tstamp && off < tstamp+8
}

// checkTailCallMaps refuses a tail call that gets different maps on different paths, whose index the kernel could not mask
// (do_misc_fixups).
func (e *env) checkTailCallMaps() error {
	if !e.lacks(CapPerfmon) {
		return nil
	}
	for pc, in := range e.prog.Insns {
		if in.IsHelperCall() && in.Imm == fnTailCall && e.aux[pc].mapSeen && e.facts[pc].Map < 0 {
			e.insn = pc
			return e.reject(CodePointerMath, "tail_call abusing map_ptr")
		}
	}
	return nil
}

// Helpers that need a capability (bpf_base_func_proto, bpf_sk_base_func_proto), as 6.18 has them; TestHelpersWithoutCaps asks it.
var (
	helpersOfBPF = names("trace_printk", "get_current_comm", "get_cgroup_classid", "perf_event_read", "get_current_task", "current_task_under_cgroup",
		"perf_event_read_value", "get_current_cgroup_id", "spin_lock", "spin_unlock", "send_signal", "probe_read_user", "probe_read_kernel",
		"probe_read_user_str", "probe_read_kernel_str", "send_signal_thread", "jiffies64", "get_current_ancestor_cgroup_id", "get_task_stack",
		"copy_from_user", "snprintf_btf", "per_cpu_ptr", "this_cpu_ptr", "task_storage_get", "task_storage_delete", "get_current_task_btf",
		"for_each_map_elem", "snprintf", "timer_init", "timer_set_callback", "timer_start", "timer_cancel", "task_pt_regs", "get_branch_snapshot",
		"trace_vprintk", "find_vma", "loop", "copy_from_user_task", "kptr_xchg", "dynptr_from_mem", "ringbuf_reserve_dynptr",
		"ringbuf_submit_dynptr", "ringbuf_discard_dynptr", "dynptr_read", "dynptr_write", "dynptr_data", "user_ringbuf_drain",
		"cgrp_storage_get", "cgrp_storage_delete")
	helpersOfPerfmon = names("trace_printk", "get_current_comm", "perf_event_read", "get_current_task", "perf_event_read_value", "send_signal",
		"probe_read_user", "probe_read_kernel", "probe_read_user_str", "probe_read_kernel_str", "send_signal_thread", "skc_to_tcp6_sock",
		"skc_to_tcp_sock", "skc_to_tcp_timewait_sock", "skc_to_tcp_request_sock", "skc_to_udp6_sock", "get_task_stack", "copy_from_user",
		"snprintf_btf", "get_current_task_btf", "snprintf", "task_pt_regs", "get_branch_snapshot", "trace_vprintk", "skc_to_unix_sock",
		"find_vma", "copy_from_user_task", "skc_to_mptcp_sock")
)

func names(list ...string) map[string]bool {
	m := map[string]bool{}
	for _, n := range list {
		m[n] = true
	}
	return m
}

// lacksHelper reports whether a helper is not there for lack of a capability.
func (e *env) lacksHelper(name string) bool {
	perCPU := (name == "per_cpu_ptr" || name == "this_cpu_ptr") && e.has(perCPUPerfmon)
	return e.lacks(CapBPF) && helpersOfBPF[name] || e.lacks(CapPerfmon) && (helpersOfPerfmon[name] || perCPU)
}
