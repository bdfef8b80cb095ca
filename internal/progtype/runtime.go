package progtype

import "github.com/cilium/ebpf"

// HasRuntime reports whether programs of type t can run here: whether something lays out their contexts as compiled code
// reads them. Programs of all other types are only verified.
func HasRuntime(t ebpf.ProgramType) bool {
	switch t {
	case ebpf.SocketFilter, ebpf.SchedCLS, ebpf.SchedACT, ebpf.XDP, ebpf.CGroupSKB, ebpf.RawTracepoint, ebpf.Syscall:
		return true
	}
	return false
}
