package progtype

import (
	"slices"

	"github.com/cilium/ebpf"
)

// Field says what a load from the context gives.
type Field uint8

// The fields: plain numbers and the pointers a context holds.
const (
	FieldScalar Field = iota
	FieldPacket
	FieldPacketMeta
	FieldPacketEnd
	FieldSockCommonOrNull // struct bpf_sock *, may be NULL, and only what every socket has
	FieldSocket           // struct bpf_sock *
	FieldSocketOrNull
	FieldFlowKeys  // struct bpf_flow_keys *
	FieldTPBuffer  // what a writable tracepoint hands over
	FieldHookState // struct nf_hook_state of the kernel
	FieldSkBuff    // struct sk_buff of the kernel
)

// Struct is the name of the kernel's structure that a field points to, "" if it is none.
func (f Field) Struct() string {
	switch f {
	case FieldHookState:
		return "nf_hook_state"
	case FieldSkBuff:
		return "sk_buff"
	}
	return ""
}

// Access is the answer to one access of the context.
type Access struct {
	OK    bool
	Field Field
}

// Op is what an instruction does with a context.
type Op uint8

// The operations. ReadSigned is a sign-extending load.
const (
	Read Op = iota
	ReadSigned
	Write
)

// Sizes of the contexts with a fixed layout (linux/bpf.h).
const (
	SkbSize = 192 // struct __sk_buff
	XDPSize = 24  // struct xdp_md
	// MaxSyscallCtx bounds the context of syscall programs (U16_MAX).
	MaxSyscallCtx = 0xffff
	// MaxTracepointArgs is the number of 8-byte arguments of a raw tracepoint (MAX_BPF_FUNC_ARGS).
	MaxTracepointArgs = 12
	// FlowKeysSize is the size of struct bpf_flow_keys.
	FlowKeysSize = 56
)

// Context is the context of one program: its type's structure as its attach type and machine have it.
type Context struct {
	at ebpf.AttachType
	l  *layout
}

// Of returns the context of programs of type t with expected attach type at. arch is the GOARCH of the machine whose
// registers the context holds, for types whose contexts hold registers: arm64, or anything else for amd64.
func Of(t ebpf.ProgramType, at ebpf.AttachType, arch string) Context {
	return Context{effectiveAttach(t, at), layoutOf(t, arch)}
}

// Known reports whether the context's layout is known.
func (c Context) Known() bool { return c.l != nil }

// Size is the size of the context in bytes, or the most that it can have where it is not fixed.
func (c Context) Size() int {
	if c.l == nil {
		return 0
	}
	return c.l.size
}

// Access decides an access of size bytes at off.
func (c Context) Access(off, size int, op Op) Access {
	if c.l == nil {
		return Access{}
	}
	return c.l.access(c.at, false, off, size, op)
}

// Name is the name of the structure by which a function's parameter is known to be the context, "" if there is none.
func (c Context) Name() string {
	if c.l == nil {
		return ""
	}
	return c.l.name
}

// Plain reports whether the context is handed over as it is, and not rewritten field by field: then its address may be
// passed as memory.
func (c Context) Plain() bool { return c.l != nil && c.l.plain }

// layoutOf returns the layout of t's contexts, nil if it is not known here.
func layoutOf(t ebpf.ProgramType, arch string) *layout {
	switch t {
	case ebpf.Kprobe:
		if arch == "arm64" {
			return &kprobeARM64
		}
		return &kprobeAMD64
	case ebpf.PerfEvent:
		if arch == "arm64" {
			return &perfEventARM64
		}
		return &perfEventAMD64
	}
	return layouts[t]
}

// layouts are the contexts that are the same on all machines.
var layouts = map[ebpf.ProgramType]*layout{
	ebpf.SocketFilter: &socketFilter, ebpf.SchedCLS: &tc, ebpf.SchedACT: &tc, ebpf.XDP: &xdp, ebpf.CGroupSKB: &cgroupSKB,
	ebpf.LWTIn: &lwt, ebpf.LWTOut: &lwt, ebpf.LWTXmit: &lwt, ebpf.LWTSeg6Local: &lwt, ebpf.SkSKB: &skSKB,
	ebpf.FlowDissector: &flowDissector, ebpf.SkMsg: &skMsg, ebpf.SockOps: &sockOps, ebpf.SkLookup: &skLookup,
	ebpf.SkReuseport: &skReuseport, ebpf.CGroupSock: &bpfSock, ebpf.CGroupSockAddr: &sockAddr,
	ebpf.CGroupSockopt: &sockopt, ebpf.CGroupSysctl: &sysctl, ebpf.CGroupDevice: &device, ebpf.TracePoint: &tracepoint,
	ebpf.RawTracepoint: &rawTracepoint, ebpf.RawTracepointWritable: &rawTracepointWritable, ebpf.Syscall: &syscall,
	ebpf.Netfilter: &netfilter,
}

// kernelContext reports whether a structure of that name is a context of the kernel's program types.
func kernelContext(name string) bool {
	for _, l := range layouts {
		if l.name == name && name != "" {
			return true
		}
	}
	return slices.Contains([]string{kprobeAMD64.name, kprobeARM64.name, perfEventAMD64.name, perfEventARM64.name}, name)
}

// CtxName is the name of the structure by which a function's parameter is known to be the context, "" if there is none.
func CtxName(t ebpf.ProgramType, arch string) string {
	if l := layoutOf(t, arch); l != nil {
		return l.name
	}
	return ""
}
