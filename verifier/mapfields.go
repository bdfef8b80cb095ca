package verifier

import (
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/program"
)

// Special fields of map values: which maps can have them, which programs can use such maps, and what touches them. The bytes of a
// field are nobody's; a pointer is the exception, which is loaded and stored as a whole.
//
// As map_check_btf, check_map_prog_compatibility and check_map_access of Linux.

// mapRecord is what the kernel knows of the types of a map's values.
type mapRecord struct {
	// btf: the map keeps its types. It does not where they do not fit the map; loaders then make it without them.
	btf bool
	rec *record
}

var (
	lockMaps  = []ebpf.MapType{ebpf.Hash, ebpf.Array, ebpf.CGroupStorage, ebpf.SkStorage, ebpf.InodeStorage, ebpf.TaskStorage, ebpf.CgroupStorage}
	timerMaps = []ebpf.MapType{ebpf.Hash, ebpf.LRUHash, ebpf.Array}
	kptrMaps  = []ebpf.MapType{ebpf.Hash, ebpf.PerCPUHash, ebpf.LRUHash, ebpf.LRUCPUHash, ebpf.Array, ebpf.PerCPUArray, ebpf.SkStorage,
		ebpf.InodeStorage, ebpf.TaskStorage, ebpf.CgroupStorage}
	uptrMaps = []ebpf.MapType{ebpf.TaskStorage}
)

// fieldMaps are the map types whose values can have fields of some kinds.
var fieldMaps = []struct {
	kinds fieldKind
	maps  []ebpf.MapType
}{
	{fieldLocks, lockMaps}, {fieldTimer | fieldWorkqueue | fieldTaskWork, timerMaps},
	{fieldAnyKptr | fieldRefcount, kptrMaps}, {fieldRoots, timerMaps}, {fieldUptr, uptrMaps},
}

// readMapRecords finds the fields of the values of a map that the program uses, and of those of its template.
func (e *env) readMapRecords(i int) error {
	if e.records == nil {
		e.records = make([]mapRecord, len(e.maps))
	}
	if err := e.readMapRecord(i); err != nil || e.inner[i] == 0 {
		return err
	}
	return e.readMapRecord(int(e.inner[i]))
}

func (e *env) readMapRecord(i int) error {
	m := &e.maps[i]
	if !keepsTypes(m) {
		return nil
	}
	rec, err := e.parseRecord(btf.UnderlyingType(m.Value), e.typesOfMap(m), mapFields, int(m.ValueSize))
	switch {
	case err != nil:
		rec = nil // the kernel takes the map, and nothing in it for a field
	case rec == nil:
	case m.Flags&(flagReadOnlyProg|flagWriteOnlyProg) != 0 || !mayHave(m.Type, rec.kinds) || !pinnable(rec):
		return nil
	default:
		if err := e.checkOwners(rec); err != nil {
			return e.reject(CodeBTF, "map %s: %v", m.Name, err)
		}
	}
	e.records[i] = mapRecord{btf: true, rec: rec}
	return nil
}

// pinnable reports whether what the pointers to memory of users point to is of a size that the kernel pins, and none of its own.
func pinnable(rec *record) bool {
	for i := range rec.fields {
		if f := &rec.fields[i]; f.kind == fieldUptr && (!f.local || f.target.Size == 0 || f.target.Size > maxPinned) {
			return false
		}
	}
	return true
}

const maxPinned = 4096 // PAGE_SIZE

// mayHave reports whether values of maps of a type can have all these fields.
func mayHave(t ebpf.MapType, kinds fieldKind) bool {
	for _, f := range fieldMaps {
		if kinds&f.kinds != 0 && !slices.Contains(f.maps, t) {
			return false
		}
	}
	return true
}

// keepsTypes reports whether the kernel takes a map with the types it was given (map_check_btf and those of map types).
func keepsTypes(m *program.Map) bool {
	array := m.Type == ebpf.Array || m.Type == ebpf.PerCPUArray
	switch {
	case !typesFit(m):
		return false
	case isVoidKey(m):
		_, section := m.Value.(*btf.Datasec)
		return m.Type == ebpf.Array && m.MaxEntries == 1 && section
	case array:
		_, isInt := btf.UnderlyingType(m.Key).(*btf.Int)
		return isInt
	}
	return mayHave(m.Type, fieldSpinLock) || mayHave(m.Type, fieldKptr) || mayHave(m.Type, fieldTimer)
}

