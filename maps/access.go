package maps

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/errno"
	"github.com/skep-bpf/skep/internal/sysenc"
)

// Lookup retrieves a value. valueOut is a pointer to a fixed-size value, a []byte, *[]byte, *string or
// encoding.BinaryUnmarshaler; for per-CPU maps a slice, or a pointer to a slice, with one value per CPU (PossibleCPUs). In a map of maps
// it can be a **Map, which gets a clone that wants a Close.
//
// The error wraps ebpf.ErrKeyNotExist if there is no such key.
func (m *Map) Lookup(key, valueOut any) error { return m.LookupWithFlags(key, valueOut, 0) }

// LookupWithFlags is Lookup with flags. There is one, ebpf.LookupLock: the value is copied under its bpf_spin_lock; it is unix.EINVAL where
// values have none.
func (m *Map) LookupWithFlags(key, valueOut any, flags ebpf.MapLookupFlags) error {
	f := store.read
	if flags == ebpf.LookupLock {
		f = readLocked
	}
	return m.get(key, valueOut, flags, "lookup", f)
}

// LookupAndDelete retrieves a value and deletes its element in one step. Hash maps only, as in the kernel.
func (m *Map) LookupAndDelete(key, valueOut any) error {
	return m.LookupAndDeleteWithFlags(key, valueOut, 0)
}

// LookupAndDeleteWithFlags is LookupAndDelete with flags, see LookupWithFlags.
func (m *Map) LookupAndDeleteWithFlags(key, valueOut any, flags ebpf.MapLookupFlags) error {
	if err := m.made(); err != nil {
		return fmt.Errorf("lookup and delete: %w", err)
	}
	if err := m.writable(); err != nil {
		return fmt.Errorf("lookup and delete: %w", err)
	}
	if m.typ == ebpf.HashOfMaps && m.flags&FlagWriteOnly == 0 {
		return opError("lookup and delete", errno.ENOTSUPP) // has only the batch operation
	}
	return m.take(key, valueOut, flags)
}

// take retrieves a value and deletes its element.
func (m *Map) take(key, valueOut any, flags ebpf.MapLookupFlags) error {
	f := store.take
	if flags == ebpf.LookupLock {
		f = takeLocked
	}
	return m.get(key, valueOut, flags, "lookup and delete", f)
}

// get finds a value with f and hands it to valueOut.
func (m *Map) get(key, valueOut any, flags ebpf.MapLookupFlags, op string, f func(store, []byte, []byte) errno.Errno) error {
	if err := m.hold(); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	defer m.unhold()
	if flags&^ebpf.LookupLock != 0 || flags != 0 && !m.special.hasLock() {
		return fmt.Errorf("%s: flags %#x: %w", op, uint64(flags), errNoLock(flags == ebpf.LookupLock))
	}
	if m.flags&FlagWriteOnly != 0 {
		return fmt.Errorf("%s: map is BPF_F_WRONLY: %w", op, errno.EPERM)
	}
	var kb sysenc.Buffer
	k, err := m.marshalKey(key, &kb)
	if err != nil {
		return fmt.Errorf("can't marshal key: %w", err)
	}
	if o, ok := m.store.(outer); ok {
		if out, ok := valueOut.(**Map); ok && out != nil && op == "lookup" {
			return m.getInner(o, key, out)
		}
	}
	if m.perCPU() {
		if valueOut, err = perCPUSlice(valueOut); err != nil {
			return err
		}
		buf := make([]byte, m.fullValueSize)
		if e := f(m.store, k, buf); e != 0 {
			return opError(op, e)
		}
		return unmarshalPerCPU(valueOut, int(m.valueSize), buf)
	}
	if err := m.checkValueOut(valueOut); err != nil {
		return err
	}
	buf, direct := sysenc.OutBuffer(valueOut, m.fullValueSize)
	if e := f(m.store, k, buf); e != 0 {
		return opError(op, e)
	}
	if direct {
		return nil
	}
	return sysenc.Unmarshal(valueOut, buf)
}

