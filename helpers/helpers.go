// Package helpers has the kernel's helper functions: each one's prototype, which the verifier checks calls by, beside its
// implementation, which runs them. Names, numbers, semantics and error codes are those of Linux 6.18 (bpf-helpers(7),
// kernel/bpf/helpers.c, net/core/filter.c).
//
// The prototypes are part of the security boundary: an argument kind says what the implementation may rely on. Where an
// implementation takes an address, its argument kind has the verifier prove that address and its size.
package helpers

import (
	"sync"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/rt"
	"github.com/skep-bpf/skep/verifier"
)

// Helper is one helper function.
type Helper struct {
	Proto verifier.HelperProto
	// Fn runs it; nil for those that engines emit themselves (tail_call).
	Fn rt.Func

	once   sync.Once
	handle rt.Handle
}

// Handle is the process-wide handle by which programs call the helper; 0 if it has no Fn.
func (h *Helper) Handle() rt.Handle {
	if h.Fn == nil {
		return 0
	}
	h.once.Do(func() { h.handle = rt.Register(h.Fn) })
	return h.handle
}

// table has all helpers by number, filled by define before main starts and not changed after it.
var table = map[int32]*Helper{}

// define adds helpers; each file does so for its own.
func define(hs ...Helper) struct{} {
	for i := range hs {
		h := &Helper{Proto: hs[i].Proto, Fn: hs[i].Fn}
		if _, ok := table[h.Proto.ID]; ok {
			panic("helper defined twice: " + h.Proto.Name) // at program start only
		}
		table[h.Proto.ID] = h
	}
	return struct{}{}
}

// Lookup finds a helper by number.
func Lookup(id int32) (*Helper, bool) {
	h, ok := table[id]
	return h, ok
}

// Proto finds a helper's prototype by number, nil if there is none: verifier.Options.Helpers.
func Proto(id int32) *verifier.HelperProto {
	if h, ok := table[id]; ok {
		return &h.Proto
	}
	return nil
}

// Handle finds a helper's handle by number: lower.Env.Helper.
func Handle(id int32) (rt.Handle, bool) {
	h, ok := table[id]
	if !ok || h.Fn == nil {
		return 0, false
	}
	return h.Handle(), true
}

// IDs returns the numbers of all helpers, in no order.
func IDs() []int32 {
	ids := make([]int32, 0, len(table))
	for id := range table {
		ids = append(ids, id)
	}
	return ids
}

// Short forms for prototypes.
type (
	proto = verifier.HelperProto
	args  = [5]verifier.HelperArg
)

func arg(k verifier.ArgKind) verifier.HelperArg     { return verifier.HelperArg{Kind: k} }
func argNull(k verifier.ArgKind) verifier.HelperArg { return verifier.HelperArg{Kind: k, OrNull: true} }

// Sets of program types. They were read off the running kernel, and kernel_test.go compares them with it.
var (
	tcTypes  = []ebpf.ProgramType{ebpf.SchedCLS, ebpf.SchedACT}
	xdpTypes = []ebpf.ProgramType{ebpf.XDP}
	lwtTypes = []ebpf.ProgramType{ebpf.LWTIn, ebpf.LWTOut, ebpf.LWTXmit, ebpf.LWTSeg6Local}
)

func types(sets ...[]ebpf.ProgramType) []ebpf.ProgramType {
	var all []ebpf.ProgramType
	for _, s := range sets {
		all = append(all, s...)
	}
	return all
}

func only(ts ...ebpf.ProgramType) []ebpf.ProgramType { return ts }
