package helpers

import (
	"github.com/skep-bpf/skep/internal/rt"
	"github.com/skep-bpf/skep/verifier"
)

// bpf_user_ringbuf_drain calls a function of the program for each record that Go put into a ring. Lowering makes a loop of it, see
// callback.go.

var _ = define(Helper{Proto: proto{
	ID: 209, Name: "user_ringbuf_drain", Callback: verifier.CallbackDynptr,
	Args: args{aMap, arg(verifier.ArgFunc), argNull(verifier.ArgStack), aAny},
}, Fn: userRingDrain})

// What the loop asks userRingDrain for, in argument 5.
const (
	drainNext = 0
	drainEnd  = 1
)

// userRingDrain is what the loop in place of bpf_user_ringbuf_drain calls, not what a program calls. It takes the map; for the next
// record where a dynptr of it is to be made, the number of the round, and in the first one the flags, and returns 1, 0 behind the last
// record, or an error, which ends the call. For the end it returns how many records there were.
func userRingDrain(r *rt.Run, a *[12]uint64) uint64 {
	ring := ringOf(a[0])
	if a[4] == drainEnd {
		r.GiveBack(ring.Hold().Addr)
		return uint64(ring.EndDrain())
	}
	if a[2] == 0 {
		if e := ring.BeginDrain(a[3]); e != 0 {
			return e.R0()
		}
		r.Hold(ring.Hold())
	}
	addr, n, ok, e := ring.NextRecord(maxDynptr)
	switch {
	case e != 0:
		r.GiveBack(ring.Hold().Addr)
		ring.EndDrain()
		return e.R0()
	case !ok:
		return 0
	}
	*dynptrAt(a[1]) = newDynptrOf(addr, verifier.DynptrLocal, n)
	return 1
}
