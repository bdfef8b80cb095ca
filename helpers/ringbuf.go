package helpers

import (
	"sync"

	"github.com/skep-bpf/skep/internal/errno"
	"github.com/skep-bpf/skep/internal/rt"
	"github.com/skep-bpf/skep/maps"
	"github.com/skep-bpf/skep/verifier"
)

// Helpers on ring buffers (kernel/bpf/ringbuf.c). The verifier proves that the map is one, and that a record is given back once.

var _ = define(
	Helper{Proto: sig(130, "ringbuf_output", nil, aMap, aMem, aSizeOrZero, aAny), Fn: ringbufOutput},
	Helper{Proto: acquires(returns(verifier.RetRingBufMemOrNull, sig(131, "ringbuf_reserve", nil, aMap, aAllocSize, aAny))), Fn: ringbufReserve},
	Helper{Proto: releases(returns(verifier.RetVoid, sig(132, "ringbuf_submit", nil, aReserved, aAny))), Fn: ringbufSubmit},
	Helper{Proto: releases(returns(verifier.RetVoid, sig(133, "ringbuf_discard", nil, aReserved, aAny))), Fn: ringbufDiscard},
	Helper{Proto: sig(134, "ringbuf_query", nil, aMap, aAny), Fn: ringbufQuery},
	Helper{Proto: sig(198, "ringbuf_reserve_dynptr", nil, aMap, aAny, aAny, newDynptr(verifier.DynptrRingBuf)), Fn: ringbufReserveDynptr},
	Helper{Proto: releases(returns(verifier.RetVoid, sig(199, "ringbuf_submit_dynptr", nil, aRecord, aAny))), Fn: ringbufSubmitDynptr},
	Helper{Proto: releases(returns(verifier.RetVoid, sig(200, "ringbuf_discard_dynptr", nil, aRecord, aAny))), Fn: ringbufDiscardDynptr},
)

func ringOf(handle uint64) maps.Ring { return maps.SideOf(maps.FromHandle(handle)).Ring() }

// reserve makes a record that the run holds; 0 if there is no room.
func reserve(r *rt.Run, ring maps.Ring, n uint64) uint64 {
	addr := ring.Reserve(n)
	if addr != 0 {
		r.Hold(rt.Held{Addr: addr, Kind: rt.HeldRecord})
	}
	return addr
}

// giveBack ends a record that the run holds.
func giveBack(r *rt.Run, addr, flags uint64, discard bool) {
	r.GiveBack(addr)
	if ring := maps.RingOf(addr); discard {
		ring.Discard(addr, flags)
	} else {
		ring.Submit(addr, flags)
	}
}

func ringbufOutput(_ *rt.Run, a *[12]uint64) uint64 {
	if a[3]&^(maps.RingNoWakeup|maps.RingForceWakeup) != 0 {
		return errno.EINVAL.R0()
	}
	ring := ringOf(a[0])
	addr := ring.Reserve(a[2])
	if addr == 0 {
		return errno.EAGAIN.R0()
	}
	copy(rt.Mem(addr, int(a[2])), rt.Mem(a[1], int(a[2])))
	ring.Submit(addr, a[3])
	return 0
}

func ringbufReserve(r *rt.Run, a *[12]uint64) uint64 {
	if a[2] != 0 {
		return 0
	}
	return reserve(r, ringOf(a[0]), a[1])
}

func ringbufSubmit(r *rt.Run, a *[12]uint64) uint64 {
	giveBack(r, a[0], a[1], false)
	return 0
}

func ringbufDiscard(r *rt.Run, a *[12]uint64) uint64 {
	giveBack(r, a[0], a[1], true)
	return 0
}

var notifyHandle = sync.OnceValue(func() rt.Handle { return rt.Register(notifyRing) })

// RingNotify is the function that code calls which has submitted or discarded a record by itself, if somebody waits for records:
// lower.Env.RingNotify. It takes where the ring begins, the record and the flags.
func RingNotify() rt.Handle { return notifyHandle() }

func notifyRing(_ *rt.Run, a *[12]uint64) uint64 {
	maps.NotifyRing(a[0], a[1], a[2])
	return 0
}

func ringbufQuery(_ *rt.Run, a *[12]uint64) uint64 { return ringOf(a[0]).Query(a[1]) }

func ringbufReserveDynptr(r *rt.Run, a *[12]uint64) uint64 {
	d, n := dynptrAt(a[3]), uint64(uint32(a[1]))
	*d = dynptr{}
	if a[2] != 0 {
		return errno.EINVAL.R0()
	}
	if n > maxDynptr {
		return errno.E2BIG.R0()
	}
	addr := reserve(r, ringOf(a[0]), n)
	if addr == 0 {
		return errno.EINVAL.R0()
	}
	*d = newDynptrOf(addr, verifier.DynptrRingBuf, n)
	return 0
}

func ringbufSubmitDynptr(r *rt.Run, a *[12]uint64) uint64  { return endDynptr(r, a, false) }
func ringbufDiscardDynptr(r *rt.Run, a *[12]uint64) uint64 { return endDynptr(r, a, true) }

// endDynptr gives back the record of a dynptr; one that could not be reserved has none.
func endDynptr(r *rt.Run, a *[12]uint64, discard bool) uint64 {
	d := dynptrAt(a[0])
	if d.data != 0 {
		giveBack(r, d.data, a[1], discard)
	}
	*d = dynptr{}
	return 0
}
