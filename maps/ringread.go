package maps

import "time"

// The reader's side of a ring buffer. Several readers get each record once: behind the back of one that has read where the next
// record lies another one could give the record's memory back to programs, which then write what looks like a header.

// RingState is what a reader finds at its position.
type RingState uint8

// The states.
const (
	RingEmpty RingState = iota
	RingHeld            // a record that its program has not submitted yet
	RingReady
)

// state looks at the record at the reader's position; a discarded one counts as well.
func (r *ringBuf) state() RingState {
	cons := r.m.u64(ringCons).Load()
	switch {
	case cons == r.m.u64(ringProd).Load():
		return RingEmpty
	case r.m.u32(r.at(cons)).Load()&ringBusy != 0:
		return RingHeld
	}
	return RingReady
}

// Next takes the next record: its bytes, in buf if they fit there, and how many bytes of the ring are left behind it. Discarded
// records are skipped.
func (r Ring) Next(buf []byte) (sample []byte, remaining int, s RingState) {
	r.r.taking.Lock()
	defer r.r.taking.Unlock()
	m, cons, prod := r.r.m, r.r.m.u64(ringCons).Load(), r.r.m.u64(ringProd).Load()
	for cons != prod {
		off := r.r.at(cons)
		head := m.u32(off).Load()
		if head&ringBusy != 0 {
			return buf, 0, RingHeld
		}
		n := int(head &^ ringDiscard)
		cons += recordSize(uint64(n))
		if head&ringDiscard != 0 {
			m.u64(ringCons).Store(cons)
			continue
		}
		if cap(buf) < n {
			buf = make([]byte, n)
		}
		buf = buf[:n]
		copy(buf, m.bytes(off+ringHeader, n))
		m.u64(ringCons).Store(cons)
		return buf, int(prod - cons), RingReady
	}
	return buf, 0, RingEmpty
}

// Size returns the size of the ring's data in bytes.
func (r Ring) Size() int { return int(r.r.size) }

// RingWake is why a reader was woken.
type RingWake uint8

// The reasons.
const (
	RingNews RingWake = iota // there may be something to read
	RingLate                 // the deadline is over
	RingQuit                 // somebody wants the reader to stop waiting
)

// heldPoll is how often a reader looks again at a record that a program holds: it can be submitted without waking anybody.
const heldPoll = time.Millisecond

// Wait waits until there is something to read, the deadline is over (the zero time: never), or quit has a message. c is a channel of
// the caller's with room for one message.
func (r Ring) Wait(c chan struct{}, deadline time.Time, quit <-chan struct{}) RingWake {
	select {
	case <-quit:
		return RingQuit
	default:
	}
	if r.r.state() == RingReady {
		return RingNews
	}
	r.r.waiters.join(c)
	defer r.r.waiters.leave(c)
	late, stop := until(deadline)
	defer stop()
	for {
		var again <-chan time.Time
		switch r.r.state() {
		case RingReady:
			return RingNews
		case RingHeld:
			again = time.After(heldPoll)
		}
		select {
		case <-c:
			if r.r.state() != RingHeld {
				return RingNews
			}
		case <-again:
		case <-late:
			return RingLate
		case <-quit:
			return RingQuit
		}
	}
}
