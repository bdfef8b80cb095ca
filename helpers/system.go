package helpers

import (
	"math/rand/v2"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/errno"
	"github.com/skep-bpf/skep/internal/rt"
	"github.com/skep-bpf/skep/verifier"
)

// Time, processor, random numbers and the current task. The task is what the caller put into the run's Env: a program in
// user space has none of its own.

var _ = define(
	Helper{Proto: proto{ID: 5, Name: "ktime_get_ns"}, Fn: ktimeGetNS},
	Helper{Proto: proto{ID: 125, Name: "ktime_get_boot_ns"}, Fn: ktimeGetBootNS},
	Helper{Proto: proto{ID: 160, Name: "ktime_get_coarse_ns", ProgTypes: coarseTypes}, Fn: ktimeGetCoarseNS},
	Helper{Proto: proto{ID: 208, Name: "ktime_get_tai_ns"}, Fn: ktimeGetTAINS},
	runs(jiffies64, sig(118, "jiffies64", nil)),
	runs(zero, sig(42, "get_numa_node_id", nil)),
	runs(getCurrentTask, gpl(sig(35, "get_current_task", nil))),
	runs(getCurrentCgroupID, sig(80, "get_current_cgroup_id", nil)),
	Helper{Proto: proto{ID: 7, Name: "get_prandom_u32"}, Fn: getPrandomU32},
	Helper{Proto: proto{ID: 8, Name: "get_smp_processor_id"}, Fn: getSMPProcessorID},
	Helper{Proto: proto{ID: 14, Name: "get_current_pid_tgid"}, Fn: getCurrentPIDTGID},
	Helper{Proto: proto{ID: 15, Name: "get_current_uid_gid"}, Fn: getCurrentUIDGID},
	Helper{Proto: proto{
		ID: 16, Name: "get_current_comm",
		Args: args{arg(verifier.ArgUninitMem), arg(verifier.ArgConstSize)},
	}, Fn: getCurrentComm},
)

const tick = 4_000_000 // nanoseconds (CONFIG_HZ=250)

// Tracing programs have no coarse clock.
var coarseTypes = types(tcTypes, xdpTypes, lwtTypes, only(ebpf.SocketFilter, ebpf.CGroupSKB, ebpf.CGroupSock, ebpf.SockOps,
	ebpf.SkSKB, ebpf.SkMsg, ebpf.CGroupSockAddr, ebpf.SkReuseport, ebpf.FlowDissector, ebpf.CGroupSysctl, ebpf.SkLookup,
	ebpf.StructOps))

func clock(r *rt.Run, c clockID) uint64 {
	if r.Env != nil && r.Env.Clock != nil {
		return r.Env.Clock.Now()
	}
	return hostClock(c)
}

func ktimeGetNS(r *rt.Run, _ *[12]uint64) uint64     { return clock(r, clockMonotonic) }
func ktimeGetBootNS(r *rt.Run, _ *[12]uint64) uint64 { return clock(r, clockBoot) }
func ktimeGetTAINS(r *rt.Run, _ *[12]uint64) uint64  { return clock(r, clockTAI) }

// The coarse clock is the fine one without the digits below a 4 ms tick: reading it is no cheaper here.
func ktimeGetCoarseNS(r *rt.Run, _ *[12]uint64) uint64 {
	t := clock(r, clockMonotonic)
	return t - t%tick
}

// jiffies64 counts ticks of 4 ms.
func jiffies64(r *rt.Run, _ *[12]uint64) uint64 { return clock(r, clockMonotonic) / tick }

// getCurrentTask is an address that only helpers can read from, if Env.Memory shows something there.
func getCurrentTask(r *rt.Run, _ *[12]uint64) uint64 {
	if r.Env == nil {
		return 0
	}
	return r.Env.Task
}

func getCurrentCgroupID(r *rt.Run, _ *[12]uint64) uint64 {
	if r.Env == nil {
		return 0
	}
	return r.Env.CgroupID
}

func getPrandomU32(r *rt.Run, _ *[12]uint64) uint64 {
	if r.Env != nil && r.Env.Random != nil {
		return uint64(r.Env.Random())
	}
	return uint64(rand.Uint32())
}

func getSMPProcessorID(r *rt.Run, _ *[12]uint64) uint64 { return uint64(r.CPU) }

func getCurrentPIDTGID(r *rt.Run, _ *[12]uint64) uint64 {
	if r.Env == nil {
		return 0
	}
	return r.Env.PIDTGID
}

func getCurrentUIDGID(r *rt.Run, _ *[12]uint64) uint64 {
	if r.Env == nil {
		return 0
	}
	return r.Env.UIDGID
}

// getCurrentComm fills the whole buffer: the name, cut to leave room for a NUL, and NULs behind it (strscpy_pad).
func getCurrentComm(r *rt.Run, a *[12]uint64) uint64 {
	buf := rt.Mem(a[0], int(uint32(a[1])))
	clear(buf)
	if r.Env == nil {
		return errno.EINVAL.R0() // no current task
	}
	for i := 0; i < len(buf)-1 && i < len(r.Env.Comm) && r.Env.Comm[i] != 0; i++ {
		buf[i] = r.Env.Comm[i]
	}
	return 0
}
