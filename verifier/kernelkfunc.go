package verifier

import (
	"slices"
	"strings"

	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/isa"
	"github.com/skep-bpf/skep/internal/program"
)

// This file finds out which function a kfunc call means. One that whoever loads the program registered wins, with the prototype that it
// was matched with; any other name is the kernel's: its table says who can call the function, its BTF how (add_kfunc_call,
// bpf_fetch_kfunc_arg_meta).

// kfunc is a function that the program calls, as it is rather than as the program declares it.
type kfunc struct {
	program.Kfunc
	kernel bool // one of the kernel's functions
	absent bool // the kernel has no such function
	denied bool // programs of this kind cannot call it
}

// registered are the flags that a function which is not the kernel's can have.
const registered = program.KfuncAcquire | program.KfuncRelease | program.KfuncRetNull | program.KfuncTrustedArgs | program.KfuncSleepable |
	program.KfuncDestructive | program.KfuncRCU

// resolveKfuncs fills in e.kfuncs.
func (e *env) resolveKfuncs() error {
	e.kfuncs = make([]kfunc, len(e.prog.Kfuncs))
	for i := range e.kfuncs {
		k := &e.kfuncs[i]
		k.Kfunc = e.prog.Kfuncs[i]
		k.Flags &= registered
		if !k.Resolved || program.BuiltinKfunc(k.Name) {
			e.resolveInKernel(k)
		}
	}
	return e.checkKernelCalls()
}

// resolveInKernel completes a function of the kernel. One that skep runs by itself needs no types of the kernel: the program's
// declaration is compared with what is known of it.
func (e *env) resolveInKernel(k *kfunc) {
	k.kernel = true
	known := e.findKfunc(k.Name)
	if known != nil {
		k.Flags = known.Flags
		k.denied = !known.For(e.prog.Type, e.prog.AttachType)
	} else {
		k.denied = true
	}
	if program.BuiltinKfunc(k.Name) {
		return
	}
	k.Resolved, k.Type = known != nil, nil
	types := e.kernelTypes()
	if types == nil {
		if p := fieldProtos[k.Name]; p != nil {
			k.Type = &btf.Func{Name: k.Name, Type: p, Linkage: btf.ExternFunc}
		}
		return
	}
	var f *btf.Func
	if err := types.TypeByName(k.Name, &f); err != nil {
		k.absent = true
		return
	}
	k.Type = f
}

// checkKernelCalls refuses calls of the kernel's functions that no path needs to reach (add_kfunc_call).
func (e *env) checkKernelCalls() error {
	for i, in := range e.prog.Insns {
		k := e.kfuncOf(in)
		if k == nil || !k.kernel {
			continue
		}
		e.insn = i
		switch {
		case !gplCompatible(e.prog.License):
			return e.reject(CodeCall, "cannot call kernel function from non-GPL compatible program")
		case slices.Contains(deviceKfuncs, k.Name): // they are the driver's of the device that the program is for
			return e.reject(CodeCall, "metadata kfuncs require device-bound program")
		}
	}
	return nil
}

var deviceKfuncs = []string{"bpf_xdp_metadata_rx_timestamp", "bpf_xdp_metadata_rx_hash", "bpf_xdp_metadata_rx_vlan_tag"}

// kfuncOf returns the kfunc that an instruction calls, nil if it calls none.
func (e *env) kfuncOf(in isa.Insn) *kfunc {
	if k := int(in.Imm); in.IsKfuncCall() && k >= 0 && k < len(e.kfuncs) {
		return &e.kfuncs[k]
	}
	return nil
}

// callableKfunc reports why the program cannot call k.
func (e *env) callableKfunc(k *kfunc) error {
	switch {
	case !k.kernel && kfuncProto(&k.Kfunc) == nil:
		return e.reject(CodeBTF, "kernel function %s has no prototype in BTF", k.Name)
	case !k.kernel && special(k.Name):
		return e.unsupported("kfunc %s", k.Name)
	case k.absent, k.denied, !k.kernel && e.deniedKfunc(k.Name):
		return e.reject(CodeCall, "calling kernel function %s is not allowed", k.Name)
	case kfuncProto(&k.Kfunc) == nil && program.BuiltinKfunc(k.Name):
		return e.reject(CodeBTF, "kernel function %s has no prototype in BTF", k.Name)
	case kfuncProto(&k.Kfunc) == nil:
		return e.unsupported("kfunc %s without the types of the kernel", k.Name)
	case k.kernel && k.Name == "__bpf_trap": // clang puts it where a program would go on with garbage
		return e.reject(CodeCall, "unexpected __bpf_trap() due to uninitialized variable?")
	case k.Flags&program.KfuncSleepable != 0 && !e.sleepable():
		return e.reject(CodeCall, "program must be sleepable to call sleepable kfunc %s", k.Name)
	}
	return nil
}

// changesPacket reports whether a call of k moves the packet (is_kfunc_pkt_changing).
func changesPacket(k *kfunc) bool { return k.kernel && k.Name == "bpf_xdp_pull_data" }

// special reports whether a name is that of a function of the kernel whose call does more to the state than prototype and flags say
// (special_kfunc_list). Registered under such a name, a function would be taken for what it is not.
func special(name string) bool {
	if slices.ContainsFunc(specialPrefixes, func(p string) bool { return strings.HasPrefix(name, p) }) {
		return true
	}
	return slices.Contains(specialNames, name)
}

var (
	specialPrefixes = []string{
		"bpf_iter_", "bpf_dynptr_", "bpf_obj_", "bpf_percpu_obj_", "bpf_list_", "bpf_rbtree_", "bpf_rcu_", "bpf_preempt_",
		"bpf_local_irq_", "bpf_res_spin_", "bpf_wq_", "bpf_arena_", "bpf_refcount_",
	}
	specialNames = []string{
		"bpf_throw", "bpf_cast_to_kern_ctx", "bpf_rdonly_cast", "bpf_session_cookie", "bpf_get_kmem_cache", "bpf_set_dentry_xattr",
		"bpf_remove_dentry_xattr", "bpf_stream_vprintk", "__bpf_trap",
	}
)
