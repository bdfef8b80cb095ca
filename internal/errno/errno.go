// Package errno has the error numbers that a BPF program sees. They are Linux's on every host: a helper that fails
// returns -EINVAL as -22 on Windows too.
package errno

import (
	"strconv"
	"syscall"
)

// Errno is a Linux error number; 0 is no error. As a Go error it is also errors.Is-equal to the host's constant of
// the same name (syscall.ENOENT, unix.ENOENT).
type Errno int32

// The numbers that helpers and maps return (asm-generic/errno-base.h, errno.h).
const (
	EPERM        Errno = 1
	ENOENT       Errno = 2
	ENXIO        Errno = 6
	E2BIG        Errno = 7
	EAGAIN       Errno = 11
	ENOMEM       Errno = 12
	EACCES       Errno = 13
	EFAULT       Errno = 14
	EBUSY        Errno = 16
	EEXIST       Errno = 17
	ENODEV       Errno = 19
	EINVAL       Errno = 22
	ENOSPC       Errno = 28
	ERANGE       Errno = 34
	EDEADLK      Errno = 35
	ENODATA      Errno = 61
	EPROTO       Errno = 71
	EOPNOTSUPP   Errno = 95
	ETIMEDOUT    Errno = 110
	EAFNOSUPPORT Errno = 97
	ENOTSUPP     Errno = 524 // the kernel's internal number; reaches programs and loaders all the same
)

type info struct {
	name, text string
	host       syscall.Errno
}

var table = map[Errno]info{
	EPERM:        {"EPERM", "operation not permitted", syscall.EPERM},
	ENXIO:        {"ENXIO", "no such device or address", syscall.ENXIO},
	ENOENT:       {"ENOENT", "no such file or directory", syscall.ENOENT},
	E2BIG:        {"E2BIG", "argument list too long", syscall.E2BIG},
	EAGAIN:       {"EAGAIN", "resource temporarily unavailable", syscall.EAGAIN},
	EACCES:       {"EACCES", "permission denied", syscall.EACCES},
	ENOMEM:       {"ENOMEM", "cannot allocate memory", syscall.ENOMEM},
	EFAULT:       {"EFAULT", "bad address", syscall.EFAULT},
	EBUSY:        {"EBUSY", "device or resource busy", syscall.EBUSY},
	EEXIST:       {"EEXIST", "file exists", syscall.EEXIST},
	ENODEV:       {"ENODEV", "no such device", syscall.ENODEV},
	EINVAL:       {"EINVAL", "invalid argument", syscall.EINVAL},
	ENOSPC:       {"ENOSPC", "no space left on device", syscall.ENOSPC},
	ERANGE:       {"ERANGE", "numerical result out of range", syscall.ERANGE},
	EDEADLK:      {"EDEADLK", "resource deadlock avoided", syscall.EDEADLK},
	ETIMEDOUT:    {"ETIMEDOUT", "connection timed out", syscall.ETIMEDOUT},
	ENODATA:      {"ENODATA", "no data available", 0},
	EPROTO:       {"EPROTO", "protocol error", syscall.EPROTO},
	EOPNOTSUPP:   {"EOPNOTSUPP", "operation not supported", syscall.EOPNOTSUPP},
	EAFNOSUPPORT: {"EAFNOSUPPORT", "address family not supported by protocol", syscall.EAFNOSUPPORT},
	ENOTSUPP:     {"ENOTSUPP", "operation is not supported", 0},
}

// Error returns the text that strerror gives for the number.
func (e Errno) Error() string {
	if i, ok := table[e]; ok {
		return i.text
	}
	return "errno " + strconv.Itoa(int(e))
}

// Name returns the constant's name, "EINVAL".
func (e Errno) Name() string {
	if i, ok := table[e]; ok {
		return i.name
	}
	return strconv.Itoa(int(e))
}

// Is reports whether target is the host's constant for the same error.
func (e Errno) Is(target error) bool {
	h, ok := target.(syscall.Errno)
	if !ok || h == 0 {
		return false
	}
	i, ok := table[e]
	return ok && i.host == h
}

// R0 returns the value a helper returns for the error: its negative, 0 if there is none.
func (e Errno) R0() uint64 { return uint64(-int64(e)) }
