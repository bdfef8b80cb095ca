package maps

import (
	"encoding/binary"
	"errors"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/errno"
	"github.com/skep-bpf/skep/internal/rt"
)

// cgroupStorage is a map with a value for each control group that programs ran in (kernel/bpf/local_storage.c). Values are zero at first,
// and stay as long as the map. The key is the group's number, or that and the attach type, which is always 0 here.
type cgroupStorage struct{ *hash }

var errNoStorage = errors.New("no room for one more control group's storage")

const (
	maxGroups         = 1 << 16 // the kernel has no bound but its memory
	maxLocalStorage   = 0xfd00  // BPF_LOCAL_STORAGE_MAX_VALUE_SIZE, a little less of which fits
	groupKey          = 8
	groupKeyAndAttach = 16
)

// checkCgroupStorage applies the rules of cgroup_storage_map_alloc.
func checkCgroupStorage(s *ebpf.MapSpec) error {
	largest := uint32(maxLocalStorage)
	if s.Type == ebpf.PerCPUCGroupStorage {
		largest = min(largest, maxPerCPUUnit)
	}
	access := checkAccess(s)
	switch {
	case s.KeySize != groupKey && s.KeySize != groupKeyAndAttach:
		return refuse(errno.EINVAL, "KeySize is %d, type %s needs %d or %d", s.KeySize, s.Type, groupKey, groupKeyAndAttach)
	case s.ValueSize == 0:
		return refuse(errno.EINVAL, "ValueSize is zero")
	case s.ValueSize > largest:
		return refuse(errno.E2BIG, "ValueSize %d is above %d", s.ValueSize, largest)
	case access != nil:
		return access
	case s.MaxEntries != 0:
		return refuse(errno.EINVAL, "MaxEntries is %d, type %s has none", s.MaxEntries, s.Type)
	}
	return checkFlags(s, FlagNUMANode|accessFlags)
}

func newCgroupStorage(s *ebpf.MapSpec, sp *special, limit uint64, seed func() uint64) (store, error) {
	kind := hashKind{special: sp, perCPU: s.Type == ebpf.PerCPUCGroupStorage, seed: seed}
	h, err := newHash(s.KeySize, s.ValueSize, maxGroups, kind, limit)
	if err != nil {
		return nil, err
	}
	return &cgroupStorage{h}, nil
}

// of returns the address of a group's value for a CPU slot, 0 if there is no room for one more.
func (c *cgroupStorage) of(group uint64, cpu int) uintptr {
	var buf [groupKeyAndAttach]byte
	binary.NativeEndian.PutUint64(buf[:], group)
	key := buf[:c.keySize]
	if v := c.hash.lookup(key, cpu); v != 0 {
		return v
	}
	if e := c.hash.update(key, make([]byte, c.valueSize), updateNoExist, cpu); e != 0 && e != errno.EEXIST {
		return 0
	}
	return c.hash.lookup(key, cpu)
}

// write changes what is there; only programs make values.
func (c *cgroupStorage) write(key, value []byte, flags uint64) errno.Errno {
	if flags&^updateExist != 0 {
		return errno.EINVAL
	}
	return c.hash.write(key, value, updateExist)
}

func (*cgroupStorage) delete([]byte) errno.Errno                      { return errno.EINVAL }
func (*cgroupStorage) take([]byte, []byte) errno.Errno                { return errno.ENOTSUPP }
func (*cgroupStorage) update([]byte, []byte, uint64, int) errno.Errno { return errno.EINVAL }

// LocalStorage is bpf_get_local_storage for a run in a control group: the address of its value. Where there is none the run ends.
func (m *Side) LocalStorage(r *rt.Run, group uint64) uint64 {
	c, ok := m.store.(*cgroupStorage)
	if !ok {
		r.Err = errNoStorage
		return 0
	}
	v := c.of(group, r.CPU)
	if v == 0 {
		r.Err = errNoStorage
	}
	return uint64(v)
}
