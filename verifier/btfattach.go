package verifier

import (
	"slices"
	"strings"

	"github.com/cilium/ebpf"
)

// This file says what programs at the start or end of a function of the kernel may do there (bpf_check_attach_target,
// check_attach_btf_id). Which functions may fail on demand, and may then be left early or slept in, is not in the kernel's types: it
// is known here of system calls and of a few others, and no other function is taken for one.

var (
	// sleepableFuncs and modifiableFuncs are functions that are registered as such (register_btf_fmodret_id_set).
	sleepableFuncs  = []string{"bpf_fentry_test1", "cgroup_rstat_flush"}
	modifiableFuncs = []string{
		"bpf_modify_return_test", "bpf_modify_return_test2", "bpf_modify_return_test_tp", "bpf_fentry_test1", "update_socket_protocol",
	}
	// injectable are functions that fail on demand (ALLOW_ERROR_INJECTION), beside system calls.
	injectable = []string{
		"btrfs_check_leaf", "btrfs_check_node", "btrfs_cow_block", "btrfs_search_slot", "btrfs_should_cancel_balance", "io_ctl_init",
		"open_ctree", "page_pool_alloc_pages", "should_failslab", "should_fail_alloc_page", "should_fail_bio", "__filemap_add_folio",
	}
	// neverSleep are those of them that are called where nobody may sleep (btf_non_sleepable_error_inject).
	neverSleep = []string{"__filemap_add_folio", "should_fail_alloc_page", "should_failslab"}
	// untraced are functions that trampolines themselves need (btf_id_deny).
	untraced = []string{
		"migrate_disable", "migrate_enable", "rcu_read_unlock_strict", "preempt_count_add", "preempt_count_sub", "__rcu_read_lock",
		"__rcu_read_unlock",
	}
	// endless are functions that do not return (noreturn_deny).
	endless = []string{
		"__ia32_sys_exit", "__ia32_sys_exit_group", "__x64_sys_exit", "__x64_sys_exit_group", "__kunit_abort", "kunit_try_catch_throw",
		"__module_put_and_kthread_exit", "do_exit", "do_group_exit", "kthread_complete_and_exit", "kthread_exit", "make_task_dead",
	}
)

// failsOnDemand reports whether a function is known to be one that may be made to fail (within_error_injection_list).
func failsOnDemand(name string) bool {
	for _, p := range []string{"__x64_sys_", "__ia32_sys_", "__x64_compat_sys_", "__ia32_compat_sys_", "__arm64_sys_", "__arm64_compat_sys_"} {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return slices.Contains(injectable, name)
}

// mayAttach checks whether a program of the type that this one has may be put at a function.
func (e *env) mayAttach(name string) error {
	modify := e.prog.AttachType == ebpf.AttachModifyReturn
	switch {
	case e.sleepable() && !slices.Contains(sleepableFuncs, name) && (!failsOnDemand(name) || slices.Contains(neverSleep, name)):
		return e.reject(CodeCall, "%s is not sleepable", name)
	case !e.sleepable() && modify && !strings.HasPrefix(name, "security_") && !slices.Contains(modifiableFuncs, name) && !failsOnDemand(name):
		return e.reject(CodeCall, "%s() is not modifiable", name)
	case slices.Contains(untraced, name):
		return e.reject(CodeCall, "programs cannot attach to %s", name)
	case (modify || e.prog.AttachType == ebpf.AttachTraceFExit) && slices.Contains(endless, name):
		return e.reject(CodeCall, "Attaching fexit/fmod_ret to __noreturn function '%s' is rejected.", name)
	}
	return nil
}
