package helpers

import (
	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/rt"
	"github.com/skep-bpf/skep/maps"
	"github.com/skep-bpf/skep/verifier"
)

// Helpers on maps. The verifier proves argument 1 to be a map of the program, keys and values to be initialised memory of
// the map's key and value size.

var _ = define(
	Helper{Proto: proto{
		ID: 1, Name: "map_lookup_elem", Ret: verifier.RetMapValueOrNull, PktAccess: true,
		Args: args{arg(verifier.ArgConstMapPtr), arg(verifier.ArgMapKey)},
	}, Fn: mapLookupElem},
	Helper{Proto: proto{
		ID: 2, Name: "map_update_elem", PktAccess: true,
		Args: args{arg(verifier.ArgConstMapPtr), arg(verifier.ArgMapKey), arg(verifier.ArgMapValue), arg(verifier.ArgAnything)},
	}, Fn: mapUpdateElem},
	Helper{Proto: proto{
		ID: 3, Name: "map_delete_elem", PktAccess: true,
		Args: args{arg(verifier.ArgConstMapPtr), arg(verifier.ArgMapKey)},
	}, Fn: mapDeleteElem},
	Helper{Proto: proto{
		ID: 195, Name: "map_lookup_percpu_elem", Ret: verifier.RetMapValueOrNull, PktAccess: true,
		Args: args{arg(verifier.ArgConstMapPtr), arg(verifier.ArgMapKey), arg(verifier.ArgAnything)},
	}, Fn: mapLookupPerCPUElem},
	Helper{Proto: readsPacket(sig(87, "map_push_elem", nil, aMap, aValue, aAny)), Fn: mapPushElem},
	Helper{Proto: sig(88, "map_pop_elem", nil, aMap, aValueOut), Fn: mapPopElem},
	Helper{Proto: sig(89, "map_peek_elem", nil, aMap, aValueOut), Fn: mapPeekElem},
	// A tail call never comes back if it succeeds, so engines have it as an instruction. The program it goes to may change
	// the packet, so packet pointers do not outlive a call that failed (since 6.13).
	Helper{Proto: proto{
		ID: 12, Name: "tail_call", Ret: verifier.RetVoid, ChangesPacket: true,
		Args: args{arg(verifier.ArgCtx), arg(verifier.ArgConstMapPtr), arg(verifier.ArgAnything)},
	}},
	runs(getLocalStorage, attached(returns(verifier.RetMapValue, sig(81, "get_local_storage", only(ebpf.LSM, ebpf.CGroupDevice, ebpf.CGroupSKB, ebpf.CGroupSock,
		ebpf.CGroupSockAddr, ebpf.CGroupSockopt, ebpf.CGroupSysctl, ebpf.SockOps), aMap, aAny)), ebpf.LSM, ebpf.AttachLSMCgroup)),
)

func mapLookupElem(r *rt.Run, a *[12]uint64) uint64 {
	m := maps.FromHandle(a[0])
	return uint64(maps.SideOf(m).LookupElem(rt.Mem(a[1], int(m.KeySize())), r.CPU))
}

// mapLookupPerCPUElem gives another CPU slot's value, NULL for a slot that does not exist.
func mapLookupPerCPUElem(r *rt.Run, a *[12]uint64) uint64 {
	m := maps.FromHandle(a[0])
	cpu := uint32(a[2])
	if uint64(cpu) >= uint64(rt.CPUs()) {
		return 0
	}
	return uint64(maps.SideOf(m).LookupElem(rt.Mem(a[1], int(m.KeySize())), int(cpu)))
}

func mapUpdateElem(r *rt.Run, a *[12]uint64) uint64 {
	m := maps.FromHandle(a[0])
	return maps.SideOf(m).UpdateElem(rt.Mem(a[1], int(m.KeySize())), rt.Mem(a[2], int(m.ValueSize())), a[3], r.CPU).R0()
}

func mapDeleteElem(r *rt.Run, a *[12]uint64) uint64 {
	m := maps.FromHandle(a[0])
	return maps.SideOf(m).DeleteElem(rt.Mem(a[1], int(m.KeySize()))).R0()
}

func mapPushElem(_ *rt.Run, a *[12]uint64) uint64 {
	m := maps.FromHandle(a[0])
	return maps.SideOf(m).PushElem(rt.Mem(a[1], int(m.ValueSize())), a[2]).R0()
}

func mapPopElem(_ *rt.Run, a *[12]uint64) uint64 {
	m := maps.FromHandle(a[0])
	return maps.SideOf(m).PopElem(rt.Mem(a[1], int(m.ValueSize()))).R0()
}

func mapPeekElem(_ *rt.Run, a *[12]uint64) uint64 {
	m := maps.FromHandle(a[0])
	return maps.SideOf(m).PeekElem(rt.Mem(a[1], int(m.ValueSize()))).R0()
}

// getLocalStorage returns the value of the run's control group (Env.CgroupID).
func getLocalStorage(r *rt.Run, a *[12]uint64) uint64 {
	return maps.SideOf(maps.FromHandle(a[0])).LocalStorage(r, getCurrentCgroupID(r, nil))
}
