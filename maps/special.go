package maps

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/async"
	"github.com/skep-bpf/skep/internal/errno"
	"github.com/skep-bpf/skep/internal/objects"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/internal/rt"
	"github.com/skep-bpf/skep/internal/spin"
	"github.com/skep-bpf/skep/verifier"
)

// Special fields of values: a lock, a timer, a work queue, what owns objects of programs. A copy of a value leaves them out, in both
// directions, and an element that goes away takes its timer and its objects along (copy_map_value, bpf_obj_free_fields). nil stands for
// values without any.
type special struct {
	fields []verifier.ValueField
	lock   int // offset of the bpf_spin_lock, which BPF_F_LOCK takes; -1: none
	guard  int // offset of the lock of either kind that lists and trees are used under
	timers *async.Set
	async  []int           // offsets of timers and work queues
	plain  []int           // offsets of pointers that own nothing
	owners []objects.Field // and what owns objects
	types  *btf.Spec       // that the fields' targets are of
}

// specialOf finds the fields of the values of a map.
func specialOf(s *ebpf.MapSpec, opts *Options) (*special, error) {
	fields, err := fieldsOf(s, opts.Types, opts.Kernel)
	switch {
	case errors.Is(err, verifier.ErrFieldFlags):
		return nil, refuse(errno.EACCES, "%v", err)
	case errors.Is(err, verifier.ErrFieldMap):
		return nil, refuse(errno.EOPNOTSUPP, "%v", err)
	case err != nil:
		return nil, fmt.Errorf("map create: value: %w: %w", err, ebpf.ErrNotSupported)
	case len(fields) == 0:
		return nil, nil
	}
	sp := &special{fields: fields, lock: -1, timers: new(async.Set), types: opts.Types}
	for _, f := range fields {
		switch f.Kind {
		case verifier.SpinLockField:
			sp.lock, sp.guard = f.Off, f.Off
		case verifier.ResLockField:
			sp.guard = f.Off
		case verifier.TimerField, verifier.WorkqueueField:
			sp.async = append(sp.async, f.Off)
		case verifier.PlainKptrField:
			sp.plain = append(sp.plain, f.Off)
		case verifier.KptrField, verifier.ListField, verifier.TreeField:
		default:
			return nil, fmt.Errorf("map create: value: a field of kind %d: %w", f.Kind, ebpf.ErrNotSupported)
		}
	}
	sp.owners = objects.Fields(fields)
	return sp, nil
}

// fieldsOf finds the fields of the values of a map with these types of its object.
func fieldsOf(s *ebpf.MapSpec, types *btf.Spec, kernel func() *btf.Spec) ([]verifier.ValueField, error) {
	d := program.MapOf(s, s.Name)
	d.Bind(types)
	return verifier.ValueFields(&d, kernel)
}

// hasLock reports whether values have a lock that BPF_F_LOCK can mean.
func (sp *special) hasLock() bool { return sp != nil && sp.lock >= 0 }

// hasTimers reports whether values have a timer or a work queue.
func (sp *special) hasTimers() bool { return sp != nil && len(sp.async) > 0 }

// ownsObjects reports whether values have fields that own objects.
func (sp *special) ownsObjects() bool {
	return sp != nil && slices.ContainsFunc(sp.owners, func(f objects.Field) bool { return f.Kind != objects.Lock })
}

// put copies a value into an element, all but its fields. locked: under the element's lock.
func (sp *special) put(elem, value []byte, locked bool) {
	if sp == nil {
		copy(elem, value)
		return
	}
	if locked {
		w := addrOf(elem) + uint64(sp.lock)
		spin.Take(w)
		defer spin.Drop(w)
	}
	at := 0
	for _, f := range sp.fields {
		copy(elem[at:f.Off], value[at:])
		at = f.Off + f.Size
	}
	if at < len(elem) {
		copy(elem[at:], value[at:])
	}
}

// replace is put of a value in the place of another one, whose fields are freed.
func (sp *special) replace(elem, value []byte, locked bool) {
	sp.put(elem, value, locked)
	if sp != nil {
		sp.free(uintptr(addrOf(elem)))
	}
}

// get copies a value out of an element; its fields read as zeros.
func (sp *special) get(value, elem []byte, locked bool) {
	if sp == nil {
		copy(value, elem)
		return
	}
	if locked {
		w := addrOf(elem) + uint64(sp.lock)
		spin.Take(w)
		defer spin.Drop(w)
	}
	copy(value, elem)
	for _, f := range sp.fields {
		clear(value[f.Off : f.Off+f.Size])
	}
}

// free frees what the fields of the value at addr hold.
func (sp *special) free(addr uintptr) {
	if sp == nil {
		return
	}
	for _, off := range sp.async {
		async.Free(addr + uintptr(off))
	}
	for _, off := range sp.plain {
		clear(rt.Mem(uint64(addr)+uint64(off), 8))
	}
	objects.DropFields(uint64(addr), sp.owners, sp.guard)
}

