package maps

import (
	"encoding/binary"

	"github.com/skep-bpf/skep/internal/errno"
)

// devHash is a devmap with arbitrary 32-bit keys. Programs read it and never write it.
type devHash struct{ *hash }

func (d devHash) update([]byte, []byte, uint64, int) errno.Errno { return errno.EOPNOTSUPP }

// write refuses interface 0, which the kernel cannot find either.
func (d devHash) write(key, value []byte, flags uint64) errno.Errno {
	if flags > updateExist || binary.NativeEndian.Uint32(value) == 0 {
		return errno.EINVAL
	}
	return d.hash.write(key, value, flags&updateNoExist) // the kernel's lets UpdateExist create
}

func (d devHash) take([]byte, []byte) errno.Errno { return errno.ENOTSUPP }
