//go:build linux && (amd64 || arm64)

package native

import (
	"fmt"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/skep-bpf/skep/internal/abi"
	"github.com/skep-bpf/skep/internal/rt"
)

// Machine stacks. All lie in one reserved range, so that a signal handler can tell from a stack pointer alone that a
// program was running, and find its context block. A slot, from its lowest address:
//
//	guard              slotSize - blockArea - stackSize bytes that fault
//	stack              stackSize bytes
//	context block      blockArea bytes: a page of any size that Linux has
//
// Memory is committed when it is touched. The numbers stand again in signal_linux_ARCH.s.
const (
	slotSize  = 512 << 10
	blockArea = 64 << 10
	stackSize = 256 << 10
	maxStacks = 4096
	// topSlack is left free above the first frame: stubs read arguments there that a call may not have.
	topSlack = 128
	// nativeReserve is what is left for machine code that a program calls.
	nativeReserve = 96 << 10
	// maxDepth is the most stack that one program may need by itself. Each tail call from a subprogram can put another
	// program below it.
	maxDepth = (stackSize - nativeReserve - topSlack) / (abi.MaxTailCalls + 1)
)

// stacksLo and stacksHi bound all slots. They are set before the signal handlers are, and never again.
var stacksLo, stacksHi uintptr

var stacks struct {
	mu   sync.Mutex
	used int
}

// block is a context block. It lies off the Go heap; generated code and assembly know its offsets (internal/abi).
type block struct {
	goSP, goBP         uintptr
	sp                 uintptr
	exit               uint64
	ret                uint64
	poll               uint32
	cpu                uint32
	tailCnt            uint32
	thrown             uint32
	callHost, callMany uintptr
	yield              uintptr
	args               [abi.MaxArgs]uint64
	top                uintptr
	code               uintptr
	ctx                uintptr
	faultPC            uintptr
	faultAddr          uintptr
	faultSP            uintptr
	id                 uint32
	_                  uint32
	back               uintptr
	faultLR            uintptr
	goG                uintptr
	held               rt.HeldList
}

// reserveStacks reserves the address range, less of it where the system refuses that much.
func reserveStacks() error {
	for n := maxStacks; ; n /= 2 {
		size := uintptr(n+1) * slotSize
		p, err := mmap(0, size, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
		if err == nil {
			stacksLo = (p + slotSize - 1) &^ (slotSize - 1)
			stacksHi = stacksLo + uintptr(n)*slotSize
			return nil
		}
		if n <= 16 {
			return fmt.Errorf("reserve machine stacks: %w", err)
		}
	}
}

// newStack makes a stack with its context block for execution slot cpu. Stacks are never given back: their number is
// bounded by that of execution slots and of runs nested in each other.
func newStack(cpu int) (*block, error) {
	stacks.mu.Lock()
	defer stacks.mu.Unlock()
	slot := stacksLo + uintptr(stacks.used)*slotSize
	if slot >= stacksHi {
		return nil, fmt.Errorf("more than %d nested runs", stacks.used)
	}
	usable := slot + slotSize - blockArea - stackSize
	if err := mprotect(usable, stackSize+blockArea, unix.PROT_READ|unix.PROT_WRITE); err != nil {
		return nil, fmt.Errorf("machine stack: %w", err)
	}
	id := stacks.used
	stacks.used++
	b := (*block)(pointer(slot + slotSize - blockArea))
	b.cpu, b.id = uint32(cpu), uint32(id)
	b.top = slot + slotSize - blockArea - topSlack
	b.callHost, b.callMany, b.yield = stubHost, stubMany, stubYield
	owners[id].stack = rt.Region{Base: uint64(usable), Size: stackSize, Name: "stack"}
	return b, nil
}

// stackOf returns the bounds of the stack that belongs to b.
func stackOf(b *block) (lo, hi uintptr) {
	hi = uintptr(unsafe.Pointer(b))
	return hi - stackSize, hi
}

// word reads a word of a machine stack. a lies in one.
func word(a uintptr) uintptr { return *(*uintptr)(pointer(a)) }

// pointer makes a pointer of an address off the Go heap.
func pointer(a uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&a)) }

func mmap(addr, size uintptr, prot, flags int) (uintptr, error) {
	p, _, e := unix.Syscall6(unix.SYS_MMAP, addr, size, uintptr(prot), uintptr(flags), ^uintptr(0), 0)
	if e != 0 {
		return 0, e
	}
	return p, nil
}

func munmap(addr, size uintptr) {
	unix.Syscall(unix.SYS_MUNMAP, addr, size, 0)
}

func mprotect(addr, size uintptr, prot int) error {
	if _, _, e := unix.Syscall(unix.SYS_MPROTECT, addr, size, uintptr(prot)); e != 0 {
		return e
	}
	return nil
}

// mremap moves the pages [from, from+size) to address to, in place of what is there, in one step for other threads.
func mremap(from, size, to uintptr) error {
	if _, _, e := unix.Syscall6(unix.SYS_MREMAP, from, size, size, unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED, to, 0); e != 0 {
		return e
	}
	return nil
}
