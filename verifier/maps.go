package verifier

import (
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

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
	ebpf.Arena:       true,
	ebpf.TaskStorage: true, ebpf.InodeStorage: true, ebpf.CgroupStorage: true,
}

// sleepableMaps are the map types whose elements outlive a sleep (check_map_prog_compatibility).
var sleepableMaps = map[ebpf.MapType]bool{
	ebpf.Array: true, ebpf.Hash: true, ebpf.PerCPUArray: true, ebpf.PerCPUHash: true, ebpf.LRUHash: true,
	ebpf.LRUCPUHash: true, ebpf.ArrayOfMaps: true, ebpf.HashOfMaps: true, ebpf.RingBuf: true, ebpf.UserRingbuf: true,
	ebpf.InodeStorage: true, ebpf.SkStorage: true, ebpf.TaskStorage: true, ebpf.CgroupStorage: true, ebpf.Queue: true,
	ebpf.Stack: true, ebpf.Arena: true,
}

// specialFields are the structures that the kernel keeps in map values and that programs may touch through helpers only.
var specialFields = map[string]bool{
	"bpf_spin_lock": true, "bpf_res_spin_lock": true, "bpf_timer": true, "bpf_wq": true, "bpf_list_head": true,
	"bpf_list_node": true, "bpf_rb_root": true, "bpf_rb_node": true, "bpf_refcount": true, "bpf_task_work": true,
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
		if f := specialField(m.Value, 0, map[btf.Type]bool{}); f != "" {
			return e.unsupported("map %s: values with a %s", m.Name, f)
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
			e.maps = append(e.maps, *m)
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
	if f := specialField(in.Value, 0, map[btf.Type]bool{}); f != "" {
		return e.unsupported("map %s: values of maps in it with a %s", m.Name, f)
	}
	return e.checkMapSizes(in)
}

// keySizes are the sizes of keys that a map type fixes.
var keySizes = map[ebpf.MapType]uint32{
	ebpf.Array: 4, ebpf.PerCPUArray: 4, ebpf.ArrayOfMaps: 4, ebpf.SockMap: 4, ebpf.ReusePortSockArray: 4, ebpf.StackTrace: 4, ebpf.SkStorage: 4,
	ebpf.TaskStorage: 4, ebpf.InodeStorage: 4, ebpf.CgroupStorage: 4,
	ebpf.Queue: 0, ebpf.Stack: 0, ebpf.BloomFilter: 0, ebpf.RingBuf: 0,
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

// specialField returns what kind of special field a value type has, "" if none: a structure of the kernel's, or a
// pointer tagged as kptr. Each structure is looked at once (seen), which keeps the search short whatever the types are.
func specialField(t btf.Type, depth int, seen map[btf.Type]bool) string {
	if depth > 8 || seen[t] {
		return ""
	}
	switch x := t.(type) {
	case *btf.Struct:
		if specialFields[x.Name] {
			return x.Name
		}
		seen[t] = true
		return specialMembers(x.Members, depth, seen)
	case *btf.Union:
		seen[t] = true
		return specialMembers(x.Members, depth, seen)
	case *btf.Array:
		return specialField(x.Type, depth+1, seen)
	case *btf.Datasec:
		for _, v := range x.Vars {
			if f := specialField(v.Type, depth+1, seen); f != "" {
				return f
			}
		}
	case *btf.Var:
		return specialField(x.Type, depth+1, seen)
	case *btf.Typedef:
		return specialField(x.Type, depth+1, seen)
	case *btf.Const:
		return specialField(x.Type, depth+1, seen)
	case *btf.Volatile:
		return specialField(x.Type, depth+1, seen)
	case *btf.Pointer:
		return kptrTag(x.Target)
	}
	return ""
}

func specialMembers(ms []btf.Member, depth int, seen map[btf.Type]bool) string {
	for _, m := range ms {
		if f := specialField(m.Type, depth+1, seen); f != "" {
			return f
		}
	}
	return ""
}

// maxTypeChain bounds the chains of modifiers that are followed; BTF that was made in Go can have circles.
const maxTypeChain = 64

func kptrTag(t btf.Type) string {
	for range maxTypeChain {
		tag, ok := t.(*btf.TypeTag)
		if !ok {
			break
		}
		switch tag.Value {
		case "kptr", "kptr_untrusted", "percpu_kptr", "uptr":
			return tag.Value + " pointer"
		}
		t = tag.Type
	}
	return ""
}
