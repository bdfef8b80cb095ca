//go:build linux && (amd64 || arm64)

package kernel

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/skep-bpf/skep/internal/program"
)

// unprivilegedSysctl says whether loads without CAP_BPF are permitted: 0 if they are, 1 if not, for good, 2 if not.
const unprivilegedSysctl = "/proc/sys/kernel/unprivileged_bpf_disabled"

// capBPF is CAP_BPF.
const capBPF = 1 << 39

// AllowUnprivileged permits loads without privileges until restore is called. The error says why that is not to be had. It is the
// whole machine's setting, so that processes which need it take turns: tests of several packages run at the same time.
func AllowUnprivileged() (restore func(), err error) {
	if err := Available(); err != nil {
		return nil, err
	}
	turn, err := os.OpenFile(filepath.Join(os.TempDir(), "skep-unprivileged.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("unprivileged loads: %w", err)
	}
	if err := unix.Flock(int(turn.Fd()), unix.LOCK_EX); err != nil {
		return nil, fmt.Errorf("unprivileged loads: %w", errors.Join(err, turn.Close()))
	}
	back, err := writeSysctl("0")
	if err != nil {
		return nil, fmt.Errorf("unprivileged loads: %w", errors.Join(err, turn.Close()))
	}
	return func() {
		back()
		_ = turn.Close() // which gives the lock up
	}, nil
}

// writeSysctl sets what unprivilegedSysctl is, and returns what sets it back.
func writeSysctl(value string) (back func(), err error) {
	was, err := os.ReadFile(unprivilegedSysctl)
	if err != nil {
		return nil, err
	}
	if strings.TrimSpace(string(was)) == value {
		return func() {}, nil
	}
	return func() { _ = os.WriteFile(unprivilegedSysctl, was, 0o644) }, os.WriteFile(unprivilegedSysctl, []byte(value), 0o644)
}

// VerifyWithout is Verify for a thread that lacks capabilities, given as bits by their numbers. Maps that this thread may not make are
// made with all of them. As no types can be loaded without CAP_BPF, the program goes without, as libbpf does it.
func VerifyWithout(p *program.Program, level uint32, caps uint64) (accepted bool, log string, err error) {
	k := &Prog{fd: -1}
	defer k.Close()
	types, err := loadTypes(p)
	if err != nil {
		return false, "", err
	}
	defer func() { types.close() }()
	for i := range p.Maps {
		var m *Map
		with := types
		if caps&capBPF != 0 {
			with = nil
		}
		if e := withoutCaps(caps, func() { m, err = createMap(&p.Maps[i], with) }); e != nil {
			return false, "", e
		}
		if err != nil {
			m, err = createMap(&p.Maps[i], types)
		}
		if err != nil {
			return false, "", err
		}
		k.maps = append(k.maps, m)
	}
	if caps&capBPF != 0 {
		types.close()
		types = nil
	}
	a, err := k.attr(p, types)
	if err != nil {
		return false, "", err
	}
	if e := withoutCaps(caps, func() { k.fd, log, err = progLoad(&a, level) }); e != nil {
		return false, "", e
	}
	switch {
	case err == nil:
		return true, log, nil
	case errors.Is(err, ErrNoVerdict) && !(errors.Is(err, unix.EPERM) && log != ""):
		return false, log, err
	}
	return false, log, nil
}

// withoutCaps calls f on a thread that lacks capabilities, which it has again afterwards.
func withoutCaps(caps uint64, f func()) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var had [2]unix.CapUserData
	if err := unix.Capget(&hdr, &had[0]); err != nil {
		return fmt.Errorf("capget: %w", err)
	}
	less := had
	less[0].Effective &^= uint32(caps)
	less[1].Effective &^= uint32(caps >> 32)
	if err := unix.Capset(&hdr, &less[0]); err != nil {
		return fmt.Errorf("capset: %w", err)
	}
	f()
	if err := unix.Capset(&hdr, &had[0]); err != nil {
		return fmt.Errorf("capset: %w", err)
	}
	return nil
}
