//go:build linux && (amd64 || arm64)

package native

// The assembly of each machine has the functions of this file; what else differs between machines stands in
// arch_linux_ARCH.go.

// enter runs the program that b is set up for until it has returned or must end (b.exit). While it runs, dispatch is
// called for every exit.
func enter(b *block)

// stubs returns the addresses that generated code calls to leave, and the one where a fault continues.
func stubs() (host, many, yieldAt, faultAt uintptr)

var stubHost, stubMany, stubYield, stubFault = stubs() //lint:ignore U1000 stubFault is read by the signal handler

// handlers returns the addresses of the signal handlers in signal_linux_ARCH.s; other is 0 where signals that are
// neither faults nor Go's wish to stop a thread need none. They are not Go functions.
func handlers() (fault, preempt, other uintptr)
