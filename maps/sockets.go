package maps

import (
	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/errno"
)

// sockets is a map of sockets. There are none here that could be put into it, so it stays empty: lookups by programs find nothing
// (net/core/sock_map.c, kernel/bpf/reuseport_array.c).
type sockets struct {
	absent
	hash  bool
	reuse bool // an array for SO_REUSEPORT
	wide  bool // values are of 8 bytes: cookies, which can be looked up
}

const maxSockHashKey = 512 // MAX_BPF_STACK

func newSockets(s *ebpf.MapSpec) *sockets {
	return &sockets{absent: absent{s.MaxEntries}, hash: s.Type == ebpf.SockHash, reuse: s.Type == ebpf.ReusePortSockArray, wide: s.ValueSize == 8}
}

// checkSockets applies the rules of sock_map_alloc, sock_hash_alloc and reuseport_array_alloc_check.
func checkSockets(s *ebpf.MapSpec) error {
	key := uint32(4)
	if s.Type == ebpf.SockHash {
		key = 0 // any
	}
	if err := checkSizes(s, key); err != nil {
		return err
	}
	if s.ValueSize != 4 && s.ValueSize != 8 {
		return refuse(errno.EINVAL, "ValueSize is %d, type %s needs 4 or 8", s.ValueSize, s.Type)
	}
	allowed := uint32(FlagNUMANode | FlagReadOnly | FlagWriteOnly)
	if s.Type == ebpf.ReusePortSockArray {
		allowed = FlagNUMANode | accessFlags
	}
	if err := checkFlags(s, allowed); err != nil {
		return err
	}
	if s.Type == ebpf.SockHash && s.KeySize > maxSockHashKey {
		return refuse(errno.E2BIG, "KeySize %d of type %s is above %d", s.KeySize, s.Type, maxSockHashKey)
	}
	return nil
}

// update is what a program does with a packet's socket, which is closed: no map takes that.
func (*sockets) update([]byte, []byte, uint64, int) errno.Errno { return errno.EOPNOTSUPP }

func (s *sockets) delete(key []byte) errno.Errno {
	switch {
	case s.hash:
		return errno.ENOENT
	case s.reuse && key32(key) >= s.max:
		return errno.E2BIG
	case s.reuse:
		return errno.ENOENT
	}
	return errno.EINVAL
}

// read says no more than that there is no cookie.
func (s *sockets) read([]byte, []byte) errno.Errno {
	if !s.wide {
		return errno.ENOSPC
	}
	return errno.ENOENT
}

func (s *sockets) nextKey(key, next []byte) errno.Errno {
	if s.hash {
		return errno.ENOENT
	}
	return s.absent.nextKey(key, next)
}
