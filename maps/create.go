package maps

import (
	"fmt"
	"math"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/errno"
	"github.com/skep-bpf/skep/internal/rt"
)

// Map creation flags (linux/bpf.h).
const (
	FlagNoPrealloc    = 1 << 0
	FlagNoCommonLRU   = 1 << 1
	FlagNUMANode      = 1 << 2
	FlagReadOnly      = 1 << 3 // BPF_F_RDONLY: no updates from Go
	FlagWriteOnly     = 1 << 4 // BPF_F_WRONLY: no lookups from Go
	FlagZeroSeed      = 1 << 6
	FlagReadOnlyProg  = 1 << 7
	FlagWriteOnlyProg = 1 << 8
	FlagMmapable      = 1 << 10
	FlagPreserveElems = 1 << 11
	FlagInnerMap      = 1 << 12

	accessFlags = FlagReadOnly | FlagWriteOnly | FlagReadOnlyProg | FlagWriteOnlyProg
)

// Limits that are the kernel's.
const (
	maxKmalloc    = 4 << 20 // KMALLOC_MAX_SIZE: key plus value of a hash element
	maxPerCPUUnit = 32 << 10
	maxHashElems  = 1 << 30 // the kernel's is 1<<31; element numbers here have 31 bits with a mark
	maxProgs      = 1 << 22 // entries of a program array; the kernel has no limit, but each takes 8 bytes of Go's heap here
	maxCPUs       = 8192    // NR_CPUS of a distribution kernel
)

// DefaultMaxBytes bounds the address space of one map if Options.MaxBytes is 0. Memory is committed as it is touched.
const DefaultMaxBytes = 64 << 30

// refuse makes a creation error: the reason and the number that the kernel's BPF_MAP_CREATE returns.
func refuse(no errno.Errno, format string, args ...any) error {
	return fmt.Errorf("map create: %s: %w", fmt.Sprintf(format, args...), no)
}

// checkSpec applies the kernel's creation rules (kernel/bpf/arraymap.c array_map_alloc_check, hashtab.c
// htab_map_alloc_check, devmap.c, cpumap.c, net/xdp/xskmap.c; 6.18) and says which was broken. The result is the spec
// with the fields filled in that the type fixes.
func checkSpec(spec *ebpf.MapSpec) (*ebpf.MapSpec, error) {
	s := *spec
	if err := checkSpecialFields(s.Value); err != nil {
		return nil, err
	}
	if s.Flags&FlagReadOnly != 0 && s.Flags&FlagWriteOnly != 0 {
		return nil, refuse(errno.EINVAL, "BPF_F_RDONLY and BPF_F_WRONLY exclude each other")
	}
	if s.Type != ebpf.CGroupStorage && s.Type != ebpf.PerCPUCGroupStorage { // the kernel looks at their sizes first
		if err := checkAccess(&s); err != nil {
			return nil, err
		}
	}
	if s.MapExtra != 0 && s.Type != ebpf.BloomFilter && s.Type != ebpf.Arena { // arenas are refused below, by their type
		return nil, refuse(errno.EINVAL, "map_extra %#x has no meaning for type %s", s.MapExtra, s.Type)
	}
	var err error
	switch s.Type {
	case ebpf.Array, ebpf.PerCPUArray:
		err = checkArray(&s)
	case ebpf.ProgramArray:
		err = checkProgArray(&s)
	case ebpf.Hash, ebpf.PerCPUHash, ebpf.LRUHash, ebpf.LRUCPUHash:
		err = checkHash(&s)
	case ebpf.LPMTrie:
		err = checkLPM(&s)
	case ebpf.Queue, ebpf.Stack:
		err = checkQueue(&s)
	case ebpf.BloomFilter:
		err = checkBloom(&s)
	case ebpf.ArrayOfMaps, ebpf.HashOfMaps:
		err = checkOuter(&s)
	case ebpf.PerfEventArray:
		err = checkPerfArray(&s)
	case ebpf.CGroupArray:
		err = checkAbsent(&s, FlagNUMANode|FlagReadOnly|FlagWriteOnly)
	case ebpf.StackTrace:
		err = checkStackTraces(&s)
	case ebpf.SockMap, ebpf.SockHash, ebpf.ReusePortSockArray:
		err = checkSockets(&s)
	case ebpf.CGroupStorage, ebpf.PerCPUCGroupStorage:
		err = checkCgroupStorage(&s)
	case ebpf.DevMap, ebpf.DevMapHash, ebpf.XSKMap, ebpf.CPUMap:
		err = checkRedirectMap(&s)
	case ebpf.RingBuf, ebpf.UserRingbuf:
		err = checkRing(&s)
	case ebpf.UnspecifiedMap:
		err = refuse(errno.EINVAL, "no map type given")
	default:
		err = fmt.Errorf("map create: map type %s: %w", s.Type, ebpf.ErrNotSupported)
	}
	if err != nil {
		return nil, err
	}
	return &s, nil
}

