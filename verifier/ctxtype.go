package verifier

import (
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/progtype"
)

// This file says which parameters of functions and kfuncs are the context: by the name of their type, or by a tag.

// userRegs is the name by which programs on every machine have their context of registers.
const userRegs = "bpf_user_pt_regs_t"

// isCtxType reports whether p points to the context structure of the program's type (btf_is_prog_ctx_type).
func (e *env) isCtxType(p *btf.Pointer) bool {
	if e.prog.Type == ebpf.Kprobe && typedefName(p.Target) == userRegs {
		return true
	}
	name := e.ctx.Name()
	have := structName(p.Target)
	if e.prog.Type == ebpf.Kprobe && have == userRegs { // a structure that older programs make up
		return true
	}
	return have != "" && (have == name || have == projections[name])
}

// projections are the kernel's own structures of which contexts are views (btf_is_projection_of).
var projections = map[string]string{"__sk_buff": "sk_buff", "xdp_md": "xdp_buff"}

// structName is the name of the structure or union that t is, behind all modifiers; "" if it is none.
func structName(t btf.Type) string {
	switch x := skipModifiers(t, true).(type) {
	case *btf.Struct:
		return x.Name
	case *btf.Union:
		return x.Name
	}
	return ""
}

// typedefName is the name of the typedef that t is, behind const and its like; "" if it is none.
func typedefName(t btf.Type) string {
	if x, ok := skipModifiers(t, false).(*btf.Typedef); ok {
		return x.Name
	}
	return ""
}

// skipModifiers returns what stands behind const, volatile, restrict, type tags and, if asked for, typedefs.
func skipModifiers(t btf.Type, typedefs bool) btf.Type {
	for range maxTypeChain {
		switch x := t.(type) {
		case *btf.Const:
			t = x.Type
		case *btf.Volatile:
			t = x.Type
		case *btf.Restrict:
			t = x.Type
		case *btf.TypeTag:
			t = x.Type
		case *btf.Typedef:
			if !typedefs {
				return t
			}
			t = x.Type
		default:
			return t
		}
	}
	return t
}

// checkCtxTag checks the type of parameter i, which is tagged as the context (btf_validate_prog_ctx_type).
func (e *env) checkCtxTag(i int, p *btf.Pointer) error {
	t := e.prog.Type
	if (t == ebpf.Kprobe || t == ebpf.PerfEvent) && typedefName(p.Target) == userRegs {
		return nil
	}
	target := skipModifiers(p.Target, true)
	if _, void := target.(*btf.Void); void {
		return nil
	}
	if target.TypeName() == "" {
		return e.reject(CodeBTF, "arg#%d type doesn't have a name", i)
	}
	if e.ctxTagException(target) {
		return nil
	}
	name := e.ctx.Name()
	if name == "" {
		return e.reject(CodeBTF, "arg#%d should be void pointer", i)
	}
	if s, ok := target.(*btf.Struct); !ok || s.Name != name {
		return e.reject(CodeBTF, "arg#%d should be `struct %s *`", i, name)
	}
	return nil
}

// ctxTagException reports whether a program's type takes t as its context beside the structure of that name.
func (e *env) ctxTagException(t btf.Type) bool {
	s, isStruct := t.(*btf.Struct)
	n, isInt := t.(*btf.Int)
	switch e.prog.Type {
	case ebpf.Kprobe:
		return isStruct && s.Name == "pt_regs"
	case ebpf.PerfEvent:
		return isStruct && s.Name == progtype.CtxName(ebpf.Kprobe, e.opt.Arch)
	case ebpf.RawTracepoint, ebpf.RawTracepointWritable:
		return isInt && n.Size == 8
	case ebpf.Tracing:
		return e.tracingCtxTag(t)
	case ebpf.LSM, ebpf.StructOps:
		return isInt && n.Size == 8
	case ebpf.TracePoint, ebpf.Syscall:
		return true
	}
	return false
}

// tracingCtxTag is ctxTagException for programs by BTF that trace.
func (e *env) tracingCtxTag(t btf.Type) bool {
	s, isStruct := t.(*btf.Struct)
	n, isInt := t.(*btf.Int)
	word := isInt && n.Size == 8
	switch e.prog.AttachType {
	case ebpf.AttachTraceRawTp:
		return word || isStruct && s.Name == "bpf_raw_tracepoint_args"
	case ebpf.AttachTraceIter:
		return isStruct && strings.HasPrefix(s.Name, "bpf_iter__")
	case ebpf.AttachTraceFEntry, ebpf.AttachTraceFExit, ebpf.AttachModifyReturn:
		return word
	}
	return false
}
