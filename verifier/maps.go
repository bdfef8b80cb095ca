package verifier

import (
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
	ebpf.CPUMap: true, ebpf.XSKMap: true,
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
		m := &e.prog.Maps[in.Imm]
		if !knownMaps[m.Type] {
			return e.unsupported("maps of type %v (%s)", m.Type, m.Name)
		}
		if e.prog.Flags&flagSleepable != 0 && !sleepableMaps[m.Type] {
			return e.reject(CodeCall, "Sleepable programs can only use array, hash, ringbuf and local storage maps")
		}
		if f := specialField(m.Value, 0, map[btf.Type]bool{}); f != "" {
			return e.unsupported("map %s: values with a %s", m.Name, f)
		}
		if err := e.checkMapSizes(m); err != nil {
			return err
		}
	}
	return nil
}

// hasSockets reports whether what lookups in a map find are sockets.
func hasSockets(m *program.Map) bool { return m.Type == ebpf.XSKMap }

// checkMapSizes guards the arithmetic of later checks.
func (e *env) checkMapSizes(m *program.Map) error {
	if m.KeySize >= maxVarOff || m.ValueSize >= maxVarOff {
		return e.reject(CodeBounds, "map %s: key of %d or value of %d bytes is too large", m.Name, m.KeySize, m.ValueSize)
	}
	if (m.Type == ebpf.Array || m.Type == ebpf.PerCPUArray) && m.KeySize != 4 {
		return e.reject(CodeType, "map %s: array keys have 4 bytes, not %d", m.Name, m.KeySize)
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
