package helpers

import (
	"slices"

	"github.com/skep-bpf/skep/verifier"
)

// besides are helpers that only some program types have, though they need nothing of the context.
var besides = []int32{28, 160} // csum_diff, ktime_get_coarse_ns

const tailCall = 12 // its context is only handed on

// beyond are helpers that look at memory which is not the program's: whoever has a hook of its own names them to permit them.
var beyond = []int32{4, 45, 112, 113, 114, 115, 148} // probe_read and its kin, copy_from_user

// Default returns Anywhere without those that look beyond what the program owns.
func Default() []int32 {
	return slices.DeleteFunc(Anywhere(), func(id int32) bool { return slices.Contains(beyond, id) })
}

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
