package helpers

import (
	"slices"

	"github.com/skep-bpf/skep/verifier"
)

// besides are helpers that only some program types have, though they need nothing of the context.
var besides = []int32{28, 160} // csum_diff, ktime_get_coarse_ns

const tailCall = 12 // its context is only handed on

// Anywhere returns the numbers of the helpers that programs can have whatever their context is, in ascending order.
func Anywhere() []int32 {
	var ids []int32
	for id, h := range table {
		if slices.Contains(besides, id) || id == tailCall || h.Proto.ProgTypes == nil && !slices.ContainsFunc(h.Proto.Args[:], isContext) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

func isContext(a verifier.HelperArg) bool { return a.Kind == verifier.ArgCtx }
