package helpers

import (
	"math"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/errno"
	"github.com/skep-bpf/skep/internal/progtype"
	"github.com/skep-bpf/skep/internal/rt"
	"github.com/skep-bpf/skep/verifier"
)

// Helpers on socket buffers. All buffers here are linear: everything from Data to DataEnd can be read and written in place.

var _ = define(
	Helper{Proto: proto{
		ID: 9, Name: "skb_store_bytes", ChangesPacket: true, ProgTypes: types(tcTypes, only(ebpf.LWTXmit, ebpf.SkSKB)),
		Args: args{arg(verifier.ArgCtx), arg(verifier.ArgAnything), arg(verifier.ArgMem), arg(verifier.ArgConstSize), arg(verifier.ArgAnything)},
	}, Fn: skbStoreBytes},
	Helper{Proto: proto{
		ID: 26, Name: "skb_load_bytes",
		ProgTypes: types(tcTypes, lwtTypes, only(ebpf.SocketFilter, ebpf.CGroupSKB, ebpf.SkSKB, ebpf.SkReuseport, ebpf.FlowDissector)),
		Args:      args{arg(verifier.ArgCtx), arg(verifier.ArgAnything), arg(verifier.ArgUninitMem), arg(verifier.ArgConstSize)},
	}, Fn: skbLoadBytes},
	Helper{Proto: proto{
		ID: 68, Name: "skb_load_bytes_relative", ProgTypes: types(tcTypes, only(ebpf.SocketFilter, ebpf.CGroupSKB, ebpf.SkReuseport)),
		Args: args{arg(verifier.ArgCtx), arg(verifier.ArgAnything), arg(verifier.ArgUninitMem), arg(verifier.ArgConstSize), arg(verifier.ArgAnything)},
	}, Fn: skbLoadBytesRelative},
	Helper{Proto: proto{
		ID: 39, Name: "skb_pull_data", ChangesPacket: true, ProgTypes: types(tcTypes, lwtTypes, only(ebpf.SkSKB)),
		Args: args{arg(verifier.ArgCtx), arg(verifier.ArgAnything)},
	}, Fn: skbPullData},
	runs(skbChangeTail, movesPacket(sig(38, "skb_change_tail", types(tcXmitTypes, only(ebpf.SkSKB)), aCtx, aAny, aAny))),
	runs(skbChangeHead, movesPacket(sig(43, "skb_change_head", types(tcXmitTypes, only(ebpf.SkSKB)), aCtx, aAny, aAny))),
	Helper{Proto: proto{
		ID: 10, Name: "l3_csum_replace", ChangesPacket: true, ProgTypes: types(tcTypes, only(ebpf.LWTXmit)), Args: csumArgs,
	}, Fn: l3CsumReplace},
	Helper{Proto: proto{
		ID: 11, Name: "l4_csum_replace", ChangesPacket: true, ProgTypes: types(tcTypes, only(ebpf.LWTXmit)), Args: csumArgs,
	}, Fn: l4CsumReplace},
)

var csumArgs = args{arg(verifier.ArgCtx), arg(verifier.ArgAnything), arg(verifier.ArgAnything), arg(verifier.ArgAnything), arg(verifier.ArgAnything)}

// Flags of skb_store_bytes and the checksum helpers (linux/bpf.h).
const (
	fRecomputeCsum  = 1
	fInvalidateHash = 2

	fHdrFieldMask = 0xf
	fPseudoHdr    = 0x10
	fMarkMangled0 = 0x20
	fMarkEnforce  = 0x40
	fIPv6         = 0x80
)

const skbHashOff = 68 // of hash in struct __sk_buff

// at returns the address of n bytes at offset off of a packet, or false if they are not all in it.
func at(p *rt.Packet, off, n uint64) (uint64, bool) {
	size := uint64(p.DataEnd - p.Data)
	if off > size || n > size-off {
		return 0, false
	}
	return uint64(p.Data) + off, true
}

