package skeptest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep"
	"github.com/skep-bpf/skep/internal/btfvalue"
	"github.com/skep-bpf/skep/ringbuf"
)

// mapKind says how entries of a map are put in and listed.
type mapKind int

const (
	keyed    mapKind = iota // keys are there or not
	array                   // all keys are always there
	keyless                 // values come out one after the other
	programs                // of program arrays
	unlisted                // what is in it cannot be listed
)

func kindOf(t ebpf.MapType) mapKind {
	switch t {
	case ebpf.Array, ebpf.PerCPUArray:
		return array
	case ebpf.Queue, ebpf.Stack, ebpf.RingBuf:
		return keyless
	case ebpf.ProgramArray:
		return programs
	case ebpf.PerfEventArray, ebpf.CGroupArray, ebpf.StackTrace, ebpf.BloomFilter, ebpf.UserRingbuf:
		return unlisted
	}
	return keyed
}

func isPerCPU(t ebpf.MapType) bool {
	return t == ebpf.PerCPUArray || t == ebpf.PerCPUHash || t == ebpf.LRUCPUHash
}

func isMapOfMaps(t ebpf.MapType) bool { return t == ebpf.ArrayOfMaps || t == ebpf.HashOfMaps }

// mapOf finds a map that a case names.
func (r *run) mapOf(what, name string) (*skep.Map, error) {
	if m := r.coll.Maps[name]; m != nil {
		return m, nil
	}
	return nil, fmt.Errorf("%s: the object has no map %s; it has: %s", what, name, names(r.coll.Maps))
}

// putMaps puts the entries of a step into the maps.
func (r *run) putMaps(c *Case) error {
	for _, name := range sortedKeys(c.MapsBefore) {
		m, err := r.mapOf("MapsBefore", name)
		if err != nil {
			return err
		}
		for i, kv := range c.MapsBefore[name] {
			if err := r.put(m, kv, c.CPU); err != nil {
				return fmt.Errorf("MapsBefore: map %s: entry %d: %w", name, i, err)
			}
		}
	}
	return nil
}

// put puts one entry into a map.
func (r *run) put(m *skep.Map, kv ebpf.MapKV, cpu uint32) error {
	kind := kindOf(m.Type())
	if kind == unlisted || m.Type() == ebpf.RingBuf {
		return fmt.Errorf("nothing can be put into a map of type %s here", m.Type())
	}
	key, err := encodeKey(m, kv.Key)
	if err != nil {
		return err
	}
	switch {
	case kind == programs:
		name, ok := kv.Value.(string)
		if p := r.coll.Programs[name]; ok && p != nil {
			return m.Put(key, p)
		}
		return fmt.Errorf("%v is not the name of a program; there are: %s", kv.Value, names(r.coll.Programs))
	case isMapOfMaps(m.Type()):
		return r.putInner(m, key, kv.Value, cpu)
	}
	value, err := encode(kv.Value, int(m.ValueSize()))
	switch {
	case err != nil:
		return fmt.Errorf("value: %w", err)
	case isPerCPU(m.Type()):
		return putOnCPU(m, key, value, cpu)
	case kind == keyless:
		return m.Put(nil, value)
	}
	return m.Put(key, value)
}

// encodeKey turns the key of an entry into bytes: nil for a map without keys.
func encodeKey(m *skep.Map, key any) ([]byte, error) {
	if kindOf(m.Type()) == keyless {
		if key != nil {
			return nil, fmt.Errorf("a map of type %s has no keys: Key must be nil", m.Type())
		}
		return nil, nil
	}
	b, err := encode(key, int(m.KeySize()))
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	return b, nil
}

// putOnCPU sets the value of one CPU and leaves those of the others.
func putOnCPU(m *skep.Map, key, value []byte, cpu uint32) error {
	if int(cpu) >= skep.PossibleCPUs() {
		return fmt.Errorf("there is no CPU %d, only %d", cpu, skep.PossibleCPUs())
	}
	all := make([][]byte, skep.PossibleCPUs())
	old, err := m.LookupBytes(key)
	if err != nil {
		return err
	}
	for i := range all {
		if all[i] = make([]byte, len(value)); old != nil {
			copy(all[i], onCPU(m, old, uint32(i)))
		}
	}
	all[cpu] = value
	return m.Put(key, all)
}

