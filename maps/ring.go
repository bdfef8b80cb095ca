package maps

import (
	"sync"
	"sync/atomic"

	"github.com/skep-bpf/skep/internal/errno"
	"github.com/skep-bpf/skep/internal/offheap"
	"github.com/skep-bpf/skep/internal/rt"
	"github.com/skep-bpf/skep/internal/spin"
)

// Ring buffers: programs reserve records and submit or discard them, one reader takes them in the order in which they were
// reserved (kernel/bpf/ringbuf.c). User ring buffers go the other way.
//
// The memory is laid out as in Linux: a page of the ring's own, the page of the consumer's position, that of the producer's, then the
// data. A position counts bytes for ever; where it lies is its lower bits. A record is a header of eight bytes, its length with two
// marks and how many pages behind the ring's start it lies, and its bytes, padded to eight. It is never moved.
//
// Linux maps the data twice, one behind the other, so that a record that reaches over the end is in one piece. Here there is as much
// memory behind the data, and such a record lies in both: everybody finds a record by its header, and a header is in one piece.
//
// The reader may believe a record's header once it is without the busy mark: that is stored after the record's bytes.
type ringBuf struct {
	region *offheap.Region
	m      mem
	size   uint64

	taking sync.Mutex // of readers: who believes a header knows that nobody takes the record meanwhile

	waiters waitQueue

	busy  atomic.Bool // of a user ring buffer: a program drains it
	drain drain       // what it has done so far
}

const (
	ringPage    = rt.RingPage
	ringShift   = rt.RingShift
	ringOwner   = rt.RingOwner
	ringLock    = rt.RingLock
	ringCons    = rt.RingCons
	ringProd    = rt.RingProd
	ringData    = rt.RingData
	ringHeader  = rt.RingHeader
	ringBusy    = rt.RingBusy
	ringDiscard = rt.RingDiscard
	maxRecord   = rt.MaxRecord
)

// Flags of submit, discard and output (linux/bpf.h).
const (
	RingNoWakeup    = 1 << 0
	RingForceWakeup = 1 << 1
)

func newRingBuf(size uint32, limit uint64) (*ringBuf, error) {
	n, err := mulSize(limit, 2, uint64(size))
	if err != nil {
		return nil, err
	}
	r, err := offheap.Alloc(ringData + int(n))
	if err != nil {
		return nil, err
	}
	b := &ringBuf{region: r, m: memOf(r), size: uint64(size)}
	b.waiters.n = b.m.u32(rt.RingWaiters)
	return b, nil
}

// lock keeps other producers out, of which some are machine code (lower/ring.go): there nothing that could wait or fail comes before the
// lock is given back, and nobody waits for it.
func (r *ringBuf) lock()   { spin.Take(uint64(r.m.addr(ringLock))) }
func (r *ringBuf) unlock() { r.m.u32(ringLock).Store(0) }

func (r *ringBuf) mask() uint64 { return r.size - 1 }

// at is where the byte at a position lies.
func (r *ringBuf) at(pos uint64) int { return ringData + int(pos&r.mask()) }

// What maps with elements have: a ring has none.
func (r *ringBuf) lookup([]byte, int) uintptr                     { return 0 }
func (r *ringBuf) update([]byte, []byte, uint64, int) errno.Errno { return errno.ENOTSUPP }
func (r *ringBuf) delete([]byte) errno.Errno                      { return errno.ENOTSUPP }
func (r *ringBuf) read([]byte, []byte) errno.Errno                { return errno.ENOTSUPP }
func (r *ringBuf) write([]byte, []byte, uint64) errno.Errno       { return errno.ENOTSUPP }
func (r *ringBuf) take([]byte, []byte) errno.Errno                { return errno.ENOTSUPP }
func (r *ringBuf) nextKey([]byte, []byte) errno.Errno             { return errno.ENOTSUPP }
func (r *ringBuf) free() error                                    { return r.region.Free() }

// ranges is the data alone: positions are nothing that programs reach.
func (r *ringBuf) ranges() []rt.Region {
	return []rt.Region{{Base: uint64(r.m.addr(ringData)), Size: 2 * r.size}}
}

