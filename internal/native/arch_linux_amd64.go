package native

import (
	"github.com/skep-bpf/skep/internal/ir"
	"github.com/skep-bpf/skep/internal/jit"
	"github.com/skep-bpf/skep/internal/jit/amd64"
)

// options say what the processor can do beyond the base set.
type options = amd64.Options

// features are the instructions beyond the base set that this processor has.
var features = func() options {
	_, c1 := cpuid(1, 0)
	b7, _ := cpuid(7, 0)
	return options{MOVBE: c1>>22&1 != 0, BMI2: b7>>8&1 != 0}
}()

// cpuid returns what the processor says of itself (Intel SDM volume 2, CPUID).
func cpuid(leaf, sub uint32) (bx, cx uint32)

func compile(p *ir.Program) (*jit.Code, error) { return amd64.Compile(p, features) }

// fillByte fills what is no program's: int3.
const fillByte = 0xcc

// trap is the code of ir.Trap: hlt, which only the kernel may execute.
const trap = "\xf4"

// cleanText and serialize have nothing to do: the processor sees itself what is written to code.
func cleanText(addr, size uintptr) {}

func serialize() {}
