package verifier

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// This file has the kernel's functions that only change what a pointer is known as: the context as the kernel's own structure, any
// address as a structure that can be read with faults handled; and the memory of a session's cookie.

const (
	kfuncKernCtx       = "bpf_cast_to_kern_ctx"
	kfuncRdonlyCast    = "bpf_rdonly_cast"
	kfuncSessionCookie = "bpf_session_cookie"
)

// kernCtxNames are program types by the names that the kernel's struct bpf_ctx_convert has for them.
var kernCtxNames = map[ebpf.ProgramType]string{
	ebpf.SocketFilter: "SOCKET_FILTER", ebpf.SchedCLS: "SCHED_CLS", ebpf.SchedACT: "SCHED_ACT", ebpf.XDP: "XDP", ebpf.CGroupSKB: "CGROUP_SKB",
	ebpf.CGroupSock: "CGROUP_SOCK", ebpf.CGroupSockAddr: "CGROUP_SOCK_ADDR", ebpf.LWTIn: "LWT_IN", ebpf.LWTOut: "LWT_OUT", ebpf.LWTXmit: "LWT_XMIT",
	ebpf.LWTSeg6Local: "LWT_SEG6LOCAL", ebpf.SockOps: "SOCK_OPS", ebpf.SkSKB: "SK_SKB", ebpf.SkMsg: "SK_MSG", ebpf.FlowDissector: "FLOW_DISSECTOR",
	ebpf.Kprobe: "KPROBE", ebpf.TracePoint: "TRACEPOINT", ebpf.PerfEvent: "PERF_EVENT", ebpf.RawTracepoint: "RAW_TRACEPOINT",
	ebpf.RawTracepointWritable: "RAW_TRACEPOINT_WRITABLE", ebpf.Tracing: "TRACING", ebpf.CGroupDevice: "CGROUP_DEVICE",
	ebpf.CGroupSysctl: "CGROUP_SYSCTL", ebpf.CGroupSockopt: "CGROUP_SOCKOPT", ebpf.SkReuseport: "SK_REUSEPORT", ebpf.SkLookup: "SK_LOOKUP",
	ebpf.StructOps: "STRUCT_OPS", ebpf.Extension: "EXT", ebpf.LSM: "LSM", ebpf.Syscall: "SYSCALL", ebpf.Netfilter: "NETFILTER",
}

// kernCtx returns the structure that the program's context is in the kernel (get_kern_ctx_btf_id).
func (e *env) kernCtx() (*btf.Struct, error) {
	var all *btf.Struct
	if err := e.kernelTypes().TypeByName("bpf_ctx_convert", &all); err != nil {
		return nil, e.unsupported("kfunc %s: the kernel's types do not say what contexts are", kfuncKernCtx)
	}
	for _, m := range all.Members {
		if m.Name != "BPF_PROG_TYPE_"+kernCtxNames[e.prog.Type]+"_kern" {
			continue
		}
		if s, ok := m.Type.(*btf.Struct); ok {
			return s, nil
		}
		id, err := e.kernelTypes().TypeID(m.Type)
		if err != nil {
			id = 0
		}
		return nil, e.reject(CodeType, "kern ctx type id %d is not a struct", id)
	}
	return nil, e.unsupported("kfunc %s: contexts of programs of type %v", kfuncKernCtx, e.prog.Type)
}

// isCast reports whether r0 is set by castResult.
func (m *kfuncMeta) isCast() bool {
	return m.k.kernel && (m.k.Name == kfuncKernCtx || m.k.Name == kfuncRdonlyCast)
}

// castResult sets r0 to the pointer that a cast makes.
func (e *env) castResult(r0 *reg, m *kfuncMeta) error {
	if m.k.Name == kfuncKernCtx {
		s, err := e.kernCtx()
		if err != nil {
			return err
		}
		setPtr(r0, ptrToBTF|trusted)
		r0.aux = e.intern(s)
		return nil
	}
	t, err := e.kernelTypes().TypeByID(btf.TypeID(m.constant))
	if err != nil || m.constant>>32 != 0 {
		return e.reject(CodeType, "Unknown type ID %d passed to kfunc bpf_rdonly_cast", int64(m.constant))
	}
	switch {
	case isComposite(t):
		setPtr(r0, ptrToBTF|untrusted)
		r0.aux = e.intern(t)
		return nil
	case isVoid(t) && e.has(untrustedMemory):
		setPtr(r0, ptrToMem|rdonly|untrusted)
		return nil
	}
	return e.reject(CodeType, "kfunc bpf_rdonly_cast type ID argument must be of a struct or void")
}
