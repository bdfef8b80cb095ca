package native

import "github.com/skep-bpf/skep/internal/jit/amd64"

// enter runs the program that b is set up for until it has returned or must end (b.exit). While it runs, dispatch is
// called for every exit.
func enter(b *block)

// stubs returns the addresses that generated code calls to leave, and the one where a fault continues.
func stubs() (host, many, yieldAt, faultAt uintptr)

var stubHost, stubMany, stubYield, stubFault = stubs() //lint:ignore U1000 stubFault is read by the signal handler

// cpuid returns what the processor says of itself (Intel SDM volume 2, CPUID).
func cpuid(leaf, sub uint32) (bx, cx uint32)

// features are the instructions beyond the base set that this processor has.
var features = func() amd64.Options {
	_, c1 := cpuid(1, 0)
	b7, _ := cpuid(7, 0)
	return amd64.Options{MOVBE: c1>>22&1 != 0, BMI2: b7>>8&1 != 0}
}()
