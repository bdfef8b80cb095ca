//go:build !amd64 && !arm64

package native12

func addr() uintptr { return 0 }
