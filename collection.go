package skep

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/skep-bpf/skep/internal/object"
)

// Collection is a set of programs and maps that were loaded together.
type Collection struct {
	Programs  map[string]*Program
	Maps      map[string]*Map
	Variables map[string]*Variable
}

// LoadCollectionSpec reads an object file. It is ebpf.LoadCollectionSpec with the gaps of that reader closed: line records of
// padded functions, weak symbols, names of kconfig variables. Specs that cilium/ebpf itself read, bpf2go's among them, load
// as well.
func LoadCollectionSpec(file string) (*ebpf.CollectionSpec, error) {
	o, err := loadObject(file, Limits{})
	if err != nil {
		return nil, err
	}
	return o.Spec, nil
}

// LoadCollectionSpecFromReader is LoadCollectionSpec for an object that is no file: one that is embedded in the program, say,
// and read by bytes.NewReader.
func LoadCollectionSpecFromReader(r io.ReaderAt) (*ebpf.CollectionSpec, error) {
	o, err := object.Load(r, object.Options{})
	if err != nil {
		return nil, err
	}
	return o.Spec, nil
}

func loadObject(file string, l Limits) (*object.Object, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	o, err := object.Load(f, object.Options{MaxSize: l.ObjectBytes})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return o, nil
}

// LoadCollection reads an object file and loads everything in it.
func LoadCollection(file string) (*Collection, error) {
	return LoadCollectionWithOptions(file, Options{})
}

// LoadCollectionWithOptions is LoadCollection with options.
func LoadCollectionWithOptions(file string, opts Options) (*Collection, error) {
	o, err := loadObject(file, opts.Limits)
	if err != nil {
		return nil, err
	}
	return NewCollectionWithOptions(o.Spec, opts)
}

// NewCollection makes all maps and loads all programs of a spec. The spec is not changed.
//
// The error of a program that the verifier refuses is a *VerifierError (and a *ebpf.VerifierError) to errors.As.
func NewCollection(spec *ebpf.CollectionSpec) (*Collection, error) {
	return NewCollectionWithOptions(spec, Options{})
}

// NewCollectionWithOptions is NewCollection with options.
func NewCollectionWithOptions(spec *ebpf.CollectionSpec, opts Options) (_ *Collection, err error) {
	l, err := newLoader(spec, opts)
	if err != nil {
		return nil, err
	}
	defer func() { l.finish(err) }()
	if opts.Programs != nil {
		if err := l.loadPrograms(opts.Programs); err != nil {
			return nil, err
		}
		if err := l.populate(); err != nil {
			return nil, err
		}
		if err := l.ownVariables(); err != nil {
			return nil, err
		}
		return &Collection{Programs: l.progs, Maps: l.maps, Variables: l.vars}, nil
	}
	for _, name := range sortedKeys(spec.Maps) {
		if _, err := l.getMap(name); err != nil {
			return nil, err
		}
	}
	var names []string
	for _, name := range sortedKeys(spec.Programs) {
		if s := spec.Programs[name]; s.Type != ebpf.UnspecifiedProgram || opts.hookOf(s) != nil {
			names = append(names, name)
		}
	}
	if err := l.loadPrograms(names); err != nil {
		return nil, err
	}
	for _, name := range sortedKeys(spec.Variables) {
		if _, err := l.variable(name); err != nil {
			return nil, err
		}
	}
	if err := l.populate(); err != nil {
		return nil, err
	}
	return &Collection{Programs: l.progs, Maps: l.maps, Variables: l.vars}, nil
}

// Close frees the collection's programs and maps. Runs that are under way end first.
func (c *Collection) Close() {
	if c == nil {
		return
	}
	for _, p := range c.Programs {
		_ = p.Close()
	}
	for _, v := range c.Variables {
		v.release()
	}
	for _, m := range c.Maps {
		_ = m.Close()
	}
}

// DetachProgram takes a program out of the collection: Close no longer closes it. It is nil if there is none of that name.
func (c *Collection) DetachProgram(name string) *Program {
	p := c.Programs[name]
	delete(c.Programs, name)
	return p
}

// DetachMap takes a map out of the collection: Close no longer closes it.
func (c *Collection) DetachMap(name string) *Map {
	m := c.Maps[name]
	delete(c.Maps, name)
	return m
}

// Assign puts programs, maps and variables into the fields of a struct, by their `ebpf:"name"` tags, and takes them out of the
// collection. to is a pointer to the struct; fields are *skep.Program, *skep.Map and *skep.Variable.
func (c *Collection) Assign(to any) error {
	progs, ms := map[string]bool{}, map[string]bool{}
	err := assign(to, func(kind any, name string) (any, error) {
		switch kind.(type) {
		case *Program:
			if p := c.Programs[name]; p != nil {
				progs[name] = true
				return p, nil
			}
			return nil, fmt.Errorf("missing program %q", name)
		case *Map:
			if m := c.Maps[name]; m != nil {
				ms[name] = true
				return m, nil
			}
			return nil, fmt.Errorf("missing map %q", name)
		case *Variable:
			if v := c.Variables[name]; v != nil {
				return v, nil
			}
			return nil, fmt.Errorf("missing variable %q", name)
		}
		return nil, fmt.Errorf("unsupported type %T", kind)
	})
	if err != nil {
		return err
	}
	for name := range progs {
		c.DetachProgram(name)
	}
	for name := range ms {
		c.DetachMap(name)
	}
	return nil
}

// LoadAndAssign loads the programs, maps and variables that the fields of a struct name by their `ebpf:"name"` tags, and what
// they need. to is a pointer to the struct; fields are *skep.Program, *skep.Map and *skep.Variable. The caller closes
// programs and maps.
func LoadAndAssign(spec *ebpf.CollectionSpec, to any, opts ...Options) (err error) {
	var o Options
	switch len(opts) {
	case 0:
	case 1:
		o = opts[0]
	default:
		return errors.New("load and assign: more than one Options")
	}
	l, err := newLoader(spec, o)
	if err != nil {
		return err
	}
	defer func() { l.finish(err) }()
	progs, ms := map[string]bool{}, map[string]bool{}
	err = assign(to, func(kind any, name string) (any, error) {
		switch kind.(type) {
		case *Program:
			progs[name] = true
			if err := l.loadPrograms([]string{name}); err != nil {
				return nil, err
			}
			return l.progs[name], nil
		case *Map:
			ms[name] = true
			return l.getMap(name)
		case *Variable:
			return l.variable(name)
		}
		return nil, fmt.Errorf("unsupported type %T", kind)
	})
	if err != nil {
		return fmt.Errorf("assign values: %w", err)
	}
	if err := l.populate(); err != nil {
		return err
	}
	// Maps that only programs use are held by these.
	for name, m := range l.maps {
		if ms[name] {
			continue
		}
		if m.Type() == ebpf.ProgramArray && len(spec.Maps[name].Contents) > 0 {
			return fmt.Errorf("ProgramArray %s must be assigned to prevent missed tail calls", name)
		}
		_ = m.Close()
	}
	for name, p := range l.progs {
		if !progs[name] {
			_ = p.Close()
		}
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
