package skep_test

import (
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cilium/ebpf"

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
