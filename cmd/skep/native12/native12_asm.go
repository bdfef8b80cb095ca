//go:build amd64 || arm64

package native12

// addr returns the address of weigh12, which Go must not call: it has C's convention.
func addr() uintptr
