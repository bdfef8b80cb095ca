package verifier

import (
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// This file checks structures of the kernel that helpers get and return.

// structArg checks a pointer by BTF in operand op, whose type suits argument a, by what it points to (check_reg_type).
func (e *env) structArg(op int, a *HelperArg, m *callMeta) error {
	r := &e.st.fr().regs[op]
	name := a.Struct
	switch a.Kind {
	case ArgStruct:
	case ArgSockPtr:
		name = "sock_common"
	case ArgSpinLock, ArgKptrPlace, ArgPerCPU:
		return nil // objects of the program
	default: // memory
		if writesArg(a.Kind) || a.NotReadOnly || a.Kind == ArgMapKey || a.Kind == ArgMapValue {
			return e.reject(CodePermission, "bpf_%s() may write into memory pointed by R%d type=%s", m.proto.Name, op, r.typ)
		}
		return nil
	}
	release := m.proto.ReleaseArg == op
	if r.typ.mayBeNull() && (!a.OrNull || release) {
		return e.reject(CodeNull, "Possibly NULL pointer passed to helper arg%d", op)
	}
	want, ok := e.kernelStructType(name)
	if !ok {
		return e.unsupported("helper bpf_%s: the kernel's types have no struct %s", m.proto.Name, name)
	}
	return e.pointsTo(op, want, release && m.proto.ID != fnSkRelease)
}

// pointsTo checks that operand op, a pointer by BTF, points to a type of the kernel, or, unless strict, to a structure that has one
// at its start.
func (e *env) pointsTo(op int, want btf.Type, strict bool) error {
	r := &e.st.fr().regs[op]
	have := e.types[r.aux]
	if e.isKernelType(r.aux) {
		match, why := typesMatch(have, int(r.off), want, strict, true)
		if match {
			return nil
		}
		e.logMismatch(why)
	}
	return e.reject(CodeType, "R%d is of type %s but %s is expected", op, have.TypeName(), want.TypeName())
}

// structResult makes r0 the structure that a helper returns.
func (e *env) structResult(r0 *reg, m *callMeta) error {
	i, ok := e.kernelStruct(m.proto.RetType)
	if !ok {
		return e.unsupported("helper bpf_%s: the kernel's types have no struct %s", m.proto.Name, m.proto.RetType)
	}
	t := ptrToBTF
	switch m.proto.Ret {
	case RetStructTrusted:
		t |= trusted
	case RetStructOrNull:
		t |= maybeNull
	}
	setPtr(r0, t)
	r0.aux = i
	if t.mayBeNull() {
		e.idGen++
		r0.id = e.idGen
	}
	if m.proto.Cast {
		r0.ref = m.ref
	}
	return nil
}

// hasTrampoline reports whether a program runs from a trampoline at the start or end of a function (bpf_prog_has_trampoline).
func hasTrampoline(t ebpf.ProgramType, at ebpf.AttachType) bool {
	switch at {
	case ebpf.AttachTraceFEntry, ebpf.AttachTraceFExit, ebpf.AttachModifyReturn:
		return t == ebpf.Tracing
	case ebpf.AttachLSMMac:
		return t == ebpf.LSM
	}
	return false
}

// pathFuncs are functions of the kernel at which a path may be looked up (btf_allowlist_d_path).
var pathFuncs = []string{
	"security_file_permission", "security_inode_getattr", "security_file_open", "security_path_truncate", "vfs_truncate",
	"vfs_fallocate", "dentry_open", "vfs_getattr", "filp_close",
}

// helperAllowed reports whether a helper can be called where the program attaches to (bpf_func_proto.allowed): some take locks that
// other places hold.
func (e *env) helperAllowed(id int32) bool {
	t, at := e.prog.Type, e.prog.AttachType
	switch id {
	case fnDPath:
		switch {
		case t == ebpf.LSM:
			return sleepableHooks[e.prog.AttachTo]
		case at == ebpf.AttachTraceIter:
			return true
		}
		return at != ebpf.AttachTraceRawTp && slices.Contains(pathFuncs, e.prog.AttachTo)
	case fnSkStorageGet, fnSkStorageDelete:
		if t != ebpf.Tracing {
			return true
		}
		switch at {
		case ebpf.AttachTraceIter, ebpf.AttachTraceRawTp:
			return true
		case ebpf.AttachTraceFEntry, ebpf.AttachTraceFExit:
			return !strings.HasPrefix(e.prog.AttachTo, "bpf_sk_storage")
		}
		return false
	case fnIMAInodeHash, fnIMAFileHash:
		return sleepableHooks[e.prog.AttachTo]
	}
	return true
}
