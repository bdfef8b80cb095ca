package verifier

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// This file has what is special about the hooks of the Linux security modules (bpf_lsm.c).

// lsmTarget finds the hook of an LSM program: a function of the kernel that does nothing.
func (e *env) lsmTarget() error {
	hook := e.prog.AttachTo
	name := "bpf_lsm_" + hook
	proto := e.kernelFunc(name)
	if proto == nil {
		return e.noTarget("hook", hook)
	}
	switch e.prog.AttachType {
	case ebpf.AttachLSMMac, ebpf.AttachLSMCgroup:
	default:
		return e.reject(CodeCall, "programs of type %v cannot have the expected attach type %v", e.prog.Type, e.prog.AttachType)
	}
	if err := e.distill(name, proto); err != nil {
		return err
	}
	*e.target = target{name: name, proto: proto, trusted: !untrustedHooks[hook]}
	switch {
	case e.sleepable() && !sleepableHooks[hook]:
		return e.reject(CodeCall, "%s is not sleepable", name)
	case !gplCompatible(e.prog.License):
		return e.reject(CodeCall, "LSM programs must have a GPL compatible license")
	case disabledHooks[hook]:
		return e.reject(CodeBTF, "attach_btf_id %d points to disabled hook %s", e.funcID(name), name)
	case !e.isHook(hook):
		return e.reject(CodeBTF, "attach_btf_id %d points to wrong type name %s", e.funcID(name), name)
	}
	return nil
}

// isHook reports whether there is a hook of a name: other functions of the kernel are named alike.
func (e *env) isHook(name string) bool {
	var hooks *btf.Union
	if err := e.kernel.TypeByName("security_list_options", &hooks); err != nil {
		return false
	}
	for _, m := range hooks.Members {
		if m.Name == name {
			return true
		}
	}
	return false
}

// funcID is the number of a function of the kernel in its BTF, 0 if there is none.
func (e *env) funcID(name string) btf.TypeID {
	types, err := e.kernel.AnyTypesByName(name)
	if err != nil {
		return 0
	}
	for _, t := range types {
		if f, ok := t.(*btf.Func); ok {
			id, _ := e.kernel.TypeID(f)
			return id
		}
	}
	return 0
}

// lsmRange is what a hook may return (bpf_lsm_get_retval_range); ok is false if that is anything.
func (e *env) lsmRange() (lo, hi int64, ok bool) {
	switch {
	case e.target.returnsNothing():
		return 0, 0, false
	case boolHooks[e.prog.AttachTo]:
		return 0, 1, true
	}
	return -maxErrno, 0, true
}

func hooks(names ...string) map[string]bool {
	m := map[string]bool{}
	for _, n := range names {
		m[n] = true
	}
	return m
}

var (
	// sleepableHooks are called where sleeping is allowed.
	sleepableHooks = hooks(
		"bpf", "bpf_map", "bpf_map_create", "bpf_map_free", "bpf_prog", "bpf_prog_load", "bpf_token_create", "bpf_token_free",
		"bpf_token_cmd", "bpf_token_capable", "bprm_check_security", "bprm_committed_creds", "bprm_committing_creds",
		"bprm_creds_for_exec", "bprm_creds_from_file", "capget", "capset", "cred_prepare", "file_ioctl", "file_lock", "file_open",
		"file_post_open", "file_receive", "inode_create", "inode_free_security", "inode_getattr", "inode_getxattr", "inode_mknod",
		"inode_need_killpriv", "inode_post_setxattr", "inode_readlink", "inode_rename", "inode_rmdir", "inode_setattr",
		"inode_setxattr", "inode_symlink", "inode_unlink", "kernel_module_request", "kernel_read_file", "kernfs_init_security",
		"path_unlink", "path_mkdir", "path_rmdir", "path_truncate", "path_symlink", "path_link", "path_rename", "path_chmod",
		"path_chown", "mmap_file", "netlink_send", "path_notify", "release_secctx", "sb_alloc_security", "sb_eat_lsm_opts",
		"sb_kern_mount", "sb_mount", "sb_remount", "sb_set_mnt_opts", "sb_show_options", "sb_statfs", "sb_umount", "settime",
		"socket_accept", "socket_bind", "socket_connect", "socket_create", "socket_getpeername", "socket_getpeersec_dgram",
		"socket_getsockname", "socket_getsockopt", "socket_listen", "socket_post_create", "socket_recvmsg", "socket_sendmsg",
		"socket_shutdown", "socket_socketpair", "syslog", "task_alloc", "current_getsecid_subj", "task_getsecid_obj",
		"task_prctl", "task_setscheduler", "userns_create",
	)
	// untrustedHooks get objects that are not complete yet, or no more.
	untrustedHooks = hooks(
		"bpf_map_free", "bpf_prog_free", "file_alloc_security", "file_free_security", "sk_alloc_security", "sk_free_security",
		"task_free",
	)
	// disabledHooks take no programs.
	disabledHooks = hooks(
		"vm_enough_memory", "inode_need_killpriv", "inode_getsecurity", "inode_listsecurity", "inode_copy_up_xattr",
		"getselfattr", "getprocattr", "setprocattr", "key_getsecurity", "audit_rule_match", "xfrm_decode_session", "ismaclabel",
	)
	// boolHooks return a truth value, all others 0 or an error number.
	boolHooks = hooks(
		"xfrm_state_pol_flow_match", "audit_rule_known", "inode_xattr_skipcap",
	)
)