// errNoLock is the error of a flag: that of a lock which is not there, or of one that is not known.
func errNoLock(known bool) error {
	if known {
		return fmt.Errorf("no bpf_spin_lock in the value: %w", errno.EINVAL)
	}
	return errno.EINVAL
}

// opError names the operation in front of an error number's Go error.
func opError(op string, e errno.Errno) error {
	if e == errno.ENOENT {
		switch op {
		case "lookup":
			return errLookupNotExist
		case "next key":
			return errNextKeyNotExist
		case "delete":
			return errDeleteNotExist
		}
	}
	return fmt.Errorf("%s: %w", op, wrap(e))
}

// checkValueOut refuses destinations that only maps of maps could fill.
func (m *Map) checkValueOut(v any) error {
	switch v.(type) {
	case *Map, **Map:
		return fmt.Errorf("can't read a map from %s", m.typ)
	}
	return nil
}

// LookupBytes gets a value as bytes, nil if there is no such key. For per-CPU maps the bytes hold all CPUs' values, each
// rounded up to 8 bytes.
func (m *Map) LookupBytes(key any) ([]byte, error) {
	if err := m.hold(); err != nil {
		return nil, fmt.Errorf("lookup: %w", err)
	}
	defer m.unhold()
	if m.flags&FlagWriteOnly != 0 {
		return nil, fmt.Errorf("lookup: map is BPF_F_WRONLY: %w", errno.EPERM)
	}
	var kb sysenc.Buffer
	k, err := m.marshalKey(key, &kb)
	if err != nil {
		return nil, fmt.Errorf("can't marshal key: %w", err)
	}
	buf := make([]byte, m.fullValueSize)
	switch e := m.store.read(k, buf); e {
	case 0:
		return buf, nil
	case errno.ENOENT:
		return nil, nil
	default:
		return nil, opError("lookup", e)
	}
}

// Put replaces or creates a value: Update with ebpf.UpdateAny.
func (m *Map) Put(key, value any) error { return m.Update(key, value, ebpf.UpdateAny) }

// Update changes the value of a key. For per-CPU maps value is a slice with at most one value per CPU; missing ones are
// zero. For program arrays it is a program, for maps of maps a *Map of the kind of InnerMap: programs that run on use the old one to their
// end.
//
// The error wraps ebpf.ErrKeyExist (UpdateNoExist), ebpf.ErrKeyNotExist (UpdateExist), unix.E2BIG (map full, or index
// beyond an array), unix.EPERM (frozen), unix.EINVAL (unknown flags, UpdateLock).
func (m *Map) Update(key, value any, flags ebpf.MapUpdateFlags) error {
	return m.update(key, value, flags, false)
}

// update is Update; initial contents also go into maps that are read-only from Go.
func (m *Map) update(key, value any, flags ebpf.MapUpdateFlags, initial bool) error {
	if err := m.hold(); err != nil {
		return fmt.Errorf("update: %w", err)
	}
	defer m.unhold()
	m.freezeMu.RLock()
	defer m.freezeMu.RUnlock()
	if !initial {
		if err := m.writable(); err != nil {
			return fmt.Errorf("update: %w", err)
		}
	}
	if flags&ebpf.UpdateLock != 0 && !m.special.hasLock() {
		return fmt.Errorf("update: UpdateLock: %w", errNoLock(true))
	}
	var kb, vb sysenc.Buffer
	switch s := m.store.(type) {
	case *progArray:
		return m.updateProgram(s, key, value, uint64(flags))
	case outer:
		return m.updateInner(s, key, value, uint64(flags))
	}
	v, err := m.marshalValue(value, &vb)
	if err != nil {
		return fmt.Errorf("marshal value: %w", err)
	}
	k, err := m.marshalKey(key, &kb)
	if err != nil {
		return fmt.Errorf("marshal key: %w", err)
	}
	if e := m.store.write(k, v, uint64(flags)); e != 0 {
		return opError("update", e)
	}
	return nil
}

