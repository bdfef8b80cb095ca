// Package progtype says what a program type's context looks like: its fields, which of them are pointers, who may
// write. The verifier checks accesses by it, lowering rewrites pointer fields by it, the runtime lays contexts out by it.
package progtype

import "github.com/cilium/ebpf"

// Context blocks hold the UAPI structure in its own layout at offset 0. Fields that the UAPI declares as 32 bits but
// that a program reads as pointers (data, data_end, data_meta) have their 64-bit values at these offsets of the same
// block, behind the structure; loads of the UAPI fields are lowered to 8-byte loads from here.
const (
	ShadowData     = 256
	ShadowDataEnd  = 264
	ShadowDataMeta = 272
	// BlockSize is the least size of a context block of a packet program type.
	BlockSize = 320
)

// FlowKeysPointer is where struct __sk_buff has the address of the keys that a flow dissector fills.
const FlowKeysPointer = skbFlowKeys

// UAPI offsets of the packet pointer fields (linux/bpf.h: struct __sk_buff, struct xdp_md).
const (
	skbData     = 76
	skbDataEnd  = 80
	skbDataMeta = 140
	xdpData     = 0
	xdpDataEnd  = 4
	xdpDataMeta = 8
)

// ShadowOffset returns where the 64-bit value of the pointer field at UAPI offset off lives, for contexts of program
// type t; ok is false if that field is no packet pointer.
func ShadowOffset(t ebpf.ProgramType, off int) (shadow int, ok bool) {
	if t == ebpf.XDP {
		switch off {
		case xdpData:
			return ShadowData, true
		case xdpDataEnd:
			return ShadowDataEnd, true
		case xdpDataMeta:
			return ShadowDataMeta, true
		}
		return 0, false
	}
	if !HasSkb(t) && t != ebpf.FlowDissector {
		return 0, false
	}
	switch off {
	case skbData:
		return ShadowData, true
	case skbDataEnd:
		return ShadowDataEnd, true
	case skbDataMeta:
		return ShadowDataMeta, true
	}
	return 0, false
}

// HasSkb reports whether contexts of type t are a struct __sk_buff.
func HasSkb(t ebpf.ProgramType) bool {
	switch t {
	case ebpf.SocketFilter, ebpf.SchedCLS, ebpf.SchedACT, ebpf.CGroupSKB, ebpf.LWTIn, ebpf.LWTOut, ebpf.LWTXmit,
		ebpf.LWTSeg6Local, ebpf.SkSKB:
		return true
	}
	return false
}
