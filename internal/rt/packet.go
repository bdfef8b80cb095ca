package rt

import "encoding/binary"

// Offsets that reach behind the packet's own data in legacy packet loads (linux/filter.h).
const (
	skfNetOff = -0x100000 // SKF_NET_OFF: relative to the network header
	skfLLOff  = -0x200000 // SKF_LL_OFF: relative to the link-layer header
)

// LoadPacket is the host function behind BPF_LD_ABS and BPF_LD_IND on a socket buffer: argument 1 is the offset (a
// signed 32-bit value), argument 2 the width in bytes (1, 2, 4). The result is the big-endian value, or negative if the
// offset is outside the packet, which ends the program's function with r0 = 0 (RFC 9669 section 5.7).
func LoadPacket(r *Run, args *[12]uint64) uint64 {
	const failed = ^uint64(0)
	p := r.Packet
	if p == nil {
		return failed
	}
	off, n, base := int64(int32(args[0])), int64(args[1]), p.Data
	switch {
	case off >= 0:
	case off >= skfNetOff:
		off -= skfNetOff
		base = p.Data + p.NetOff
	case off >= skfLLOff:
		off -= skfLLOff
		base = p.Data + p.NetOff - macLen
	default:
		return failed
	}
	start := int64(base) + off
	if start < int64(p.Head) || start+n > int64(p.DataEnd) {
		return failed
	}
	b := Mem(uint64(start), int(n))
	switch n {
	case 1:
		return uint64(b[0])
	case 2:
		return uint64(binary.BigEndian.Uint16(b))
	}
	return uint64(binary.BigEndian.Uint32(b))
}

// macLen is the length of an Ethernet header.
const macLen = 14