func skbStoreBytes(r *rt.Run, a *[12]uint64) uint64 {
	return skbStore(r, uint64(uint32(a[1])), a[2], uint64(uint32(a[3])), a[4]).R0()
}

// skbStore copies n bytes at src into the packet.
func skbStore(r *rt.Run, off, src, n, flags uint64) errno.Errno {
	if flags&^(fRecomputeCsum|fInvalidateHash) != 0 {
		return errno.EINVAL
	}
	addr, ok := at(r.Packet, off, n)
	if off > math.MaxInt32 || !ok {
		return errno.EFAULT
	}
	copy(rt.Mem(addr, int(n)), rt.Mem(src, int(n)))
	if flags&fInvalidateHash != 0 && r.Ctx != 0 {
		store32(uint64(r.Ctx)+skbHashOff, 0)
	}
	return 0
}

// skbLoadBytes clears the destination when it fails: the verifier takes it for written.
func skbLoadBytes(r *rt.Run, a *[12]uint64) uint64 {
	off, n := uint64(uint32(a[1])), uint64(uint32(a[3]))
	dst := rt.Mem(a[2], int(n))
	addr, ok := at(r.Packet, off, n)
	if off > math.MaxInt32 || !ok {
		clear(dst)
		return errno.EFAULT.R0()
	}
	copy(dst, rt.Mem(addr, int(n)))
	return 0
}

// skbLoadBytesRelative loads from the link-layer (0) or network header (1) on.
func skbLoadBytesRelative(r *rt.Run, a *[12]uint64) uint64 {
	off, n, p := uint64(uint32(a[1])), uint64(uint32(a[3])), r.Packet
	dst := rt.Mem(a[2], int(n))
	net := uint64(p.Data + p.NetOff)
	from := net
	if uint32(a[4]) == 0 {
		from = net - ethHLen
	}
	if off > 0xffff || uint32(a[4]) > 1 || from+off+n > uint64(p.DataEnd) {
		clear(dst)
		return errno.EFAULT.R0()
	}
	copy(dst, rt.Mem(from+off, int(n)))
	return 0
}

// skbPullData has nothing to pull in a linear buffer: it only says whether the packet is that long.
func skbPullData(r *rt.Run, a *[12]uint64) uint64 {
	if n := uint64(uint32(a[1])); n > uint64(r.Packet.DataEnd-r.Packet.Data) {
		return errno.ENOMEM.R0()
	}
	return 0
}

// maxSkb bounds what a buffer can grow to (SKB_MAX_ALLOC, a page or four without what the kernel keeps behind the bytes).
const maxSkb = 16384 - 320

// skbChangeTail makes the packet a[1] bytes long; what it grows by is zero.
func skbChangeTail(r *rt.Run, a *[12]uint64) uint64 {
	p, n := r.Packet, uintptr(uint32(a[1]))
	if a[2] != 0 || n > maxSkb || n < p.NetOff || p.Data+n > p.End {
		return errno.EINVAL.R0()
	}
	if end := p.Data + n; end > p.DataEnd {
		clear(rt.Mem(uint64(p.DataEnd), int(end-p.DataEnd)))
	}
	p.DataEnd = p.Data + n
	skbResized(r)
	return 0
}

// skbChangeHead puts a[1] bytes of zeros in front of the packet. Where there is no room, the packet moves.
func skbChangeHead(r *rt.Run, a *[12]uint64) uint64 {
	p, n := r.Packet, uintptr(uint32(a[1]))
	size := p.DataEnd - p.Data
	if a[2] != 0 || size+n > maxSkb {
		return errno.EINVAL.R0()
	}
	// The Ethernet header that some programs do not see stays in front of it.
	if free := p.Data - min(p.Head+ethHLen, p.Data); n > free {
		by := n - free
		if by > p.End-p.DataEnd {
			return errno.ENOMEM.R0()
		}
		copy(rt.Mem(uint64(p.Data+by), int(size)), rt.Mem(uint64(p.Data), int(size)))
		p.Data, p.DataEnd = p.Data+by, p.DataEnd+by
	}
	p.Data, p.NetOff = p.Data-n, p.NetOff+n
	clear(rt.Mem(uint64(p.Data), int(n)))
	skbResized(r)
	return 0
}

