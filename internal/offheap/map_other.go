//go:build !unix && !windows

package offheap

// Systems without memory mapping get ordinary memory: Go's collector does not move it, and a Region keeps it alive.
// There is no protection, so guard pages and read-only regions are not enforced there; the interpreter, the only engine
// on such systems, checks every access itself.

const (
	protNone = iota
	protRead
	protRW
)

func mapPages(n int) ([]byte, error) {
	b := make([]byte, n+pageSize)
	return b[:n:n], nil
}

func protectPages([]byte, int) error { return nil }

func unmapPages([]byte) error { return nil }