// onCPU is one CPU's value among those of all.
func onCPU(m *skep.Map, all []byte, cpu uint32) []byte {
	size := int(m.ValueSize())
	at := int(cpu) * ((size + 7) &^ 7)
	return all[at : at+size]
}

// putInner makes a map with some entries and puts it into a map of maps.
func (r *run) putInner(m *skep.Map, key []byte, value any, cpu uint32) error {
	entries, ok := value.([]ebpf.MapKV)
	if !ok {
		return fmt.Errorf("value: %T where a map of maps has []ebpf.MapKV", value)
	}
	inner, err := skep.NewMap(m.Spec().InnerMap)
	if err != nil {
		return err
	}
	defer inner.Close() // the outer map holds it
	for i, kv := range entries {
		if err := r.put(inner, kv, cpu); err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
	}
	return m.Put(key, inner)
}

// snapshot copies the arrays that a step compares, for what it does not list of them.
func (r *run) snapshot(after Maps) (map[string][]entry, error) {
	out := map[string][]entry{}
	for _, name := range sortedKeys(after) {
		m, err := r.mapOf("MapsAfter", name)
		if err != nil {
			return nil, err
		}
		if kindOf(m.Type()) == array {
			if out[name], err = list(m); err != nil {
				return nil, fmt.Errorf("map %s: %w", name, err)
			}
		}
	}
	return out, nil
}

// entry is what is in a map: bytes, or another map.
type entry struct {
	key, value []byte
	inner      *skep.Map
}

// list returns all entries of a map. Inner maps must be closed.
func list(m *skep.Map) (all []entry, err error) {
	switch kindOf(m.Type()) {
	case unlisted, programs:
		return nil, fmt.Errorf("what is in a map of type %s cannot be listed", m.Type())
	case keyless:
		return drain(m)
	}
	var last any
	for {
		key, err := m.NextKeyBytes(last)
		if err != nil || key == nil {
			return all, err
		}
		last = key
		e := entry{key: slices.Clone(key)}
		if isMapOfMaps(m.Type()) {
			err = m.Lookup(key, &e.inner)
		} else {
			e.value, err = m.LookupBytes(key)
		}
		switch {
		case errors.Is(err, ebpf.ErrKeyNotExist): // an element of an array of maps that is empty
		case err != nil:
			return all, err
		default:
			all = append(all, e)
		}
	}
}

// drain takes everything out of a map without keys.
func drain(m *skep.Map) (all []entry, err error) {
	if m.Type() != ebpf.RingBuf {
		for {
			b := make([]byte, m.ValueSize())
			err := m.LookupAndDelete(nil, b)
			if errors.Is(err, ebpf.ErrKeyNotExist) {
				return all, nil
			} else if err != nil {
				return nil, err
			}
			all = append(all, entry{value: b})
		}
	}
	rd, err := ringbuf.NewReader(m)
	if err != nil {
		return nil, err
	}
	defer rd.Close()
	rd.SetDeadline(time.Now())
	for {
		rec, err := rd.Read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		all = append(all, entry{value: rec.RawSample})
	}
}

// compareMaps compares the maps of a step.
func (r *run) compareMaps(c *Case, before map[string][]entry) error {
	for _, name := range sortedKeys(c.MapsAfter) {
		m, err := r.mapOf("MapsAfter", name)
		if err == nil {
			err = r.compareMap("map "+name, m, c.MapsAfter[name], before[name], c.CPU)
		}
		if err != nil {
			return fmt.Errorf("MapsAfter: map %s: %w", name, err)
		}
	}
	return nil
}

