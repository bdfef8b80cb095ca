package native

import (
	"sync"

	"golang.org/x/sys/cpu"
	"golang.org/x/sys/unix"

	"github.com/skep-bpf/skep/internal/ir"
	"github.com/skep-bpf/skep/internal/jit"
	"github.com/skep-bpf/skep/internal/jit/arm64"
)

// options say what the processor can do beyond the base set.
type options = arm64.Options

// features are the instructions beyond the base set that this processor has.
var features = options{LSE: cpu.ARM64.HasATOMICS}

func compile(p *ir.Program) (*jit.Code, error) { return arm64.Compile(p, features) }

// fillByte fills what is no program's: zeros are udf #0.
const fillByte = 0

// trap is the code of ir.Trap: udf #0.
const trap = "\x00\x00\x00\x00"

// cleanText makes what was written to [addr, addr+size) what will be executed: it writes data caches back as far as
// instructions are fetched from, and drops what instruction caches held of the range (Arm ARM, B2.4.4). The range is
// readable. It must be called before the code can be reached.
func cleanText(addr, size uintptr)

// serialize makes every thread of the process that is running fetch its next instructions anew. A processor may have
// fetched what was at an address before new pages came there, which no maintenance of caches reaches. Kernels before 4.16
// cannot do it, and have nothing as good; qemu-user needs none.
func serialize() {
	registerSync()
	membarrier(membarrierSyncCore)
}

// membarrier(2): the command, and the one that must come before it.
const (
	membarrierSyncCore         = 1 << 5
	membarrierRegisterSyncCore = 1 << 6
)

var registerSync = sync.OnceFunc(func() { membarrier(membarrierRegisterSyncCore) })

func membarrier(cmd uintptr) { unix.RawSyscall(unix.SYS_MEMBARRIER, cmd, 0, 0) }
