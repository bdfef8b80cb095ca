package verifier

import (
	"github.com/cilium/ebpf"
)

// This file checks reads of what a map pointer itself points to: the kernel's structure for that type of map
// (check_ptr_to_map_access).

// mapStructs are the structures behind map pointers (map_btf_id of each type's bpf_map_ops).
var mapStructs = map[ebpf.MapType]string{
	ebpf.Hash: "bpf_htab", ebpf.PerCPUHash: "bpf_htab", ebpf.LRUHash: "bpf_htab", ebpf.LRUCPUHash: "bpf_htab", ebpf.HashOfMaps: "bpf_htab",
	ebpf.Array: "bpf_array", ebpf.PerCPUArray: "bpf_array", ebpf.ProgramArray: "bpf_array", ebpf.PerfEventArray: "bpf_array",
	ebpf.CGroupArray: "bpf_array", ebpf.ArrayOfMaps: "bpf_array",
	ebpf.StackTrace: "bpf_stack_map", ebpf.LPMTrie: "lpm_trie", ebpf.DevMap: "bpf_dtab", ebpf.DevMapHash: "bpf_dtab", ebpf.CPUMap: "bpf_cpu_map",
	ebpf.XSKMap: "xsk_map", ebpf.SockMap: "bpf_stab", ebpf.SockHash: "bpf_shtab", ebpf.ReusePortSockArray: "reuseport_array",
	ebpf.Queue: "bpf_queue_stack", ebpf.Stack: "bpf_queue_stack", ebpf.BloomFilter: "bpf_bloom_filter",
	ebpf.CGroupStorage: "bpf_cgroup_storage_map", ebpf.PerCPUCGroupStorage: "bpf_cgroup_storage_map",
	ebpf.SkStorage: "bpf_local_storage_map", ebpf.InodeStorage: "bpf_local_storage_map", ebpf.TaskStorage: "bpf_local_storage_map",
	ebpf.CgroupStorage: "bpf_local_storage_map", ebpf.StructOpsMap: "bpf_struct_ops_map", ebpf.RingBuf: "bpf_ringbuf_map",
	ebpf.UserRingbuf: "bpf_ringbuf_map", ebpf.Arena: "bpf_arena",
}

// checkMapStruct checks an access through a map pointer itself.
func (e *env) checkMapStruct(op, off, size int, kind accessKind) error {
	r := &e.st.fr().regs[op]
	name, ok := mapStructs[e.maps[r.aux].Type]
	if !ok {
		return e.reject(CodePermission, "map_ptr access not supported for map type %d", e.maps[r.aux].Type)
	}
	switch {
	case e.lacks(CapPerfmon):
		return e.reject(CodePermission, "'struct %s' access is allowed only to CAP_PERFMON and CAP_SYS_ADMIN", name)
	case off < 0:
		return e.reject(CodeBounds, "%s is %s invalid negative access: off=%d", operandName(op), name, off)
	case kind == accessWrite:
		return e.reject(CodePermission, "only read from %s is supported", name)
	}
	typ, ok := e.kernelStruct(name)
	if !ok {
		return e.unsupported("reads of struct %s through a map pointer: the types of the kernel are not known", name)
	}
	return e.walkError(e.walkAt(typ, off, size, true))
}

// loadMapStruct gives d what was read through a map pointer.
func (e *env) loadMapStruct(d, ptr *reg, off, size int) {
	typ, ok := e.kernelStruct(mapStructs[e.maps[ptr.aux].Type])
	if !ok {
		return
	}
	switch w := e.walkAt(typ, off, size, true); w.kind {
	case walkedPointer:
		e.setLoaded(d, &w, w.flags)
	case walkedAddress:
		e.setAddress(d)
	}
}