// zero clears a value, all but its fields.
func (sp *special) zero(elem []byte) {
	if sp == nil {
		clear(elem)
		return
	}
	sp.put(elem, make([]byte, len(elem)), false)
}

// freeAll frees what the fields of all values hold, also of those that are no element's any more: who still had one may have put
// something there.
func (sp *special) freeAll(s store) {
	if !sp.ownsObjects() {
		return
	}
	if v, ok := s.(interface{ eachValue(func(addr uintptr)) }); ok {
		v.eachValue(sp.free)
	}
}

func (a *array) eachValue(f func(addr uintptr)) {
	cpus := 1
	if a.perCPU != 0 {
		cpus = rt.CPUs()
	}
	for c := range cpus {
		for i := range a.maxEntries {
			f(a.m.addr(a.off(i, c)))
		}
	}
}

func (h *hash) eachValue(f func(addr uintptr)) {
	for i := range h.pools {
		p := &h.pools[i]
		for n := range p.unused.Load() {
			h.freeValues(p.first+n+1, f)
		}
	}
}

// freeValues calls f for each value of an element.
func (h *hash) freeValues(link uint32, f func(addr uintptr)) {
	cpus := 1
	if h.perCPU != 0 {
		cpus = rt.CPUs()
	}
	for c := range cpus {
		f(h.vm.addr(h.valueOff(link, c)))
	}
}

// same reports whether values have the same fields (btf_record_equal).
func (sp *special) same(fields []verifier.ValueField) bool {
	n := 0
	if sp != nil {
		n = len(sp.fields)
	}
	if n != len(fields) {
		return false
	}
	for i, f := range fields {
		if sp.fields[i] != f {
			return false
		}
	}
	return true
}

// overlaps reports whether bytes [off, off+n) of a value are in part those of a field.
func (sp *special) overlaps(off, n uint64) bool {
	if sp == nil {
		return false
	}
	for _, f := range sp.fields {
		if off < uint64(f.Off+f.Size) && uint64(f.Off) < off+n {
			return true
		}
	}
	return false
}

// locking is a store whose values can have a bpf_spin_lock: read and take that copy under it.
type locking interface {
	readLocked(key, value []byte) errno.Errno
	takeLocked(key, value []byte) errno.Errno
}

func readLocked(s store, key, value []byte) errno.Errno { return s.(locking).readLocked(key, value) }
func takeLocked(s store, key, value []byte) errno.Errno { return s.(locking).takeLocked(key, value) }

// keyed is a store that knows where its values begin, and the key of each.
type keyed interface {
	startsValue(addr uintptr) bool
	keyOf(value uintptr) uintptr // an address; 0: no memory
}

func (a *array) startsValue(addr uintptr) bool {
	base := a.m.addr(0)
	return addr >= base && (addr-base)%uintptr(a.stride) == 0 && (addr-base)/uintptr(a.stride) < uintptr(a.maxEntries)
}

func (a *array) keyOf(value uintptr) uintptr {
	return a.keys.addr(uint32((value-a.m.addr(0))/uintptr(a.stride)), a.maxEntries)
}

func (h *hash) startsValue(addr uintptr) bool {
	first := h.vm.addr(h.valueOff(1, 0))
	return addr >= first && (addr-first)%uintptr(h.elemSize) == 0 && addr < h.em.addr(0)+uintptr(h.elems.Size())
}

func (h *hash) keyOf(value uintptr) uintptr { return value - uintptr(h.keyPad) }

// Types returns the types of the object that the map comes from (Options.Types).
func (m *Side) Types() *btf.Spec { return m.opts.Types }

// HasFields reports whether the map has the special fields that programs are proven to find in the values of d, by these types of the
// kernel: they decide which pointers are to structures of the kernel.
func (m *Side) HasFields(d *program.Map, kernel func() *btf.Spec) bool {
	fields, err := verifier.ValueFields(d, kernel)
	return err == nil && m.special.same(fields)
}

// TimerInit initialises the timer or work queue at field, an address in a value of the map (bpf_timer_init, bpf_wq_init).
func (m *Side) TimerInit(field uint64, clock rt.Clock) errno.Errno {
	k, ok := m.store.(keyed)
	if !ok || !m.special.hasTimers() {
		return errno.EINVAL
	}
	value, ok := m.valueAround(k, uintptr(field))
	if !ok {
		return errno.EINVAL
	}
	key := k.keyOf(value)
	if key == 0 {
		return errno.ENOMEM
	}
	return m.special.timers.Init(uintptr(field), [3]uint64{(*Map)(m).Handle(), uint64(key), uint64(value)}, clock)
}

// valueAround returns the value that the field at an address is in: which field it is says its distance from the value's start.
func (m *Side) valueAround(k keyed, field uintptr) (uintptr, bool) {
	for _, off := range m.special.async {
		if value := field - uintptr(off); k.startsValue(value) {
			return value, true
		}
	}
	return 0, false
}