// skbResized tells the context of a packet's new place and length.
func skbResized(r *rt.Run) {
	p := r.Packet
	p.Meta = p.Data
	store32(uint64(r.Ctx)+skbLenOff, uint32(p.DataEnd-p.Data))
	updateContext(r)
}

const skbLenOff = 0 // of len in struct __sk_buff

// updateContext writes the packet's addresses to the context block, where programs load them from.
func updateContext(r *rt.Run) {
	p, ctx := r.Packet, uint64(r.Ctx)
	store64(ctx+progtype.ShadowData, uint64(p.Data))
	store64(ctx+progtype.ShadowDataEnd, uint64(p.DataEnd))
	store64(ctx+progtype.ShadowDataMeta, uint64(p.Meta))
}

// csumAt returns the address of the 16-bit checksum at offset off, or false if off is odd, beyond 64 KiB or outside.
func csumAt(p *rt.Packet, off uint64) (uint64, bool) {
	addr, ok := at(p, off, 2)
	return addr, ok && off <= 0xffff && off&1 == 0
}

// l3CsumReplace: flags hold the size of the field that changed from a[2] to a[3]; with size 0, a[3] is a difference that
// bpf_csum_diff made.
func l3CsumReplace(r *rt.Run, a *[12]uint64) uint64 {
	off, from, to, flags := uint64(uint32(a[1])), a[2], a[3], a[4]
	if flags&^fHdrFieldMask != 0 {
		return errno.EINVAL.R0()
	}
	addr, ok := csumAt(r.Packet, off)
	if !ok {
		return errno.EFAULT.R0()
	}
	sum := load16(addr)
	switch flags & fHdrFieldMask {
	case 0:
		if from != 0 {
			return errno.EINVAL.R0()
		}
		sum = replaceByDiff(sum, uint32(to))
	case 2:
		sum = replace2(sum, uint16(from), uint16(to))
	case 4:
		sum = replace4(sum, uint32(from), uint32(to))
	default:
		return errno.EINVAL.R0()
	}
	store16(addr, sum)
	return 0
}

// l4CsumReplace is l3CsumReplace for a transport checksum: the pseudo-header flag matters only to hardware offload, a
// zero checksum stays one with fMarkMangled0 (UDP without checksum), and a result of zero is then written as 0xffff.
func l4CsumReplace(r *rt.Run, a *[12]uint64) uint64 {
	off, from, to, flags := uint64(uint32(a[1])), a[2], a[3], a[4]
	if flags&^(fMarkMangled0|fMarkEnforce|fPseudoHdr|fHdrFieldMask|fIPv6) != 0 {
		return errno.EINVAL.R0()
	}
	addr, ok := csumAt(r.Packet, off)
	if !ok {
		return errno.EFAULT.R0()
	}
	sum := load16(addr)
	if flags&fMarkMangled0 != 0 && flags&fMarkEnforce == 0 && sum == 0 {
		return 0
	}
	switch flags & fHdrFieldMask {
	case 0:
		if from != 0 {
			return errno.EINVAL.R0()
		}
		sum = replaceByDiff(sum, uint32(to))
	case 2:
		sum = replace4(sum, uint32(uint16(from)), uint32(uint16(to)))
	case 4:
		sum = replace4(sum, uint32(from), uint32(to))
	default:
		return errno.EINVAL.R0()
	}
	if flags&fMarkMangled0 != 0 && sum == 0 {
		sum = 0xffff
	}
	store16(addr, sum)
	return 0
}
