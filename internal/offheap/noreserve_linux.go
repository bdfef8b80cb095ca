package offheap

import "golang.org/x/sys/unix"

// Large maps are mostly empty: no swap is set aside for what is never touched.
const mapNoReserve = unix.MAP_NORESERVE
