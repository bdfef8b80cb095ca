// Package perfring is the buffer between bpf_perf_event_output and a reader in Go: one ring for each CPU slot, into which the run that has
// the slot writes whole records. What fits and what is lost is as in the kernel's ring (kernel/events/ring_buffer.c), whose records have
// the same sizes. It knows nothing of maps and of programs.
package perfring

import (
	"encoding/binary"
	"math/bits"
	"os"
	"sync"
)

// Options say when a ring wakes its reader and what it does when it is full.
type Options struct {
	WakeupEvents int  // after so many records; 0: Watermark counts
	Watermark    int  // after so many bytes; 0: after each record
	Overwritable bool // the oldest record makes room, and the newest is read first
}

// Ring holds records from tail to head, positions that only grow; modulo the size they are offsets in buf. A record is
//
//	0  total u32  bytes of the record, a multiple of 8; the top bit marks a count of lost records
//	4  prev  u32  total of the record in front of it
//	8  n     u32  bytes of data
//	12 data       or, of a count, at 16 a u64
type Ring struct {
	opts Options
	wake func()

	mu         sync.Mutex
	buf        []byte
	head, tail uint64
	last       uint32 // total of the newest record
	lost       uint64 // records lost since the last one that fit
	events     int    // since the last wake-up
	bytes      int
}

const (
	headSize = 12
	lostSize = 24
	lostMark = 1 << 31
)

// Record is what Read gives.
type Record struct {
	Lost uint64 // so many were lost at this place; then there is no data
	Data []byte
	// Remaining is how many bytes are in the ring behind this record.
	Remaining int
}

// Size returns the size of a ring for at least n bytes: pages, a power of two of them.
func Size(n int) int {
	page := os.Getpagesize()
	pages := uint((n + page - 1) / page)
	return page << bits.Len(pages-1)
}

// New makes a ring of a size that Size gave. wake is called when the reader should look; it may not block.
func New(size int, opts Options, wake func()) *Ring {
	return &Ring{opts: opts, wake: wake, buf: make([]byte, size)}
}

// Append writes a record of all parts and reports whether it fit.
func (r *Ring) Append(parts ...[]byte) bool {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	need := uint64(headSize+n+7) &^ 7
	r.mu.Lock()
	fits := r.makeRoom(need)
	wake := false
	if fits {
		at := r.begin(uint32(need), uint32(n))
		for _, p := range parts {
			r.put(at, p)
			at += uint64(len(p))
		}
		wake = r.count(int(need))
	}
	r.mu.Unlock()
	if wake {
		r.wake()
	}
	return fits
}

// makeRoom makes sure that a record fits, together with the count of those that were lost before it.
func (r *Ring) makeRoom(need uint64) bool {
	limit := uint64(len(r.buf)) - 8 // a full ring would look empty to the kernel
	if r.opts.Overwritable {
		for need <= limit && r.head-r.tail+need > limit {
			r.tail += uint64(r.u32(r.tail) &^ lostMark)
		}
		return need <= limit
	}
	total := need
	if r.lost != 0 {
		total += lostSize
	}
	if r.head-r.tail+total > limit {
		r.lost++
		return false
	}
	if r.lost != 0 {
		at := r.begin(lostSize|lostMark, 0)
		var b [8]byte
		binary.NativeEndian.PutUint64(b[:], r.lost)
		r.put(at+4, b[:])
		r.lost = 0
	}
	return true
}

// begin writes the head of a record and returns where its data goes.
func (r *Ring) begin(total, n uint32) uint64 {
	at := r.head
	var b [headSize]byte
	binary.NativeEndian.PutUint32(b[0:], total)
	binary.NativeEndian.PutUint32(b[4:], r.last)
	binary.NativeEndian.PutUint32(b[8:], n)
	r.put(at, b[:])
	r.last = total &^ lostMark
	r.head += uint64(r.last)
	return at + headSize
}

// count counts a record and reports whether the reader should be woken.
func (r *Ring) count(size int) bool {
	r.events++
	r.bytes += size
	if r.opts.WakeupEvents > 0 && r.events < r.opts.WakeupEvents || r.opts.WakeupEvents == 0 && r.bytes < r.opts.Watermark {
		return false
	}
	r.events, r.bytes = 0, 0
	return true
}

// Read takes a record, the oldest, or of an overwritable ring the newest. Its data goes into into if it fits there.
func (r *Ring) Read(into []byte) (rec Record, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.head == r.tail {
		return Record{Data: into[:0]}, false
	}
	at := r.tail
	if r.opts.Overwritable {
		at = r.head - uint64(r.last)
	}
	total, n := r.u32(at), r.u32(at+8)
	if total&lostMark != 0 {
		var b [8]byte
		r.get(b[:], at+16)
		rec = Record{Lost: binary.NativeEndian.Uint64(b[:]), Data: into[:0]}
	} else {
		rec.Data = append(into[:0], make([]byte, n)...)
		r.get(rec.Data, at+headSize)
	}
	if r.opts.Overwritable {
		r.head, r.last = at, r.u32(at+4)
	} else {
		r.tail += uint64(total &^ lostMark)
	}
	rec.Remaining = int(r.head - r.tail)
	return rec, true
}

// put and get copy at a position, round the end of the buffer.
func (r *Ring) put(at uint64, b []byte) {
	n := copy(r.buf[at%uint64(len(r.buf)):], b)
	copy(r.buf, b[n:])
}

func (r *Ring) get(b []byte, at uint64) {
	n := copy(b, r.buf[at%uint64(len(r.buf)):])
	copy(b[n:], r.buf)
}

// u32 reads a word of a record's head. Records begin at multiples of 8, so it does not go round the end.
func (r *Ring) u32(at uint64) uint32 {
	return binary.NativeEndian.Uint32(r.buf[at%uint64(len(r.buf)):])
}
