package maps

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/sysenc"
)

// Iterator walks a map's elements. See Map.Iterate.
type Iterator struct {
	m      *Map
	cursor []byte
	count  uint32
	done   bool
	err    error
}

// Iterate starts a walk over all elements. Several can run at a time. Elements that are added or deleted meanwhile may or
// may not be seen; deleting the current key starts the walk again.
func (m *Map) Iterate() *Iterator { return &Iterator{m: m} }

// Next decodes the next key and value, see Map.Lookup for valueOut. It returns false at the end and on an error, which Err
// then gives.
func (it *Iterator) Next(keyOut, valueOut any) bool {
	if it == nil || it.err != nil || it.done {
		return false
	}
	if it.err = it.m.made(); it.err != nil {
		return false
	}
	for it.count <= it.m.maxEntries {
		if !it.step() {
			return false
		}
		it.count++
		err := it.m.Lookup(it.cursor, valueOut)
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			continue // deleted meanwhile, or an empty slot of an array of programs or devices
		}
		if err != nil {
			it.err = fmt.Errorf("look up next key: %w", err)
			return false
		}
		it.err = sysenc.Unmarshal(keyOut, it.cursor)
		return it.err == nil
	}
	it.err = fmt.Errorf("%w", ebpf.ErrIterationAborted)
	return false
}

// step moves the cursor to the next key.
func (it *Iterator) step() bool {
	var err error
	if it.cursor == nil {
		it.cursor = make([]byte, it.m.keySize)
		err = it.m.next(nil, it.cursor)
	} else {
		prev := append([]byte(nil), it.cursor...)
		err = it.m.next(prev, it.cursor)
	}
	switch {
	case errors.Is(err, ebpf.ErrKeyNotExist):
		it.done = true
		return false
	case err != nil:
		it.err = fmt.Errorf("get next key: %w", err)
		return false
	}
	return true
}

// Err returns what ended the walk, nil if it reached the end: ebpf.ErrIterationAborted if keys kept changing.
func (it *Iterator) Err() error {
	if it == nil {
		return nil
	}
	return it.err
}
