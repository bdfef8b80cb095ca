package skeptest

import (
	"encoding/binary"
	"fmt"
	"path/filepath"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/verifier"
)

// filledMaps are the maps that the kernel's loader fills before it runs the programs of an object, by the object's name: element 0
// gets what init_test_val_map (prog_tests/verifier.c) puts there.
var filledMaps = map[string]string{
	"verifier_array_access.o":    "map_array_ro",
	"verifier_value_ptr_arith.o": "map_array_48b",
}

// loaderCaps are the capabilities that the kernel's loader lacks for all tests of an object, by the object's name
// (prog_tests/verifier.c).
var loaderCaps = map[string]verifier.Caps{"verifier_mtu.o": verifier.CapPerfmon}

// testValue is that element: an index, and eleven numbers of which number 6 is set.
func testValue() []byte {
	v := make([]byte, 48)
	binary.NativeEndian.PutUint32(v, 7*4)
	binary.NativeEndian.PutUint32(v[4+6*4:], 0xabcdef12)
	return v
}

// prepare fills maps before a run.
func (t *tester) prepare(c *skep.Collection) error {
	if m := c.Maps[filledMaps[filepath.Base(t.file)]]; m != nil {
		if err := m.Put(uint32(0), testValue()); err != nil {
			return fmt.Errorf("map %s: %w", filledMaps[filepath.Base(t.file)], err)
		}
	}
	if t.opts.Prepare != nil {
		return t.opts.Prepare(t.file, c)
	}
	return nil
}
