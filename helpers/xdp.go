package helpers

import (
	"github.com/skep-bpf/skep/internal/errno"
	"github.com/skep-bpf/skep/internal/rt"
	"github.com/skep-bpf/skep/verifier"
)

// Helpers on XDP packets. The buffer is one page, as in the kernel's test run: 256 bytes of headroom, whose first 40 the
// kernel keeps for struct xdp_frame, and 320 bytes behind it for struct skb_shared_info.

var _ = define(
	Helper{Proto: proto{ID: 44, Name: "xdp_adjust_head", ChangesPacket: true, ProgTypes: xdpTypes, Args: xdpAdjustArgs}, Fn: xdpAdjustHead},
	Helper{Proto: proto{ID: 54, Name: "xdp_adjust_meta", ChangesPacket: true, ProgTypes: xdpTypes, Args: xdpAdjustArgs}, Fn: xdpAdjustMeta},
	Helper{Proto: proto{ID: 65, Name: "xdp_adjust_tail", ChangesPacket: true, ProgTypes: xdpTypes, Args: xdpAdjustArgs}, Fn: xdpAdjustTail},
	Helper{Proto: proto{
		ID: 189, Name: "xdp_load_bytes", ProgTypes: xdpTypes,
		Args: args{arg(verifier.ArgCtx), arg(verifier.ArgAnything), arg(verifier.ArgUninitMem), arg(verifier.ArgConstSize)},
	}, Fn: xdpLoadBytes},
	Helper{Proto: proto{
		ID: 190, Name: "xdp_store_bytes", ProgTypes: xdpTypes,
		Args: args{arg(verifier.ArgCtx), arg(verifier.ArgAnything), arg(verifier.ArgMem), arg(verifier.ArgConstSize)},
	}, Fn: xdpStoreBytes},
)

var xdpAdjustArgs = args{arg(verifier.ArgCtx), arg(verifier.ArgAnything)}

// Sizes of the kernel's structures in the buffer.
const (
	ethHLen      = 14
	xdpFrameSize = 40
	maxXDPMeta   = 255 // skb_shared_info.meta_len is a byte
	maxXDPBytes  = 0xffff
)

// xdpAdjustHead moves the start of the packet by a[1] bytes, the metadata with it.
func xdpAdjustHead(r *rt.Run, a *[12]uint64) uint64 {
	p, d := r.Packet, int64(int32(a[1]))
	meta := p.Data - p.Meta
	lo := int64(p.Head + xdpFrameSize + meta)
	data := int64(p.Data) + d
	if data < lo || data > int64(p.DataEnd)-ethHLen {
		return errno.EINVAL.R0()
	}
	if meta != 0 {
		dst := rt.Mem(uint64(int64(p.Meta)+d), int(meta))
		copy(dst, rt.Mem(uint64(p.Meta), int(meta)))
	}
	p.Meta, p.Data = uintptr(int64(p.Meta)+d), uintptr(data)
	updateContext(r)
	return 0
}

// xdpAdjustMeta moves the start of the metadata.
func xdpAdjustMeta(r *rt.Run, a *[12]uint64) uint64 {
	p := r.Packet
	meta := int64(p.Meta) + int64(int32(a[1]))
	n := int64(p.Data) - meta
	switch {
	case meta < int64(p.Head+xdpFrameSize) || n < 0:
		return errno.EINVAL.R0()
	case n%4 != 0 || n > maxXDPMeta:
		return errno.EACCES.R0()
	}
	p.Meta = uintptr(meta)
	updateContext(r)
	return 0
}

// xdpAdjustTail moves the end of the packet; what it grows by is zero.
func xdpAdjustTail(r *rt.Run, a *[12]uint64) uint64 {
	p, d := r.Packet, int64(int32(a[1]))
	end := int64(p.DataEnd) + d
	if end > int64(p.End) || end < int64(p.Data)+ethHLen {
		return errno.EINVAL.R0()
	}
	if d > 0 {
		clear(rt.Mem(uint64(p.DataEnd), int(d)))
	}
	p.DataEnd = uintptr(end)
	updateContext(r)
	return 0
}

// xdpRange checks an offset and a length, which only xdp_load_bytes and xdp_store_bytes bound at 64 KiB.
func xdpRange(r *rt.Run, a *[12]uint64) (addr uint64, n int, e errno.Errno) {
	off, size := uint64(uint32(a[1])), uint64(uint32(a[3]))
	if off > maxXDPBytes || size > maxXDPBytes {
		return 0, 0, errno.EFAULT
	}
	addr, ok := at(r.Packet, off, size)
	if !ok {
		return 0, 0, errno.EINVAL
	}
	return addr, int(size), 0
}

func xdpLoadBytes(r *rt.Run, a *[12]uint64) uint64 {
	addr, n, e := xdpRange(r, a)
	if e == 0 {
		copy(rt.Mem(a[2], n), rt.Mem(addr, n))
	} else {
		// The verifier takes the destination for written; the kernel leaves what stood there.
		clear(rt.Mem(a[2], int(uint32(a[3]))))
	}
	return e.R0()
}

func xdpStoreBytes(r *rt.Run, a *[12]uint64) uint64 {
	addr, n, e := xdpRange(r, a)
	if e == 0 {
		copy(rt.Mem(addr, n), rt.Mem(a[2], n))
	}
	return e.R0()
}
