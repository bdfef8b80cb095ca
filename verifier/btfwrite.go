package verifier

import (
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// This file says which fields of the kernel's structures programs may write (btf_struct_access of each program type).

// writeField is a field that may be written: by its name behind that of the structure that has it, members inside of members behind
// dots. That structure is at the start of the one that is written. With parts, a write may start anywhere in it.
type writeField struct {
	name  string
	parts bool
}

// writable are the fields of a structure.
type writable struct {
	structs []string // names of the structure
	name    string   // in messages
	fields  []writeField
}

var (
	// nf_conntrack_btf_struct_access
	conntrackWrites = &writable{[]string{"nf_conn", "nf_conn___init"}, "nf_conn", []writeField{{name: "nf_conn.mark"}}}
	// bpf_tcp_ca_btf_struct_access
	tcpWrites = &writable{[]string{"tcp_sock"}, "tcp_sock", []writeField{
		{name: "sock.sk_pacing_rate"}, {name: "sock.sk_pacing_status"}, {"inet_connection_sock.icsk_ca_priv", true},
		{name: "inet_connection_sock.icsk_ack.pending"}, {name: "tcp_sock.snd_cwnd"}, {name: "tcp_sock.snd_cwnd_cnt"},
		{name: "tcp_sock.snd_cwnd_stamp"}, {name: "tcp_sock.snd_ssthresh"}, {name: "tcp_sock.ecn_flags"}, {name: "tcp_sock.app_limited"},
	}}
)

// writeKernelField checks a write of size bytes at off through r.
func (e *env) writeKernelField(r *reg, off, size int) error {
	name := e.types[r.aux].TypeName()
	if !e.isKernelType(r.aux) {
		return e.reject(CodePermission, "only read is supported")
	}
	switch e.prog.Type {
	case ebpf.SchedCLS, ebpf.SchedACT, ebpf.XDP:
		return e.writeOneOf(conntrackWrites, name, off, size)
	case ebpf.StructOps:
		switch ops, _, _ := strings.Cut(e.prog.AttachTo, ":"); ops {
		case "tcp_congestion_ops":
			return e.writeOneOf(tcpWrites, name, off, size)
		case "bpf_dummy_ops":
			return e.writeDummy(r, off, size)
		}
	}
	return e.reject(CodePermission, "only read is supported")
}

// writeOneOf checks a write into the structure of that name.
func (e *env) writeOneOf(w *writable, name string, off, size int) error {
	if !slices.Contains(w.structs, name) {
		return e.reject(CodePermission, "only read is supported")
	}
	for _, f := range w.fields {
		start, end, ok := e.fieldPlace(f.name)
		if !ok || off != start && !(f.parts && off > start && off < end) {
			continue
		}
		if off+size > end {
			return e.reject(CodePermission, "write access at off %d with size %d beyond the member of %s ended at %d", off, size, w.name, end)
		}
		return nil
	}
	return e.reject(CodePermission, "no write support to %s at off %d", w.name, off)
}

// writeDummy: methods of the structure that exists for tests may write all of its state (bpf_dummy_ops_btf_struct_access).
func (e *env) writeDummy(r *reg, off, size int) error {
	t := e.types[r.aux]
	if t.TypeName() != "bpf_dummy_ops_state" {
		return e.reject(CodePermission, "only access to bpf_dummy_ops_state is supported")
	}
	if n, _, _ := composite(t); off+size > n {
		return e.reject(CodePermission, "write access at off %d with size %d", off, size)
	}
	return nil
}

// fieldPlace finds a field by its path: a structure of the kernel, and members in it.
func (e *env) fieldPlace(path string) (start, end int, ok bool) {
	names := strings.Split(path, ".")
	t, ok := e.kernelStructType(names[0])
	if !ok {
		return 0, 0, false
	}
	for _, n := range names[1:] {
		m, off := memberNamed(t, n)
		if m == nil {
			return 0, 0, false
		}
		_, size, ok := sizeOfType(m.Type)
		if !ok {
			return 0, 0, false
		}
		start += off
		end = start + size
		t = skipModifiers(m.Type, true)
	}
	return start, end, true
}

// memberNamed finds a member of a structure, also of unions and structures in it that have no name, and its offset.
func memberNamed(t btf.Type, name string) (*btf.Member, int) {
	_, members, _ := composite(t)
	for i := range members {
		m := &members[i]
		off := int(m.Offset / 8)
		if m.Name == name {
			return m, off
		}
		if m.Name != "" {
			continue
		}
		if in, at := memberNamed(skipModifiers(m.Type, true), name); in != nil {
			return in, off + at
		}
	}
	return nil, 0
}