// checkAccess applies bpf_map_flags_access_ok.
func checkAccess(s *ebpf.MapSpec) error {
	if s.Flags&FlagReadOnlyProg != 0 && s.Flags&FlagWriteOnlyProg != 0 {
		return refuse(errno.EINVAL, "BPF_F_RDONLY_PROG and BPF_F_WRONLY_PROG exclude each other")
	}
	return nil
}

func checkFlags(s *ebpf.MapSpec, allowed uint32) error {
	if bad := s.Flags &^ allowed; bad != 0 {
		return refuse(errno.EINVAL, "flags %#x are not valid for type %s", bad, s.Type)
	}
	return nil
}

func checkSizes(s *ebpf.MapSpec, key uint32) error {
	switch {
	case s.MaxEntries == 0:
		return refuse(errno.EINVAL, "MaxEntries is zero")
	case key != 0 && s.KeySize != key:
		return refuse(errno.EINVAL, "KeySize is %d, type %s needs %d", s.KeySize, s.Type, key)
	case s.KeySize == 0:
		return refuse(errno.EINVAL, "KeySize is zero")
	case s.ValueSize == 0:
		return refuse(errno.EINVAL, "ValueSize is zero")
	}
	return nil
}

func checkArray(s *ebpf.MapSpec) error {
	if err := checkSizes(s, 4); err != nil {
		return err
	}
	allowed := uint32(FlagNUMANode | accessFlags)
	if s.Type == ebpf.Array {
		allowed |= FlagMmapable | FlagInnerMap
	} else {
		allowed &^= FlagNUMANode
	}
	if err := checkFlags(s, allowed); err != nil {
		return err
	}
	if s.ValueSize > math.MaxInt32 {
		return refuse(errno.E2BIG, "ValueSize %d is above %d", s.ValueSize, math.MaxInt32)
	}
	if s.Type == ebpf.PerCPUArray && round8(int(s.ValueSize)) > maxPerCPUUnit {
		return refuse(errno.E2BIG, "ValueSize %d of a per-CPU map is above %d", s.ValueSize, maxPerCPUUnit)
	}
	return nil
}

func checkProgArray(s *ebpf.MapSpec) error {
	if s.ValueSize == 0 {
		s.ValueSize = 4
	}
	if err := checkSizes(s, 4); err != nil {
		return err
	}
	if s.ValueSize != 4 {
		return refuse(errno.EINVAL, "ValueSize is %d, type %s needs 4", s.ValueSize, s.Type)
	}
	if s.MaxEntries > maxProgs {
		return refuse(errno.E2BIG, "MaxEntries %d of a program array is above %d", s.MaxEntries, maxProgs)
	}
	return checkFlags(s, FlagNUMANode|FlagReadOnly|FlagWriteOnly)
}

func checkHash(s *ebpf.MapSpec) error {
	if err := checkFlags(s, FlagNoPrealloc|FlagNoCommonLRU|FlagNUMANode|accessFlags|FlagZeroSeed); err != nil {
		return err
	}
	perCPU := s.Type == ebpf.PerCPUHash || s.Type == ebpf.LRUCPUHash
	switch {
	case s.Flags&FlagNoCommonLRU != 0 && !isLRU(s.Type):
		return refuse(errno.EINVAL, "BPF_F_NO_COMMON_LRU is not valid for type %s", s.Type)
	case s.Flags&FlagNoPrealloc != 0 && isLRU(s.Type):
		return refuse(errno.ENOTSUPP, "BPF_F_NO_PREALLOC is not valid for type %s", s.Type)
	case s.Flags&FlagNUMANode != 0 && (perCPU || s.Flags&FlagNoCommonLRU != 0):
		return refuse(errno.EINVAL, "BPF_F_NUMA_NODE is not valid for type %s, flags %#x", s.Type, s.Flags)
	}
	if err := checkSizes(s, 0); err != nil {
		return err
	}
	if s.MaxEntries > maxHashElems {
		return refuse(errno.E2BIG, "MaxEntries %d is above %d", s.MaxEntries, maxHashElems)
	}
	if uint64(s.KeySize)+uint64(s.ValueSize) >= maxKmalloc-elemHeader {
		return refuse(errno.E2BIG, "KeySize %d plus ValueSize %d is above %d", s.KeySize, s.ValueSize, maxKmalloc-elemHeader)
	}
	if perCPU && round8(int(s.ValueSize)) > maxPerCPUUnit {
		return refuse(errno.E2BIG, "ValueSize %d of a per-CPU map is above %d", s.ValueSize, maxPerCPUUnit)
	}
	if s.Flags&FlagNoCommonLRU != 0 {
		// Each CPU slot has the same share.
		n := uint32(rt.CPUs())
		s.MaxEntries = (s.MaxEntries + n - 1) / n * n
	}
	return nil
}

