package asmtext

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/skep-bpf/skep/internal/program"
)

// ProgramOptions change how Program works.
type ProgramOptions struct {
	Name  string // of the program and of its entry function; "prog" if empty
	Lines bool   // the text's own lines become the line table
}

// Program makes a program of text with directives:
//
//	.type xdp | tc | socket | cgroup_skb | raw_tp | syscall | ...   (also cilium/ebpf's names; default socket)
//	.attach NAME               expected attach type, cilium/ebpf's name
//	.name NAME     .license GPL     .flags N
//	.map NAME TYPE KEY VALUE MAX [FLAGS] [frozen] [data=HEX] [inner=MAP] [value=TYPE] [key=TYPE]
//	                           TYPE in the kernel's words: array, hash, prog_array; FLAGS a number or rdonly_prog ...
//	.struct NAME { int a; long b[2]; struct other c; unsigned d:3; struct s __kptr *p; struct bpf_list_head h __contains(s, node); }
//	.typeid NAME STRUCT        NAME is the number of the structure among the program's types
//	.kfunc long NAME(int a, struct s *b, void *mem, int mem__sz) [acquire] [release] [ret_null] [trusted_args]
//	                           [sleepable] [destructive] [rcu] [weak] [unresolved]
//	.func NAME [args=N] [global] [weak]           starts a function; args: BTF with N parameters of type long, a, b, ...
//	.func int NAME(struct s *a, int b) [global] [exception_cb=NAME]   the same with its prototype; tags as in "struct s *a __arg_nonnull"
//	.equ NAME VALUE    .raw OP, DST, SRC, OFF, IMM
//
// Code before the first .func is the entry function, without BTF. Labels that are called become functions without BTF.
// The older stack-argument dialect (r12) is converted as in programs from objects.
func Program(src string, opt ProgramOptions) (*program.Program, error) {
	b := &builder{
		parser: newParser(), types: newCtypes(), mapIndex: map[string]int{}, kfuncIndex: map[string]int{},
		prog: &program.Program{Name: opt.Name, Type: ebpf.SocketFilter, License: "GPL"},
	}
	if opt.Name == "" {
		b.prog.Name = "prog"
	}
	b.isMap = func(n string) bool { _, ok := b.mapIndex[n]; return ok }
	b.isKfunc = func(n string) bool { _, ok := b.kfuncIndex[n]; return ok }
	b.directive = b.programDirective
	if err := b.parse(src); err != nil {
		return nil, err
	}
	if err := b.resolve(); err != nil {
		return nil, err
	}
	return b.finish(src, opt)
}

type builder struct {
	*parser
	types      *ctypes
	prog       *program.Program
	mapIndex   map[string]int
	kfuncIndex map[string]int
	funcs      []program.Func
	numbered   bool // types are referred to by number
}

// finish binds references, names functions and completes the program.
func (b *builder) finish(src string, opt ProgramOptions) (*program.Program, error) {
	for _, r := range b.syms.Maps {
		i, ok := b.mapIndex[r.Name]
		if !ok {
			return nil, fmt.Errorf("line %d: no map, label or function %s", b.syms.Lines[r.PC], r.Name)
		}
		b.insns[r.PC].Imm = int32(i)
	}
	for _, r := range b.syms.Kfuncs {
		i, ok := b.kfuncIndex[r.Name]
		if !ok {
			return nil, fmt.Errorf("line %d: no function, helper or kfunc %s", b.syms.Lines[r.PC], r.Name)
		}
		b.insns[r.PC].Imm = int32(i)
	}
	if err := b.bindTypes(); err != nil {
		return nil, err
	}
	p := b.prog
	p.Insns, p.Funcs = b.insns, b.funcs
	b.labelFuncs()
	if opt.Lines {
		b.lineTable(strings.Split(src, "\n"))
	}
	return program.New(p)
}

// labelFuncs makes called labels functions under their own name.
func (b *builder) labelFuncs() {
	have := map[int]bool{}
	for _, f := range b.funcs {
		have[f.Start] = true
	}
	called := map[int]bool{}
	for pc, in := range b.insns {
		if in.IsPseudoCall() || in.IsPseudoFunc() {
			called[pc+1+int(in.Imm)] = true
		}
	}
	for name, pc := range b.syms.Labels {
		if pc > 0 && called[pc] && !have[pc] {
			have[pc] = true
			b.prog.Funcs = append(b.prog.Funcs, program.Func{Name: name, Start: pc})
		}
	}
}

func (b *builder) lineTable(lines []string) {
	last := 0
	for pc, n := range b.syms.Lines {
		if n != last {
			b.prog.Lines = append(b.prog.Lines, program.Line{Insn: pc, File: b.prog.Name + ".s", Text: strings.TrimSpace(lines[n-1]), Number: uint32(n)})
			last = n
		}
	}
}

