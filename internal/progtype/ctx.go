package progtype

import "github.com/cilium/ebpf"

// Field says what a load from the context gives.
type Field uint8

// The fields: plain numbers and the pointers a context holds.
const (
	FieldScalar Field = iota
	FieldPacket
	FieldPacketMeta
	FieldPacketEnd
	FieldSockOrNull // struct bpf_sock *, may be NULL
)

// Access is the answer to one access of the context.
type Access struct {
	OK    bool
	Field Field
}

// Sizes of the contexts with a fixed layout (linux/bpf.h).
const (
	SkbSize = 192 // struct __sk_buff
	XDPSize = 24  // struct xdp_md
	// MaxSyscallCtx bounds the context of syscall programs (U16_MAX).
	MaxSyscallCtx = 0xffff
	// MaxTracepointArgs is the number of 8-byte arguments of a raw tracepoint (MAX_BPF_FUNC_ARGS).
	MaxTracepointArgs = 12
)

// CtxSize returns the size of the fixed context structure of type t, 0 if it has none.
func CtxSize(t ebpf.ProgramType) int {
	switch {
	case t == ebpf.XDP:
		return XDPSize
	case HasSkb(t):
		return SkbSize
	}
	return 0
}

// CtxAccess decides an access of size bytes at off of the context of programs of type t with attach type at, by the
// rules of the kernel's is_valid_access callbacks. sx is a sign-extending load.
func CtxAccess(t ebpf.ProgramType, at ebpf.AttachType, off, size int, write, sx bool) Access {
	switch t {
	case ebpf.XDP:
		return xdpAccess(at, off, size, write, sx)
	case ebpf.RawTracepoint:
		return Access{OK: off >= 0 && off < 8*MaxTracepointArgs && !write && off%size == 0}
	case ebpf.Syscall:
		return Access{OK: off >= 0 && off < MaxSyscallCtx && off%size == 0}
	}
	if HasSkb(t) {
		return skbAccess(t, off, size, write, sx)
	}
	return Access{}
}

func xdpAccess(at ebpf.AttachType, off, size int, write, sx bool) Access {
	if write || off < 0 || off >= XDPSize || off%size != 0 || size != 4 {
		return Access{}
	}
	switch off {
	case xdpData:
		return Access{!sx, FieldPacket}
	case xdpDataEnd:
		return Access{!sx, FieldPacketEnd}
	case xdpDataMeta:
		return Access{!sx, FieldPacketMeta}
	case 20: // egress_ifindex
		return Access{OK: at == ebpf.AttachXDPDevMap}
	}
	return Access{OK: true}
}

// Offsets in struct __sk_buff.
const (
	skbMark         = 8
	skbQueueMapping = 12
	skbPriority     = 32
	skbTCIndex      = 44
	skbCB           = 48 // five words
	skbTCClassid    = 72
	skbFamily       = 88
	skbRemoteIP4    = 92
	skbLocalIP4     = 96
	skbRemoteIP6    = 100
	skbLocalPort    = 136
	skbFlowKeys     = 144
	skbTstamp       = 152
	skbWireLen      = 160
	skbSk           = 168
	skbTstampType   = 180
	skbHwtstamp     = 184
)

func within(off, field, bytes int) bool { return off >= field && off < field+bytes }

// skbAccess is the rule of one skb program type followed by the common one (bpf_skb_is_valid_access and its callers).
func skbAccess(t ebpf.ProgramType, off, size int, write, sx bool) Access {
	if write && !skbWritable(t, off) || !write && !skbReadable(t, off) {
		return Access{}
	}
	if off < 0 || off >= SkbSize || off%size != 0 {
		return Access{}
	}
	pointer := func(f Field) Access { return Access{size == 4 && !sx && !write, f} }
	switch {
	case within(off, skbCB, 20):
		return Access{OK: off+size <= skbCB+20}
	case within(off, skbData, 4):
		return pointer(FieldPacket)
	case within(off, skbDataEnd, 4):
		return pointer(FieldPacketEnd)
	case within(off, skbDataMeta, 4):
		return pointer(FieldPacketMeta)
	case within(off, skbRemoteIP4, 8), within(off, skbRemoteIP6, 32):
		return Access{OK: size == 4}
	case within(off, skbFlowKeys, 8):
		return Access{}
	case within(off, skbTstamp, 8):
		return Access{OK: size == 8}
	case within(off, skbHwtstamp, 8):
		return Access{OK: !write && size == 8}
	case within(off, skbSk, 8):
		return Access{!write && size == 8 && off == skbSk, FieldSockOrNull}
	case off == skbTstampType:
		return Access{OK: !write && size == 1}
	case within(off, skbTstampType, 4):
		return Access{}
	case write:
		return Access{OK: size == 4}
	}
	return Access{OK: size <= 4}
}

