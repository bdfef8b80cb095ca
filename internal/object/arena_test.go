package object

import (
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// TestArenaData: variables in address space 1 are contents of the object's arena, and their addresses lie in it.
func TestArenaData(t *testing.T) {
	object := func(pages uint32, arenas ...string) *ebpf.CollectionSpec {
		s := &ebpf.CollectionSpec{
			Maps:      map[string]*ebpf.MapSpec{arenaSection: {Name: arenaSection, Type: ebpf.Array, ValueSize: 4097, Contents: []ebpf.MapKV{{Key: uint32(0), Value: make([]byte, 4097)}}}},
			Variables: map[string]*ebpf.VariableSpec{"v": {Name: "v", SectionName: arenaSection}, "w": {Name: "w", SectionName: ".bss"}},
			Programs: map[string]*ebpf.ProgramSpec{"p": {Instructions: asm.Instructions{
				asm.LoadMapValue(asm.R1, 0, 16).WithReference(arenaSection), asm.Mov.Imm(asm.R0, 0), asm.Return(),
			}}},
		}
		for _, a := range arenas {
			s.Maps[a] = &ebpf.MapSpec{Name: a, Type: ebpf.Arena, MaxEntries: pages}
		}
		return s
	}
	s := object(2, "arena")
	if err := arenaData(s); err != nil {
		t.Fatal(err)
	}
	if m := s.Maps["arena"]; len(s.Maps) != 1 || len(m.Contents) != 1 || s.Variables["v"] != nil || s.Variables["w"] == nil {
		t.Errorf("%v %v", s.Maps, s.Variables)
	}
	if ref := s.Programs["p"].Instructions[0].Reference(); ref != "arena" {
		t.Errorf("the program refers to %s", ref)
	}
	for want, s := range map[string]*ebpf.CollectionSpec{
		"no map that is one": object(2), "several": object(2, "a", "b"), "4097 bytes in an arena of 1 pages": object(1, "arena"),
	} {
		if err := arenaData(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if err := arenaData(&ebpf.CollectionSpec{}); err != nil {
		t.Error(err)
	}
}
