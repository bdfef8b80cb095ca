//go:build linux && (amd64 || arm64)

package native

import (
	"errors"
	"fmt"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// goHandlers holds, by signal number, the handler that was there before ours: Go's. It is set before ours is installed.
var goHandlers [65]uintptr

// sigaction is the kernel's struct sigaction on x86-64 and arm64.
type sigaction struct {
	handler  uintptr
	flags    uint64
	restorer uintptr
	mask     uint64
}

var errNoHandler = errors.New("there is no handler to stand in front of")

// install puts h in front of the present handler of sig, with its flags, restorer and mask kept: Go's handler needs
// them.
func install(sig syscall.Signal, h uintptr) error {
	var sa sigaction
	if err := rtSigaction(sig, nil, &sa); err != nil {
		return err
	}
	const sigDfl, sigIgn = 0, 1
	if sa.handler == sigDfl || sa.handler == sigIgn {
		return fmt.Errorf("signal %v: %w", sig, errNoHandler)
	}
	goHandlers[sig] = sa.handler
	sa.handler = h
	return rtSigaction(sig, &sa, nil)
}

func rtSigaction(sig syscall.Signal, sa, old *sigaction) error {
	_, _, e := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(sa)),
		uintptr(unsafe.Pointer(old)), unsafe.Sizeof(sa.mask), 0, 0)
	if e != 0 {
		return fmt.Errorf("sigaction(%v): %w", sig, e)
	}
	return nil
}

// start prepares the process on first use.
var start = sync.OnceValue(func() error {
	if err := reserveStacks(); err != nil {
		return err
	}
	if err := text.reserve(); err != nil {
		return err
	}
	return installHandlers()
})

// installHandlers puts our handlers in front of Go's. A signal whose handling the process changes later by os/signal
// loses ours: programs are then not asked to stop for the collector (SIGURG), and on arm64 see signal_linux_arm64.s.
func installHandlers() error {
	fault, preempt, other := handlers()
	for _, s := range []syscall.Signal{unix.SIGSEGV, unix.SIGBUS, unix.SIGFPE, unix.SIGILL} {
		if err := install(s, fault); err != nil {
			return err
		}
	}
	if err := install(unix.SIGURG, preempt); err != nil {
		return err
	}
	if other == 0 {
		return nil
	}
	for s := syscall.Signal(1); int(s) < len(goHandlers); s++ {
		if goHandlers[s] != 0 {
			continue
		}
		if err := install(s, other); err != nil && !errors.Is(err, errNoHandler) {
			return err
		}
	}
	return nil
}
