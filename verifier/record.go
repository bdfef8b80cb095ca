package verifier

import (
	"errors"
	"strings"

	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/program"
)

// Special fields: what the kernel keeps inside of map values and of objects that programs allocate, and gives a meaning. Programs
// never touch the bytes of one; helpers and kfuncs do. A record lists those of one type, in the order of their offsets. How they
// are found is a rule about types alone: by name and size of their structures, by tags of pointers, and, for what owns other
// objects, by a declaration tag that names their type and the member that links them.
//
// As btf_parse_fields of Linux.

// fieldKind is a set of kinds of special fields (enum btf_field_type).
type fieldKind uint16

// The kinds.
const (
	fieldSpinLock fieldKind = 1 << iota
	fieldResSpinLock
	fieldTimer
	fieldWorkqueue
	fieldTaskWork
	fieldKptrUntrusted
	fieldKptr
	fieldKptrPercpu
	fieldUptr
	fieldListHead
	fieldListNode
	fieldRBRoot
	fieldRBNode
	fieldRefcount

	fieldAnyKptr = fieldKptrUntrusted | fieldKptr | fieldKptrPercpu
	fieldRoots   = fieldListHead | fieldRBRoot
	fieldNodes   = fieldListNode | fieldRBNode
	fieldLocks   = fieldSpinLock | fieldResSpinLock

	// mapFields can be in map values, objFields in objects of programs.
	mapFields = fieldLocks | fieldTimer | fieldWorkqueue | fieldTaskWork | fieldAnyKptr | fieldUptr | fieldRoots | fieldRefcount
	objFields = fieldLocks | fieldAnyKptr | fieldRoots | fieldNodes | fieldRefcount
)

// structKind is what is fixed of a kind that is a structure.
type structKind struct {
	kind        fieldKind
	name        string
	size, align int
	unique      bool // a type has one at most
}

var structFields = []structKind{
	{fieldSpinLock, "bpf_spin_lock", 4, 4, true},
	{fieldResSpinLock, "bpf_res_spin_lock", 4, 4, true},
	{fieldTimer, "bpf_timer", 16, 8, true},
	{fieldWorkqueue, "bpf_wq", 16, 8, true},
	{fieldTaskWork, "bpf_task_work", 8, 8, true},
	{fieldListHead, "bpf_list_head", 16, 8, false},
	{fieldListNode, "bpf_list_node", 24, 8, false},
	{fieldRBRoot, "bpf_rb_root", 16, 8, false},
	{fieldRBNode, "bpf_rb_node", 32, 8, false},
	{fieldRefcount, "bpf_refcount", 4, 4, false},
}

// structField returns the kind of field that structures of a name are, nil for any other name.
func structField(name string) *structKind {
	for i := range structFields {
		if structFields[i].name == name {
			return &structFields[i]
		}
	}
	return nil
}

// kptrTags are the tags of pointers that are fields.
var kptrTags = map[string]fieldKind{
	"kptr_untrusted": fieldKptrUntrusted, "kptr": fieldKptr, "percpu_kptr": fieldKptrPercpu, "uptr": fieldUptr,
}

// String names one kind as messages do (btf_field_type_name).
func (k fieldKind) String() string {
	switch k {
	case fieldKptrUntrusted, fieldKptr:
		return "kptr"
	case fieldKptrPercpu:
		return "percpu_kptr"
	case fieldUptr:
		return "uptr"
	}
	for i := range structFields {
		if structFields[i].kind == k {
			return structFields[i].name
		}
	}
	return "unknown"
}

// field is one special field.
type field struct {
	kind      fieldKind
	off, size int
	// target is what a pointer points to, or what a list or tree holds, nil for other kinds. local: it is a type of the program, not
	// of the kernel.
	target *btf.Struct
	local  bool
	node   int // of lists and trees: the offset of the member that links the objects
}

// record is the special fields of a type.
type record struct {
	fields []field
	kinds  fieldKind
	owners int // see ownersDepth; 0: not known yet
}

// The limits of a record (BTF_FIELDS_MAX) and of how deep structures are looked into (MAX_RESOLVE_DEPTH).
const (
	maxFields       = 11
	maxNestedFields = 32
)

// Why a type has no valid record.
var (
	errFieldCount   = errors.New("too many special fields, or one twice that can be there only once")
	errFieldPlace   = errors.New("a special field where none can be")
	errFieldTag     = errors.New("a pointer with a tag that is not known, or to what is no structure")
	errFieldTarget  = errors.New("a pointer to a structure of the kernel that cannot be kept")
	errFieldHolds   = errors.New("a list or tree whose objects are not known")
	errFieldLock    = errors.New("a list or tree without a lock, or two kinds of locks")
	errFieldOverlap = errors.New("special fields that overlap")
)

