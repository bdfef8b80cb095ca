package skep

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/skep-bpf/skep/helpers"
	"github.com/skep-bpf/skep/internal/interp"
	"github.com/skep-bpf/skep/internal/ir"
	"github.com/skep-bpf/skep/internal/listing"
	"github.com/skep-bpf/skep/internal/lower"
	"github.com/skep-bpf/skep/internal/native"
	"github.com/skep-bpf/skep/internal/objects"
	"github.com/skep-bpf/skep/internal/perfmap"
	"github.com/skep-bpf/skep/internal/program"
	"github.com/skep-bpf/skep/internal/rt"
	"github.com/skep-bpf/skep/maps"
	"github.com/skep-bpf/skep/verifier"
)

// loader makes the parts of a collection as they are asked for, and frees them all if something fails.
type loader struct {
	spec  *ebpf.CollectionSpec
	opts  Options
	env   *rt.Env
	maps  map[string]*Map
	progs map[string]*Program
	vars  map[string]*Variable
	heap  *objects.Heap // of the objects that the programs make
	// extra are maps that are in no collection (.kconfig); programs hold them.
	extra []*Map
}

func newLoader(spec *ebpf.CollectionSpec, opts Options) (*loader, error) {
	if spec == nil {
		return nil, errors.New("collection spec is nil")
	}
	for name, m := range spec.Maps {
		if m == nil {
			return nil, fmt.Errorf("map %s: spec is nil", name)
		}
	}
	for name, p := range spec.Programs {
		if p == nil {
			return nil, fmt.Errorf("program %s: spec is nil", name)
		}
	}
	l := &loader{
		spec: spec, opts: opts, env: opts.Env.runtime(),
		maps: map[string]*Map{}, progs: map[string]*Program{}, vars: map[string]*Variable{}, heap: objects.NewHeap(opts.Limits.AllocBytes),
	}
	for name, m := range opts.MapReplacements {
		ms, ok := spec.Maps[name]
		switch {
		case !ok:
			return nil, fmt.Errorf("replacement map %s not found in CollectionSpec", name)
		case m == nil:
			return nil, fmt.Errorf("replacement map %s is nil", name)
		}
		if err := compatible(ms, m); err != nil {
			return nil, fmt.Errorf("replacement map %s: %w", name, err)
		}
	}
	return l, nil
}

// compatible reports how a map differs from a spec (ebpf.MapSpec.Compatible).
func compatible(ms *ebpf.MapSpec, m *Map) error {
	var diffs []string
	diff := func(what string, have, want any) {
		if have != want {
			diffs = append(diffs, fmt.Sprintf("%s: %v changed to %v", what, have, want))
		}
	}
	diff("Type", m.Type(), ms.Type)
	diff("KeySize", m.KeySize(), ms.KeySize)
	diff("ValueSize", m.ValueSize(), ms.ValueSize)
	diff("MaxEntries", m.MaxEntries(), ms.MaxEntries)
	if ms.Type != ebpf.DevMap && ms.Type != ebpf.DevMapHash {
		diff("Flags", m.Flags(), ms.Flags)
	}
	if len(diffs) == 0 {
		return nil
	}
	return fmt.Errorf("%s: %w", strings.Join(diffs, ", "), ebpf.ErrMapIncompatible)
}

// finish frees everything after an error; after success only what programs hold anyway.
func (l *loader) finish(err error) {
	for _, m := range l.extra {
		_ = m.Close()
	}
	if err == nil {
		return
	}
	c := Collection{Programs: l.progs, Maps: l.maps, Variables: l.vars}
	c.Close()
}

// getMap returns the map of that name, making it if need be. Contents that are programs are put in by populate.
func (l *loader) getMap(name string) (*Map, error) {
	if m, ok := l.maps[name]; ok {
		return m, nil
	}
	spec, ok := l.spec.Maps[name]
	if !ok {
		return nil, fmt.Errorf("missing map %s", name)
	}
	if m, ok := l.opts.MapReplacements[name]; ok {
		c, err := m.Clone()
		if err != nil {
			return nil, fmt.Errorf("replacement map %s: %w", name, err)
		}
		l.maps[name] = c
		return c, nil
	}
	s := *program.WithTypes(l.spec.Types, spec)
	s.Pinning = ebpf.PinNone // maps live in the process; sharing is by Options.MapReplacements
	if data, err := program.SectionData(l.spec, name); err == nil && isSection(name) {
		s.Contents = []ebpf.MapKV{{Key: uint32(0), Value: data}}
	}
	if len(namesIn(&s)) > 0 {
		s.Contents = nil // populate puts them in
	}
	m, err := maps.NewWithOptions(&s, l.mapOptions())
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", name, err)
	}
	l.maps[name] = m
	return m, nil
}

