package skep_test

import (
	"encoding/binary"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep"
)

// objectPrograms are those of testdata/objects.c.
var objectPrograms = []string{"new_drop", "kptr_array", "kptr_hash", "kptr_lru", "kptr_percpu_array", "kptr_percpu_hash", "kptr_locked_array", "kptr_locked_hash", "lists", "trees", "percpu"}

// step is one run of a program of testdata/objects.c.
type step struct {
	program        string
	mark, priority uint32
}

func (s step) options() *ebpf.RunOptions {
	skb := make([]byte, 192)
	binary.LittleEndian.PutUint32(skb[8:], s.mark)
	binary.LittleEndian.PutUint32(skb[32:], s.priority)
	return &ebpf.RunOptions{Data: make([]byte, 64), Context: skb}
}

func runStep(t *testing.T, c *skep.Collection, s step) int32 {
	t.Helper()
	ret, err := c.Programs[s.program].Run(s.options())
	if err != nil {
		t.Fatalf("%+v: %v", s, err)
	}
	return int32(ret)
}

func TestObjectsLoad(t *testing.T) {
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		for _, name := range objectPrograms {
			c, err := skep.NewCollectionWithOptions(loadSpec(t, "objects.o"), skep.Options{Engine: e, Programs: []string{name}})
			if err != nil {
				t.Errorf("%s: %+v", name, err)
				continue
			}
			t.Log(name, runStep(t, c, step{name, 0, 100}))
			c.Close()
		}
	})
}