// typesFit reports whether a map has types of the sizes of its keys and values.
func typesFit(m *program.Map) bool {
	if m.Value == nil {
		return false
	}
	if n, err := btf.Sizeof(m.Value); err != nil || n != int(m.ValueSize) {
		return false
	}
	if isVoidKey(m) {
		return true
	}
	n, err := btf.Sizeof(m.Key)
	return err == nil && n == int(m.KeySize)
}

func isVoidKey(m *program.Map) bool {
	_, void := m.Key.(*btf.Void)
	return void || m.Key == nil
}

// fieldsFitProgram checks that programs of this type can use maps with such fields (check_map_prog_compatibility).
func (e *env) fieldsFitProgram(i int) error {
	rec := e.records[i].rec
	tracing := false
	switch e.prog.Type {
	case ebpf.Kprobe, ebpf.TracePoint, ebpf.PerfEvent, ebpf.RawTracepoint, ebpf.RawTracepointWritable:
		tracing = true
	}
	switch {
	case rec.has(fieldRoots) && tracing:
		return e.reject(CodeCall, "tracing progs cannot use bpf_{list_head,rb_root} yet")
	case rec.has(fieldLocks) && e.prog.Type == ebpf.SocketFilter:
		return e.reject(CodeCall, "socket filter progs cannot use bpf_spin_lock yet")
	case rec.has(fieldLocks) && tracing:
		return e.reject(CodeCall, "tracing progs cannot use bpf_spin_lock yet")
	case rec.has(fieldTimer) && tracing:
		return e.reject(CodeCall, "tracing progs cannot use bpf_timer yet")
	case rec.has(fieldWorkqueue) && tracing:
		return e.reject(CodeCall, "tracing progs cannot use bpf_wq yet")
	}
	return nil
}

// touchesField checks an access to a map's value, inside of it by now, against its fields. direct: it is a load or store
// (check_map_access).
func (e *env) touchesField(r *reg, off, size int, direct bool) error {
	rec := e.records[r.aux].rec
	if rec == nil {
		return nil
	}
	lo, hi := r.Smin+int64(off), int64(r.Umax)+int64(off+size)
	for i := range rec.fields {
		f := &rec.fields[i]
		if lo >= int64(f.off+f.size) || int64(f.off) >= hi {
			continue
		}
		if f.kind&(fieldAnyKptr|fieldUptr) == 0 {
			return e.reject(CodePermission, "%s cannot be accessed directly by load/store", f.kind)
		}
		switch {
		case !direct:
			return e.reject(CodePermission, "%s cannot be accessed indirectly by helper", f.kind)
		case !r.Var.IsConst():
			return e.reject(CodePermission, "%s access cannot have variable offset", f.kind)
		case int64(f.off) != int64(off)+int64(r.Var.Value):
			return e.reject(CodePermission, "%s access misaligned expected=%d off=%d", f.kind, f.off, int64(off)+int64(r.Var.Value))
		case size != 8:
			return e.reject(CodePermission, "%s access size must be BPF_DW", f.kind)
		}
	}
	return nil
}

// inMapValue checks an access to a map's value by its bounds and fields.
func (e *env) inMapValue(op, off, size int, zeroOK, direct bool) error {
	r := &e.st.fr().regs[op]
	if err := e.inRegion(op, off, size, int64(e.maps[r.aux].ValueSize), zeroOK); err != nil {
		return err
	}
	return e.touchesField(r, off, size, direct)
}

// recordAt returns the fields of what a pointer points to, nil if it has none (reg_btf_record).
func (e *env) recordAt(r *reg) *record {
	switch {
	case r.typ == ptrToMapValue:
		return e.records[r.aux].rec
	case isAllocated(r.typ):
		s, ok := e.types[r.aux].(*btf.Struct)
		if !ok {
			return nil
		}
		rec, _ := e.structRecord(s) // an error was one where the pointer was made
		return rec
	}
	return nil
}

// isAllocated reports whether t points to an object of the program that is all its own (type_is_ptr_alloc_obj).
func isAllocated(t regType) bool { return t.base() == ptrToBTF && t&memAlloc != 0 }

// giveID gives a pointer that is not NULL an id if it needs one.
func (e *env) giveID(r *reg) {
	if e.keepsID(r) {
		e.idGen++
		r.id = e.idGen
	}
}

// keepsID reports whether a pointer keeps its id once it is known not to be NULL: locks are told apart by it
// (reg_may_point_to_spin_lock).
func (e *env) keepsID(r *reg) bool { return e.recordAt(r).has(fieldLocks) }
