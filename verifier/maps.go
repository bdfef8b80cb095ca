package verifier

import (
	"slices"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/program"
)

// maxMaps is the number of maps a program can use (MAX_USED_MAPS).
const maxMaps = 64

// knownMaps are the map types whose rules this verifier knows.
var knownMaps = map[ebpf.MapType]bool{
	ebpf.Array: true, ebpf.Hash: true, ebpf.PerCPUArray: true, ebpf.PerCPUHash: true, ebpf.LRUHash: true,
	ebpf.LRUCPUHash: true, ebpf.LPMTrie: true, ebpf.ProgramArray: true, ebpf.DevMap: true, ebpf.DevMapHash: true,
	ebpf.CPUMap: true, ebpf.XSKMap: true, ebpf.PerfEventArray: true, ebpf.RingBuf: true, ebpf.StackTrace: true, ebpf.CGroupArray: true,
	ebpf.CGroupStorage: true, ebpf.PerCPUCGroupStorage: true, ebpf.ArrayOfMaps: true, ebpf.HashOfMaps: true, ebpf.SockMap: true,
	ebpf.SockHash: true, ebpf.ReusePortSockArray: true, ebpf.Queue: true, ebpf.Stack: true, ebpf.BloomFilter: true, ebpf.SkStorage: true,
	ebpf.Arena: true, ebpf.UserRingbuf: true, ebpf.TaskStorage: true, ebpf.InodeStorage: true, ebpf.CgroupStorage: true,
}

// sleepableMaps are the map types whose elements outlive a sleep (check_map_prog_compatibility).
var sleepableMaps = map[ebpf.MapType]bool{
	ebpf.Array: true, ebpf.Hash: true, ebpf.PerCPUArray: true, ebpf.PerCPUHash: true, ebpf.LRUHash: true,
	ebpf.LRUCPUHash: true, ebpf.ArrayOfMaps: true, ebpf.HashOfMaps: true, ebpf.RingBuf: true, ebpf.UserRingbuf: true,
	ebpf.InodeStorage: true, ebpf.SkStorage: true, ebpf.TaskStorage: true, ebpf.CgroupStorage: true, ebpf.Queue: true,
	ebpf.Stack: true, ebpf.Arena: true,
}

// checkMaps refuses maps that the walk would not understand.
func (e *env) checkMaps() error {
	e.addInnerMaps()
	used := map[int]bool{}
	for i, in := range e.prog.Insns {
		if i > 0 && e.prog.Insns[i-1].IsLdImm64() || !in.IsLdImm64() || in.Src != 1 && in.Src != 2 || used[int(in.Imm)] {
			continue
		}
		used[int(in.Imm)] = true
		e.insn = i
		if len(used) > maxMaps {
			return e.reject(CodeTooComplex, "The total number of maps per program has reached the limit of %d", maxMaps)
		}
		m := &e.maps[in.Imm]
		if !knownMaps[m.Type] {
			return e.unsupported("maps of type %v (%s)", m.Type, m.Name)
		}
		if e.prog.Flags&flagSleepable != 0 && !sleepableMaps[m.Type] {
			return e.reject(CodeCall, "Sleepable programs can only use array, hash, ringbuf and local storage maps")
		}
		if err := e.noteArena(m); err != nil {
			return err
		}
		if err := e.checkMapSizes(m); err != nil {
			return err
		}
		if err := e.checkInner(m); err != nil {
			return err
		}
		if err := e.readMapRecords(int(in.Imm)); err != nil {
			return err
		}
		if err := e.fieldsFitProgram(int(in.Imm)); err != nil {
			return err
		}
	}
	return nil
}

// found is what a lookup in a map finds, in the place of a value: a socket, a map, or a value after all.
func (e *env) found(m *program.Map) regType {
	switch m.Type {
	case ebpf.XSKMap:
		return ptrToXDPSock
	case ebpf.SockMap, ebpf.SockHash:
		return ptrToSocket
	case ebpf.ArrayOfMaps, ebpf.HashOfMaps:
		return constPtrToMap
	}
	return ptrToMapValue
}

// hasFullSockets reports whether lookups in maps of type t find sockets that the program then holds.
func hasFullSockets(t ebpf.MapType) bool { return t == ebpf.SockMap || t == ebpf.SockHash }

// addInnerMaps gives the templates of maps in maps numbers behind those of the program's maps.
func (e *env) addInnerMaps() {
	e.maps = slices.Clip(e.prog.Maps)
	e.inner = make([]int32, len(e.maps))
	for i := range e.prog.Maps {
		if m := e.prog.Maps[i].Inner; m != nil {
			e.inner[i] = int32(len(e.maps))
			template := *m
			template.Name = "" // as in the kernel: it stands for many maps
			e.maps = append(e.maps, template)
		}
	}
}

// checkInner refuses templates that the kernel does not take, or whose lookups would find what the walk does not know
// (bpf_map_meta_alloc).
func (e *env) checkInner(m *program.Map) error {
	in := m.Inner
	switch {
	case m.Type != ebpf.ArrayOfMaps && m.Type != ebpf.HashOfMaps:
		return nil
	case in == nil:
		return e.unsupported("map %s: a map of maps without a template", m.Name)
	case !knownMaps[in.Type] || in.Inner != nil || in.Type == ebpf.ArrayOfMaps || in.Type == ebpf.HashOfMaps || in.Type == ebpf.CGroupStorage ||
		in.Type == ebpf.PerCPUCGroupStorage || in.Type == ebpf.ProgramArray:
		return e.unsupported("map %s: maps of type %v in it", m.Name, in.Type)
	}
	return e.checkMapSizes(in)
}

// keySizes are the sizes of keys that a map type fixes.
var keySizes = map[ebpf.MapType]uint32{
	ebpf.Array: 4, ebpf.PerCPUArray: 4, ebpf.ArrayOfMaps: 4, ebpf.SockMap: 4, ebpf.ReusePortSockArray: 4, ebpf.StackTrace: 4, ebpf.SkStorage: 4,
	ebpf.TaskStorage: 4, ebpf.InodeStorage: 4, ebpf.CgroupStorage: 4,
	ebpf.Queue: 0, ebpf.Stack: 0, ebpf.BloomFilter: 0, ebpf.RingBuf: 0, ebpf.UserRingbuf: 0,
}

// checkMapSizes guards the arithmetic of later checks.
func (e *env) checkMapSizes(m *program.Map) error {
	if m.KeySize >= maxVarOff || m.ValueSize >= maxVarOff {
		return e.reject(CodeBounds, "map %s: key of %d or value of %d bytes is too large", m.Name, m.KeySize, m.ValueSize)
	}
	if want, ok := keySizes[m.Type]; ok && m.KeySize != want {
		return e.reject(CodeType, "map %s: keys have %d bytes, not %d", m.Name, want, m.KeySize)
	}
	return nil
}

// maxTypeChain bounds the chains of modifiers that are followed; BTF that was made in Go can have circles.
const maxTypeChain = 64
