package maps

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/errno"
	"github.com/skep-bpf/skep/internal/rt"
	"github.com/skep-bpf/skep/internal/sysenc"
)

// MapBatchCursor is where a batch lookup goes on. The zero value starts at the beginning.
type MapBatchCursor struct {
	m    *Map
	last []byte
}

// BatchLookup looks up as many elements as keysOut and valuesOut have room for; both are slices of the same length (of
// per-CPU maps valuesOut has PossibleCPUs values for each key). The error wraps ebpf.ErrKeyNotExist when the end was
// reached, also if some elements were found.
func (m *Map) BatchLookup(cursor *MapBatchCursor, keysOut, valuesOut any, opts *ebpf.BatchOptions) (int, error) {
	n, err := m.batchLookup(cursor, keysOut, valuesOut, opts, false)
	if err != nil {
		return n, fmt.Errorf("map batch lookup: %w", err)
	}
	return n, nil
}

// BatchLookupAndDelete is BatchLookup that deletes what it finds. Hash maps only.
func (m *Map) BatchLookupAndDelete(cursor *MapBatchCursor, keysOut, valuesOut any, opts *ebpf.BatchOptions) (int, error) {
	n, err := m.batchLookup(cursor, keysOut, valuesOut, opts, true)
	if err != nil {
		return n, fmt.Errorf("map batch lookup and delete: %w", err)
	}
	return n, nil
}

func (m *Map) batchLookup(cursor *MapBatchCursor, keysOut, valuesOut any, opts *ebpf.BatchOptions, del bool) (int, error) {
	if cursor == nil {
		return 0, errors.New("cursor is nil")
	}
	if cursor.m != nil && cursor.m != m {
		return 0, errors.New("a cursor may not be reused across maps")
	}
	op := batchLookup
	if del {
		op = batchTake
	}
	keys, values, n, err := m.batchSlices(op, keysOut, valuesOut, opts)
	if err != nil {
		return 0, err
	}
	if del {
		if err := m.writable(); err != nil {
			return 0, err
		}
	}
	cursor.m = m
	flags := ebpf.MapLookupFlags(0)
	if opts != nil {
		flags = ebpf.MapLookupFlags(opts.ElemFlags)
	}
	key, found := make([]byte, m.keySize), 0
	for ; found < n; found++ {
		if err := m.next(cursor.key(del), key); err != nil {
			return found, err
		}
		out := m.batchValue(values, found)
		if del {
			err = m.take(key, out, flags)
		} else {
			err = m.LookupWithFlags(key, out, flags)
		}
		switch {
		case errors.Is(err, ebpf.ErrKeyNotExist):
			found-- // deleted meanwhile
		case err != nil:
			return found, err
		default:
			if err := sysenc.Unmarshal(keys.Index(found).Addr().Interface(), key); err != nil {
				return found, fmt.Errorf("can't unmarshal key: %w", err)
			}
		}
		cursor.last = append(cursor.last[:0], key...)
	}
	return found, nil
}

// key is the key to go on behind. What was deleted is gone, so the next one to delete is always the first.
func (c *MapBatchCursor) key(del bool) any {
	if c.last == nil || del {
		return nil
	}
	return c.last
}

// batchValue is where value i goes, in a form that Lookup takes.
func (m *Map) batchValue(values reflect.Value, i int) any {
	if !m.perCPU() {
		return values.Index(i).Addr().Interface()
	}
	n := rt.CPUs()
	return values.Slice(i*n, (i+1)*n).Interface()
}

// batchOp is a set of batch operations.
type batchOp uint8

const (
	batchLookup batchOp = 1 << iota
	batchUpdate
	batchDelete
	batchTake
)

