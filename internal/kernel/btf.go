//go:build linux && (amd64 || arm64)

package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"github.com/skep-bpf/skep/internal/program"
)

// typeInfo is the BTF of one program in the kernel, with the func_info and line_info records that refer to it. Maps and
// program share it, so that types mean the same on both sides.
type typeInfo struct {
	fd                   int
	ids                  map[btf.Type]btf.TypeID
	funcs, lines         []byte
	funcCount, lineCount int
}

const (
	funcInfoSize = 8
	lineInfoSize = 16
)

// loadTypes builds and loads the BTF of p; nil if p has none.
func loadTypes(p *program.Program) (*typeInfo, error) {
	var b btf.Builder
	t := &typeInfo{ids: map[btf.Type]btf.TypeID{}}
	add := func(typ btf.Type) error {
		id, err := b.Add(typ)
		t.ids[typ] = id
		return err
	}
	if err := addNumbered(&b, p); err != nil {
		return nil, fmt.Errorf("load BTF: %w: %w", err, ErrNoVerdict)
	}
	complete := len(p.Funcs) > 0
	for i := range p.Funcs {
		complete = complete && p.Funcs[i].Type != nil
	}
	if complete {
		for i := range p.Funcs {
			f := &p.Funcs[i]
			if err := add(f.Type); err != nil {
				return nil, fmt.Errorf("load BTF: function %s: %w: %w", f.Name, err, ErrNoVerdict)
			}
			t.funcs = binary.NativeEndian.AppendUint32(t.funcs, uint32(f.Start))
			t.funcs = binary.NativeEndian.AppendUint32(t.funcs, uint32(t.ids[f.Type]))
			t.funcCount++
		}
	}
	for i := range p.Maps {
		for m := &p.Maps[i]; m != nil; m = m.Inner {
			for _, typ := range []btf.Type{m.Key, m.Value} {
				if typ == nil {
					continue
				}
				if err := add(typ); err != nil {
					return nil, fmt.Errorf("load BTF: map %s: %w: %w", m.Name, err, ErrNoVerdict)
				}
			}
		}
	}
	if len(t.ids) == 0 {
		return nil, nil
	}
	raw, err := b.Marshal(nil, btf.KernelMarshalOptions())
	if err != nil {
		return nil, fmt.Errorf("load BTF: %w: %w", err, ErrNoVerdict)
	}
	if complete {
		raw = t.addLines(raw, p)
	}
	return t, t.load(raw)
}

// addNumbered gives the structures of the object that p comes from the numbers that they have there: instructions of a program that
// allocates objects have them as immediates, and declaration tags name structures that nothing else refers to.
func addNumbered(b *btf.Builder, p *program.Program) error {
	if p.Types == nil || !allocates(p) {
		return nil
	}
	for id := btf.TypeID(1); ; id++ {
		typ, err := p.Types.TypeByID(id)
		if errors.Is(err, btf.ErrNotFound) {
			return nil
		} else if err != nil {
			return err
		}
		if _, ok := typ.(*btf.Struct); !ok {
			typ = &btf.Int{Name: "unused", Size: 4} // in the place of what gets another number
		}
		if got, err := b.Add(typ); err != nil || got != id {
			return fmt.Errorf("type %d has number %d: %w", id, got, err)
		}
	}
}

// allocates reports whether p can have objects of its own: it calls kfuncs, or a list or tree in a map names their type.
func allocates(p *program.Program) bool {
	return len(p.Kfuncs) > 0 || slices.ContainsFunc(p.Maps, func(m program.Map) bool {
		ds, ok := m.Value.(*btf.Datasec)
		s, _ := m.Value.(*btf.Struct)
		return ok && slices.ContainsFunc(ds.Vars, func(v btf.VarSecinfo) bool { return namesType(v.Type) }) ||
			s != nil && slices.ContainsFunc(s.Members, func(m btf.Member) bool { return contains(m.Tags) })
	})
}

func namesType(t btf.Type) bool {
	v, ok := t.(*btf.Var)
	return ok && contains(v.Tags)
}

func contains(tags []string) bool {
	return slices.ContainsFunc(tags, func(tag string) bool { return strings.HasPrefix(tag, "contains:") })
}

func (t *typeInfo) load(raw []byte) error {
	a := attrBTFLoad{btf: ptr(raw), size: uint32(len(raw))}
	fd, e := call(cmdBTFLoad, &a)
	if e == 0 {
		t.fd = fd
		return nil
	}
	log := make([]byte, logStart)
	a.logBuf, a.logSize, a.logLevel = ptr(log), uint32(len(log)), 1
	if fd, e2 := call(cmdBTFLoad, &a); e2 == 0 {
		t.fd = fd
		return nil
	}
	return fmt.Errorf("load BTF: %w: %s: %w", e, lastLine(text(log)), ErrNoVerdict)
}

// addLines makes the line records and appends their strings to raw, whose string section is its end.
func (t *typeInfo) addLines(raw []byte, p *program.Program) []byte {
	const strOff, strLen = 16, 20 // struct btf_header
	base := binary.NativeEndian.Uint32(raw[strLen:])
	offs := map[string]uint32{"": 0}
	var strs []byte
	str := func(s string) uint32 {
		if o, ok := offs[s]; ok {
			return o
		}
		o := base + uint32(len(strs))
		offs[s] = o
		strs = append(strs, cstring(s)...)
		return o
	}
	// The kernel wants each function to start with a record, strictly increasing, and none inside a wide load.
	for i := range p.Funcs {
		if p.LineAt(p.Funcs[i].Start) == nil || p.LineAt(p.Funcs[i].Start).Insn != p.Funcs[i].Start {
			return raw
		}
	}
	for _, l := range p.Lines {
		if l.Insn > 0 && l.Insn < len(p.Insns) && p.Insns[l.Insn].Op == 0 {
			continue
		}
		for _, v := range []uint32{uint32(l.Insn), str(l.File), str(l.Text), l.Number<<10 | l.Column&0x3ff} {
			t.lines = binary.NativeEndian.AppendUint32(t.lines, v)
		}
		t.lineCount++
	}
	raw = slices.Concat(raw, strs)
	binary.NativeEndian.PutUint32(raw[strLen:], base+uint32(len(strs)))
	return raw
}

// mapIDs fills in the types of a map; false if it has none.
func (t *typeInfo) mapIDs(m *program.Map, a *attrMapCreate) bool {
	if m.Value == nil {
		return false
	}
	a.btfFD, a.btfValue = uint32(t.fd), uint32(t.ids[m.Value])
	if m.Key != nil {
		a.btfKey = uint32(t.ids[m.Key])
	}
	return true
}

func (t *typeInfo) close() {
	if t != nil && t.fd > 0 {
		unix.Close(t.fd)
	}
}
