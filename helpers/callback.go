package helpers

import "github.com/skep-bpf/skep/verifier"

// Helpers that call a function of the program while they run. They have no Fn: lowering makes loops of them, whose calls are
// calls like any other.

var _ = define(
	Helper{Proto: proto{
		ID: 181, Name: "loop", Callback: verifier.CallbackLoop,
		Args: args{arg(verifier.ArgAnything), arg(verifier.ArgFunc), argNull(verifier.ArgStack), arg(verifier.ArgAnything)},
	}},
	Helper{Proto: proto{
		ID: 164, Name: "for_each_map_elem", Callback: verifier.CallbackMapElem,
		Args: args{arg(verifier.ArgConstMapPtr), arg(verifier.ArgFunc), argNull(verifier.ArgStack), arg(verifier.ArgAnything)},
	}},
)