// batchOps are the batch operations that a map type has (map_*_batch of its bpf_map_ops).
var batchOps = map[ebpf.MapType]batchOp{
	ebpf.Array: batchLookup | batchUpdate, ebpf.PerCPUArray: batchLookup | batchUpdate, ebpf.ArrayOfMaps: batchLookup | batchUpdate,
	ebpf.LPMTrie: batchLookup | batchUpdate | batchDelete,
	ebpf.Hash:    batchAll, ebpf.PerCPUHash: batchAll, ebpf.LRUHash: batchAll, ebpf.LRUCPUHash: batchAll, ebpf.HashOfMaps: batchAll,
}

const batchAll = batchLookup | batchUpdate | batchDelete | batchTake

// hasBatch reports whether the map's type has an operation.
func (m *Map) hasBatch(op batchOp) error {
	if err := m.made(); err != nil {
		return err
	}
	if batchOps[m.typ]&op == 0 {
		return errNotSupported
	}
	return nil
}

// batchSlices checks the arguments of a batch operation.
func (m *Map) batchSlices(op batchOp, keys, values any, opts *ebpf.BatchOptions) (k, v reflect.Value, n int, err error) {
	if err := m.hasBatch(op); err != nil {
		return k, v, 0, err
	}
	k, v = reflect.ValueOf(keys), reflect.ValueOf(values)
	per := 1
	if m.perCPU() {
		per = rt.CPUs()
	}
	switch {
	case k.Kind() != reflect.Slice:
		err = fmt.Errorf("keys: %T is not a slice", keys)
	case v.Kind() != reflect.Slice:
		err = fmt.Errorf("values: %T is not a slice", values)
	case v.Len() != k.Len()*per:
		err = fmt.Errorf("%d keys need %d values, got %d: keys and values must have the same length", k.Len(), k.Len()*per, v.Len())
	default:
		err = m.checkBatchOptions(opts)
	}
	if err != nil {
		return k, v, 0, err
	}
	return k, v, k.Len(), nil
}

func (m *Map) checkBatchOptions(opts *ebpf.BatchOptions) error {
	if opts == nil {
		return nil
	}
	if opts.Flags != 0 || opts.ElemFlags&updateLock != 0 && !m.special.hasLock() {
		return fmt.Errorf("flags %#x, element flags %#x: %w", opts.Flags, opts.ElemFlags, errno.EINVAL)
	}
	return nil
}

// BatchUpdate updates an element for each key; keys and values are slices of the same length (of per-CPU maps values has
// PossibleCPUs values for each key). It returns how many were updated.
func (m *Map) BatchUpdate(keys, values any, opts *ebpf.BatchOptions) (int, error) {
	k, v, n, err := m.batchSlices(batchUpdate, keys, values, opts)
	if err != nil {
		return 0, fmt.Errorf("batch update: %w", err)
	}
	flags := ebpf.UpdateAny
	if opts != nil {
		flags = ebpf.MapUpdateFlags(opts.ElemFlags)
	}
	for i := range n {
		var value any
		if m.perCPU() {
			value = m.batchValue(v, i)
		} else {
			value = v.Index(i).Interface()
		}
		if err := m.Update(k.Index(i).Interface(), value, flags); err != nil {
			return i, fmt.Errorf("batch update: %w", err)
		}
	}
	return n, nil
}

// BatchDelete deletes the elements of all keys, a slice, and returns how many it deleted; it stops at the first that does
// not exist.
func (m *Map) BatchDelete(keys any, opts *ebpf.BatchOptions) (int, error) {
	k := reflect.ValueOf(keys)
	if k.Kind() != reflect.Slice {
		return 0, fmt.Errorf("batch delete: keys: %T is not a slice", keys)
	}
	if err := errors.Join(m.hasBatch(batchDelete), m.checkBatchOptions(opts)); err != nil {
		return 0, fmt.Errorf("batch delete: %w", err)
	}
	for i := range k.Len() {
		if err := m.Delete(k.Index(i).Interface()); err != nil {
			return i, fmt.Errorf("batch delete: %w", err)
		}
	}
	return k.Len(), nil
}
