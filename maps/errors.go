package maps

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/errno"
)

// ErrClosed is wrapped by operations on a map after Close.
var ErrClosed = errors.New("map is closed")

// mapError is an error number with the error value that cilium/ebpf has for it. errors.Is finds both.
type mapError struct {
	value error // ebpf.ErrKeyNotExist, ebpf.ErrKeyExist, ebpf.ErrNotSupported
	no    errno.Errno
}

func (e *mapError) Error() string   { return e.value.Error() }
func (e *mapError) Unwrap() []error { return []error{e.value, e.no} }

// Made once: a lookup that finds nothing allocates nothing.
var (
	errKeyNotExist  = &mapError{ebpf.ErrKeyNotExist, errno.ENOENT}
	errKeyExist     = &mapError{ebpf.ErrKeyExist, errno.EEXIST}
	errNotSupported = &mapError{ebpf.ErrNotSupported, errno.ENOTSUPP}

	errLookupNotExist  = fmt.Errorf("lookup: %w", errKeyNotExist)
	errNextKeyNotExist = fmt.Errorf("next key: %w", errKeyNotExist)
	errDeleteNotExist  = fmt.Errorf("delete: %w", errKeyNotExist)
)

// wrap gives an error number the error value that cilium/ebpf's map methods give it.
func wrap(e errno.Errno) error {
	switch e {
	case 0:
		return nil
	case errno.ENOENT:
		return errKeyNotExist
	case errno.EEXIST:
		return errKeyExist
	case errno.ENOTSUPP:
		return errNotSupported
	}
	return e
}