// checkRing checks ring buffers (ringbuf_map_alloc).
func checkRing(s *ebpf.MapSpec) error {
	if err := checkFlags(s, FlagNUMANode); err != nil {
		return err
	}
	if s.KeySize != 0 || s.ValueSize != 0 {
		return refuse(errno.EINVAL, "KeySize is %d and ValueSize %d, type %s has neither", s.KeySize, s.ValueSize, s.Type)
	}
	if s.MaxEntries == 0 || s.MaxEntries&(s.MaxEntries-1) != 0 || s.MaxEntries%ringPage != 0 {
		return refuse(errno.EINVAL, "MaxEntries %d is not a power of two of whole pages", s.MaxEntries)
	}
	return nil
}

// checkRedirectMap checks the maps that bpf_redirect_map takes. Programs may read them but never write.
func checkRedirectMap(s *ebpf.MapSpec) error {
	if n := uint32(rt.CPUs()); s.Type == ebpf.CPUMap && s.MaxEntries == 0 {
		s.MaxEntries = n
	}
	if err := checkSizes(s, 4); err != nil {
		return err
	}
	allowed := uint32(FlagNUMANode | FlagReadOnly | FlagWriteOnly)
	if s.Type == ebpf.CPUMap {
		allowed = FlagNUMANode
	}
	if err := checkFlags(s, allowed); err != nil {
		return err
	}
	if s.ValueSize != 4 && (s.ValueSize != 8 || s.Type == ebpf.XSKMap) {
		return refuse(errno.EINVAL, "ValueSize is %d, which type %s does not have", s.ValueSize, s.Type)
	}
	if s.Type == ebpf.DevMapHash && s.MaxEntries > maxHashElems {
		return refuse(errno.EINVAL, "MaxEntries %d is above %d", s.MaxEntries, maxHashElems)
	}
	if s.Type == ebpf.CPUMap && s.MaxEntries > maxCPUs {
		return refuse(errno.E2BIG, "MaxEntries %d is above the largest number of processors, %d", s.MaxEntries, maxCPUs)
	}
	if s.Type == ebpf.DevMap || s.Type == ebpf.DevMapHash {
		s.Flags |= FlagReadOnlyProg // as the kernel does since 5.4
	}
	return nil
}

// specialTypes are the structures in map values that the kernel gives a meaning (kernel/bpf/btf.c btf_parse_fields) and that have no
// runtime here; see special.go for those that do.
var specialTypes = map[string]bool{"bpf_refcount": true, "bpf_task_work": true}

// checkSpecialFields refuses, by name, values with fields that only work with runtimes that are not here yet: a
// program could otherwise treat a lock or a kernel pointer as plain bytes.
func checkSpecialFields(t btf.Type) error {
	name, path := findSpecial(t, 0, map[btf.Type]bool{})
	if name == "" {
		return nil
	}
	return fmt.Errorf("map create: value%s is %s: %w", path, name, ebpf.ErrNotSupported)
}

// findSpecial looks at each structure once: seen are those without special fields, or under way, which keeps the search
// short whatever the types are (a spec made in Go may have any).
func findSpecial(t btf.Type, depth int, seen map[btf.Type]bool) (name, path string) {
	if depth > 16 {
		return "", "" // btf types can be recursive only through pointers, which are not followed
	}
	switch t := t.(type) {
	case *btf.Struct:
		if specialTypes[t.Name] {
			return "struct " + t.Name, ""
		}
		if seen[t] {
			return "", ""
		}
		seen[t] = true
		for _, m := range t.Members {
			if n, p := findSpecial(m.Type, depth+1, seen); n != "" {
				return n, "." + m.Name + p
			}
		}
	case *btf.Array:
		return findSpecial(t.Type, depth+1, seen)
	case *btf.Datasec:
		for _, v := range t.Vars {
			if n, p := findSpecial(v.Type, depth+1, seen); n != "" {
				return n, "." + v.Type.TypeName() + p
			}
		}
	case *btf.Var:
		return findSpecial(t.Type, depth+1, seen)
	case *btf.Pointer:
		if tag, ok := t.Target.(*btf.TypeTag); ok {
			switch tag.Value {
			case "uptr":
				return "a pointer tagged " + tag.Value, ""
			}
		}
	case *btf.Typedef:
		return findSpecial(t.Type, depth+1, seen)
	case *btf.Const:
		return findSpecial(t.Type, depth+1, seen)
	case *btf.Volatile:
		return findSpecial(t.Type, depth+1, seen)
	}
	return "", ""
}

func round8(n int) int { return (n + 7) &^ 7 }
