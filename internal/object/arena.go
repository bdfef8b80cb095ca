package object

import (
	"fmt"

	"github.com/cilium/ebpf"
)

// arenaSection has the variables in address space 1. They are the first of the object's arena, as with libbpf.
const arenaSection = ".addr_space.1"

// arenaData makes variables in the arena what they are for a loader: contents of the one arena of the object, and addresses in it.
func arenaData(spec *ebpf.CollectionSpec) error {
	data := spec.Maps[arenaSection]
	if data == nil {
		return nil
	}
	var arena *ebpf.MapSpec
	name := ""
	for n, m := range spec.Maps {
		if m.Type != ebpf.Arena {
			continue
		}
		if arena != nil {
			return fmt.Errorf("section %s: which arena its variables belong to is not known: there are several", arenaSection)
		}
		name, arena = n, m
	}
	const page = 4096
	switch {
	case arena == nil:
		return fmt.Errorf("section %s: variables in an arena, and no map that is one", arenaSection)
	case uint64(data.ValueSize) > uint64(arena.MaxEntries)*page:
		return fmt.Errorf("section %s: %d bytes in an arena of %d pages", arenaSection, data.ValueSize, arena.MaxEntries)
	}
	arena.Contents = data.Contents
	delete(spec.Maps, arenaSection)
	for n, v := range spec.Variables {
		if v.SectionName == arenaSection {
			delete(spec.Variables, n) // a map of another kind holds it, which no variable can be read from before it is made
		}
	}
	for _, p := range spec.Programs {
		for i := range p.Instructions {
			if ins := &p.Instructions[i]; ins.Reference() == arenaSection {
				*ins = ins.WithReference(name)
			}
		}
	}
	return nil
}
