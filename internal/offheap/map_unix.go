//go:build unix

package offheap

import "golang.org/x/sys/unix"

const (
	protNone = unix.PROT_NONE
	protRead = unix.PROT_READ
	protRW   = unix.PROT_READ | unix.PROT_WRITE
)

func mapPages(n int) ([]byte, error) {
	return unix.Mmap(-1, 0, n, protRW, unix.MAP_PRIVATE|unix.MAP_ANON|mapNoReserve)
}

func protectPages(b []byte, prot int) error { return unix.Mprotect(b, prot) }

func unmapPages(b []byte) error { return unix.Munmap(b) }
