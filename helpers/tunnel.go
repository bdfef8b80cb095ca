package helpers

import (
	"encoding/binary"

	"github.com/skep-bpf/skep/internal/errno"
	"github.com/skep-bpf/skep/internal/rt"
)

// Metadata of tunnels. No tunnel device is here that would use it: a buffer has what the program itself gave it.

var _ = define(
	runs(skbGetTunnelKey, sig(20, "skb_get_tunnel_key", tcXmitTypes, aCtx, aMemOut, aSize, aAny)),
	runs(skbSetTunnelKey, sig(21, "skb_set_tunnel_key", tcXmitTypes, aCtx, aMem, aSize, aAny)),
	runs(skbGetTunnelOpt, sig(29, "skb_get_tunnel_opt", tcXmitTypes, aCtx, aMemOut, aSize)),
	runs(skbSetTunnelOpt, sig(30, "skb_set_tunnel_opt", tcXmitTypes, aCtx, aMem, aSize)),
)

// struct bpf_tunnel_key (linux/bpf.h), by the offsets of its fields. Older programs have shorter ones, which end before one of four of them.
const (
	keyID     = 0
	keyRemote = 4
	keyTOS    = 20
	keyTTL    = 21
	keyExt    = 22
	keyLabel  = 24
	keyLocal  = 28
	keySize   = 44

	keyRemoteV4 = 8 // behind remote_ipv4
)

// Flags of tunnel keys (linux/bpf.h), and the bits of tunnel_flags (linux/if_tunnel.h).
const (
	fTunIPv6       = 1 << 0
	fTunZeroCsum   = 1 << 1
	fTunDontFrag   = 1 << 2
	fTunSeq        = 1 << 3
	fTunNoKey      = 1 << 4 // of setting
	fTunFlags      = 1 << 4 // of getting
	tunnelCsum     = 0x0001
	tunnelKey      = 0x0004
	tunnelSeq      = 0x0008
	tunnelDontFrag = 0x0100
	tunnelNoCache  = 0x2000
	tunnelOptions  = 0x0800 | 0x1000 | 0x4000 | 0x8000 // of GENEVE, VXLAN, ERSPAN and GTP
	maxTunnelOpt   = 255
)

func compatKeySize(n uint64) bool {
	return n == keyLocal || n == keyLabel || n == keyExt || n == keyRemoteV4
}

func skbSetTunnelKey(r *rt.Run, a *[12]uint64) uint64 {
	size, flags := uint64(uint32(a[2])), a[3]
	if flags&^(fTunIPv6|fTunZeroCsum|fTunDontFrag|fTunSeq|fTunNoKey) != 0 || size != keySize && !compatKeySize(size) {
		return errno.EINVAL.R0()
	}
	var k [keySize]byte
	copy(k[:], rt.Mem(a[1], int(size)))
	label := binary.NativeEndian.Uint32(k[keyLabel:])
	if flags&fTunIPv6 == 0 && label != 0 || binary.NativeEndian.Uint16(k[keyExt:]) != 0 {
		return errno.EINVAL.R0()
	}
	t := &rt.Tunnel{IPv6: flags&fTunIPv6 != 0, ID: binary.NativeEndian.Uint32(k[keyID:]), TOS: k[keyTOS], TTL: k[keyTTL]}
	t.Flags = tunnelKey | tunnelCsum | tunnelNoCache
	for _, f := range []struct {
		flag       uint64
		set, clear uint16
	}{{fTunZeroCsum, 0, tunnelCsum}, {fTunDontFrag, tunnelDontFrag, 0}, {fTunSeq, tunnelSeq, 0}, {fTunNoKey, 0, tunnelKey}} {
		if flags&f.flag != 0 {
			t.Flags = t.Flags&^f.clear | f.set
		}
	}
	n := 4
	if t.IPv6 {
		n, t.Label = 16, label&0xfffff
	}
	// Where the packet goes to is the remote side; whence it came is, for who asks.
	copy(t.Dst[:n], k[keyRemote:])
	copy(t.Src[:n], k[keyLocal:])
	r.Packet.Tunnel = t
	return 0
}

// skbGetTunnelKey fills the buffer with zeros if it fails.
func skbGetTunnelKey(r *rt.Run, a *[12]uint64) uint64 {
	size, flags, t := uint64(uint32(a[2])), a[3], r.Packet.Tunnel
	to := rt.Mem(a[1], int(size))
	switch {
	case t == nil || flags&^(fTunIPv6|fTunFlags) != 0:
		clear(to)
		return errno.EINVAL.R0()
	case t.IPv6 != (flags&fTunIPv6 != 0):
		clear(to)
		return errno.EPROTO.R0()
	case size != keySize && !compatKeySize(size), size == keyRemoteV4 && t.IPv6:
		clear(to)
		return errno.EINVAL.R0()
	}
	var k [keySize]byte
	binary.NativeEndian.PutUint32(k[keyID:], t.ID)
	k[keyTOS], k[keyTTL] = t.TOS, t.TTL
	if flags&fTunFlags != 0 {
		binary.BigEndian.PutUint16(k[keyExt:], t.Flags)
	}
	copy(k[keyRemote:keyTOS], t.Src[:])
	copy(k[keyLocal:], t.Dst[:])
	binary.NativeEndian.PutUint32(k[keyLabel:], t.Label)
	copy(to, k[:])
	return 0
}

func skbSetTunnelOpt(r *rt.Run, a *[12]uint64) uint64 {
	n, t := uint64(uint32(a[2])), r.Packet.Tunnel
	switch {
	case t == nil || n&3 != 0:
		return errno.EINVAL.R0()
	case n > maxTunnelOpt:
		return errno.ENOMEM.R0()
	}
	t.Opt = append(t.Opt[:0], rt.Mem(a[1], int(n))...)
	t.Flags |= tunnelOptions
	return 0
}

// skbGetTunnelOpt returns the length of the options; the buffer is filled with zeros behind them, or if it fails.
func skbGetTunnelOpt(r *rt.Run, a *[12]uint64) uint64 {
	to, t := rt.Mem(a[1], int(uint32(a[2]))), r.Packet.Tunnel
	clear(to)
	switch {
	case t == nil || t.Flags&tunnelOptions == 0:
		return errno.ENOENT.R0()
	case len(to) < len(t.Opt):
		return errno.ENOMEM.R0()
	}
	copy(to, t.Opt)
	return uint64(len(t.Opt))
}
