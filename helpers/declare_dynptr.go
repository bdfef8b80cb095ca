package helpers

import "github.com/skep-bpf/skep/verifier"

// Prototypes of helpers on dynptrs.

var _ = declare(
	sig(197, "dynptr_from_mem", nil, aMemOut, aSizeOrZero, aAny, newDynptr(verifier.DynptrLocal)),
	sig(198, "ringbuf_reserve_dynptr", nil, aMap, aAny, aAny, newDynptr(verifier.DynptrRingBuf)),
	releases(returns(verifier.RetVoid, sig(199, "ringbuf_submit_dynptr", nil, aRecord, aAny))),
	releases(returns(verifier.RetVoid, sig(200, "ringbuf_discard_dynptr", nil, aRecord, aAny))),
	sig(201, "dynptr_read", nil, aMemOut, aSizeOrZero, aDynptr, aAny, aAny),
	sig(202, "dynptr_write", nil, aDynptr, aAny, aMem, aSizeOrZero, aAny),
	returns(verifier.RetDynptrMemOrNull, sig(203, "dynptr_data", nil, aDynptr, aAny, arg(verifier.ArgConstAllocSizeOrZero))),
	calls(verifier.CallbackDynptr, sig(209, "user_ringbuf_drain", nil, aMap, arg(verifier.ArgFunc), argNull(verifier.ArgStack), aAny)),
)

// Dynptr arguments: any one, whose memory the helper uses; a record of a ring buffer, which it gives back.
var (
	aDynptr = verifier.HelperArg{Kind: verifier.ArgDynptr, Const: true}
	aRecord = verifier.HelperArg{Kind: verifier.ArgDynptr, Dynptr: verifier.DynptrRingBuf}
)

func newDynptr(k verifier.DynptrKind) verifier.HelperArg {
	return verifier.HelperArg{Kind: verifier.ArgDynptr, Dynptr: k, Uninit: true}
}

func calls(k verifier.CallbackKind, p proto) proto { p.Callback = k; return p }