func (b *builder) programDirective(name string) (bool, error) {
	switch name {
	case ".type":
		return true, b.typeDirective()
	case ".attach":
		return true, b.attachDirective()
	case ".name":
		b.prog.Name = b.next().text
	case ".license":
		b.prog.License = b.next().text
	case ".flags":
		v, err := b.expr()
		b.prog.Flags = uint32(v)
		return true, err
	case ".map":
		return true, b.mapDirective()
	case ".struct":
		return true, b.types.structDecl(&b.cursor)
	case ".typeid":
		return true, b.typeIDDirective()
	case ".kfunc":
		return true, b.kfuncDirective()
	case ".func":
		return true, b.funcDirective()
	default:
		return false, nil
	}
	return true, nil
}

func (b *builder) typeIDDirective() error {
	name, err := b.ident()
	if err != nil {
		return err
	}
	of, err := b.ident()
	if err != nil {
		return err
	}
	b.equ[name], b.numbered = b.types.number(of), true
	return nil
}

// bindTypes gives the program its types, with those of maps among them, where it refers to some by number or name.
func (b *builder) bindTypes() error {
	if !b.numbered {
		return nil
	}
	spec, err := b.types.spec()
	if err != nil {
		return err
	}
	b.prog.Types = spec
	for i := range b.prog.Maps {
		for m := &b.prog.Maps[i]; m != nil; m = m.Inner {
			if s, ok := m.Value.(*btf.Struct); ok {
				if err := spec.TypeByName(s.Name, &s); err != nil {
					return err
				}
				m.Value = s
			}
		}
	}
	return nil
}

// progTypes are names of program types as libbpf's sections or the kernel have them.
var progTypes = map[string]ebpf.ProgramType{
	"socket": ebpf.SocketFilter, "kprobe": ebpf.Kprobe, "tc": ebpf.SchedCLS, "classifier": ebpf.SchedCLS, "action": ebpf.SchedACT,
	"tracepoint": ebpf.TracePoint, "tp": ebpf.TracePoint, "xdp": ebpf.XDP, "perf_event": ebpf.PerfEvent, "cgroup_skb": ebpf.CGroupSKB,
	"cgroup_sock": ebpf.CGroupSock, "raw_tp": ebpf.RawTracepoint, "raw_tracepoint": ebpf.RawTracepoint, "syscall": ebpf.Syscall,
	"tracing": ebpf.Tracing, "freplace": ebpf.Extension, "struct_ops": ebpf.StructOps, "lwt_in": ebpf.LWTIn, "sk_skb": ebpf.SkSKB,
}

func (b *builder) typeDirective() error {
	name := b.next().text
	if t, ok := progTypes[strings.ToLower(name)]; ok {
		b.prog.Type = t
		return nil
	}
	for t := ebpf.UnspecifiedProgram + 1; t <= ebpf.Netfilter; t++ {
		if strings.EqualFold(t.String(), name) {
			b.prog.Type = t
			return nil
		}
	}
	return fmt.Errorf("unknown program type %s", name)
}

func (b *builder) attachDirective() error {
	name := b.next().text
	for t := ebpf.AttachNone; t < 128; t++ {
		if strings.EqualFold(t.String(), name) {
			b.prog.AttachType = t
			return nil
		}
	}
	return fmt.Errorf("unknown attach type %s", name)
}

// MapType finds a map type by the kernel's word for it in lower case (hash, percpu_array) or by cilium/ebpf's name.
func mapType(name string) (ebpf.MapType, bool) {
	plain := strings.ReplaceAll(strings.ToLower(name), "_", "")
	if long, ok := map[string]string{"programarray": "progarray"}[plain]; ok {
		plain = long
	}
	for t := ebpf.UnspecifiedMap + 1; t <= ebpf.Arena; t++ {
		s := strings.ToLower(t.String())
		if s == plain || s == "programarray" && plain == "progarray" {
			return t, true
		}
	}
	return 0, false
}

var mapFlags = map[string]uint32{
	"no_prealloc": 1, "rdonly": 1 << 3, "wronly": 1 << 4, "zero_seed": 1 << 6, "rdonly_prog": 1 << 7, "wronly_prog": 1 << 8,
	"mmapable": 1 << 10, "inner_map": 1 << 12,
}

func (b *builder) mapDirective() error {
	m := program.Map{Name: b.next().text}
	if _, dup := b.mapIndex[m.Name]; dup {
		return fmt.Errorf("map %s defined twice", m.Name)
	}
	typ := b.next().text
	t, ok := mapType(typ)
	if !ok {
		return fmt.Errorf("unknown map type %s", typ)
	}
	m.Type = t
	for _, f := range []*uint32{&m.KeySize, &m.ValueSize, &m.MaxEntries} {
		v, err := b.unary()
		if err != nil {
			return err
		}
		*f = uint32(v)
	}
	for !b.done() && b.peek().text != ";" {
		if err := b.mapOption(&m); err != nil {
			return err
		}
	}
	b.mapIndex[m.Name] = len(b.prog.Maps)
	b.prog.Maps = append(b.prog.Maps, m)
	return nil
}

