package helpers

import (
	"maps"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/rt"
	"github.com/skep-bpf/skep/verifier"
)

// The files declare_*.go have prototypes only: programs that call these helpers are verified as in the kernel, and refused by name
// when they are to be run. A helper that gets an implementation moves to the file of its subject.

// declare adds helpers without implementation.
func declare(ps ...proto) struct{} {
	for _, p := range ps {
		define(Helper{Proto: p})
	}
	return struct{}{}
}

// sig is a prototype that returns a number. No program types means all.
func sig(id int32, name string, progTypes []ebpf.ProgramType, as ...verifier.HelperArg) proto {
	p := proto{ID: id, Name: name, ProgTypes: progTypes}
	copy(p.Args[:], as)
	return p
}

// runs is a helper with its implementation.
func runs(f rt.Func, p proto) Helper { return Helper{Proto: p, Fn: f} }

// What prototypes can have beside their arguments.
func gpl(p proto) proto           { p.GPLOnly = true; return p }
func readsPacket(p proto) proto   { p.PktAccess = true; return p }
func movesPacket(p proto) proto   { p.ChangesPacket = true; return p }
func sleeps(p proto) proto        { p.MightSleep = true; return p }
func cast(p proto) proto          { p.Cast = true; return p }
func acquires(p proto) proto      { p.Acquires = true; return p }
func releases(p proto) proto      { p.ReleaseArg = 1; return p }
func returnsLength(p proto) proto { p.RetLength = true; return p }

// calls is for helpers that call a function of the program.
func calls(k verifier.CallbackKind, p proto) proto { p.Callback = k; return p }

func returns(k verifier.RetKind, p proto) proto { p.Ret = k; return p }

// gives is returns for a structure of the kernel.
func gives(k verifier.RetKind, name string, p proto) proto { p.Ret, p.RetType = k, name; return p }

// variants gives some program types other prototypes of the same number.
func variants(p proto, vs ...proto) proto { p.Variants = vs; return p }

// attached limits a program type to some of its attach types.
func attached(p proto, t ebpf.ProgramType, at ...ebpf.AttachType) proto {
	attach := maps.Clone(p.Attach)
	if attach == nil {
		attach = map[ebpf.ProgramType][]ebpf.AttachType{}
	}
	attach[t] = at
	p.Attach = attach
	return p
}

// notTargets takes some of what a program type can attach to away.
func notTargets(p proto, t ebpf.ProgramType, targets ...string) proto {
	p.NotTargets = map[ebpf.ProgramType][]string{t: targets}
	return p
}

// missing marks a helper whose calls the verifier cannot check yet, and says why.
func missing(what string, p proto) proto { p.Missing = what; return p }

// Arguments.
var (
	aAny        = arg(verifier.ArgAnything)
	aCtx        = arg(verifier.ArgCtx)
	aCtxOrNull  = argNull(verifier.ArgCtx)
	aMap        = arg(verifier.ArgConstMapPtr)
	aKey        = arg(verifier.ArgMapKey)
	aValue      = arg(verifier.ArgMapValue)
	aValueOut   = arg(verifier.ArgUninitMapValue)
	aValueNull  = argNull(verifier.ArgMapValue)
	aMem        = arg(verifier.ArgMem)
	aMemOrNull  = argNull(verifier.ArgMem)
	aMemOut     = arg(verifier.ArgUninitMem)
	aMemInOut   = arg(verifier.ArgWriteMem)
	aMemPlain   = verifier.HelperArg{Kind: verifier.ArgMem, NotReadOnly: true}
	aMemNullOut = argNull(verifier.ArgWriteMem)
	aSize       = arg(verifier.ArgConstSize)
	aSizeOrZero = arg(verifier.ArgConstSizeOrZero)
	aAllocSize  = arg(verifier.ArgConstAllocSize)
	aString     = arg(verifier.ArgConstStr)
	aSock       = arg(verifier.ArgSockPtr)    // any socket, also by BTF
	aSockCommon = arg(verifier.ArgSockCommon) // any socket of a context or a lookup
	aReserved   = arg(verifier.ArgRingBufMem)
	aTask       = aStruct("task_struct")
	aSeqFile    = aStruct("seq_file")
	aWord       = verifier.HelperArg{Kind: verifier.ArgFixedUninitMem, Size: 8, Align: true}
)

// aStruct is a structure of the kernel, aStructNull one or NULL.
func aStruct(name string) verifier.HelperArg {
	return verifier.HelperArg{Kind: verifier.ArgStruct, Struct: name}
}

func aStructNull(name string) verifier.HelperArg {
	return verifier.HelperArg{Kind: verifier.ArgStruct, Struct: name, OrNull: true}
}

// header is a packet header of a fixed size.
func header(size int) verifier.HelperArg {
	return verifier.HelperArg{Kind: verifier.ArgFixedMem, Size: size, NotReadOnly: true}
}

// Sets of program types.
var (
	tracepointTypes = only(ebpf.Kprobe, ebpf.TracePoint, ebpf.PerfEvent, ebpf.RawTracepoint, ebpf.RawTracepointWritable)
	traceTypes      = types(tracepointTypes, btfTypes, only(ebpf.Syscall))
	btfTypes        = only(ebpf.Tracing, ebpf.LSM)
	iterTypes       = only(ebpf.Tracing)
	sockTraceTypes  = types(btfTypes, syscallTypes)
	cgroupAddr      = only(ebpf.CGroupSockAddr)
	cgroupSockopt   = only(ebpf.CGroupSockopt)
	tcXDPTypes      = types(tcTypes, xdpTypes)
	tcXmitTypes     = types(tcTypes, only(ebpf.LWTXmit))
	tcLWTTypes      = types(tcTypes, lwtTypes)
	tcCgroupTypes   = types(tcTypes, only(ebpf.CGroupSKB))
	syscallTypes    = only(ebpf.Syscall)

	// layoutTypes are all types whose context is a fixed structure.
	layoutTypes = types(tcXDPTypes, lwtTypes, tracepointTypes, syscallTypes, only(ebpf.SocketFilter, ebpf.CGroupSKB, ebpf.CGroupSock, ebpf.SockOps, ebpf.SkSKB,
		ebpf.CGroupDevice, ebpf.SkMsg, ebpf.CGroupSockAddr, ebpf.SkReuseport, ebpf.FlowDissector, ebpf.CGroupSysctl, ebpf.CGroupSockopt,
		ebpf.SkLookup, ebpf.Netfilter))
)

// except are the types of a fixed context without some.
func except(ts ...ebpf.ProgramType) []ebpf.ProgramType {
	return slices.DeleteFunc(slices.Clone(layoutTypes), func(t ebpf.ProgramType) bool { return slices.Contains(ts, t) })
}