// recordSize is what a record of n bytes takes.
func recordSize(n uint64) uint64 { return (n + ringHeader + 7) &^ 7 }

// reserve makes a record of n bytes and returns the address of its bytes, 0 if there is no room (__bpf_ringbuf_reserve).
func (r *ringBuf) reserve(n uint64) uint64 {
	if n > maxRecord || recordSize(n) > r.size {
		return 0
	}
	cons := r.m.u64(ringCons).Load()
	r.lock()
	defer r.unlock()
	prod := r.m.u64(ringProd).Load()
	next := prod + recordSize(n)
	// The producer may not run into what is not read yet. That covers records that are not committed yet, whose bytes are still the program's
	// that reserved them: the reader does not go past those. In Linux anybody can say how far the reader is, here nobody but the reader.
	if next-cons > r.mask() {
		return 0
	}
	off := r.at(prod)
	r.m.store64(off, uint64(uint32(n)|ringBusy)|uint64(off>>ringShift)<<32)
	r.m.u64(ringProd).Store(next) // from here on the header is seen by others
	return uint64(r.m.addr(off + ringHeader))
}

// commit gives the record whose bytes lie at addr to the reader, or marks it as one to skip (bpf_ringbuf_commit).
func (r *ringBuf) commit(addr, flags uint64, discard bool) {
	off := int(addr - uint64(r.m.addr(0)) - ringHeader)
	head := r.m.u32(off).Load() &^ ringBusy
	if discard {
		head |= ringDiscard
	}
	r.m.u32(off).Store(head)
	r.notify(off, flags)
}

// notify wakes readers for the record whose header lies at off, which is committed.
func (r *ringBuf) notify(off int, flags uint64) {
	caughtUp := r.at(r.m.u64(ringCons).Load()) == off // the reader waits for this one
	if flags&RingForceWakeup != 0 || caughtUp && flags&RingNoWakeup == 0 {
		r.waiters.wake()
	}
}

// query answers bpf_ringbuf_query.
func (r *ringBuf) query(what uint64) uint64 {
	cons, prod := r.m.u64(ringCons).Load(), r.m.u64(ringProd).Load()
	switch what {
	case 0: // BPF_RB_AVAIL_DATA
		return prod - cons
	case 1: // BPF_RB_RING_SIZE
		return r.size
	case 2: // BPF_RB_CONS_POS
		return cons
	case 3: // BPF_RB_PROD_POS
		return prod
	}
	return 0
}

// Ring is a ring buffer as helpers see it.
type Ring struct{ r *ringBuf }

// Ring returns the ring buffer that the map is; the verifier has proven that it is one.
func (m *Side) Ring() Ring { return Ring{m.store.(*ringBuf)} }

// RingOf returns the ring buffer in which the record lies whose bytes begin at addr.
func RingOf(addr uint64) Ring {
	id := recordOwner(addr)
	return SideOf((*registry.table.Load())[id]).Ring()
}

// Reserve is bpf_ringbuf_reserve: the address of a record of n bytes, 0 if there is no room.
func (r Ring) Reserve(n uint64) uint64 { return r.r.reserve(n) }

// Submit gives the record at addr to the reader.
func (r Ring) Submit(addr, flags uint64) { r.r.commit(addr, flags, false) }

// Discard gives the record at addr up.
func (r Ring) Discard(addr, flags uint64) { r.r.commit(addr, flags, true) }

// Query is bpf_ringbuf_query.
func (r Ring) Query(what uint64) uint64 { return r.r.query(what) }

// NotifyRing wakes the readers of the ring that begins at base for the record at addr, which machine code gave to them.
func NotifyRing(base, addr, flags uint64) {
	SideOf((*registry.table.Load())[ownerAt(base)]).Ring().r.notify(int(addr-base-ringHeader), flags)
}

func init() { rt.OnDrop(rt.HeldRecord, dropRecord) }

// dropRecord discards the record at addr, which an abandoned run held.
func dropRecord(addr uint64) { RingOf(addr).Discard(addr, 0) }
