package maps

import (
	"github.com/skep-bpf/skep/internal/errno"
	"github.com/skep-bpf/skep/internal/rt"
)

// User ring buffers: Go puts records in, a program takes them out, one after the other (bpf_user_ringbuf_drain). The layout is that of
// ring buffers; positions and headers are checked as if anybody had written them (__bpf_user_ringbuf_peek).

// maxDrained is how many records one call takes (BPF_MAX_USER_RINGBUF_SAMPLES).
const maxDrained = 128 << 10

// drain is a call that is under way; there is one at a time for each ring.
type drain struct {
	flags   uint64
	seen    int    // records so far, those that were skipped as well
	skipped int    // of them, those that Go gave up
	held    uint64 // bytes of the record that the program has
	holds   bool
}

// BeginDrain starts a call; EBUSY if another one is under way.
func (r Ring) BeginDrain(flags uint64) errno.Errno {
	if !r.r.busy.CompareAndSwap(false, true) {
		return errno.EBUSY
	}
	r.r.drain = drain{flags: flags}
	return 0
}

// NextRecord gives the last record back and takes the next one: the address and the length of its bytes. ok is false if there is no
// more, with an error if what is there is no record.
func (r Ring) NextRecord(limit uint64) (addr, n uint64, ok bool, e errno.Errno) {
	d := &r.r.drain
	r.release()
	for d.seen < maxDrained {
		off, n, discarded, e := r.r.peek(limit)
		if e == errno.ENODATA {
			return 0, 0, false, 0
		}
		if e != 0 {
			return 0, 0, false, e
		}
		d.seen++
		if discarded {
			d.skipped++
			r.r.consume(n)
			continue
		}
		d.held, d.holds = n, true
		return uint64(r.r.m.addr(off + ringHeader)), n, true, 0
	}
	return 0, 0, false, 0
}

// peek looks at the next record; limit is the longest that a dynptr can show.
func (r *ringBuf) peek(limit uint64) (off int, n uint64, discarded bool, e errno.Errno) {
	prod, cons := r.m.u64(ringProd).Load(), r.m.u64(ringCons).Load()
	switch {
	case prod%8 != 0:
		return 0, 0, false, errno.EINVAL
	case cons >= prod:
		return 0, 0, false, errno.ENODATA
	}
	off = r.at(cons)
	head := r.m.u32(off).Load()
	n = uint64(head &^ (ringBusy | ringDiscard))
	switch {
	case recordSize(n) > prod-cons:
		return 0, 0, false, errno.EINVAL
	case recordSize(n) > r.size, n > limit:
		return 0, 0, false, errno.E2BIG
	case head&ringDiscard != 0:
		return off, n, true, 0
	case head&ringBusy != 0:
		return 0, 0, false, errno.ENODATA
	}
	return off, n, false, 0
}

func (r *ringBuf) consume(n uint64) {
	r.m.u64(ringCons).Store(r.m.u64(ringCons).Load() + recordSize(n))
}

func (r Ring) release() {
	if d := &r.r.drain; d.holds {
		r.r.consume(d.held)
		d.holds = false
	}
}

// EndDrain ends a call and returns how many records the program got.
func (r Ring) EndDrain() int {
	r.release()
	d := r.r.drain
	r.r.busy.Store(false)
	if d.flags&RingForceWakeup != 0 || d.flags&RingNoWakeup == 0 && d.seen > 0 {
		r.r.waiters.wake()
	}
	return d.seen - d.skipped
}

// Hold is what a run holds while it drains the ring.
func (r Ring) Hold() rt.Held { return rt.Held{Addr: uint64(r.r.m.addr(0)), Kind: rt.HeldDrain} }

func init() { rt.OnDrop(rt.HeldDrain, abandonDrain) }

// abandonDrain ends the call of a run that was stopped in it.
func abandonDrain(addr uint64) { SideOf((*registry.table.Load())[ownerAt(addr)]).Ring().EndDrain() }

// Put adds a record for programs to drain; false if there is no room.
func (r Ring) Put(p []byte) bool {
	r.r.lock()
	defer r.r.unlock()
	m, size := r.r.m, recordSize(uint64(len(p)))
	prod := m.u64(ringProd).Load()
	if size > r.r.size-(prod-m.u64(ringCons).Load()) {
		return false
	}
	off := r.r.at(prod)
	copy(m.bytes(off+ringHeader, len(p)), p)
	m.u32(off).Store(uint32(len(p)))
	m.u64(ringProd).Store(prod + size)
	return true
}

// maxSample is the longest record that can be drained: as much as a dynptr shows (DYNPTR_MAX_SIZE).
const maxSample = 1<<24 - 1

// Fits reports whether a record of n bytes fits into the ring at all, and into a dynptr: one that does not would stay in the ring, and
// all behind it.
func (r Ring) Fits(n int) bool { return uint64(n) <= maxSample && recordSize(uint64(n)) <= r.r.size }

// Room returns how many bytes of records can be put.
func (r Ring) Room() uint64 {
	return r.r.size - (r.r.m.u64(ringProd).Load() - r.r.m.u64(ringCons).Load())
}

// WaitRoom waits until there is room for a record of n bytes, late or quit ends; c is as for Wait.
func (r Ring) WaitRoom(c chan struct{}, n int, late, quit <-chan struct{}) (ok bool) {
	r.r.waiters.join(c)
	defer r.r.waiters.leave(c)
	for r.Room() < recordSize(uint64(n)) {
		select {
		case <-c:
		case <-late:
			return false
		case <-quit:
			return false
		}
	}
	return true
}
