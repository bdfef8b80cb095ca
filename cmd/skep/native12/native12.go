// Package native12 is a native kfunc of twelve arguments without a C compiler: a function in the platform's C convention,
// written in assembly.
package native12

// Addr returns the address of a function long f(long a, ..., long l) that returns a + 2b + 3c + ... + 12l; 0 where there is
// none.
func Addr() uintptr { return addr() }