func (b *builder) mapOption(m *program.Map) error {
	t := b.peek()
	if t.kind == tokNumber {
		v, err := b.expr()
		m.Flags |= uint32(v)
		return err
	}
	b.pos++
	if f, ok := mapFlags[t.text]; ok {
		m.Flags |= f
		return nil
	}
	if t.text == "frozen" {
		m.Frozen = true
		return nil
	}
	if err := b.expect("="); err != nil {
		return fmt.Errorf("unknown map option %s", t)
	}
	v := b.next().text
	switch t.text {
	case "data":
		data, err := hex.DecodeString(strings.TrimPrefix(v, "0x"))
		m.Contents = data
		return err
	case "inner":
		i, ok := b.mapIndex[v]
		if !ok {
			return fmt.Errorf("no map %s", v)
		}
		inner := b.prog.Maps[i]
		m.Inner = &inner
	case "value":
		m.Value = b.types.named(v)
	case "key":
		m.Key = b.types.named(v)
	default:
		return fmt.Errorf("unknown map option %s", t)
	}
	return nil
}

var kfuncFlags = map[string]program.KfuncFlags{
	"acquire": program.KfuncAcquire, "release": program.KfuncRelease, "ret_null": program.KfuncRetNull,
	"trusted_args": program.KfuncTrustedArgs, "sleepable": program.KfuncSleepable, "destructive": program.KfuncDestructive,
	"rcu": program.KfuncRCU,
}

func (b *builder) kfuncDirective() error {
	fn, err := b.types.prototype(&b.cursor, btf.ExternFunc)
	if err != nil {
		return err
	}
	if _, dup := b.kfuncIndex[fn.Name]; dup {
		return fmt.Errorf("kfunc %s declared twice", fn.Name)
	}
	k := program.Kfunc{Name: fn.Name, Type: fn, Resolved: true}
	for !b.done() && b.peek().text != ";" {
		switch t := b.next(); t.text {
		case "weak":
			k.Weak = true
		case "unresolved":
			k.Resolved = false
		default:
			f, ok := kfuncFlags[t.text]
			if !ok {
				return fmt.Errorf("unknown kfunc flag %s", t)
			}
			k.Flags |= f
		}
	}
	b.accept(";")
	b.kfuncIndex[k.Name] = len(b.prog.Kfuncs)
	b.prog.Kfuncs = append(b.prog.Kfuncs, k)
	return nil
}

func (b *builder) funcDirective() error {
	f := program.Func{Start: len(b.insns)}
	if t := b.at(1); b.peek().kind == tokIdent && (t.kind == tokEOF || t.kind == tokIdent && isFuncOption(t.text)) {
		f.Name = b.next().text
	} else {
		fn, err := b.types.prototype(&b.cursor, btf.StaticFunc)
		if err != nil {
			return err
		}
		f.Name, f.Type = fn.Name, fn
	}
	for !b.done() && b.peek().text != ";" {
		switch t := b.next(); t.text {
		case "global":
			f.Global = true
		case "static":
		case "weak":
			f.Weak = true
		case "args":
			if err := b.expect("="); err != nil {
				return err
			}
			n, err := b.expr()
			if err != nil || n < 0 || n > 26 {
				return fmt.Errorf("args=N takes 0 to 26")
			}
			f.Type = b.types.longs(f.Name, int(n))
		case "exception_cb":
			if err := b.expect("="); err != nil {
				return err
			}
			if f.Type == nil {
				return fmt.Errorf("exception_cb=NAME belongs behind a prototype")
			}
			f.Type.Tags = append(f.Type.Tags, "exception_callback:"+b.next().text)
		default:
			return fmt.Errorf("unknown function option %s", t)
		}
	}
	if f.Type != nil && f.Global {
		f.Type.Linkage = btf.GlobalFunc
	}
	b.funcs = append(b.funcs, f)
	return b.define(f.Name)
}

func isFuncOption(s string) bool {
	return s == "args" || s == "global" || s == "static" || s == "weak" || s == "exception_cb"
}

// longs makes the prototype long name(long a, long b, ...) with n parameters.
func (c *ctypes) longs(name string, n int) *btf.Func {
	proto := &btf.FuncProto{Return: c.basic["long"]}
	for i := range n {
		proto.Params = append(proto.Params, btf.FuncParam{Name: string(rune('a' + i)), Type: c.basic["long"]})
	}
	return &btf.Func{Name: name, Linkage: btf.StaticFunc, Type: proto}
}
