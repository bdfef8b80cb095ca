package verifier

import (
	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/progtype"
)

// voidMethod reports whether nothing is returned at the end of the program, so that r0 need not be set.
func (e *env) voidMethod() bool {
	switch e.prog.Type {
	case ebpf.LSM:
		return e.prog.AttachType != ebpf.AttachLSMCgroup && e.target.returnsNothing()
	case ebpf.StructOps:
		return e.target.returnsNothing()
	}
	return false
}

// returnRange is the range of results that the program may return; ok is false if any will do (check_return_code).
func (e *env) returnRange() (lo, hi int64, ok bool) {
	if h := e.prog.Hook; h != nil {
		return int64(h.Min), int64(h.Max), h.Bounded
	}
	switch e.prog.Type {
	case ebpf.Tracing:
		switch e.prog.AttachType {
		case ebpf.AttachTraceFEntry, ebpf.AttachTraceFExit:
			return 0, 0, true
		case ebpf.AttachTraceIter:
			return 0, 1, true
		}
		return 0, 0, false
	case ebpf.LSM:
		switch {
		case e.prog.AttachType != ebpf.AttachLSMCgroup:
			return e.lsmRange()
		case e.target.returnsNothing():
			return 1, 1, true
		}
		return 0, 1, true
	}
	return progtype.ReturnRange(e.prog.Type, e.prog.AttachType)
}

// returns32 reports whether only the lower half of the result counts: hooks return int.
func (e *env) returns32() bool {
	return e.prog.Hook != nil || e.prog.Type == ebpf.LSM && e.prog.AttachType != ebpf.AttachLSMCgroup
}