// find returns the field at an offset if it is of one of the kinds (btf_record_find).
func (r *record) find(off int, kinds fieldKind) *field {
	if r == nil || r.kinds&kinds == 0 {
		return nil
	}
	for i := range r.fields {
		if f := &r.fields[i]; f.off == off && f.kind&kinds != 0 {
			return f
		}
	}
	return nil
}

// has reports whether there is a field of one of the kinds (btf_record_has_field).
func (r *record) has(kinds fieldKind) bool { return r != nil && r.kinds&kinds != 0 }

// offset returns where the field of a kind is that a type uses one of, -1 if it is not there. Where structures in structures have
// several it is the last.
func (r *record) offset(kind fieldKind) int {
	if r.has(kind) {
		for i := len(r.fields) - 1; i >= 0; i-- {
			if r.fields[i].kind == kind {
				return r.fields[i].off
			}
		}
	}
	return -1
}

// recordParser finds the fields of one type.
type recordParser struct {
	e      *env
	types  *btf.Spec // that lists and trees name what they hold in
	mask   fieldKind
	seen   fieldKind
	work   int // members looked at: types made in Go can be of any shape
	fields []field
}

const maxFieldWork = 1 << 16

// parseRecord returns the record of a structure or of the variables of a section, which is one of types; nil without an error if it has
// no fields.
func (e *env) parseRecord(t btf.Type, types *btf.Spec, mask fieldKind, size int) (*record, error) {
	p := &recordParser{e: e, types: types, mask: mask}
	var err error
	switch x := t.(type) {
	case *btf.Struct:
		err = p.members(x.Members, 0, 0)
	case *btf.Datasec:
		err = p.variables(x)
	default:
		return nil, nil
	}
	if err != nil || len(p.fields) == 0 {
		return nil, err
	}
	return p.finish(size)
}

// finish checks the fields together.
func (p *recordParser) finish(size int) (*record, error) {
	r := &record{fields: p.fields}
	next := 0
	for i := range r.fields {
		f := &r.fields[i]
		if f.off < next || f.off+f.size > size {
			return nil, errFieldOverlap
		}
		next = f.off + f.size
		r.kinds |= f.kind
	}
	switch {
	case r.has(fieldSpinLock) && r.has(fieldResSpinLock), r.has(fieldRoots) && !r.has(fieldLocks):
		return nil, errFieldLock
	case r.has(fieldListNode) && r.has(fieldRBNode) && !r.has(fieldRefcount):
		return nil, errFieldPlace // who would own an object that is in both?
	}
	return r, nil
}

// members looks through the members of a structure that lies at an offset (btf_find_struct_field).
func (p *recordParser) members(ms []btf.Member, at, depth int) error {
	outer := p.seen
	p.seen = 0 // 6.18 counts in each structure for itself
	defer func() { p.seen = outer }()
	for i := range ms {
		if p.work++; p.work > maxFieldWork {
			return errFieldCount
		}
		if ms[i].Offset%8 != 0 {
			return errFieldPlace
		}
		if err := p.one(ms[i].Type, ms[i].Tags, at+int(ms[i].Offset.Bytes()), 0, depth); err != nil {
			return err
		}
	}
	return nil
}

// variables looks through the variables of a section (btf_find_datasec_var).
func (p *recordParser) variables(ds *btf.Datasec) error {
	for _, vsi := range ds.Vars {
		v, ok := vsi.Type.(*btf.Var)
		if !ok {
			continue
		}
		if err := p.one(v.Type, v.Tags, int(vsi.Offset), int(vsi.Size), 0); err != nil {
			return err
		}
	}
	return nil
}

// one looks at a member or variable; size is what it must have, 0 for any (btf_find_field_one).
func (p *recordParser) one(t btf.Type, tags []string, off, size, depth int) error {
	n := 1
	for i := 0; ; i++ {
		a, ok := t.(*btf.Array)
		if !ok {
			break
		}
		if i >= maxNestedFields {
			return errFieldCount
		}
		if n *= int(a.Nelems); n == 0 {
			return nil
		}
		if n > maxVarSize {
			return nil // more than any value has
		}
		t = a.Type
	}
	if s, ok := t.(*btf.Struct); ok { // unions are not looked into
		if ft := structField(s.Name); ft != nil && p.mask&ft.kind != 0 {
			return p.structure(ft, int(s.Size), tags, off, size, n)
		}
		if size != 0 && size != int(s.Size)*n {
			return nil
		}
		return p.nested(s, off, n, depth+1)
	}
	if p.mask&(fieldAnyKptr|fieldUptr) == 0 || size != 0 && size != 8*n || off%8 != 0 {
		return nil
	}
	f, err := p.pointer(t, off)
	if err != nil || f.kind == 0 {
		return err
	}
	return p.add(f, n, 8)
}

