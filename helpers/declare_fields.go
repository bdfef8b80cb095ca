package helpers

import "github.com/skep-bpf/skep/verifier"

// Prototypes of helpers on special fields of map values and of objects of the program. They verify; nothing runs them yet.

var (
	aSpinLock = arg(verifier.ArgSpinLock)
	aTimer    = arg(verifier.ArgTimer)
	aPerCPU   = arg(verifier.ArgPerCPU)
)

func later(p proto) proto          { p.Callback = verifier.CallbackAsync; return p }
func releasesSecond(p proto) proto { p.ReleaseArg = 2; return p }

var _ = declare(
	returns(verifier.RetThisCPUOrNull, sig(153, "per_cpu_ptr", nil, aPerCPU, aAny)),
	returns(verifier.RetThisCPU, sig(154, "this_cpu_ptr", nil, aPerCPU)),
	acquires(releasesSecond(returns(verifier.RetKptrOrNull, sig(194, "kptr_xchg", nil, arg(verifier.ArgKptrPlace), argNull(verifier.ArgKptr))))),
)
