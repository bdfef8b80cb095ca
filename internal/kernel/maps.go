//go:build linux && (amd64 || arm64)

package kernel

import (
	"fmt"
	"runtime"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/skep-bpf/skep/internal/program"
)

// Map is a map in the kernel that a loaded program names.
type Map struct {
	fd                 int
	keySize, valueSize int // valueSize is that of a lookup: per-CPU maps have one value per possible CPU
	noKey              bool
}

// createMap makes a map with its contents. types may be nil.
func createMap(m *program.Map, types *typeInfo) (_ *Map, err error) {
	a := attrMapCreate{
		mapType: uint32(m.Type), keySize: m.KeySize, valueSize: m.ValueSize, maxEntries: m.MaxEntries, flags: m.Flags,
		name: objName(m.Name), extra: m.Extra,
	}
	if m.Inner != nil {
		inner, err := createMap(m.Inner, types)
		if err != nil {
			return nil, fmt.Errorf("inner map: %w", err)
		}
		defer unix.Close(inner.fd)
		a.innerFD = uint32(inner.fd)
	}
	if m.Type == ebpf.Arena && a.extra == 0 {
		a.extra = 1 << 44 // where user space sees it; a loader maps it instead
	}
	if m.Type == ebpf.PerfEventArray && a.maxEntries == 0 {
		a.maxEntries = uint32(runtime.NumCPU())
	}
	withBTF := types != nil && types.mapIDs(m, &a)
	fd, e := call(cmdMapCreate, &a)
	if e != 0 && withBTF {
		a.btfFD, a.btfKey, a.btfValue = 0, 0, 0
		fd, e = call(cmdMapCreate, &a)
	}
	if e != 0 {
		return nil, fmt.Errorf("create map %s (%s): %w: %w", m.Name, m.Type, e, ErrNoVerdict)
	}
	km := &Map{fd: fd, keySize: int(m.KeySize), valueSize: int(m.ValueSize), noKey: m.Type == ebpf.Queue || m.Type == ebpf.Stack}
	if perCPU(m.Type) {
		km.valueSize = (int(m.ValueSize) + 7) &^ 7 * possibleCPUs()
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	if m.Contents != nil {
		if err := km.Update(make([]byte, m.KeySize), m.Contents, 0); err != nil {
			return nil, fmt.Errorf("contents of map %s: %w: %w", m.Name, err, ErrNoVerdict)
		}
	}
	if m.Frozen {
		if e := mapElem(cmdMapFreeze, fd, nil, nil, 0); e != 0 {
			return nil, fmt.Errorf("freeze map %s: %w: %w", m.Name, e, ErrNoVerdict)
		}
	}
	return km, nil
}

func perCPU(t ebpf.MapType) bool {
	return t == ebpf.PerCPUArray || t == ebpf.PerCPUHash || t == ebpf.LRUCPUHash || t == ebpf.PerCPUCGroupStorage
}

// possibleCPUs is the number of values that a per-CPU map holds.
func possibleCPUs() int {
	n, err := ebpf.PossibleCPU()
	if err != nil {
		return runtime.NumCPU()
	}
	return n
}

func errOrNil(what string, e unix.Errno) error {
	switch e {
	case 0:
		return nil
	case unix.ENOENT:
		return fmt.Errorf("%s: %w", what, ebpf.ErrKeyNotExist)
	case unix.EEXIST:
		return fmt.Errorf("%s: %w", what, ebpf.ErrKeyExist)
	}
	return fmt.Errorf("%s: %w", what, e)
}

// Lookup returns the value of key: of a per-CPU map the values of all possible CPUs, each padded to 8 bytes.
func (m *Map) Lookup(key []byte) ([]byte, error) {
	v := make([]byte, m.valueSize)
	return v, errOrNil("lookup", mapElem(cmdMapLookup, m.fd, key, v, 0))
}

// Update sets the value of key; flags are the BPF_ANY family.
func (m *Map) Update(key, value []byte, flags uint64) error {
	if m.noKey {
		key = nil
	}
	return errOrNil("update", mapElem(cmdMapUpdate, m.fd, key, value, flags))
}

// Delete removes key.
func (m *Map) Delete(key []byte) error {
	return errOrNil("delete", mapElem(cmdMapDelete, m.fd, key, nil, 0))
}

// NextKey returns the key after prev, the first if prev is nil; ebpf.ErrKeyNotExist after the last.
func (m *Map) NextKey(prev []byte) ([]byte, error) {
	k := make([]byte, m.keySize)
	return k, errOrNil("next key", mapElem(cmdMapNextKey, m.fd, prev, k, 0))
}

// setLimit lifts the limit on locked memory, which old kernels charge maps to.
func setLimit() {
	_ = unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY})
}

// cstring returns s with a NUL.
func cstring(s string) []byte { return append([]byte(strings.ReplaceAll(s, "\x00", "")), 0) }
