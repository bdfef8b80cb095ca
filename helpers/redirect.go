package helpers

import (
	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/rt"
	"github.com/skep-bpf/skep/maps"
	"github.com/skep-bpf/skep/verifier"
)

// Redirection. There are no interfaces here to send to: the helpers leave the decision in the run's Redirect, and whoever runs
// the program acts on it if the program's return value asks for it.

var _ = define(
	Helper{Proto: proto{
		ID: 23, Name: "redirect", ProgTypes: types(tcTypes, xdpTypes, only(ebpf.LWTXmit)),
		Args: args{arg(verifier.ArgAnything), arg(verifier.ArgAnything)},
	}, Fn: redirect},
	Helper{Proto: proto{
		ID: 51, Name: "redirect_map", ProgTypes: xdpTypes,
		Args: args{arg(verifier.ArgConstMapPtr), arg(verifier.ArgAnything), arg(verifier.ArgAnything)},
	}, Fn: redirectMap},
	runs(redirectNeigh, sig(152, "redirect_neigh", tcTypes, aAny, aMemOrNull, aSizeOrZero, aAny)),
	runs(redirectPeer, sig(155, "redirect_peer", tcTypes, aAny, aAny)),
)

// Verdicts (linux/bpf.h, linux/pkt_cls.h) and flags.
const (
	xdpAborted  = 0
	xdpRedirect = 4
	tcShot      = 2
	tcRedirect  = 7

	fIngress        = 1
	fBroadcast      = 8
	fExcludeIngress = 16
	xdpActionMask   = 3 // lower bits of redirect_map's flags: the verdict if there is no such entry
)

// redirect is one number with two meanings: on socket buffers it takes the ingress flag, on XDP none.
func redirect(r *rt.Run, a *[12]uint64) uint64 {
	ok, bad, allowed := uint64(tcRedirect), uint64(tcShot), uint64(fIngress)
	if r.Packet != nil && r.Packet.XDP {
		ok, bad, allowed = xdpRedirect, xdpAborted, 0
	}
	if a[1]&^allowed != 0 {
		return bad
	}
	r.Redirect = rt.Redirect{Set: true, IfIndex: uint32(a[0]), Flags: a[1]}
	return ok
}

// redirectMap leaves the map and key; a missing entry gives the verdict in the flags' lower bits.
func redirectMap(r *rt.Run, a *[12]uint64) uint64 {
	m, key, flags := maps.FromHandle(a[0]), a[1], a[2]
	allowed := uint64(xdpActionMask)
	dev := m.Type() == ebpf.DevMap || m.Type() == ebpf.DevMapHash
	if dev {
		allowed |= fBroadcast | fExcludeIngress
	}
	if flags&^allowed != 0 {
		return xdpAborted
	}
	d := rt.Redirect{Set: true, Map: m.Name(), Key: key, Flags: flags}
	if flags&fBroadcast == 0 {
		first, found := maps.SideOf(m).RedirectTarget(key)
		if !found {
			r.Redirect = rt.Redirect{}
			return flags & xdpActionMask
		}
		if dev {
			d.IfIndex = first
		}
	}
	r.Redirect = d
	return xdpRedirect
}

// What redirectNeigh and redirectPeer add to Redirect.Flags: the kernel's own marks (net/core/filter.c).
const (
	fNeigh    = 1 << 16
	fPeer     = 1 << 17
	neighSize = 20 // struct bpf_redir_neigh
)

func redirectPeer(r *rt.Run, a *[12]uint64) uint64 {
	if a[1] != 0 {
		return tcShot
	}
	r.Redirect = rt.Redirect{Set: true, IfIndex: uint32(a[0]), Flags: fPeer}
	return tcRedirect
}

// redirectNeigh leaves the neighbour that the program named aside: there is nobody to ask for its address.
func redirectNeigh(r *rt.Run, a *[12]uint64) uint64 {
	if n := uint32(a[2]); n != 0 && n < neighSize || a[3] != 0 {
		return tcShot
	}
	r.Redirect = rt.Redirect{Set: true, IfIndex: uint32(a[0]), Flags: fNeigh}
	return tcRedirect
}
