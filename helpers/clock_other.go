//go:build !linux

package helpers

// Without Linux's clocks, time since boot is counted from program start, and TAI from the wall clock with the 37 leap
// seconds of 2017.
func readClocks() (at [clockCount]uint64) {
	at[clockReal] = uint64(start.UnixNano())
	at[clockTAI] = at[clockReal] + 37e9
	return at
}
