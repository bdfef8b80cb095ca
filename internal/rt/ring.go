package rt

// The memory of a ring buffer, which package maps makes and machine code may work on: a page of the ring's own, the page of the consumer's
// position, that of the producer's, then the data (as in Linux; what is in the own page is ours).
const (
	RingPage    = 4096
	RingShift   = 12
	RingOwner   = 0            // u64: the number of the map
	RingLock    = 8            // u32: 1 while a producer changes the positions
	RingWaiters = 12           // u32: how many readers wait for news
	RingCons    = RingPage     // u64: the position up to which everything is read
	RingProd    = 2 * RingPage // u64: the position behind the last record
	RingData    = 3 * RingPage
	RingHeader  = 8

	RingBusy    = 1 << 31
	RingDiscard = 1 << 30

	// MaxRecord is the longest record there can be (RINGBUF_MAX_RECORD_SZ).
	MaxRecord = 1<<32/4 - 1
)