// mapOptions are those that the collection's maps are made with.
func (l *loader) mapOptions() maps.Options {
	return maps.Options{MaxBytes: l.opts.Limits.MapBytes, Seed: l.mapSeed(), Types: l.spec.Types, Kernel: l.opts.kernelTypes}
}

// mapSeed is where the seeds of maps come from, nil for the host's random numbers.
func (l *loader) mapSeed() func() uint64 {
	r := l.opts.Env.Random
	if r == nil {
		return nil
	}
	return func() uint64 { return uint64(r())<<32 | uint64(r()) }
}

// isSection reports whether a map is a data section.
func isSection(name string) bool { return strings.HasPrefix(name, ".") }

func (l *loader) variable(name string) (*Variable, error) {
	if v, ok := l.vars[name]; ok {
		return v, nil
	}
	vs, ok := l.spec.Variables[name]
	if !ok || vs == nil {
		return nil, fmt.Errorf("unknown variable %s", name)
	}
	m, err := l.getMap(vs.SectionName)
	if err != nil {
		return nil, fmt.Errorf("variable %s: %w", name, err)
	}
	v, err := newVariable(vs, name, m)
	if err != nil {
		return nil, err
	}
	l.vars[name] = v
	return v, nil
}

// ownVariables makes the variables of the data sections that were loaded, but for locks and the like.
func (l *loader) ownVariables() error {
	for _, name := range sortedKeys(l.spec.Variables) {
		if v := l.spec.Variables[name]; v != nil && l.maps[v.SectionName] != nil && !touchesField(v, l.maps[v.SectionName]) {
			if _, err := l.variable(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// namesIn are the contents of a map that are names, of programs or of other maps.
func namesIn(ms *ebpf.MapSpec) []ebpf.MapKV {
	switch ms.Type {
	case ebpf.ProgramArray:
		return ms.Contents
	case ebpf.ArrayOfMaps, ebpf.HashOfMaps:
		return slices.DeleteFunc(slices.Clone(ms.Contents), func(kv ebpf.MapKV) bool {
			_, name := kv.Value.(string)
			return !name
		})
	}
	return nil
}

// populate puts programs into program arrays and maps into maps, once all are there.
func (l *loader) populate() error {
	for _, name := range sortedKeys(l.maps) {
		ms := l.spec.Maps[name]
		if ms == nil || l.opts.MapReplacements[name] != nil {
			continue
		}
		for _, kv := range namesIn(ms) {
			value, err := l.named(ms.Type, kv.Value)
			if err == nil {
				err = l.maps[name].Put(kv.Key, value)
			}
			if err != nil {
				return fmt.Errorf("map %s: key %v: %w", name, kv.Key, err)
			}
		}
	}
	return nil
}

// named finds or makes what an element of a map names.
func (l *loader) named(typ ebpf.MapType, value any) (any, error) {
	name, ok := value.(string)
	switch {
	case typ != ebpf.ProgramArray:
		return l.getMap(name)
	case !ok:
		return nil, fmt.Errorf("%T is not the name of a program", value)
	}
	if err := l.loadPrograms([]string{name}); err != nil {
		return nil, err
	}
	return l.progs[name], nil
}

// loadPrograms loads programs that are not loaded yet. Their machine code is placed together.
func (l *loader) loadPrograms(names []string) error {
	var progs []*Program
	for _, name := range names {
		if l.progs[name] != nil || slices.ContainsFunc(progs, func(p *Program) bool { return p.name == name }) {
			continue
		}
		spec, ok := l.spec.Programs[name]
		if !ok {
			return fmt.Errorf("missing program %s", name)
		}
		p, err := l.prepare(spec, name)
		if err != nil {
			closeAll(progs)
			return err
		}
		progs = append(progs, p)
	}
	if err := l.place(progs); err != nil {
		closeAll(progs)
		return err
	}
	for _, p := range progs {
		l.progs[p.name] = p
	}
	return nil
}

func closeAll(progs []*Program) {
	for _, p := range progs {
		_ = p.Close()
	}
}

var programIDs atomic.Uint32

// prepare takes a program from its spec to lowered code.
func (l *loader) prepare(spec *ebpf.ProgramSpec, name string) (*Program, error) {
	po := l.opts.programOptions()
	var prog *program.Program
	var err error
	if l.spec.Programs[name] == spec {
		prog, err = program.FromSpec(l.spec, name, po)
	} else {
		prog, err = program.FromProgramSpec(spec, po)
	}
	if err != nil {
		return nil, err
	}
	if err := l.opts.bindHook(spec, prog); err != nil {
		return nil, err
	}
	return l.load(prog)
}

// load proves and lowers a program. It has no engine yet.
func (l *loader) load(prog *program.Program) (_ *Program, err error) {
	p := &Program{name: prog.Name, id: programIDs.Add(1), prog: prog, env: l.env}
	p.ctx = prog.Context(l.opts.arch())
	p.refs.Store(1)
	defer func() {
		if err != nil {
			_ = p.Close()
		}
	}()
	if err := l.bindMaps(p); err != nil {
		return nil, err
	}
	if err := l.opts.describeKfuncs(prog); err != nil {
		return nil, err
	}
	if err := l.verify(p); err != nil {
		return nil, err
	}
	return p, l.lower(p)
}

// mapOf describes a map that an instruction made in Go refers to: one of ours, by asm.Instruction.AssociateMap or by the
// number that Map.FD gives.
func mapOf(ins *asm.Instruction) (program.Map, bool) {
	m, ok := ins.Map().(*Map)
	if !ok {
		if m, ok = maps.FromFD(int(int32(ins.Constant))); !ok {
			return program.Map{}, false
		}
	}
	return describe(m), true
}

// describe says what the verifier needs to know of a map.
func describe(m *Map) program.Map {
	d := program.MapOf(m.Spec(), m.Name())
	d.Frozen, d.Contents, d.Source = m.Frozen(), m.Contents(), m
	d.Bind(maps.SideOf(m).Types())
	return d
}

// bindMaps finds or makes the maps that a program names, and holds them.
func (l *loader) bindMaps(p *Program) error {
	for i := range p.prog.Maps {
		pm := &p.prog.Maps[i]
		m, err := l.mapFor(pm)
		if err != nil {
			return fmt.Errorf("program %s: %w", p.name, err)
		}
		// What is proven must hold of the map that is used, not of the spec it was made from.
		d := describe(m)
		pm.Type, pm.KeySize, pm.ValueSize, pm.MaxEntries, pm.Flags = d.Type, d.KeySize, d.ValueSize, d.MaxEntries, d.Flags
		pm.Frozen, pm.Contents, pm.Inner, pm.Key, pm.Value = d.Frozen, d.Contents, d.Inner, d.Key, d.Value
		pm.Types, pm.Bound = d.Types, d.Bound
		if !maps.SideOf(m).HasFields(pm, l.opts.kernelTypes) {
			return fmt.Errorf("program %s: map %s was made by types of another kernel: it has other special fields", p.name, pm.Name)
		}
		if !maps.SideOf(m).HoldMemory() {
			return fmt.Errorf("program %s: map %s: %w", p.name, pm.Name, maps.ErrClosed)
		}
		p.maps = append(p.maps, m)
	}
	return nil
}

func (l *loader) mapFor(pm *program.Map) (*Map, error) {
	if m, ok := pm.Source.(*Map); ok {
		return m, nil
	}
	if _, ok := l.spec.Maps[pm.Name]; ok {
		return l.getMap(pm.Name)
	}
	// A virtual section that the builder made up from the host's configuration.
	m, err := maps.NewWithOptions(&ebpf.MapSpec{
		Name: pm.Name, Type: pm.Type, KeySize: pm.KeySize, ValueSize: pm.ValueSize, MaxEntries: pm.MaxEntries, Flags: pm.Flags,
		Value: pm.Value, Contents: []ebpf.MapKV{{Key: uint32(0), Value: pm.Contents}},
	}, maps.Options{MaxBytes: l.opts.Limits.MapBytes})
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", pm.Name, err)
	}
	l.extra = append(l.extra, m)
	return m, nil
}

// verify proves the program.
func (l *loader) verify(p *Program) error {
	res, err := l.opts.Proofs.verify(&l.opts, p.prog)
	var ve *VerifierError
	switch {
	case err == nil:
		p.res, p.log = res, res.Log
	case errors.As(err, &ve):
		p.log = ve.Log
	}
	l.writeLog(p)
	if ve != nil && l.opts.unverified {
		return l.withoutProof(p.prog)
	}
	return err
}

// withoutProof refuses calls that rely on the verifier: helpers and kfuncs work on the memory they are given outside of the
// interpreter, which cannot check what they do.
func (l *loader) withoutProof(p *program.Program) error {
	for pc := 0; pc < len(p.Insns); pc++ {
		in := p.Insns[pc]
		switch {
		case in.IsLdImm64():
			pc++
		case in.IsHelperCall():
			if h := helpers.Proto(in.Imm); h != nil && in.Imm != tailCall && slices.ContainsFunc(h.Args[:], isAddress) {
				return fmt.Errorf("program %s: instruction %d: helper %s takes an address, and the program is not verified", p.Name, pc, h.Name)
			}
		case in.IsKfuncCall():
			if in.Imm < 0 || int(in.Imm) >= len(p.Kfuncs) {
				continue // lowering refuses it
			}
			name := p.Kfuncs[in.Imm].Name
			_, _, builtin := helpers.KfuncHandle(name) // all of them work on dynptrs
			if f, ok := l.opts.Kfuncs.find(name); builtin || ok && f.takesAddress() {
				return fmt.Errorf("program %s: instruction %d: kfunc %s takes an address, and the program is not verified", p.Name, pc, name)
			}
		}
	}
	return nil
}

const tailCall = 12 // the engine's own

// isAddress reports whether an argument is one that an implementation goes by. The context it knows itself.
func isAddress(a verifier.HelperArg) bool {
	switch a.Kind {
	case verifier.ArgDontCare, verifier.ArgAnything, verifier.ArgCtx, verifier.ArgConstSize, verifier.ArgConstSizeOrZero, verifier.ArgConstAllocSize:
		return false
	}
	return true
}

func (l *loader) writeLog(p *Program) {
	if l.opts.LogWriter != nil && p.log != "" {
		fmt.Fprintf(l.opts.LogWriter, "program %s:\n%s", p.name, p.log)
	}
}

// lower binds what the program names to what exists and makes IR of it.
func (l *loader) lower(p *Program) error {
	env := lower.Env{Helper: helpers.Handle, Kfunc: helpers.KfuncHandle, SetCallback: p.setCallback, RingNotify: helpers.RingNotify}
	if p.res != nil {
		env.Reach = reachObjects
		if len(p.res.Objects) > 0 {
			p.heap = l.heap
			p.heap.Hold()
			env.NewObject = p.newObject
		}
	}
	for _, m := range p.maps {
		b := binding(m)
		if p.res == nil {
			b.Reach = nil // without a proof nothing is found in a map
			if t := m.Type(); t == ebpf.RingBuf || t == ebpf.UserRingbuf {
				b.Memory = nil // and nothing is reserved: between the records are their headers, which others rely on
			}
		}
		env.Maps = append(env.Maps, b)
	}
	for i := range p.prog.Kfuncs {
		k := &p.prog.Kfuncs[i]
		f, ok := l.opts.Kfuncs.find(k.Name)
		if !ok || k.Type == nil {
			if ok && k.Type == nil {
				return fmt.Errorf("program %s: kfunc %s: the program has no prototype for it (BTF)", p.name, k.Name)
			}
			env.Kfuncs = append(env.Kfuncs, lower.KfuncBinding{})
			continue
		}
		if err := hasRuntime(k); err != nil {
			return fmt.Errorf("program %s: %w", p.name, err)
		}
		b, err := f.bind(k.Type)
		if err != nil {
			return fmt.Errorf("program %s: %w", p.name, err)
		}
		if b.Handle != 0 {
			p.handles = append(p.handles, b.Handle)
		}
		env.Kfuncs = append(env.Kfuncs, b)
	}
	facts := p.res
	if l.opts.Coverage != nil {
		env.Exact, facts = true, withoutBranches(p.prog, p.res)
	}
	var err error
	p.ir, err = lower.Lower(p.prog, facts, &env)
	return err
}

var layoutKinds = map[maps.LayoutKind]ir.MapKind{
	maps.LayoutOther: ir.MapOther, maps.LayoutArray: ir.MapArray, maps.LayoutPerCPUArray: ir.MapPerCPUArray, maps.LayoutProgArray: ir.MapProgArray,
	maps.LayoutArrayOfMaps: ir.MapArrayOfMaps, maps.LayoutRing: ir.MapRing,
}

// binding is a map as lowering wants it.
func binding(m *Map) lower.MapBinding {
	y := m.Layout()
	b := lower.MapBinding{
		Handle: m.Handle(), Kind: layoutKinds[y.Kind], Values: y.Values, Stride: uint32(y.Stride), ValueSize: m.ValueSize(),
		MaxEntries: y.MaxEntries, PerCPUStride: y.PerCPU, Progs: y.ProgArray,
	}
	for _, g := range m.Regions() {
		b.Memory = append(b.Memory, ir.Region(g))
	}
	if m.Spec().InnerMap != nil {
		b.Reach = func(addr, n uint64) (ir.Region, bool) {
			g, ok := maps.SideOf(m).InnerRegion(addr, n)
			return ir.Region(g), ok
		}
	}
	return b
}

// place gives the programs an engine.
func (l *loader) place(progs []*Program) error {
	if len(progs) == 0 {
		return nil
	}
	engine := l.opts.Engine
	switch {
	case l.opts.Coverage != nil && engine == EngineJIT:
		return errors.New("compile: only the interpreter counts what runs (Options.Coverage)")
	case l.opts.Coverage != nil:
		engine = EngineInterpreter
	case engine == EngineAuto:
		engine = EngineInterpreter
		if native.Supported() == nil {
			engine = EngineJIT
		}
	}
	if engine == EngineJIT {
		if err := native.Supported(); err != nil {
			return fmt.Errorf("compile: %w", err)
		}
		irs := make([]*ir.Program, len(progs))
		for i, p := range progs {
			irs[i] = p.ir
		}
		codes, err := native.Load(irs...)
		if err != nil {
			return fmt.Errorf("compile: %w", err)
		}
		for i, p := range progs {
			p.exec, p.engine = codes[i], engine
		}
		if l.opts.PerfMap {
			if err := perfmap.Append(perfEntries(progs)); err != nil {
				return err
			}
		}
		return bindTailCallers(progs)
	}
	for _, p := range progs {
		c, err := interp.New(p.ir, interp.Options{Budget: l.opts.Limits.InterpInsns, Counts: l.opts.Coverage.countsOf(p.prog)})
		if err != nil {
			return err
		}
		p.exec, p.engine = c, engine
	}
	return bindTailCallers(progs)
}

// perfEntries lists the functions of compiled programs for the perf tool.
func perfEntries(progs []*Program) []perfmap.Entry {
	var out []perfmap.Entry
	for _, p := range progs {
		c := p.exec.(*native.Code)
		for _, f := range listing.Functions(p.ir, c.Funcs(), len(c.Text())) {
			name := "skep:" + p.name
			if !f.Entry {
				name += "/" + f.Name
			}
			out = append(out, perfmap.Entry{Start: c.Addr() + uint64(f.Off), Size: uint64(f.Size), Name: name})
		}
	}
	return out
}

// bindTailCallers makes sure that programs and those that they tail-call through arrays are of one kind.
func bindTailCallers(progs []*Program) error {
	for _, p := range progs {
		for _, m := range p.maps {
			if !m.BindTailCaller(p.TailKind()) {
				return fmt.Errorf("program %s: program array %s is for programs of another kind than %s", p.name, m.Name(), p.TailKind())
			}
		}
	}
	return nil
}
