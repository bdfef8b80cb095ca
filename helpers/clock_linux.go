package helpers

import (
	"time"

	"golang.org/x/sys/unix"
)

func readClocks() (at [clockCount]uint64) {
	for c, id := range [clockCount]int32{unix.CLOCK_MONOTONIC, unix.CLOCK_BOOTTIME, unix.CLOCK_TAI, unix.CLOCK_REALTIME} {
		var ts unix.Timespec
		if unix.ClockGettime(id, &ts) == nil {
			at[c] = uint64(ts.Nano() - int64(time.Since(start)))
		}
	}
	return at
}
