package helpers

import "time"

// The host's clocks. Go's monotonic clock is the fast one; what a clock reads at program start fixes its distance from that.

type clockID int

const (
	clockMonotonic clockID = iota
	clockBoot
	clockTAI
	clockReal
	clockCount
)

var (
	start     = time.Now()
	startRead = readClocks()
)

// hostClock returns nanoseconds of clock c. Suspends and steps of the wall clock after program start are not seen.
func hostClock(c clockID) uint64 { return startRead[c] + uint64(time.Since(start)) }