func (m *Map) updateProgram(p *progArray, key, value any, flags uint64) error {
	prog, ok := value.(Program)
	if !ok {
		return fmt.Errorf("marshal value: %s holds programs, not %T", m.typ, value)
	}
	if v := reflect.ValueOf(value); v.Kind() == reflect.Pointer && v.IsNil() {
		return fmt.Errorf("marshal value: can't store a nil %T", value)
	}
	var kb sysenc.Buffer
	k, err := m.marshalKey(key, &kb)
	if err != nil {
		return fmt.Errorf("marshal key: %w", err)
	}
	if e := p.set(k, prog, flags); e != 0 {
		if e == errno.EINVAL && flags == 0 {
			return fmt.Errorf("update: the array's programs are %s, not %s: %w", p.kind, prog.TailKind(), e)
		}
		return opError("update", e)
	}
	return nil
}

// writable reports why Go may not change the map.
func (m *Map) writable() error {
	switch {
	case m.frozen.Load():
		return fmt.Errorf("map is frozen: %w", errno.EPERM)
	case m.flags&FlagReadOnly != 0:
		return fmt.Errorf("map is BPF_F_RDONLY: %w", errno.EPERM)
	}
	return nil
}

// Delete removes an element. The error wraps ebpf.ErrKeyNotExist if there is none; elements of arrays cannot be deleted
// (unix.EINVAL).
func (m *Map) Delete(key any) error {
	if err := m.hold(); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	defer m.unhold()
	m.freezeMu.RLock()
	defer m.freezeMu.RUnlock()
	if err := m.writable(); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	var kb sysenc.Buffer
	k, err := m.marshalKey(key, &kb)
	if err != nil {
		return fmt.Errorf("can't marshal key: %w", err)
	}
	if e := m.store.delete(k); e != 0 {
		return opError("delete", e)
	}
	return nil
}

// NextKey finds the key that follows key; nil or an unknown key is followed by the first. The error wraps
// ebpf.ErrKeyNotExist behind the last key.
func (m *Map) NextKey(key, nextKeyOut any) error {
	if err := m.made(); err != nil {
		return fmt.Errorf("next key: %w", err)
	}
	buf, direct := sysenc.OutBuffer(nextKeyOut, int(m.keySize))
	if direct {
		// The next key may overwrite the key it is looked up with.
		buf = make([]byte, m.keySize)
	}
	if err := m.next(key, buf); err != nil {
		return err
	}
	if err := sysenc.Unmarshal(nextKeyOut, buf); err != nil {
		return fmt.Errorf("can't unmarshal next key: %w", err)
	}
	return nil
}

// NextKeyBytes is NextKey with a new slice as result, nil behind the last key.
func (m *Map) NextKeyBytes(key any) ([]byte, error) {
	if err := m.made(); err != nil {
		return nil, fmt.Errorf("next key: %w", err)
	}
	buf := make([]byte, m.keySize)
	err := m.next(key, buf)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil, nil
	}
	return buf, err
}

func (m *Map) next(key any, out []byte) error {
	if err := m.hold(); err != nil {
		return fmt.Errorf("next key: %w", err)
	}
	defer m.unhold()
	if m.flags&FlagWriteOnly != 0 {
		return fmt.Errorf("next key: map is BPF_F_WRONLY: %w", errno.EPERM)
	}
	var k []byte
	var kb sysenc.Buffer
	if key != nil {
		var err error
		if k, err = m.marshalKey(key, &kb); err != nil {
			return fmt.Errorf("can't marshal key: %w", err)
		}
	}
	if e := m.store.nextKey(k, out); e != 0 {
		return opError("next key", e)
	}
	return nil
}
