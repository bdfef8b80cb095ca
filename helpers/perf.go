package helpers

import (
	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/errno"
	"github.com/skep-bpf/skep/internal/rt"
	"github.com/skep-bpf/skep/maps"
)

// Helpers on events, stacks and control groups.

var _ = define(
	Helper{Proto: gpl(sig(25, "perf_event_output", types(except(ebpf.FlowDissector, ebpf.Netfilter, ebpf.SkReuseport), btfTypes),
		aCtx, aMap, aAny, aMem, aSizeOrZero)), Fn: perfEventOutput},
	Helper{Proto: variants(gpl(sig(27, "get_stackid", types(traceTypes), aCtx, aMap, aAny)), sig(27, "get_stackid", only(ebpf.PerfEvent), aCtx, aMap, aAny)),
		Fn: getStackID},
	Helper{Proto: sig(37, "current_task_under_cgroup", nil, aMap, aAny), Fn: underCgroup},
)

const (
	perfIndexMask  = 0xffffffff                 // BPF_F_INDEX_MASK
	perfCtxLenMask = 0xfffff << 32              // BPF_F_CTXLEN_MASK: bytes of the packet that follow the data
	stackFlags     = 0xff | 1<<8 | 1<<9 | 1<<10 // skip, user stack, fast compare, reuse id
)

// perfEventOutput writes a sample. Programs on packets can ask for the packet's first bytes in it (bpf_skb_event_output,
// bpf_xdp_event_output), others cannot (bpf_perf_event_output).
func perfEventOutput(r *rt.Run, a *[12]uint64) uint64 {
	m, flags, data := maps.SideOf(maps.FromHandle(a[1])), a[2], rt.Mem(a[3], int(a[4]))
	if r.Packet == nil {
		if flags&^perfIndexMask != 0 {
			return errno.EINVAL.R0()
		}
		return m.PerfOutput(flags, r.CPU, data).R0()
	}
	if flags&^(perfIndexMask|perfCtxLenMask) != 0 {
		return errno.EINVAL.R0()
	}
	n := flags & perfCtxLenMask >> 32
	if n > uint64(r.Packet.DataEnd-r.Packet.Data) {
		return errno.EFAULT.R0()
	}
	return m.PerfOutput(flags, r.CPU, data, rt.Mem(uint64(r.Packet.Data), int(n))).R0()
}

// getStackID finds no stack: there is none of a kernel or of another program here.
func getStackID(_ *rt.Run, a *[12]uint64) uint64 {
	if a[2]&^stackFlags != 0 {
		return errno.EINVAL.R0()
	}
	return errno.EFAULT.R0()
}

// underCgroup finds no control group in the array: nobody can put one there.
func underCgroup(_ *rt.Run, a *[12]uint64) uint64 {
	if uint32(a[1]) >= maps.FromHandle(a[0]).MaxEntries() {
		return errno.E2BIG.R0()
	}
	return errno.EAGAIN.R0()
}
