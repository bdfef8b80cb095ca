package progtype

import (
	"runtime"
	"slices"

	"github.com/cilium/ebpf"
)

// Input is what a run gives a program.
type Input uint8

// The inputs: how the context is laid out, and whether there is a packet.
const (
	InputNone         Input = iota // nothing lays such a context out: programs of the type are only verified
	InputSkb                       // a struct __sk_buff and a packet
	InputXDP                       // a struct xdp_md and a packet
	InputFlowKeys                  // a packet, and keys to be filled behind the context
	InputBytes                     // the caller's bytes, as many as it has
	InputFields                    // a structure of numbers; pointers in it are NULL
	InputSocketLookup              // struct bpf_sk_lookup, by the kernel's rules for it
	InputHook                      // the structure of an application's hook, and a packet if it shows one
)

// inputs are the types that run.
var inputs = [...]Input{
	ebpf.SocketFilter: InputSkb, ebpf.SchedCLS: InputSkb, ebpf.SchedACT: InputSkb, ebpf.CGroupSKB: InputSkb,
	ebpf.LWTIn: InputSkb, ebpf.LWTOut: InputSkb, ebpf.LWTXmit: InputSkb, ebpf.LWTSeg6Local: InputSkb,
	ebpf.XDP: InputXDP, ebpf.FlowDissector: InputFlowKeys,
	ebpf.Syscall: InputBytes, ebpf.RawTracepoint: InputBytes, ebpf.RawTracepointWritable: InputBytes, ebpf.TracePoint: InputBytes,
	ebpf.Kprobe: InputFields, ebpf.PerfEvent: InputFields, ebpf.CGroupDevice: InputFields, ebpf.CGroupSysctl: InputFields,
	ebpf.CGroupSock: InputFields, ebpf.CGroupSockAddr: InputFields, ebpf.SockOps: InputFields, ebpf.SkLookup: InputSocketLookup,
}

// InputOf returns what a run gives programs of type t.
func InputOf(t ebpf.ProgramType) Input {
	if uint64(t) >= uint64(len(inputs)) {
		return InputNone
	}
	return inputs[t]
}

// HasRuntime reports whether programs of type t can run here: whether something lays out their contexts as compiled code
// reads them. Programs of all other types are only verified.
func HasRuntime(t ebpf.ProgramType) bool { return InputOf(t) != InputNone }

// TakesPacket reports whether a run of a program of type t needs a packet.
func TakesPacket(t ebpf.ProgramType) bool {
	switch InputOf(t) {
	case InputSkb, InputXDP, InputFlowKeys:
		return true
	}
	return false
}

// ContextOut is the length of what a run of a program of type t gives back of a context of given bytes, 0 for nothing.
func ContextOut(t ebpf.ProgramType, given int) int {
	switch in := InputOf(t); {
	case t == ebpf.RawTracepoint || t == ebpf.RawTracepointWritable:
		return 0
	case in == InputBytes:
		return given
	case in == InputFlowKeys:
		return FlowKeysSize
	}
	return Of(t, 0, runtime.GOARCH).Size()
}

// Loadable reports whether a run has what a load of field f gives. The pointers that the verifier has programs compare
// with NULL are NULL. Others of the kernel's objects are not here, so that code which loads them cannot be made.
func (f Field) Loadable() bool {
	switch f {
	case FieldScalar, FieldPacket, FieldPacketMeta, FieldPacketEnd, FieldSockCommonOrNull, FieldSocketOrNull, FieldFlowKeys:
		return true
	}
	return false
}

// PointerSet finds a field of context b that is no number and not zero: a caller has no pointers to give.
func (c Context) PointerSet(b []byte) (off int, set bool) {
	for i := range c.l.rows {
		r := &c.l.rows[i]
		if r.is == FieldScalar {
			continue
		}
		if slices.ContainsFunc(b[r.off:r.off+r.size], func(v byte) bool { return v != 0 }) {
			return r.off, true
		}
	}
	return 0, false
}

// ClearPointers makes every field of context b that is no number NULL.
func (c Context) ClearPointers(b []byte) {
	for off, set := c.PointerSet(b); set; off, set = c.PointerSet(b) {
		clear(b[off : off+8])
	}
}
