//go:build linux

package skep_test

import (
	"encoding/binary"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep"
)

// TestMapTypesAsKernel runs the programs of testdata/maps.c in the kernel and on every engine: each returns what it found in its maps.
func TestMapTypesAsKernel(t *testing.T) {
	needKernel(t)
	spec := loadSpec(t, "maps.o")
	k, err := ebpf.NewCollection(spec)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	defer k.Close()
	want := map[string]uint32{}
	for name, p := range k.Programs {
		if want[name], _, err = p.Test(make([]byte, 64)); err != nil {
			t.Fatal(err)
		}
	}
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		c := load(t, "maps.o", skep.Options{Engine: e})
		for name, p := range c.Programs {
			if got, _, err := p.Test(make([]byte, 64)); err != nil || got != want[name] {
				t.Errorf("%s: %d, %v; the kernel's %d", name, int32(got), err, int32(want[name]))
			}
		}
	})
}

// TestReplaceInnerMaps: programs look into a map of maps while Go puts new maps there and closes the old ones. Each map has the same
// value, so that a program that reads anything else has read memory that was given back.
func TestReplaceInnerMaps(t *testing.T) {
	eachEngine(t, func(t *testing.T, e skep.Engine) {
		c := load(t, "maps.o", skep.Options{Engine: e}, "found_value")
		const magic = 0x5eed5eed
		fresh := func(i int) {
			m, err := skep.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 4})
			if err == nil {
				err = errors.Join(m.Put(uint32(3), uint64(magic)), c.Maps["outer_array"].Put(uint32(0), m), m.Close())
			}
			if err != nil {
				t.Error(err)
			}
		}
		fresh(0)
		var stop atomic.Bool
		var wg sync.WaitGroup
		skb := make([]byte, 192)
		binary.NativeEndian.PutUint32(skb[8:], 3) // mark: the key
		for range 2 {
			wg.Go(func() {
				for !stop.Load() {
					got, err := c.Programs["found_value"].Run(&ebpf.RunOptions{Data: make([]byte, 64), Context: skb, Repeat: 20})
					if err != nil || got != magic {
						t.Errorf("%#x, %v", got, err)
						return
					}
				}
			})
		}
		for i := range 2000 {
			fresh(i)
		}
		stop.Store(true)
		wg.Wait()
	})
}

// TestReplacedMapOfMaps: a program is proven with the maps that it gets, not with those of its object.
func TestReplacedMapOfMaps(t *testing.T) {
	spec := loadSpec(t, "maps.o")
	other := spec.Maps["outer_array"].Copy()
	other.Contents, other.InnerMap.ValueSize, other.InnerMap.Value = nil, 4, nil
	m, err := skep.NewMap(other)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	_, err = skep.NewCollectionWithOptions(spec, skep.Options{
		Programs: []string{"found_value"}, MapReplacements: map[string]*skep.Map{"outer_array": m},
	})
	var ve *skep.VerifierError
	if !errors.As(err, &ve) {
		t.Errorf("a program that reads eight bytes of a value of four was loaded: %v", err)
	}
}

// TestReplacedMapWithoutFields: a map that stands in for one with a pointer of the kernel in its values has plain bytes there, and that is
// what the program is proven with.
func TestReplacedMapWithoutFields(t *testing.T) {
	own := &btf.Struct{Name: "own", Size: 8, Members: []btf.Member{{Name: "n", Type: &btf.Int{Name: "long", Size: 8}}}}
	tagged := &btf.Pointer{Target: &btf.TypeTag{Value: "kptr_untrusted", Type: own}}
	value := &btf.Struct{Name: "value", Size: 8, Members: []btf.Member{{Name: "p", Type: tagged}}}
	ms := &ebpf.MapSpec{Name: "m", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1, Key: &btf.Int{Name: "u32", Size: 4}, Value: value}
	spec := &ebpf.CollectionSpec{
		Maps: map[string]*ebpf.MapSpec{"m": ms},
		Programs: map[string]*ebpf.ProgramSpec{"prog": {Name: "prog", Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
			asm.Mov.Imm(asm.R1, 0), asm.StoreMem(asm.R10, -4, asm.R1, asm.Word), asm.Mov.Reg(asm.R2, asm.R10), asm.Add.Imm(asm.R2, -4),
			asm.LoadMapPtr(asm.R1, 0).WithReference("m"), asm.FnMapLookupElem.Call(), asm.JEq.Imm(asm.R0, 0, "out"),
			asm.LoadMem(asm.R1, asm.R0, 0, asm.DWord), asm.JEq.Imm(asm.R1, 0, "out"), asm.LoadMem(asm.R1, asm.R1, 0, asm.DWord),
			asm.Mov.Imm(asm.R0, 0).WithSymbol("out"), asm.Return(),
		}}},
	}
	plain, err := skep.NewMap(&ebpf.MapSpec{Name: "m", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	_, err = skep.NewCollectionWithOptions(spec, skep.Options{MapReplacements: map[string]*skep.Map{"m": plain}})
	var ve *skep.VerifierError
	if !errors.As(err, &ve) || !strings.Contains(err.Error(), "R1 invalid mem access 'scalar'") {
		t.Errorf("a program that follows an address from plain bytes: %v", err)
	}
}
