// Package kernelkfunc knows which functions the kernel lets programs call (kfuncs): their flags, and which programs have them. Their
// prototypes are in the kernel's BTF.
//
// The table is that of Linux 6.18, as a running one has it: its own sets of functions by hook (struct btf_kfunc_set_tab of vmlinux),
// which difftest compares with the kernel's verdicts. Functions of modules, and of parts of the kernel that were not configured there
// (sched_ext, HID, fs-verity), are not in it.
package kernelkfunc

import (
	"sync"

	"github.com/cilium/ebpf"
)

// Flags are the kernel's KF_* flags.
type Flags uint32

// The flags of a kfunc, by the kernel's names without KF_ (Documentation/bpf/kfuncs.rst, include/linux/btf.h).
const (
	Acquire Flags = 1 << iota
	Release
	RetNull
	TrustedArgs
	Sleepable
	Destructive
	RCU
	IterNew
	IterNext
	IterDestroy
	RCUProtected
	Fastcall
	ArenaRet
	ArenaArg1
	ArenaArg2
)

// Iter are the flags of an iterator's functions.
const Iter = IterNew | IterNext | IterDestroy

// hook is a set of places where the kernel offers functions (enum btf_kfunc_hook).
type hook uint16

const (
	common hook = 1 << iota
	xdp
	tc
	structOps
	tracing
	syscall
	cgroup
	schedAct
	skSkb
	socketFilter
	lwt
	netfilter
	kprobe

	// generic are the hooks of the functions that most kinds of programs have (generic_kfunc_set).
	generic = xdp | tc | structOps | tracing | syscall | cgroup
)

// hooks maps program types to the hook whose functions they have beside the common ones (bpf_prog_type_to_kfunc_hook). Types that are
// not here have only the common ones.
var hooks = map[ebpf.ProgramType]hook{
	ebpf.XDP: xdp, ebpf.SchedCLS: tc, ebpf.StructOps: structOps, ebpf.Syscall: syscall, ebpf.SchedACT: schedAct, ebpf.SkSKB: skSkb,
	ebpf.SocketFilter: socketFilter, ebpf.Netfilter: netfilter, ebpf.Kprobe: kprobe,
	ebpf.Tracing: tracing, ebpf.TracePoint: tracing, ebpf.PerfEvent: tracing, ebpf.LSM: tracing,
	ebpf.CGroupSKB: cgroup, ebpf.CGroupSock: cgroup, ebpf.CGroupDevice: cgroup, ebpf.CGroupSockAddr: cgroup, ebpf.CGroupSockopt: cgroup,
	ebpf.CGroupSysctl: cgroup, ebpf.SockOps: cgroup,
	ebpf.LWTIn: lwt, ebpf.LWTOut: lwt, ebpf.LWTXmit: lwt, ebpf.LWTSeg6Local: lwt,
}

// Kfunc is a function of the kernel that programs can call.
type Kfunc struct {
	Name  string
	Flags Flags
	hooks hook
}

var byName = sync.OnceValue(func() map[string]*Kfunc {
	m := make(map[string]*Kfunc, len(table))
	for i := range table {
		m[table[i].Name] = &table[i]
	}
	return m
})

// Find returns the kfunc of that name, nil if the kernel has none.
func Find(name string) *Kfunc { return byName()[name] }

// Names lists all kfuncs of the kernel, in the order of the table.
func Names() []string {
	out := make([]string, len(table))
	for i := range table {
		out[i] = table[i].Name
	}
	return out
}

// For reports whether programs of type t and attach type at can call k.
func (k *Kfunc) For(t ebpf.ProgramType, at ebpf.AttachType) bool {
	in := k.hooks & (common | hooks[t])
	switch {
	case in == 0:
		return false
	case in&common != 0:
		return true
	}
	return k.passes(t, at)
}

// passes is what the filters of hooks ask beyond the program type.
func (k *Kfunc) passes(t ebpf.ProgramType, at ebpf.AttachType) bool {
	switch k.Name {
	case "bpf_sock_destroy": // tracing_iter_filter
		return at == ebpf.AttachTraceIter
	case "bpf_session_cookie", "bpf_session_is_return": // bpf_kprobe_multi_filter
		return at == ebpf.AttachTraceKprobeSession
	case "bpf_get_task_exe_file", "bpf_put_file", "bpf_path_d_path", "bpf_get_dentry_xattr", "bpf_get_file_xattr",
		"bpf_set_dentry_xattr", "bpf_remove_dentry_xattr": // bpf_fs_kfuncs_filter
		return t == ebpf.LSM
	}
	return true
}