func skbWritable(t ebpf.ProgramType, off int) bool {
	if within(off, skbCB, 20) {
		return true
	}
	switch t {
	case ebpf.SchedCLS, ebpf.SchedACT:
		return within(off, skbMark, 4) || within(off, skbTCIndex, 4) || within(off, skbPriority, 4) ||
			within(off, skbTCClassid, 4) || within(off, skbTstamp, 8) || within(off, skbQueueMapping, 4)
	case ebpf.CGroupSKB:
		return within(off, skbMark, 4) || within(off, skbPriority, 4) || within(off, skbTstamp, 8)
	}
	return false
}

func skbReadable(t ebpf.ProgramType, off int) bool {
	switch t {
	case ebpf.SocketFilter:
		return !within(off, skbTCClassid, 4) && !within(off, skbData, 4) && !within(off, skbDataMeta, 4) &&
			!within(off, skbDataEnd, 4) && !within(off, skbFamily, skbLocalPort+4-skbFamily) &&
			!within(off, skbTstamp, 8) && !within(off, skbWireLen, 4) && !within(off, skbHwtstamp, 8)
	case ebpf.SchedCLS, ebpf.SchedACT:
		return !within(off, skbFamily, skbLocalPort+4-skbFamily)
	case ebpf.CGroupSKB:
		return !within(off, skbTCClassid, 4) && !within(off, skbDataMeta, 4) && !within(off, skbWireLen, 4)
	}
	return false
}

// DirectPacketWrite reports whether programs of type t may store into the packet (may_access_direct_pkt_data).
func DirectPacketWrite(t ebpf.ProgramType) bool {
	switch t {
	case ebpf.SchedCLS, ebpf.SchedACT, ebpf.XDP, ebpf.LWTXmit, ebpf.SkSKB, ebpf.SkMsg:
		return true
	}
	return false
}

// HelperPacketAccess reports whether packet pointers may be passed to helpers that take them, for programs of type t.
func HelperPacketAccess(t ebpf.ProgramType) bool {
	switch t {
	case ebpf.CGroupSKB, ebpf.LWTIn, ebpf.LWTOut, ebpf.LWTSeg6Local, ebpf.SkReuseport, ebpf.FlowDissector:
		return true
	}
	return DirectPacketWrite(t)
}

// CtxName is the name of the structure by which a function's parameter is known to be the context, "" if there is none.
func CtxName(t ebpf.ProgramType) string {
	switch {
	case t == ebpf.XDP:
		return "xdp_md"
	case t == ebpf.RawTracepoint:
		return "bpf_raw_tracepoint_args"
	case HasSkb(t):
		return "__sk_buff"
	}
	return ""
}

// HasFixedCtx reports whether contexts of type t are rewritten field by field (so that they cannot be passed as plain
// memory).
func HasFixedCtx(t ebpf.ProgramType) bool { return CtxSize(t) != 0 }

// SockAccess decides a read of size bytes at off of a struct bpf_sock (common: only the fields that every socket has)
// or of a struct bpf_tcp_sock.
func SockAccess(off, size int, common, tcp bool) bool {
	if off < 0 || size <= 0 || off%size != 0 {
		return false
	}
	if tcp {
		return tcpSockAccess(off, size)
	}
	const total = 80 // struct bpf_sock
	if off >= total {
		return false
	}
	// bound_dev_if 0, family 4, type 8, protocol 12, mark 16, priority 20, src_ip4 24, src_ip6 28..44, src_port 44,
	// dst_port 48 (16 bits), dst_ip4 52, dst_ip6 56..72, state 72, rx_queue_mapping 76
	if common && within(off, 8, 16) {
		return false
	}
	switch {
	case within(off, 48, 2):
		return size <= 2 || size == 4 && off == 48
	case within(off, 50, 2):
		return false
	case within(off, 4, 12), within(off, 44, 4), within(off, 72, 8), within(off, 24, 20), within(off, 52, 20):
		return size <= 4
	}
	return size == 4
}

func tcpSockAccess(off, size int) bool {
	const total = 96 // struct bpf_tcp_sock, two 64-bit counters at its end
	if off >= total {
		return false
	}
	if within(off, 80, 16) {
		return size == 8
	}
	return size == 4
}