// nested looks into a structure inside of another one, or into the elements of an array of them (btf_find_nested_struct).
func (p *recordParser) nested(s *btf.Struct, off, n, depth int) error {
	if depth >= maxNestedFields {
		return errFieldCount
	}
	first := len(p.fields)
	if err := p.members(s.Members, off, depth); err != nil {
		return err
	}
	return p.repeat(first, n, int(s.Size))
}

// structure adds a field that is a structure.
func (p *recordParser) structure(ft *structKind, each int, tags []string, off, size, n int) error {
	if ft.unique {
		if p.seen&ft.kind != 0 {
			return errFieldCount
		}
		p.seen |= ft.kind
	}
	if size != 0 && size != ft.size*n || off%ft.align != 0 || each != ft.size {
		return nil
	}
	f := field{kind: ft.kind, off: off, size: ft.size}
	if ft.kind&fieldRoots != 0 {
		if err := p.holds(&f, tags); err != nil {
			return err
		}
	}
	return p.add(f, n, ft.size)
}

func (p *recordParser) add(f field, n, each int) error {
	if len(p.fields) >= maxFields {
		return errFieldCount
	}
	p.fields = append(p.fields, f)
	return p.repeat(len(p.fields)-1, n, each)
}

// repeat repeats the fields from the first one on for the other elements of an array (btf_repeat_fields).
func (p *recordParser) repeat(first, n, each int) error {
	found := p.fields[first:]
	if n <= 1 || len(found) == 0 {
		return nil
	}
	for i := range found {
		if found[i].kind&(fieldAnyKptr|fieldUptr|fieldRoots) == 0 {
			return errFieldPlace
		}
	}
	if n > maxFields || first+len(found)*n > maxFields {
		return errFieldCount
	}
	for i := 1; i < n; i++ {
		for _, f := range found {
			f.off += i * each
			p.fields = append(p.fields, f)
		}
	}
	return nil
}

// pointer returns the field that a tagged pointer is, one of kind 0 for other types (btf_find_kptr, btf_parse_kptr).
func (p *recordParser) pointer(t btf.Type, off int) (field, error) {
	kind, target, err := kptrOf(t)
	if err != nil || kind == 0 {
		return field{}, err
	}
	if p.mask&kind == 0 {
		return field{}, errFieldTag
	}
	f := field{kind: kind, off: off, size: 8}
	return f, p.e.kptrTarget(&f, target)
}

// kptrOf says which kind of kernel pointer a type is, 0 if none, and to what.
func kptrOf(t btf.Type) (fieldKind, *btf.Struct, error) {
	if v, ok := t.(*btf.Volatile); ok {
		t = v.Type
	}
	ptr, ok := t.(*btf.Pointer)
	if !ok {
		return 0, nil, nil
	}
	tag, ok := ptr.Target.(*btf.TypeTag)
	if !ok {
		return 0, nil, nil
	}
	if _, two := tag.Type.(*btf.TypeTag); two {
		return 0, nil, errFieldTag
	}
	s, ok := btf.UnderlyingType(tag.Type).(*btf.Struct)
	kind := kptrTags[tag.Value]
	if !ok || kind == 0 {
		return 0, nil, errFieldTag
	}
	return kind, s, nil
}

// kptrDestructors are the structures of the kernel that a referenced pointer in a map can own (register_btf_id_dtor_kfuncs).
var kptrDestructors = map[string]bool{"task_struct": true, "cgroup": true, "bpf_cpumask": true, "bpf_crypto_ctx": true,
	"prog_test_ref_kfunc": true, "prog_test_member": true}

// kptrTarget finds the structure of the kernel that a pointer is to, by name; what the kernel does not have is a type of the program. Where
// there is no kernel, all are: nobody has a pointer to what is not there.
func (e *env) kptrTarget(f *field, t *btf.Struct) error {
	types := e.kernelTypes()
	var s *btf.Struct
	if t.Name == "" || types == nil || types.TypeByName(t.Name, &s) != nil {
		f.target, f.local = t, true
		return nil
	}
	f.target = s
	if f.kind == fieldKptr && !kptrDestructors[t.Name] {
		return errFieldTarget
	}
	return nil
}