// compareMap compares a map with what must be in it. before has what was in an array, nil if nobody knows: then zeros.
func (r *run) compareMap(what string, m *skep.Map, want []ebpf.MapKV, before []entry, cpu uint32) error {
	got, err := list(m)
	defer func() {
		for _, e := range got {
			_ = e.inner.Close()
		}
	}()
	if err != nil {
		return err
	}
	if kindOf(m.Type()) == keyless {
		return r.compareSequence(what, m, got, want)
	}
	seen := make([]bool, len(got))
	for i, kv := range want {
		key, err := encodeKey(m, kv.Key)
		if err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
		at := what + "[" + btfvalue.Format(typeOf(m.Spec().Key, kv.Key, len(key)), key) + "]"
		k := slices.IndexFunc(got, func(e entry) bool { return bytes.Equal(e.key, key) })
		if k < 0 {
			r.failf("%s is not there", at)
			continue
		}
		seen[k] = true
		if err := r.compareEntry(at, m, got[k], kv.Value, cpu); err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
	}
	for i, e := range got {
		if !seen[i] {
			r.unexpected(what, m, e, before, i)
		}
	}
	return nil
}

// compareEntry compares the value of one entry.
func (r *run) compareEntry(at string, m *skep.Map, e entry, value any, cpu uint32) error {
	if e.inner != nil {
		entries, ok := value.([]ebpf.MapKV)
		if !ok {
			return fmt.Errorf("value: %T where a map of maps has []ebpf.MapKV", value)
		}
		return r.compareMap(at, e.inner, entries, nil, cpu)
	}
	want, err := encode(value, int(m.ValueSize()))
	if err != nil {
		return fmt.Errorf("value: %w", err)
	}
	got := e.value
	if isPerCPU(m.Type()) {
		if int(cpu) >= skep.PossibleCPUs() {
			return fmt.Errorf("there is no CPU %d, only %d", cpu, skep.PossibleCPUs())
		}
		got = onCPU(m, got, cpu)
		at += fmt.Sprintf(" on CPU %d", cpu)
	}
	r.diff(at, m.Spec().Value, value, got, want)
	return nil
}

// unexpected notes an entry that is not listed, unless it is an element of an array that is as it was.
func (r *run) unexpected(what string, m *skep.Map, e entry, before []entry, i int) {
	at := what + "[" + btfvalue.Format(typeOf(m.Spec().Key, nil, len(e.key)), e.key) + "]"
	switch {
	case kindOf(m.Type()) == array:
		was := make([]byte, len(e.value))
		if i < len(before) {
			was = before[i].value
		}
		if isPerCPU(m.Type()) && !bytes.Equal(e.value, was) {
			r.failf("%s is not listed and has changed", at)
			return
		}
		r.diff(at+", which is not listed and has changed,", m.Spec().Value, nil, e.value, was)
	case e.inner != nil:
		r.failf("%s = {a map} is not expected", at)
	case isPerCPU(m.Type()):
		r.failf("%s is not expected", at)
	default:
		r.failf("%s = %s is not expected", at, btfvalue.Format(typeOf(m.Spec().Value, nil, len(e.value)), e.value))
	}
}

// compareSequence compares what came out of a map without keys.
func (r *run) compareSequence(what string, m *skep.Map, got []entry, want []ebpf.MapKV) error {
	for i, kv := range want {
		if _, err := encodeKey(m, kv.Key); err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
		b, err := encodeAny(kv.Value)
		if m.Type() != ebpf.RingBuf {
			b, err = encode(kv.Value, int(m.ValueSize()))
		}
		if err != nil {
			return fmt.Errorf("entry %d: value: %w", i, err)
		}
		at := fmt.Sprintf("%s: entry %d", what, i)
		if i >= len(got) {
			r.failf("%s, %s, is not there", at, btfvalue.Format(typeOf(valueType(m), kv.Value, len(b)), b))
			continue
		}
		r.diff(at, valueType(m), kv.Value, got[i].value, b)
	}
	for i := len(want); i < len(got); i++ {
		r.failf("%s: entry %d, %s, is not expected", what, i, btfvalue.Format(typeOf(valueType(m), nil, len(got[i].value)), got[i].value))
	}
	return nil
}

// valueType is the type of a map's values, nil if the object does not say it.
func valueType(m *skep.Map) btf.Type { return m.Spec().Value }
