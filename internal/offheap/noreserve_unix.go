//go:build unix && !linux

package offheap

const mapNoReserve = 0