// holds finds what objects a list or tree holds, by its declaration tag contains:TYPE:MEMBER (btf_find_graph_root,
// btf_parse_graph_root).
func (p *recordParser) holds(f *field, tags []string) error {
	what := ""
	for _, tag := range tags {
		if w, ok := strings.CutPrefix(tag, "contains:"); ok {
			if what != "" {
				return errFieldHolds
			}
			what = w
		}
	}
	name, member, ok := strings.Cut(what, ":")
	if !ok || member == "" || p.types == nil {
		return errFieldHolds
	}
	f.local = true
	if p.types.TypeByName(name, &f.target) != nil {
		return errFieldHolds
	}
	want := "bpf_list_node"
	if f.kind == fieldRBRoot {
		want = "bpf_rb_node"
	}
	found := false
	for _, m := range f.target.Members {
		if m.Name != member {
			continue
		}
		if s, ok := m.Type.(*btf.Struct); !ok || found || s.Name != want || m.Offset%64 != 0 {
			return errFieldHolds
		}
		found, f.node = true, int(m.Offset.Bytes())
	}
	if !found {
		return errFieldHolds
	}
	return nil
}

// structRecord returns the record of a structure of the program as the type of an object, nil if it has none
// (btf_find_struct_meta). A structure has one if a member of it is a special field, not only a member of a member.
func (e *env) structRecord(s *btf.Struct) (*record, error) {
	if r, ok := e.objRecords[s]; ok {
		return r.rec, r.err
	}
	var o objRecord
	if hasDirectField(s) {
		o.rec, o.err = e.parseRecord(s, e.typesWith(s), objFields, int(s.Size))
		if o.err == nil && o.rec == nil {
			o.err = errFieldPlace
		}
	}
	if e.objRecords == nil {
		e.objRecords = map[*btf.Struct]objRecord{}
	}
	e.objRecords[s] = o
	return o.rec, o.err
}

// typesWith returns the types that a structure is one of: the program's, or those of a map that comes from elsewhere.
func (e *env) typesWith(s *btf.Struct) *btf.Spec {
	own := e.prog.Types
	if own != nil {
		if _, err := own.TypeID(s); err == nil {
			return own
		}
	}
	for i := range e.maps {
		m := &e.maps[i]
		if !m.Bound || m.Types == nil {
			continue
		}
		if _, err := m.Types.TypeID(s); err == nil {
			return m.Types
		}
	}
	for i := range e.maps {
		if e.maps[i].Bound {
			return nil
		}
	}
	return own
}

// typesOfMap returns the types that the values of a map are of.
func (e *env) typesOfMap(m *program.Map) *btf.Spec {
	if m.Bound {
		return m.Types
	}
	return e.prog.Types
}

type objRecord struct {
	rec *record
	err error
}

func hasDirectField(s *btf.Struct) bool {
	for _, m := range s.Members {
		if ft := structField(m.Type.TypeName()); ft != nil && ft.kind&objFields != 0 {
			if _, ok := m.Type.(*btf.Struct); ok {
				return true
			}
		}
		if kind, _, err := kptrOf(m.Type); err == nil && kind != 0 {
			return true
		}
	}
	return false
}

// maxOwnership is how many owners deep an object can be, itself included (BTF_MAX_OWNERSHIP_DEPTH).
const maxOwnership = 8

// checkOwners checks that what a record's lists, trees and pointers own has valid records too, owns the next, and comes to an end
// (btf_check_and_fixup_fields, btf_check_ownership_depth).
func (e *env) checkOwners(r *record) error {
	n, err := e.ownersDepth(r)
	if err == nil && n > maxOwnership {
		err = errFieldHolds
	}
	return err
}

// ownersDepth returns how many owners the longest chain has that begins with a record: more than any can have where it comes back to
// itself. Each record is looked at once, however many chains there are.
func (e *env) ownersDepth(r *record) (int, error) {
	switch {
	case r == nil:
		return 0, nil
	case r.owners != 0:
		return r.owners, nil
	}
	r.owners = maxOwnership + 1 // whoever comes here again has come round
	deepest := 0
	for i := range r.fields {
		f := &r.fields[i]
		if !f.local || f.kind&(fieldRoots|fieldKptr|fieldKptrPercpu) == 0 {
			continue
		}
		owned, err := e.structRecord(f.target)
		if err != nil {
			return 0, err
		}
		if owned == nil && f.kind&fieldRoots != 0 {
			return 0, errFieldHolds
		}
		// as before 6.18.40: what is a node and owns objects owns none that own some
		if f.kind&fieldRoots != 0 && r.has(fieldNodes) && owned.has(fieldRoots) {
			return 0, errFieldHolds
		}
		n, err := e.ownersDepth(owned)
		if err != nil {
			return 0, err
		}
		deepest = max(deepest, n)
	}
	r.owners = deepest + 1
	return r.owners, nil
}
